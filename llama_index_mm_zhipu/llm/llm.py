"""``ZhipuMultiModal``, the LLM class of Zhipu's GLM vision models, and the default LLM of indexes and engines."""

from __future__ import annotations

import copy
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
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
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
from llama_index_mm_zhipu.concurrency import aiterate, arun, iterate, run
from llama_index_mm_zhipu.images import UrlRules
from llama_index_mm_zhipu.llm.client import Client, ClientHolder, ClientSettings, Request
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

# Leaves room for the suffix that makes the id of each request unique.
_MAX_REQUEST_ID_PREFIX = 55

# Strings that ``resolve_llm`` of LlamaIndex understands, up to their first colon.
_LLM_NAMES_OF_LLAMA_INDEX = ("default", "local")


class ZhipuMultiModal(KnownFields, StructuredAnswers, MultiModalLLM, FunctionCallingLLM, GLMParameters):
    """Zhipu's GLM vision models, with sync, async and streaming calls.

    Images may have any form that ``llama_index_mm_zhipu.images`` reads. They are sent as raw base64 of a JPEG or PNG
    within the API's limits; URLs are sent as they are. Failed calls raise ``GLMError``. Threads and event loops share
    connections.

    Args:
        model: Name of the model, ``glm-4v-flash`` by default.
        api_key: Key for Zhipu, Z.ai, a Coding Plan or a gateway; ``"EMPTY"`` for a server that accepts any key. By
            default ``ZHIPUAI_API_KEY``, else ``ZAI_API_KEY``. Quotes and spaces around it are stripped. It appears in
            no ``repr``, ``to_dict`` or error, but pickles of this object contain it, because copies must work: treat
            them as secrets.
        api_base: URL of the API. By default ``ZHIPUAI_BASE_URL`` or ``ZAI_BASE_URL``, first the one that belongs to the
            key; else Z.ai's URL for a key from ``ZAI_API_KEY`` and Zhipu's for any other. A user and password in the
            URL (``https://user:password@host/…``) are sent instead of the key, and are hidden like the key.
        api_style: Form of requests. ``"glm"``: Zhipu's own API and proxies of it. ``"openai"``: standard fields only
            and images as data URIs, for vLLM, SGLang and gateways. ``"auto"``, the default: ``"glm"`` for hosts of
            Zhipu and Z.ai and URLs that end in ``/v4``, else ``"openai"``.
        temperature: 0 to 1; the API's default is 0.8.
        top_p: 0.01 to 1; the API's default is 0.6.
        do_sample: False to always choose the likeliest token; the API then ignores ``temperature`` and ``top_p``.
        max_tokens: Maximum length of the answer in tokens. A value above the model's limit is lowered with a warning.
        stop: One to four texts that end the answer. Reported not to work with glm-4v-plus.
        request_id: Id of a request, 6 to 64 characters; by default each request gets a new one. The API accepts an id
            only once, so a suffix is added to each request if the id is set here, and to each retry if it is given to
            a call.
        user_id: Id of your end user for the API, 6 to 128 characters.
        thinking: Whether the model reasons before it answers, if it has the choice: ``"enabled"`` or ``"disabled"``,
            True or False, or the API's ``{"type": "enabled"}``. For ``"disabled"``, models that always think get the
            lowest ``reasoning_effort`` instead; for models that cannot think, it is left out. Both log a warning.
        reasoning_effort: ``"low"``, ``"high"`` or ``"max"``: how much a model thinks that always thinks. Left out with
            a warning for other models in ``MODELS``.
        fallback_models: Models to ask in order if the one before is not available to the account (code 1211), is busy
            or rate-limited after all retries (1302, 1305, 1312), or is not covered by the balance (1113). Each is asked
            within its own limits; requests with tools skip models that call no functions.
        image_policy: What to do with more images than the model accepts in the whole history. ``"auto"``, the default:
            drop images of older messages first, except one that the user attached in a chat engine, then put those of
            the newest message on numbered contact sheets. ``"grid"``: put the images of any message on contact sheets.
            ``"newest"``: drop images, without contact sheets. ``"error"``: raise an error.
        max_image_side: Maximum width and height in pixels; larger images are shrunk. By default, and at most, 6,000,
            the API's limit.
        inline_urls: Whether to fetch images given by URL and send their content, for URLs that the API cannot reach
            and for contact sheets; False by default. Proxies are not used.
        allow_private_urls: Whether such URLs may point to this machine or a private network; False by default.
        timeout: Seconds to wait for each part of an answer, 120 by default. Five images can take two minutes at busy
            hours.
        deadline: Seconds for a call with all its attempts, 600 by default; of a stream, until its first token. Time
            spent waiting for other calls because of ``max_concurrency`` does not count, as long as some of them end.
        max_retries: Number of attempts after the first, for failures that may pass; 3 by default.
        max_concurrency: Maximum number of concurrent calls and open streams, sync and async together, 10 by default;
            further calls wait. None for no limit.
        require_finish_reason: Whether a stream that ends in ``[DONE]`` without a ``finish_reason`` is an error, which
            is the default, because gateways append ``[DONE]`` to answers that were cut off. False for a gateway that
            never sends one.
        prices: Yuan per million tokens by model, ``{"glm-4.6v": Price(input=…, output=…)}``, for the cost in ``usage``
            and for ``max_cost``. Zhipu's free models cost nothing.
        max_cost: Budget in yuan for all calls of this object. Once it is spent, further calls raise a
            ``GLMBudgetError``; calls that are already running continue, so the cost may exceed the budget.
        max_total_tokens: Budget in tokens of prompts and answers, for all calls of this object.
        additional_kwargs: Further fields of the request; they override the parameters above.

    Parameters and further fields can also be passed to each call, where they override these; None removes a field.

    Raises:
        TypeError: An argument is unknown; the message suggests a known one.
        ValueError: There is no key, the key has invalid characters, or a parameter is out of range.

    Examples:
        >>> llm = ZhipuMultiModal("glm-4v-flash", max_retries=1)
        >>> response = llm.complete("图里是什么？", ["images/apple.jpg", "images/ship.jpg"])
        >>> print(response.text)
        （本地模拟服务，不是模型）问题：图里是什么？
        收到 2 张图片。
        第1张图片：JPEG 128×128，平均颜色 #...
        第2张图片：JPEG 128×128，平均颜色 #...
        >>> response.raw["model"], response.additional_kwargs["finish_reason"]
        ('glm-4v-flash', 'stop')
    """

    # pydantic would quote an ``api_base`` with its password.
    model_config = ConfigDict(validate_assignment=True, hide_input_in_errors=True)

    model: str = Field(default="glm-4v-flash", description="Name of the model.")
    api_key: SecretStr = Field(default=SecretStr(""), exclude=True, repr=False, description="Key of the API.")
    api_base: str = Field(default=DEFAULT_API_BASE, repr=False, description="URL of the API.")
    fallback_models: tuple[str, ...] = Field(default=(), description="Models to ask if the first cannot answer.")
    api_style: ApiStyle = Field(default="auto", description="Form of requests: Zhipu's or OpenAI's.")
    image_policy: ImagePolicy = Field(default="auto", description="What to do with more images than the model accepts.")
    max_image_side: int = Field(default=MAX_SIDE, ge=1, le=MAX_SIDE, description="Maximum image side in pixels.")
    inline_urls: bool = Field(default=False, description="Whether to fetch images given by URL.")
    allow_private_urls: bool = Field(default=False, description="Whether to fetch images from private networks.")
    timeout: float = Field(default=120.0, gt=0, description="Seconds to wait for each part of an answer.")
    deadline: float = Field(default=600.0, gt=0, description="Seconds for a call with all its attempts.")
    max_retries: int = Field(default=3, ge=0, description="Number of attempts after the first.")
    max_concurrency: int | None = Field(default=10, gt=0, description="Maximum number of concurrent calls and streams.")
    require_finish_reason: bool = Field(default=True, description="Whether streams must end with a finish_reason.")
    additional_kwargs: dict[str, Any] = Field(default_factory=dict, description="Further fields of the request.")

    prices: dict[str, Price] = Field(default_factory=dict, description="Yuan per million tokens, by model.")
    max_cost: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="Budget in yuan.")
    max_total_tokens: int | None = Field(default=None, ge=0, description="Budget in tokens.")

    _client: ClientHolder = PrivateAttr(default_factory=ClientHolder)
    _meter: UsageMeter = PrivateAttr(default_factory=UsageMeter)

    def __init__(self, model: str = "glm-4v-flash", api_key: str | SecretStr | None = None, **kwargs: Any) -> None:
        self._require_known_fields(kwargs)
        key, kwargs["api_base"] = key_and_base(api_key, kwargs.get("api_base"))
        super().__init__(model=model, api_key=key, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings only, without connections and usage."""
        return {**super(ZhipuMultiModal, self.__copy__()).__getstate__(), "__pydantic_private__": None}

    def __copy__(self) -> ZhipuMultiModal:
        """Copy the settings; the copy opens its own connections and counts its usage from zero."""
        copied: ZhipuMultiModal = super().__copy__()
        copied._client = ClientHolder()
        copied._meter = UsageMeter()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> ZhipuMultiModal:
        """Copy the settings deeply, but share callbacks and the rate limiter."""
        copied = self.__copy__()
        for name in ("additional_kwargs", "prices", "thinking", "stop"):
            setattr(copied, name, copy.deepcopy(getattr(self, name)))
        return copied

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, api_key: SecretStr) -> SecretStr:
        return checked_key(api_key)

    @field_validator("api_base")
    @classmethod
    def _check_url(cls, api_base: str) -> str:
        if not is_http_url(api_base):
            raise ValueError(f"api_base {without_credentials(api_base)!r} is not a URL such as {DEFAULT_API_BASE}")
        return api_base

    @field_serializer("api_base")
    def _serialize_url(self, api_base: str) -> str:
        return without_credentials(api_base)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show the settings, with the URL but not its password."""
        yield from super().__repr_args__()
        yield "api_base", without_credentials(self.api_base)

    @classmethod
    def class_name(cls) -> str:
        """Return the type name for serialisation. LlamaIndex recognises multimodal LLMs by "multi" in it."""
        return "zhipu_multi_modal_llm"

    @classmethod
    def _advice(cls) -> str:
        return FURTHER_FIELDS

    @property
    def metadata(self) -> LLMMetadata:  # type: ignore[override]  # both bases declare it, with two classes
        """Context window, output limit and abilities of the model."""
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
        """Tokens and cost of this object's calls since it was created or ``usage.reset()`` was called."""
        return self._meter.read(self.prices)

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a chat.

        Args:
            messages: The history, with text and images in any order. The guide lists what is sent of videos and
                documents.
            **kwargs: Parameters of the constructor, and ``model``, ``tools``, ``tool_choice``, ``response_format`` and
                ``additional_kwargs`` of the request. They override those of the constructor.

        Returns:
            The answer. Its blocks hold reasoning, text and tool calls; ``additional_kwargs`` holds ``finish_reason``,
            token counts and, if the API sent them, ``content_filter`` and ``boxed`` (the text that the model put in a
            box); ``raw`` holds the API's JSON. ``model`` in the last two is the model that answered.

        Raises:
            GLMError: The call failed.
            ImageError: An image cannot be read.
            TypeError: A field is unknown; further fields go into ``additional_kwargs``.
            ValueError: A parameter is out of range.

        Examples:
            >>> from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
            >>> message = ChatMessage(blocks=[ImageBlock(path="images/apple.jpg"), TextBlock(text="这是什么？")])
            >>> response = llm.chat([message], temperature=0.1)
            >>> print(response.message.content)
            （本地模拟服务，不是模型）问题：这是什么？
            收到 1 张图片。
            第1张图片：JPEG 128×128，平均颜色 #...
        """
        return run(self._answer(list(messages), kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a chat as ``chat`` does."""
        return await arun(self._answer(list(messages), kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """Yield the answer so far with each piece of a stream; arguments and errors are those of ``chat``.

        If the stream fails, ``partial_text`` of the error holds the text that had come.

        Examples:
            >>> from llama_index.core.llms import ChatMessage
            >>> for response in llm.stream_chat([ChatMessage("你好")]):
            ...     print(response.delta, end="")
            （本地模拟服务，不是模型）问题：你好
            收到 0 张图片。
        """
        return iterate(self._pieces(list(messages), kwargs))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """Yield the answer so far as ``stream_chat`` does."""
        return aiterate(self._pieces(list(messages), kwargs))

    # The two base classes disagree on the second argument of these four: core calls them in both ways.

    def complete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt, with or without images.

        Args:
            prompt: The question; it is sent after the images.
            image_documents: One image or several: ``ImageNode``, ``ImageDocument``, ``NodeWithScore``, ``ImageBlock``,
                paths, URLs, ``bytes``, ``PIL.Image``. A node's text is sent before its image.
            formatted: Ignored; LlamaIndex passes it to completion models.
            **kwargs: Parameters of the request, as for ``chat``.

        Returns:
            The text of the answer, with ``additional_kwargs`` and ``raw`` as in ``chat``.

        Raises:
            GLMError: The call failed.
            ImageError: An image cannot be read.
            TypeError: A field is unknown; further fields go into ``additional_kwargs``.
            ValueError: A parameter is out of range.

        Examples:
            >>> print(llm.complete("图里是什么？", "images/apple.jpg", max_tokens=100))
            （本地模拟服务，不是模型）问题：图里是什么？
            收到 1 张图片。
            第1张图片：JPEG 128×128，平均颜色 #...
        """
        return chat_response_to_completion_response(run(self._answer(prompt_messages(prompt, image_documents), kwargs)))

    async def acomplete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt as ``complete`` does."""
        return chat_response_to_completion_response(
            await arun(self._answer(prompt_messages(prompt, image_documents), kwargs))
        )

    def stream_complete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """Yield the answer so far with each piece of a stream; arguments and errors are those of ``complete``.

        Examples:
            >>> pieces = [response.delta for response in llm.stream_complete("你好")]
            >>> len(pieces) > 1, "".join(pieces).splitlines()[0]
            (True, '（本地模拟服务，不是模型）问题：你好')
        """
        return stream_chat_response_to_completion_response(
            iterate(self._pieces(prompt_messages(prompt, image_documents), kwargs))
        )

    async def astream_complete(  # type: ignore[override]
        self, prompt: str, image_documents: Images | None = None, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """Yield the answer so far as ``stream_complete`` does."""
        return astream_chat_response_to_completion_response(
            aiterate(self._pieces(prompt_messages(prompt, image_documents), kwargs))
        )

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tools that the model called, with complete arguments.

        A response from the middle of a stream has none: its calls are in ``partial_tool_calls`` of
        ``additional_kwargs``.

        Raises:
            GLMToolCallError: Arguments are not one complete JSON object.
            ValueError: The model called no tool, and ``error_on_no_tool_call`` is True.

        Examples:
            >>> from llama_index.core.tools import FunctionTool
            >>> def price(name: str) -> int:
            ...     return 199
            >>> tools = [FunctionTool.from_defaults(price, description="Price of a thing in yuan")]
            >>> response = ZhipuMultiModal("glm-4.6v").chat_with_tools(tools, "连衣裙多少钱？", tool_required=True)
            >>> [(call.tool_name, call.tool_kwargs) for call in llm.get_tool_calls_from_response(response)]
            [('price', {'name': '连衣裙多少钱？'})]
        """
        calls = tool_calls(response)
        if not calls and error_on_no_tool_call:
            raise ValueError(f"{self.model} called no tool; it answered: {response.message.content}")
        return calls

    def close(self) -> None:
        """Close the connections; the next call opens new ones.

        Examples:
            >>> llm.close()
            >>> llm.complete("你好").raw["model"]
            'glm-4v-flash'
        """
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections as ``close`` does."""
        await self._client.aclose()

    def _answer(self, messages: Messages, overrides: dict[str, Any]) -> Coroutine[Any, Any, ChatResponse]:
        require_known_fields(overrides)
        return self._get_answer(messages, overrides)

    def _pieces(self, messages: Messages, overrides: dict[str, Any]) -> AsyncGenerator[ChatResponse, None]:
        # Raised by the call itself, not when the first piece is read.
        require_known_fields(overrides)
        return self._get_pieces(messages, overrides)

    async def _get_answer(self, messages: Messages, overrides: dict[str, Any]) -> ChatResponse:
        client = await self._connect()
        return await client.answer(self._request(messages, overrides))

    async def _get_pieces(self, messages: Messages, overrides: dict[str, Any]) -> AsyncGenerator[ChatResponse, None]:
        client = await self._connect()
        async with aclosing(client.pieces(self._request(messages, {**overrides, "stream": True}))) as pieces:
            async for piece in pieces:
                yield piece

    def _request(self, messages: Messages, overrides: dict[str, Any]) -> Request:
        parameters = chosen_parameters(self, self.additional_kwargs, overrides)
        if self.request_id is not None and parameters.get("request_id") == self.request_id:
            parameters["request_id"] = f"{self.request_id[:_MAX_REQUEST_ID_PREFIX]}-{uuid.uuid4().hex[:8]}"
        model = parameters.pop("model", self.model)
        body = RequestBody(
            parameters=parameters,
            messages=messages,
            api_base=self.api_base,
            api_style=self.api_style,
            image_policy=self.image_policy,
            max_image_side=self.max_image_side,
            urls=UrlRules(allowed=self.inline_urls, allow_private=self.allow_private_urls),
        )
        return Request(
            build=body.build,
            models=body.models(model, self.fallback_models),
            holds_images=body.holds_images,
            limiter=self.rate_limiter,
            account=Account(self._meter, self.prices, self.max_cost, self.max_total_tokens),
        )

    async def _connect(self) -> Client:
        settings = ClientSettings(
            api_key=self.api_key.get_secret_value(),
            api_base=self.api_base,
            style=style_at(self.api_style, self.api_base),
            timeout=self.timeout,
            deadline=self.deadline,
            max_retries=self.max_retries,
            max_concurrency=self.max_concurrency,
            require_finish_reason=self.require_finish_reason,
        )
        return await self._client.get(settings)

    # Hooks of ``FunctionCallingLLM``: core's ``chat_with_tools`` and its variants call them.

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


def llm_or_default(llm: LLMType | None) -> LLM:
    """Return the given LLM, else ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.

    Raises:
        TypeError: The value given is not an LLM.
        ValueError: None was given or set and there is no API key, or a serialised LLM was given.
    """
    if isinstance(llm, dict):
        raise ValueError(
            "an LLM holds a key and is not restored from a dict: pass it again, as in from_dict(data, llm=…)"
        )
    if isinstance(llm, str) and llm.partition(":")[0] not in _LLM_NAMES_OF_LLAMA_INDEX:
        raise TypeError(f"llm is {llm!r:.60}; give an LLM, such as ZhipuMultiModal({llm!r:.60})")
    if llm is not None:
        try:
            return resolve_llm(llm)
        except AssertionError:
            given = type(llm).__name__
            raise TypeError(f"llm is a {given}; give an LLM of LlamaIndex, such as ZhipuMultiModal(…)") from None
    # ``Settings.llm`` creates an OpenAI LLM if none was set, and there is no public way to ask whether one was.
    if Settings._llm is not None:
        return Settings._llm
    return ZhipuMultiModal()
