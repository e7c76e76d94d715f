"""``ZhipuMultiModal``: Zhipu's GLM vision models as LlamaIndex expects a multimodal LLM."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import Any

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
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.bridge.pydantic import Field, PrivateAttr, SecretStr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.multi_modal_llms import MultiModalLLM
from llama_index.core.tools import BaseTool

from llama_index_mm_zhipu.llm.messages import api_messages
from llama_index_mm_zhipu.llm.models import ModelLimits, limits_of
from llama_index_mm_zhipu.llm.pictures import blocks_of_documents
from llama_index_mm_zhipu.llm.responses import Answer
from llama_index_mm_zhipu.llm.transport import Transport

logger = logging.getLogger(__name__)

DEFAULT_API_BASE = "https://open.bigmodel.cn/api/paas/v4"

_DEFAULT_NUM_OUTPUT = 1024
_PARAMETERS = ("temperature", "top_p", "max_tokens", "thinking")


class ZhipuMultiModal(MultiModalLLM, FunctionCallingLLM):
    """Zhipu's GLM vision models: questions about pictures, sync, async and streaming.

    Pictures are whatever ``llama_index_mm_zhipu.images`` takes; they go out as raw base64 JPEG or PNG within the API's
    limits, addresses as they are. Only parameters that were set go out. All calls raise ``GLMError``.

    Args:
        model: Name of the model, ``glm-4v-flash`` by default.
        api_key: ``id.secret``; by default ``ZHIPUAI_API_KEY``. It appears in no ``repr``, ``to_dict`` or error.
        api_base: Address of the API; by default ``ZHIPUAI_BASE_URL``, else Zhipu's own.
        temperature: 0 to 1; the API's default is 0.8.
        top_p: 0.01 to 1; the API's default is 0.6.
        max_tokens: Longest answer in tokens; more than the model gives is lowered with a warning.
        thinking: ``{"type": "enabled"}`` or ``{"type": "disabled"}`` for models that can.
        timeout: Seconds to wait for each part of an answer; five pictures can take two minutes at busy hours.
        max_retries: Further tries after a failure that may pass.
        additional_kwargs: Further fields of the request; they come last and win.

    Raises:
        ValueError: There is no key, or it is not of the form ``id.secret``.
    """

    model: str = Field(default="glm-4v-flash", description="Name of the model.")
    api_key: SecretStr = Field(default=SecretStr(""), exclude=True, repr=False, description="id.secret")
    api_base: str = Field(default=DEFAULT_API_BASE, description="Address of the API.")
    temperature: float | None = Field(default=None, ge=0, le=1, description="Sampling temperature.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Nucleus sampling.")
    max_tokens: int | None = Field(default=None, gt=0, description="Longest answer in tokens.")
    thinking: dict[str, Any] | None = Field(default=None, description="Thinking mode of the model.")
    timeout: float = Field(default=120.0, gt=0, description="Seconds to wait for each part of an answer.")
    max_retries: int = Field(default=3, ge=0, description="Further tries after a failure that may pass.")
    additional_kwargs: dict[str, Any] = Field(default_factory=dict, description="Further fields of the request.")

    _transport: Transport | None = PrivateAttr(default=None)

    def __init__(self, model: str = "glm-4v-flash", api_key: str | SecretStr | None = None, **kwargs: Any) -> None:
        kwargs["api_base"] = kwargs.get("api_base") or os.environ.get("ZHIPUAI_BASE_URL") or DEFAULT_API_BASE
        super().__init__(model=model, api_key=_checked_key(api_key), **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings only: connections are opened anew."""
        settings = self.__deepcopy__()
        return {**super(ZhipuMultiModal, settings).__getstate__(), "__pydantic_private__": None}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> ZhipuMultiModal:
        """Copy the settings; connections are opened anew."""
        copied: ZhipuMultiModal = self.model_copy()
        copied._transport = None
        return copied

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex knows this as a multimodal LLM: it looks for "multi"."""
        return "zhipu_multi_modal_llm"

    @property
    def metadata(self) -> LLMMetadata:  # type: ignore[override]  # both bases declare it, with two classes
        """Context, output limit and abilities of the model."""
        limits = self._limits
        return LLMMetadata(
            context_window=limits.context_window,
            num_output=self.max_tokens or _DEFAULT_NUM_OUTPUT,
            is_chat_model=True,
            is_function_calling_model=limits.tools,
            model_name=self.model,
        )

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a chat.

        Args:
            messages: With text and pictures in any order.
            **kwargs: Fields of the request, over those of the constructor.

        Raises:
            GLMError: The API did not answer.
            ImageError: A picture cannot be read.
        """
        return self._answer(self._body(messages, kwargs))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """As ``chat``."""
        return await self._aanswer(self._body(messages, kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Generator[ChatResponse, None, None]:
        """As ``chat``, yielding the answer so far with each piece."""
        return self._pieces(self._body(messages, kwargs, stream=True))

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncGenerator[ChatResponse, None]:
        """As ``stream_chat``."""
        return self._apieces(self._body(messages, kwargs, stream=True))

    # The two base classes disagree on the second argument of these four: core calls them in both ways.

    def complete(  # type: ignore[override]
        self, prompt: str, image_documents: Sequence[Any] | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Answer a prompt, with pictures or without.

        Args:
            prompt: The question; it stands after the pictures.
            image_documents: ``ImageNode``, ``ImageDocument``, ``ImageBlock``, paths, addresses, ``bytes``,
                ``PIL.Image``; a node's text stands before its picture.
            formatted: Without effect; LlamaIndex passes it to completion models.
            **kwargs: Fields of the request, over those of the constructor.
        """
        return chat_response_to_completion_response(self._answer(self._body(_prompt(prompt, image_documents), kwargs)))

    async def acomplete(  # type: ignore[override]
        self, prompt: str, image_documents: Sequence[Any] | None = None, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """As ``complete``."""
        return chat_response_to_completion_response(
            await self._aanswer(self._body(_prompt(prompt, image_documents), kwargs))
        )

    def stream_complete(  # type: ignore[override]
        self, prompt: str, image_documents: Sequence[Any] | None = None, formatted: bool = False, **kwargs: Any
    ) -> Generator[CompletionResponse, None, None]:
        """As ``complete``, yielding the answer so far with each piece."""
        return stream_chat_response_to_completion_response(
            self._pieces(self._body(_prompt(prompt, image_documents), kwargs, stream=True))
        )

    async def astream_complete(  # type: ignore[override]
        self, prompt: str, image_documents: Sequence[Any] | None = None, formatted: bool = False, **kwargs: Any
    ) -> AsyncGenerator[CompletionResponse, None]:
        """As ``stream_complete``."""
        return astream_chat_response_to_completion_response(
            self._apieces(self._body(_prompt(prompt, image_documents), kwargs, stream=True))
        )

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the tools that the model chose.

        Raises:
            ValueError: It chose none, and ``error_on_no_tool_call``.
        """
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise ValueError(f"{self.model} called no tool; it answered: {response.message.content}")
        return [
            ToolSelection(
                tool_id=call.tool_call_id or "", tool_name=call.tool_name, tool_kwargs=_arguments(call.tool_kwargs)
            )
            for call in calls
        ]

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and the others."""
        if self._transport is not None:
            await self._transport.aclose()
        self.close()

    @property
    def _limits(self) -> ModelLimits:
        return limits_of(self.model)

    @property
    def _connection(self) -> Transport:
        if self._transport is None:
            self._transport = Transport(self.api_key.get_secret_value(), self.api_base, self.timeout, self.max_retries)
        return self._transport

    def _answer(self, body: dict[str, Any]) -> ChatResponse:
        return Answer().add(self._connection.post(body), "message")

    async def _aanswer(self, body: dict[str, Any]) -> ChatResponse:
        return Answer().add(await self._connection.apost(body), "message")

    def _pieces(self, body: dict[str, Any]) -> Generator[ChatResponse, None, None]:
        answer = Answer()
        # Left to the garbage collector, the stream could close its connection at a bad moment.
        with closing(self._connection.stream(body)) as events:
            for event in events:
                yield answer.add(event, "delta")

    async def _apieces(self, body: dict[str, Any]) -> AsyncGenerator[ChatResponse, None]:
        answer = Answer()
        async with aclosing(self._connection.astream(body)) as events:
            async for event in events:
                yield answer.add(event, "delta")

    def _body(self, messages: Sequence[ChatMessage], overrides: dict[str, Any], stream: bool = False) -> dict[str, Any]:
        parameters = {name: getattr(self, name) for name in _PARAMETERS}
        body = {"model": self.model, **parameters, **self.additional_kwargs, **overrides}
        if stream:
            body["stream"] = True
        limits = limits_of(body["model"])
        body["max_tokens"] = _clamped(body["max_tokens"], limits, body["model"])
        body["messages"] = api_messages(messages, limits.pictures)
        return {name: value for name, value in body.items() if value is not None}

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
        specifications = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
        # The API knows no other choice than "auto".
        choice = {"tools": specifications, "tool_choice": "auto"} if specifications else {}
        return {"messages": messages, **choice, **kwargs}


def _checked_key(api_key: str | SecretStr | None) -> SecretStr:
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    key = (key if key is not None else os.environ.get("ZHIPUAI_API_KEY", "")).strip()
    if not key:
        raise ValueError(
            "no API key: give ZhipuMultiModal(api_key=…) or set ZHIPUAI_API_KEY; keys are free at https://open.bigmodel.cn"
        )
    if key.count(".") != 1 or not all(key.split(".")):
        raise ValueError("the API key is not of the form id.secret; copy it whole from https://open.bigmodel.cn")
    return SecretStr(key)


def _clamped(max_tokens: int | None, limits: ModelLimits, model: str) -> int | None:
    if max_tokens is None or limits.max_tokens is None or max_tokens <= limits.max_tokens:
        return max_tokens
    logger.warning("max_tokens %d lowered to %d: %s gives no more", max_tokens, limits.max_tokens, model)
    return limits.max_tokens


def _prompt(prompt: str, image_documents: Sequence[Any] | None) -> list[ChatMessage]:
    blocks = [*blocks_of_documents(image_documents or []), TextBlock(text=prompt)]
    return [ChatMessage(role=MessageRole.USER, blocks=blocks)]


def _arguments(arguments: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(arguments, dict):
        return arguments
    try:
        parsed = json.loads(arguments or "{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
