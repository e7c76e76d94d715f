"""The sources of an answer: which were sent, which could not be, and which the answer cites."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore

from llama_index_mm_zhipu.embedding.nodes import OnError, list_failures
from llama_index_mm_zhipu.images import ImageError, image_source, load_image, open_image
from llama_index_mm_zhipu.images.errors import one_line
from llama_index_mm_zhipu.llm.empty_answer import EmptyAnswerError
from llama_index_mm_zhipu.query.citations import citations_in
from llama_index_mm_zhipu.query.labels import number_pictures
from llama_index_mm_zhipu.prompts.wording import Language

logger = logging.getLogger(__name__)

SKIPPED = "skipped"
"""Key of ``response.metadata``: reason by node id of pictures that were found and could not be sent."""

# As LlamaIndex's readers call them.
_FILE_NAME, _FILE_PATH = "file_name", "file_path"

# What LlamaIndex makes of an empty answer, and of one that failed with a ValueError, which it logs.
_EMPTY_ANSWERS = ("", "Empty Response")


class Sent(list[NodeWithScore]):
    """Pictures, numbered in this order, and texts.

    Attributes:
        skipped: Reason by node id of pictures that were found and cannot be read.
    """

    skipped: dict[str, str]


@dataclass(frozen=True)
class Sources:
    """Sources of one answer.

    Attributes:
        sent: What goes out.
        language: Of labels and citations.
        expects_answer: False where no model is asked.
    """

    sent: Sent
    language: Language
    expects_answer: bool = True

    @classmethod
    def of(
        cls,
        results: Sequence[NodeWithScore],
        *,
        language: Language = "zh",
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        needs_pictures: bool = True,
        expects_answer: bool = True,
    ) -> Sources:
        """Take what was retrieved, without pictures whose file vanished or was damaged since it was indexed.

        Args:
            results: What was retrieved, or what this function took of it before.
            language: Of labels.
            metadata_keys: Metadata to show of pictures besides.
            on_error: ``"skip"`` such pictures, or ``"raise"`` at the first.
            needs_pictures: Whether the pictures are sent at all.
            expects_answer: Whether a model is asked.

        Raises:
            ImageError: There is such a picture, and ``on_error`` is ``"raise"``; or nothing else was found.
        """
        if isinstance(results, Sent):
            return cls(results, language, expects_answer)
        readable, skipped = _readable(results, on_error) if needs_pictures else (list(results), {})
        if skipped:
            told = list_failures(list(skipped.items()), len(results))
            if not readable:
                raise ImageError(f"none of the pictures found can be sent: {told}")
            logger.warning("%s", told)
        sent = Sent(number_pictures(readable, language=language, metadata_keys=metadata_keys))
        sent.skipped = skipped
        return cls(sent, language, expects_answer)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the response: of each node by its id, as LlamaIndex has it, and what was skipped.

        Of a node it holds what the model was shown, and the name of its file; paths of this machine stay here.
        """
        return {
            **{result.node.node_id: _shown_metadata(result.node) for result in self.sent},
            SKIPPED: self.sent.skipped,
        }

    def citations_in(self, answer: str) -> dict[str, Any]:
        """Return the metadata that tells what an answer cites.

        Raises:
            EmptyAnswerError: It is empty.
            ImageError: It is, because a picture could not be read to its end.
        """
        if self.sent and self.expects_answer and answer.strip() in _EMPTY_ANSWERS:
            for result in self.sent:
                _require_whole(result.node)
            raise EmptyAnswerError(
                f"the model answered nothing to a question with {len(self.sent)} sources; ask again, or raise "
                "max_tokens (if LlamaIndex logged a structured response error before, that is the cause)"
            )
        return citations_in(answer, self.sent, self.language).as_metadata()

    def watched(self, pieces: Iterable[str], metadata: dict[str, Any]) -> Generator[str, None, None]:
        """Pass on an answer that streams, and tell at its end what it cites.

        Args:
            pieces: Of the answer.
            metadata: Of the response, which is completed.
        """
        answer = ""
        for piece in pieces:
            answer += piece
            yield piece
        metadata.update(self.citations_in(answer))

    async def awatched(self, pieces: AsyncIterable[str], metadata: dict[str, Any]) -> AsyncGenerator[str, None]:
        """As ``watched``."""
        answer = ""
        async for piece in pieces:
            answer += piece
            yield piece
        metadata.update(self.citations_in(answer))


def _shown_metadata(node: BaseNode) -> dict[str, Any]:
    path = getattr(node, "image_path", None) or node.metadata.get(_FILE_PATH)
    file_name = node.metadata.get(_FILE_NAME) or (Path(str(path)).name if path else None)
    hidden = {*node.excluded_llm_metadata_keys, _FILE_PATH}
    shown = {key: value for key, value in node.metadata.items() if key not in hidden}
    return {_FILE_NAME: file_name, **shown} if file_name else shown


def require_readable(node: BaseNode) -> None:
    """Read the header of a picture in a file: those in the store are whole, addresses are the LLM's to fetch.

    Raises:
        ImageError: There is no such picture.
    """
    if isinstance(node, ImageNode) and not node.image and isinstance(source := image_source(node), Path):
        with open_image(source):
            pass


def _readable(results: Sequence[NodeWithScore], on_error: OnError) -> tuple[list[NodeWithScore], dict[str, str]]:
    readable: list[NodeWithScore] = []
    reasons: dict[str, str] = {}
    for result in results:
        try:
            require_readable(result.node)
            readable.append(result)
        except ImageError as error:
            if on_error == "raise":
                raise _cannot_be_sent(result.node, error) from None
            reasons[result.node.node_id] = str(error)
    return readable, reasons


def _require_whole(node: BaseNode) -> None:
    if not isinstance(node, ImageNode) or isinstance(image_source(node), str):
        return
    try:
        load_image(node)
    except ImageError as error:
        raise _cannot_be_sent(node, error) from None


def _cannot_be_sent(node: BaseNode, error: ImageError) -> ImageError:
    return ImageError(f"node {one_line(node.node_id)} was found, but its picture cannot be sent: {error}")
