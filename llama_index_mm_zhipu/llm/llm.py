"""``ZhipuMultiModal``: Zhipu's GLM vision models as LlamaIndex expects a multimodal LLM."""

from __future__ import annotations

import asyncio
import copy
import os
import uuid
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from llama_index.core import Settings
from llama_index.core.base.llms.generic_utils import (
    astream_chat_response_to_completion_response,
    chat_response_to_completion_response,
    stream_chat_response_to_completion_response,
)
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    field_validator,
)
from llama_index.core.llms import LLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.utils import LLMType, resolve_llm
from llama_index.core.multi_modal_llms import MultiModalLLM
from llama_index.core.tools import BaseTool

from llama_index_mm_zhipu.arguments import KnownFields
from llama_index_mm_zhipu.concurrency import aiterate, arun, fork_safe_lock, iterate, run
from llama_index_mm_zhipu.images import UrlRules
from llama_index_mm_zhipu.llm.client import Client, ClientSettings, Request
from llama_index_mm_zhipu.llm.endpoint import (
    DEFAULT_API_BASE,
    ApiStyle,
    checked_key,
    is_http_url,
    key_and_base,
    style_at,
    without_credentials,
)
from llama_index_mm_zhipu.llm.image_budget import ImagePolicy
from llama_index_mm_zhipu.llm.images import MAX_SIDE, Images
from llama_index_mm_zhipu.llm.requests import (
    FURTHER_FIELDS,
    GLMParameters,
    Messages,
    RequestBody,
    chosen_parameters,
    limits_at,
    prompt_messages,
    require_known_fields,
)
from llama_index_mm_zhipu.llm.structured_answers import StructuredAnswers
from llama_index_mm_zhipu.llm.tools import keep_first_tool_call, require_function_calls, tool_calls, tool_fields
from llama_index_mm_zhipu.llm.usage import Account, Price, Usage, UsageMeter

_LONGEST_REQUEST_NAME = 55

_connecting = fork_safe_lock()


