"""Answers that are read as they come: the text piece by piece, and the citations at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.memory import BaseMemory
from llama_index.core.schema import NodeWithScore

from llama_index_mm_zhipu.display import Gallery, show
from llama_index_mm_zhipu.images import ImageSource
from llama_index_mm_zhipu.prompts.wording import language_of_text
from llama_index_mm_zhipu.query.citations import CITATIONS, UNKNOWN_CITATIONS
from llama_index_mm_zhipu.query.question import image_question
from llama_index_mm_zhipu.query.sources import SKIPPED
from llama_index_mm_zhipu.query.streamed_chat import StreamedChatResponse
from llama_index_mm_zhipu.service.conversion import results_of
from llama_index_mm_zhipu.service.results import Answer
from llama_index_mm_zhipu.types import Language


class AnswerStream:
    """An answer that is on its way; iterate over it for the pieces of its text, once.

    Args:
        question: The words of the question.
        response: A streaming response of a query engine or chat engine.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> stream = ImageService(index, llm=llm).ask("红苹果", similarity_top_k=1)
        >>> len("".join(stream)) > 0, stream.read().citations == {"图1": nodes[0].node_id}
        (True, True)
    """

    def __init__(self, question: str, response: Any) -> None:
        self._question = question
        self._response = response
        self._text = ""
        self._is_read = False
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        if self._error is not None:
            # What came before the error would pass for the whole answer.
            raise self._error
        pieces: Iterable[str] = getattr(self._response, "response_gen", None) or [str(self._response)]
        try:
            for piece in pieces:
                self._text += piece
                yield piece
        except Exception as error:
            self._error = error
            raise
        self._is_read = True

    @property
    def sources(self) -> list[NodeWithScore]:
        """The nodes that the model was given."""
        return list(self._response.source_nodes)

    def read(self) -> Answer:
        """Return the whole answer; the rest of the stream is read.

        Raises:
            GLMError: The model did not answer.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> answer = ImageService(index, llm=llm).ask("红苹果", similarity_top_k=1).read()
            >>> answer.question, list(answer.citations)
            ('红苹果', ['图1'])
        """
        if not self._is_read:
            for _ in self:
                pass
        metadata = self._response.metadata or {}
        return Answer(
            question=self._question,
            text=self._text,
            citations=dict(metadata.get(CITATIONS) or {}),
            unknown_citations=list(metadata.get(UNKNOWN_CITATIONS) or ()),
            sources=results_of(self.sources),
            skipped=dict(metadata.get(SKIPPED) or {}),
        )

    def stop(self) -> None:
        """End the answer of a conversation, whose text is not wanted any more; any thread may call this."""
        if isinstance(self._response, StreamedChatResponse):
            self._response.stop()

    def gallery(self, language: Language | None = None) -> Gallery:
        """Return question, answer and sources as a page, after ``read``."""
        answer = self.read()
        self._response.response_txt = answer.text
        return show(self._question, self._response, language=language)


@dataclass(frozen=True)
class SourceOptions:
    """Which images and texts the model gets with a question.

    Attributes:
        similarity_top_k: How many images and texts.
        filters: Metadata filters, as in ``ImageService.search``.
    """

    similarity_top_k: int = 3
    filters: Sequence[str] = ()


class ChatSession:
    """A conversation about the images of an index, with prompts and labels in the language of its first message.

    Args:
        engine_with: Makes a chat engine of the index for a language and a memory, which finds the sources that the
            options choose.
        new_memory: Makes a memory.
        options: Options of the messages that are asked without any.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> chat = ImageService(index, llm=llm).chat(similarity_top_k=1)
        >>> [source.caption for source in chat.ask("红苹果").read().sources]
        ['红苹果']
        >>> chat.clear()
    """

    def __init__(
        self,
        engine_with: Callable[[Language, BaseMemory, SourceOptions], BaseChatEngine],
        new_memory: Callable[[], BaseMemory],
        options: SourceOptions,
    ) -> None:
        self._engine_with = engine_with
        self._new_memory = new_memory
        self._options = options
        self._memory = new_memory()
        self._language: Language | None = None

    def ask(self, message: str, image: ImageSource | None = None, options: SourceOptions | None = None) -> AnswerStream:
        """Answer a message.

        Args:
            message: The words.
            image: An image that the message is about.
            options: Options of this message.

        Raises:
            GLMError: The model did not answer.
            ImageError: The image cannot be read.
            ValueError: A filter is not understood or matches nothing.
        """
        self._language = self._language or language_of_text(message)
        engine = self._engine_with(self._language, self._memory, options or self._options)
        question: Any = image_question(message, [image]) if image is not None else message
        return AnswerStream(message, engine.stream_chat(question))

    def clear(self) -> None:
        """Forget the conversation."""
        self._memory = self._new_memory()
        self._language = None
