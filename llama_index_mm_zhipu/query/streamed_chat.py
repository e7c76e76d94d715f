"""``StreamedChatResponse``: an answer of a chat engine that is read as it comes, and that can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.chat_engine.types import StreamingAgentChatResponse

# A second reader of the same stream is not woken.
_POLL_SECONDS = 1.0


@dataclass
class StreamedChatResponse(StreamingAgentChatResponse):
    """A streamed answer, which a thread reads from the model and writes to the history.

    LlamaIndex's own reader keeps a core busy while it waits for the model.

    Attributes:
        metadata: Citations and search words, when the answer has ended.
    """

    metadata: dict[str, Any] | None = None
    _is_stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    @classmethod
    def of(cls, pieces: Iterable[str], **fields: Any) -> StreamedChatResponse:
        """Return the answer that pieces of text make.

        Args:
            pieces: The pieces.
            **fields: Fields of the response.
        """
        response = cls(**fields)
        response.chat_stream = response._responses(pieces)
        return response

    @property
    def response_gen(self) -> Generator[str, None, None]:
        """The pieces of the answer; the whole answer if they were read before."""
        has_pieces = False
        while not self._is_stopped.is_set() and not (self.is_done and self.queue.empty()):
            if self.exception is not None and self.queue.empty():
                raise self.exception
            try:
                piece = self.queue.get(timeout=_POLL_SECONDS)
            except Empty:
                continue
            if piece:
                has_pieces = True
                self.unformatted_response += piece
                yield piece
        self.response = self.unformatted_response.strip()
        if not has_pieces:
            yield self.response

    def stop(self) -> None:
        """End the pieces now, and the answer of the model at its next piece. The history keeps what came."""
        self._is_stopped.set()
        self.wake_reader()

    def wake_reader(self) -> None:
        """Have the reader see that the answer has ended."""
        self.put_in_queue("")

    def _responses(self, pieces: Iterable[str]) -> Generator[ChatResponse, None, None]:
        answer = ""
        for piece in pieces:
            answer += piece
            yield response_so_far(answer, piece)
            if self._is_stopped.is_set():
                return


def response_so_far(answer: str, piece: str) -> ChatResponse:
    """Return the response of a chat LLM with an answer up to its newest piece."""
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=answer), delta=piece)