class ZhipuMultiModal(KnownFields, StructuredAnswers, MultiModalLLM, FunctionCallingLLM, GLMParameters):
    """Zhipu's GLM vision models: questions about images, sync, async and streaming.

    Images are whatever ``llama_index_mm_zhipu.images`` takes; they go out as raw base64 JPEG or PNG within the API's
    limits, addresses as they are. All calls raise ``GLMError``. Connections are shared by all threads and event loops.

    Args:
        model: Name of the model, ``glm-4v-flash`` by default.
        api_key: Key of Zhipu, Z.ai, a Coding Plan or a gateway; ``"EMPTY"`` for a server that takes any. By default
            ``ZHIPUAI_API_KEY``, else ``ZAI_API_KEY``. Quotes and blanks around it are taken off. It appears in no
            ``repr``, ``to_dict`` or error, but a pickle of this object holds it, as copies must work: treat pickles as
            secrets.
        api_base: Address of the API. By default ``ZHIPUAI_BASE_URL`` or ``ZAI_BASE_URL``, the one that belongs to the
            key first; else Z.ai's address for a key of ``ZAI_API_KEY``, Zhipu's for any other. A user and a password
            in it (``https://user:password@host/…``) are sent in place of the key, and hidden wherever the key is.
        api_style: Form of requests: ``"glm"`` for Zhipu's own API and proxies of it; ``"openai"`` for vLLM, SGLang and
            gateways: standard fields only, images as data URIs. ``"auto"``: ``"glm"`` at hosts of Zhipu and Z.ai and at
            addresses that end in ``/v4``, else ``"openai"``.
        temperature: 0 to 1; the API's default is 0.8.
        top_p: 0.01 to 1; the API's default is 0.6.
        do_sample: False for always the likeliest token; the API then ignores ``temperature`` and ``top_p``.
        max_tokens: Longest answer in tokens; more than the model gives is lowered with a warning.
        stop: One to four texts that end the answer. Reported to fail on glm-4v-plus.
        request_id: Name of a request, 6 to 64 characters; by default a new one each. As the API takes no name twice,
            requests get a suffix of their own where it is set here, further tries where it is given to a call.
        user_id: Name of your end user for the API, 6 to 128 characters.
        thinking: Whether a model thinks that can choose: ``"enabled"`` or ``"disabled"``, True or False, or the API's
            ``{"type": "enabled"}``. Models that always think get the lowest ``reasoning_effort`` for ``"disabled"``,
            models that cannot think get no ``thinking``, each with a warning.
        reasoning_effort: ``"low"``, ``"high"`` or ``"max"``: how much a model thinks that always does. It is left out
            with a warning for models of the table that do not know it.
        fallback_models: Models to ask in turn where the model before cannot answer: it does not exist for this account
            (code 1211), it is busy or its limit is reached, after all its tries (1302, 1305, 1312), or the account has
            no balance for it (1113). Each is asked within its own limits; for functions, only models that call them.
        image_policy: What to do with more images than the model takes over the whole history. ``"auto"``: older
            messages' images give way first, but for one of the user's own in chat engines, then those of the newest
            one share numbered contact sheets; ``"grid"``: every message's images may share contact sheets;
            ``"newest"``: no contact sheets; ``"error"``: raise.
        max_image_side: Pixels; larger images are shrunk. At most, and by default, the API's 6,000.
        inline_urls: Whether to fetch images given by address and send them, for addresses that the API cannot reach,
            or for contact sheets. Proxies are not used.
        allow_private_urls: Whether such addresses may lead to this machine or a private network.
        timeout: Seconds to wait for each part of an answer; five images can take two minutes at busy hours.
        deadline: Seconds for a call with all its tries, of a stream until its first token. Waiting for a turn does not
            count, as long as others end.
        max_retries: Further tries after a failure that may pass.
        max_concurrency: Calls and open streams at a time, sync and async together; more wait. None for no limit.
        require_finish_reason: Whether a stream that ends in ``[DONE]`` without a ``finish_reason`` is an error, as
            gateways append ``[DONE]`` to answers that were cut off. False for a gateway that never sends one.
        prices: Yuan per million tokens by model, ``{"glm-4.6v": Price(input=…, output=…)}``, for the cost in ``usage``
            and for ``max_cost``. Models that Zhipu gives away cost nothing.
        max_cost: Yuan that all calls of this object may cost. When they are spent, further calls are refused with a
            ``GLMBudgetError``; calls under way are not stopped, and each may go beyond it.
        max_total_tokens: The same for tokens of questions and answers.
        additional_kwargs: Further fields of the request, over the parameters above.

    Parameters and further fields can also be given to each call, and win there; None leaves one out.

    Raises:
        TypeError: An argument is not known; the message says which one is meant.
        ValueError: There is no key, it holds characters that no key has, or a parameter is out of range.
    """

    # pydantic would quote an api_base with its password.
    model_config = ConfigDict(validate_assignment=True, hide_input_in_errors=True)

    model: str = Field(default="glm-4v-flash", description="Name of the model.")
    api_key: SecretStr = Field(default=SecretStr(""), exclude=True, repr=False, description="Key of the API.")
    api_base: str = Field(default=DEFAULT_API_BASE, repr=False, description="Address of the API.")
    fallback_models: tuple[str, ...] = Field(default=(), description="Models to ask where that one cannot answer.")
    api_style: ApiStyle = Field(default="auto", description="Form of requests: Zhipu's, or OpenAI's.")
    image_policy: ImagePolicy = Field(default="auto", description="What to do with more images than the model takes.")
    max_image_side: int = Field(default=MAX_SIDE, ge=1, le=MAX_SIDE, description="Pixels of an image's longer side.")
    inline_urls: bool = Field(default=False, description="Whether to fetch images given by address.")
    allow_private_urls: bool = Field(default=False, description="Whether to fetch them from private networks too.")
    timeout: float = Field(default=120.0, gt=0, description="Seconds to wait for each part of an answer.")
    deadline: float = Field(default=600.0, gt=0, description="Seconds for a call with all its tries.")
    max_retries: int = Field(default=3, ge=0, description="Further tries after a failure that may pass.")
    max_concurrency: int | None = Field(default=10, gt=0, description="Calls and open streams at a time.")
    require_finish_reason: bool = Field(default=True, description="Whether streams without one are cut off.")
    additional_kwargs: dict[str, Any] = Field(default_factory=dict, description="Further fields of the request.")

    prices: dict[str, Price] = Field(default_factory=dict, description="Yuan per million tokens, by model.")
    max_cost: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="Yuan to spend.")
    max_total_tokens: int | None = Field(default=None, ge=0, description="Tokens to use.")

    _client: Client | None = PrivateAttr(default=None)
    _meter: UsageMeter = PrivateAttr(default_factory=UsageMeter)

    def __init__(self, model: str = "glm-4v-flash", api_key: str | SecretStr | None = None, **kwargs: Any) -> None:
        self._require_known_fields(kwargs)
        key, kwargs["api_base"] = key_and_base(api_key, kwargs.get("api_base"))
        super().__init__(model=model, api_key=key, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings only: connections are opened anew."""
        return {**super(ZhipuMultiModal, self.__copy__()).__getstate__(), "__pydantic_private__": None}

    def __copy__(self) -> ZhipuMultiModal:
        """Copy the settings; connections are opened anew, and usage is counted from zero."""
        copied: ZhipuMultiModal = super().__copy__()
        copied._client = None
        copied._meter = UsageMeter()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> ZhipuMultiModal:
        """Copy the settings deeply; callbacks and the rate limiter stay shared."""
        copied = self.__copy__()
        for name in ("additional_kwargs", "prices", "thinking", "stop"):
            setattr(copied, name, copy.deepcopy(getattr(self, name)))
        return copied

    @field_validator("api_key")
    @classmethod
    def _is_a_key(cls, api_key: SecretStr) -> SecretStr:
        return checked_key(api_key)

    @field_validator("api_base")
    @classmethod
    def _is_an_address(cls, api_base: str) -> str:
        if not is_http_url(api_base):
            raise ValueError(f"api_base {without_credentials(api_base)!r} is no address such as {DEFAULT_API_BASE}")
        return api_base

    @field_serializer("api_base")
    def _serialize_address(self, api_base: str) -> str:
        return without_credentials(api_base)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show the settings, without a password in the address."""
        yield from super().__repr_args__()
        yield "api_base", without_credentials(self.api_base)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this as a multimodal LLM: it looks for "multi"."""
        return "zhipu_multi_modal_llm"

    @classmethod
    def _advice(cls) -> str:
        return FURTHER_FIELDS

    @property
    def metadata(self) -> LLMMetadata:  # type: ignore[override]  # both bases declare it, with two classes
        """Context, output limit and abilities of the model."""
        limits = limits_at(self.api_base, self.model)
        wanted = self.max_tokens or limits.default_max_tokens
        return LLMMetadata(
            context_window=limits.context_window,
            num_output=min(wanted, limits.max_tokens or wanted),
            is_chat_model=True,
            is_function_calling_model=limits.tools,
            model_name=self.model,
        )

    @property
    def usage(self) -> Usage:
        """What the calls of this object have used since it was made, or since ``usage.reset()``."""
        return self._meter.read(self.prices)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a chat.

        Args:
            messages: With text and images in any order; the guide says what goes out of videos and documents.
            **kwargs: Parameters of the constructor, ``model``, ``tools``, ``tool_choice``, ``response_format`` and
                ``additional_kwargs`` of the request; they win over those of the constructor.

        Returns:
            The answer: reasoning, text and tool calls as blocks; ``finish_reason``, token counts and, where there are
            any, ``content_filter`` and ``boxed`` (what the model put in a box) in ``additional_kwargs``; the API's JSON
            in ``raw``; the model that answered as ``model`` in both.

        Raises:
            GLMError: The API did not answer.
            ImageError: An image cannot be read.
            TypeError: A field is not known; further ones go into ``additional_kwargs``.
            ValueError: A parameter is out of range.
        """
        return run(self._answer(list(messages), kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """As ``chat``."""
        return await arun(self._answer(list(messages), kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """As ``chat``, yielding the answer so far with each piece; a failed answer's text is in ``partial_text``."""
        return iterate(self._pieces(list(messages), kwargs))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """As ``stream_chat``."""
        return aiterate(self._pieces(list(messages), kwargs))

    # The two base classes disagree on the second argument of these four: core calls them in both ways.

    def complete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt, with images or without.

        Args:
            prompt: The question; it stands after the images.
            image_documents: An image or several: ``ImageNode``, ``ImageDocument``, ``NodeWithScore``, ``ImageBlock``,
                paths, URLs, ``bytes``, ``PIL.Image``; a node's text stands before its image.
            formatted: Without effect; LlamaIndex passes it to completion models.
            **kwargs: Parameters of the constructor, ``model``, ``tools``, ``tool_choice``, ``response_format`` and
                ``additional_kwargs`` of the request; they win over those of the constructor.

        Returns:
            The text of the answer, and all else that ``chat`` returns in ``additional_kwargs`` and ``raw``.

        Raises:
            GLMError: The API did not answer.
            ImageError: An image cannot be read.
            TypeError: A field is not known; further ones go into ``additional_kwargs``.
            ValueError: A parameter is out of range.
        """
        return chat_response_to_completion_response(run(self._answer(prompt_messages(prompt, image_documents), kwargs)))

    async def acomplete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """As ``complete``."""
        return chat_response_to_completion_response(
            await arun(self._answer(prompt_messages(prompt, image_documents), kwargs))
        )

    def stream_complete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """As ``complete``, yielding the answer so far with each piece."""
        return stream_chat_response_to_completion_response(
            iterate(self._pieces(prompt_messages(prompt, image_documents), kwargs))
        )

    async def astream_complete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """As ``stream_complete``."""
        return astream_chat_response_to_completion_response(
            aiterate(self._pieces(prompt_messages(prompt, image_documents), kwargs))
        )

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tools that the model chose, with complete arguments.

        Responses of a stream that has not ended yet choose none: their calls are in ``partial_tool_calls`` of
        ``additional_kwargs``.

        Raises:
            GLMToolCallError: The arguments are not one complete JSON object.
            ValueError: It chose none, and ``error_on_no_tool_call``.
        """
        calls = tool_calls(response)
        if not calls and error_on_no_tool_call:
            raise ValueError(f"{self.model} called no tool; it answered: {response.message.content}")
        return calls

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if (client := self._forget_client()) is not None:
            run(client.aclose())

    async def aclose(self) -> None:
        """As ``close``."""
        if (client := self._forget_client()) is not None:
            await arun(client.aclose())

    def _answer(self, messages: Messages, overrides: dict[str, Any]) -> Coroutine[Any, Any, ChatResponse]:
        require_known_fields(overrides)
        return self._answered(messages, overrides)

    def _pieces(self, messages: Messages, overrides: dict[str, Any]) -> AsyncGenerator[ChatResponse, None]:
        # At the call, not when the first piece is asked for.
        require_known_fields(overrides)
        return self._streamed(messages, overrides)

    async def _answered(self, messages: Messages, overrides: dict[str, Any]) -> ChatResponse:
        client = await self._connect()
        return await client.answer(self._request(messages, overrides))

    async def _streamed(self, messages: Messages, overrides: dict[str, Any]) -> AsyncGenerator[ChatResponse, None]:
        client = await self._connect()
        async with aclosing(client.pieces(self._request(messages, {**overrides, "stream": True}))) as pieces:
            async for piece in pieces:
                yield piece

    def _request(self, messages: Messages, overrides: dict[str, Any]) -> Request:
        parameters = chosen_parameters(self, self.additional_kwargs, overrides)
        if self.request_id is not None and parameters.get("request_id") == self.request_id:
            parameters["request_id"] = f"{self.request_id[:_LONGEST_REQUEST_NAME]}-{uuid.uuid4().hex[:8]}"
        model = parameters.pop("model", self.model)
        body = RequestBody(
            parameters=parameters,
            messages=messages,
            api_base=self.api_base,
            api_style=self.api_style,
            image_policy=self.image_policy,
            max_image_side=self.max_image_side,
            urls=UrlRules(allowed=self.inline_urls, private=self.allow_private_urls),
        )
        return Request(
            build=body.build,
            models=body.models(model, self.fallback_models),
            holds_images=body.holds_images,
            limiter=self.rate_limiter,
            account=Account(self._meter, self.prices, self.max_cost, self.max_total_tokens),
        )

    async def _connect(self) -> Client:
        client = self._client
        if client is None or client.settings != self._client_settings:
            # The first client of a process imports the SDK, which takes a second.
            client = await asyncio.to_thread(self._new_client)
        return client

    def _new_client(self) -> Client:
        with _connecting:
            if self._client is None or self._client.settings != self._client_settings:
                self._client = Client(self._client_settings)
            return self._client

    def _forget_client(self) -> Client | None:
        client, self._client = self._client, None
        return client if client is not None and client.settings.process == os.getpid() else None

    @property
    def _client_settings(self) -> ClientSettings:
        return ClientSettings(
            api_key=self.api_key.get_secret_value(),
            api_base=self.api_base,
            style=style_at(self.api_style, self.api_base),
            timeout=self.timeout,
            deadline=self.deadline,
            max_retries=self.max_retries,
            max_concurrency=self.max_concurrency,
            require_finish_reason=self.require_finish_reason,
            process=os.getpid(),
        )

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or [])
        if user_msg is not None:
            messages.append(ChatMessage(user_msg) if isinstance(user_msg, str) else user_msg)
        kwargs.pop("tool_choice", None)
        if tools:
            model = kwargs.get("model") or self.model
            require_function_calls(model, limits_at(self.api_base, model))
        return {"messages": messages, **tool_fields(tools), **kwargs}

    def _validate_chat_with_tools_response(
        self, response: ChatResponse, tools: Sequence[BaseTool], allow_parallel_tool_calls: bool = False, **kwargs: Any
    ) -> ChatResponse:
        if not allow_parallel_tool_calls:
            keep_first_tool_call(response)
        return response


_NAMES_OF_LLAMA_INDEX = ("default", "local")


def llm_or_default(llm: LLMType | None) -> LLM:
    """Return the given LLM, else that of ``Settings`` if one was set, else ``ZhipuMultiModal()``.

    Raises:
        TypeError: What was given is no LLM.
        ValueError: None was given or set, and there is no API key; or a serialised one was given.
    """
    if isinstance(llm, dict):
        raise ValueError("an LLM holds a key and is not made from a dict: give it anew, as in from_dict(data, llm=…)")
    if isinstance(llm, str) and llm.partition(":")[0] not in _NAMES_OF_LLAMA_INDEX:
        raise TypeError(f"llm is {llm!r:.60}; give an LLM, such as ZhipuMultiModal({llm!r:.60})")
    if llm is not None:
        try:
            return resolve_llm(llm)
        except AssertionError:
            given = type(llm).__name__
            raise TypeError(f"llm is a {given}; give an LLM of LlamaIndex, such as ZhipuMultiModal(…)") from None
    # Settings.llm would make one of OpenAI's when nobody set it.
    if Settings._llm is not None:
        return Settings._llm
    from llama_index_mm_zhipu.llm.llm import ZhipuMultiModal

    return ZhipuMultiModal()
