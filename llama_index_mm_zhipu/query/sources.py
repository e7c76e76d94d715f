"""The sources of an answer: the nodes that are sent to the model, and those that had to be left out."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.schema import BaseNode, NodeRelationship, NodeWithScore, RelatedNodeInfo

from llama_index_mm_zhipu.images import (
    ImageError,
    ImageSource,
    ResolvedSource,
    has_image,
    load_image,
    open_image,
    resolve_source,
)
from llama_index_mm_zhipu.llm.errors import EmptyAnswerError
from llama_index_mm_zhipu.query.citations import citations_in
from llama_index_mm_zhipu.query.labels import number_images
from llama_index_mm_zhipu.readers.records import FILE_NAME, FILE_PATH
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import Language, OnError

logger = logging.getLogger(__name__)

SKIPPED = "skipped"
"""Key of ``response.metadata``: the reason by node id of images that were found and not sent."""

# LlamaIndex returns these for an empty answer, and for an answer that failed with a ValueError, which it logs.
_EMPTY_ANSWERS = ("", "Empty Response")


@dataclass(frozen=True)
class Source:
    """A node that is sent to the model.

    Attributes:
        result: The node and its score. An image carries its label.
        image: Where the bytes of the image are; ``None`` for texts, and where no images are sent.
    """

    result: NodeWithScore
    image: ResolvedSource | None = None


@dataclass(frozen=True)
class Sources:
    """The sources of one answer.

    Attributes:
        sent: The sources in the order of the prompt; images are numbered in this order.
        language: Language of labels and citations.
        skipped: The images that were found and are left out: they cannot be read, or they are a page and a figure of it
            of which the other one is sent.
        expects_answer: Whether a model is asked.
    """

    sent: Sequence[Source]
    language: Language
    skipped: Skipped = field(default_factory=Skipped)
    expects_answer: bool = True

    @classmethod
    def of(
        cls,
        results: Sequence[NodeWithScore],
        *,
        language: Language = "zh",
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        needs_images: bool = True,
        expects_answer: bool = True,
    ) -> Sources:
        """Number the images of results; images whose file vanished or was damaged since indexing are left out.

        Of a page and a figure on it, the first one is sent.

        Args:
            results: Retrieved nodes, best first.
            language: Language of the labels.
            metadata_keys: Metadata of images that the model sees besides the label.
            on_error: ``"skip"`` images that cannot be read, or ``"raise"`` at the first.
            needs_images: Whether the images themselves are sent.
            expects_answer: Whether a model is asked.

        Raises:
            ImageError: An image cannot be read and ``on_error`` is ``"raise"``, or no result can be read.
        """
        skipped = Skipped()
        unreadable = 0
        readable: list[NodeWithScore] = []
        images: list[ResolvedSource | None] = []
        shown = _ShownPages()
        for result in results:
            try:
                image = readable_source(result.node) if needs_images and has_image(result.node) else None
            except ImageError as error:
                if on_error == "raise":
                    raise _cannot_be_sent(result.node, error) from None
                skipped.add(result.node.node_id, str(error))
                unreadable += 1
                continue
            if (reason := shown.reason_to_leave_out(result.node)) is not None:
                skipped.add(result.node.node_id, reason)
                continue
            shown.add(result.node)
            readable.append(result)
            images.append(image)
        if unreadable:
            summary = skipped.summary(len(results))
            if not readable:
                raise ImageError(f"none of the images found can be sent: {summary}")
            logger.warning("%s", summary)
        numbered = number_images(readable, language=language, metadata_keys=metadata_keys)
        return cls([*map(Source, numbered, images)], language, skipped, expects_answer)

    @property
    def results(self) -> list[NodeWithScore]:
        """The nodes that are sent, with their scores."""
        return [source.result for source in self.sent]

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the response: that of each node by its id, as in LlamaIndex, and what was skipped.

        For a node it holds what the model was shown, and the name of its file. It never holds a path.
        """
        shown = {source.result.node.node_id: _shown_metadata(source.result.node) for source in self.sent}
        return {**shown, SKIPPED: dict(self.skipped)}

    def citations_in(self, answer: str) -> dict[str, Any]:
        """Return the metadata that tells which images an answer cites.

        Raises:
            EmptyAnswerError: The answer is empty.
            ImageError: The answer is empty because an image could not be read to its end.
        """
        if self.sent and self.expects_answer and answer.strip() in _EMPTY_ANSWERS:
            for source in self.sent:
                _require_whole(source)
            raise EmptyAnswerError(
                f"the model answered nothing to a question with {len(self.sent)} sources; ask again, or raise "
                "max_tokens (if LlamaIndex logged a structured response error before, that is the cause)"
            )
        return citations_in(answer, self.results, self.language).as_metadata()

    def cited_in(self, response: RESPONSE_TYPE) -> RESPONSE_TYPE:
        """Give a response its sources and citations; those of a stream come when it has ended.

        Raises:
            EmptyAnswerError: The answer is empty.
            ImageError: The answer is empty because an image could not be read to its end.
        """
        metadata = self.metadata()
        response.source_nodes = self.results
        response.metadata = metadata
        if isinstance(response, StreamingResponse):
            response.response_gen = self.watched(response.response_gen, metadata)
        elif isinstance(response, AsyncStreamingResponse):
            response.response_gen = self.awatched(response.response_gen, metadata)
        else:
            # An empty response would call itself "None".
            answer = (response.response or "") if isinstance(response, Response) else str(response)
            metadata.update(self.citations_in(answer))
        return response

    def watched(self, pieces: Iterable[str], metadata: dict[str, Any]) -> Generator[str, None, None]:
        """Yield the pieces of a streamed answer, and add its citations to the metadata when it has ended.

        Args:
            pieces: Pieces of the answer.
            metadata: Metadata of the response.
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


class _ShownPages:
    """Tells whether an image is on a page that is sent, or is the page of a figure that is sent."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._figure_of_page: dict[str, str] = {}

    def add(self, node: BaseNode) -> None:
        """Record a node that is sent."""
        if not has_image(node):
            return
        self._ids.add(node.node_id)
        if (page := _page_of(node)) is not None:
            self._figure_of_page.setdefault(page, node.node_id)

    def reason_to_leave_out(self, node: BaseNode) -> str | None:
        """Return why a node is not sent, or None."""
        if not has_image(node):
            return None
        if (page := _page_of(node)) in self._ids:
            return f"it is on {one_line(str(page))}, which is sent"
        if (figure := self._figure_of_page.get(node.node_id)) is not None:
            return f"its figure {one_line(figure)} is sent"
        return None


