"""The four ways to ask: sync or async, whole or streamed. Tests use them for behaviour that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse

from llama_index_mm_zhipu import ZhipuMultiModal

CHAT = [ChatMessage(role="user", content="图里的飞机是什么颜色？")]


@dataclass(frozen=True)
class Way:
    """One of the four ways to ask: sync or async, whole or streamed."""

    is_async: bool
    streams: bool

    async def ask(self, llm: ZhipuMultiModal, chat: Sequence[ChatMessage] = CHAT, **fields: Any) -> ChatResponse:
        """Return the answer or the last response of a stream. Sync calls run in a thread."""
        if not self.is_async:
            return await asyncio.to_thread(self._ask, llm, chat, fields)
        if not self.streams:
            return await llm.achat(chat, **fields)
        return [piece async for piece in await llm.astream_chat(chat, **fields)][-1]

    def _ask(self, llm: ZhipuMultiModal, chat: Sequence[ChatMessage], fields: dict[str, Any]) -> ChatResponse:
        return list(llm.stream_chat(chat, **fields))[-1] if self.streams else llm.chat(chat, **fields)


WAYS = [Way(is_async=is_async, streams=streams) for is_async in (False, True) for streams in (False, True)]