def _page_of(node: BaseNode) -> str | None:
    parent = node.relationships.get(NodeRelationship.PARENT)
    return parent.node_id if isinstance(parent, RelatedNodeInfo) else None


def readable_source(image: ImageSource) -> ResolvedSource:
    """Return where the bytes of an image are.

    The header of an image file is read. Images in the store are whole, and URLs are for the model to fetch.

    Raises:
        ImageError: The image file is missing or is no image.
    """
    source = resolve_source(image)
    if isinstance(source, Path):
        with open_image(source):
            # The header can be read.
            pass
    return source


def file_name_of(node: BaseNode) -> str | None:
    """Return the name of the file that a node was read from, without its folder, or None."""
    path = getattr(node, "image_path", None) or node.metadata.get(FILE_PATH)
    return node.metadata.get(FILE_NAME) or (Path(str(path)).name if path else None)


def _shown_metadata(node: BaseNode) -> dict[str, Any]:
    file_name = file_name_of(node)
    hidden = {*node.excluded_llm_metadata_keys, FILE_PATH}
    shown = {key: value for key, value in node.metadata.items() if key not in hidden}
    return {FILE_NAME: file_name, **shown} if file_name else shown


def _require_whole(source: Source) -> None:
    if source.image is None or isinstance(source.image, str):
        return
    try:
        load_image(source.image)
    except ImageError as error:
        raise _cannot_be_sent(source.result.node, error) from None


def _cannot_be_sent(node: BaseNode, error: ImageError) -> ImageError:
    return ImageError(f"node {one_line(node.node_id)} was found, but its image cannot be sent: {error}")
