"""Embed nodes and write them into the stores of an index, batch after batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, ImageNode
from llama_index.core.utils import iter_batch
from tqdm.auto import tqdm

from llama_index_mm_zhipu.embedding.nodes import Outcome, embed_text_nodes, failure_of, image_bar, stream_image_nodes
from llama_index_mm_zhipu.images import ImageError, as_image_node, has_image
from llama_index_mm_zhipu.index.settings import (
    recorded_weight,
    settings_of_first_images,
    settings_of_texts,
    warn_of_unsearched_texts,
    weight_for_images,
)
from llama_index_mm_zhipu.index.stored_files import with_stored_vectors
from llama_index_mm_zhipu.index.stores import require_store
from llama_index_mm_zhipu.index.update import ImageUpdate, ImageUpdater
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.contract import IndexStore
from llama_index_mm_zhipu.vector_store.nodes import storable_node

logger = logging.getLogger(__name__)

# Compared with the store together: a few queries for all of them, and their vectors in memory.
_COMPARED_AT_A_TIME = 1_000


@dataclass(frozen=True)
class Destination:
    """Where nodes go, and how they are embedded.

    Attributes:
        texts: The store of texts.
        images: The store of images.
        text_model: Embeds texts.
        image_model: Embeds images and their captions.
        caption_weight: The weight that the user gave; the store's recorded weight goes before it.
        on_error: ``"raise"`` at the first image that cannot be read, or ``"skip"`` such images.
        batch_size: How many nodes are written in one transaction.
    """

    texts: IndexStore
    images: IndexStore
    text_model: BaseEmbedding
    image_model: MultiModalEmbedding
    caption_weight: float | None
    on_error: OnError
    batch_size: int


@dataclass
class NodeWriter:
    """One insertion into an index, of one batch or of many; a context manager, which warns at the end.

    Images that the store holds with the same content and caption are not embedded again, see ``ImageUpdater``.

    Args:
        to: Where nodes go.
        skipped: Takes the reasons of nodes that are left out.
        is_stream: Whether the nodes come in many batches: then each warning is logged once, and whether all images have
            captions is not known when the first are written.
        show_progress: Whether to show progress bars.
        embedded_with: Share of captions in the vectors that all nodes came with; None if vectors are to be made.

    Attributes:
        kept: How many images were not embedded again.
        written_texts: Ids of the texts that were written.
    """

    to: Destination
    skipped: Skipped
    is_stream: bool = False
    show_progress: bool = False
    embedded_with: float | None = None
    kept: int = 0
    written_texts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._updater: ImageUpdater | None = None
        self._settings: dict[str, Any] = {}
        self._warned: set[str] = set()

    def __enter__(self) -> NodeWriter:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A single batch that failed has nothing to report; of a stream, the batches before are written.
        if self._updater is not None and (error is None or self.is_stream):
            self._updater.warn()

    def write(self, nodes: Sequence[BaseNode]) -> None:
        """Embed and write nodes; those that came with a vector keep it.

        Raises:
            ImageError: An image cannot be read, with ``on_error="raise"``; those before it are written.
            ValueError: A node cannot be stored, with ``on_error="raise"``; nothing is written.
        """
        nodes = self._storable(nodes)
        images = [as_image_node(node) for node in nodes if has_image(node)]
        texts = [node for node in nodes if not has_image(node) and node.get_content()]
        require_store(self.to.images, images)
        require_store(self.to.texts, texts)
        if images:
            self._write_images(images)
        if texts:
            self._write_texts(texts)

    def _storable(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes that a store can hold, before anything is embedded."""
        storable = []
        for node in nodes:
            try:
                storable.append(storable_node(node).node)
            except ValueError as error:
                if self.to.on_error == "raise":
                    raise
                self.skipped.add(node.node_id, str(error))
                logger.warning("skipped %s", error)
        return storable

    def _write_images(self, images: Sequence[ImageNode]) -> None:
        recorded = recorded_weight(self.to.images)
        weight = self.embedded_with
        if weight is None:
            weight = weight_for_images(
                self.to.images,
                images,
                self.to.caption_weight,
                recorded,
                model=self.to.image_model,
                is_stream=self.is_stream,
                warn=self._warn,
            )
        warn_of_unsearched_texts(self.to.images, images, weight, model=self.to.image_model, warn=self._warn)
        self._settings = settings_of_first_images(self.to.image_model, weight) if recorded is None else {}
        self._settings |= settings_of_texts(self.to.images, images, self.to.image_model)
        updater = self._updater = self._updater or ImageUpdater(self.to.images)
        # A stream has one progress bar for all of its batches.
        with image_bar(len(images), self.show_progress and not self.is_stream) as bar:
            for batch in iter_batch(images, max(_COMPARED_AT_A_TIME, self.to.batch_size)):
                update = updater.plan(list(batch))
                self.kept += update.kept
                bar.update(len(batch) - len(update.to_embed))
                self._embed_and_add(update, weight, bar)

    def _embed_and_add(self, update: ImageUpdate, weight: float, bar: tqdm[None]) -> None:
        done: list[BaseNode] = list(update.with_vectors)
        outcomes = stream_image_nodes(self.to.image_model, update.to_embed, weight)
        try:
            with closing(outcomes):
                for node, outcome in outcomes:
                    done.extend(self._with_embedding(node, outcome))
                    if len(done) >= self.to.batch_size:
                        self._add_images(done)
                        done = []
                    bar.update()
        except KeyboardInterrupt:
            logger.warning("interrupted: the images embedded so far are stored; insert the others again")
            raise
        finally:
            # After an error or Ctrl-C too: what was embedded is not lost.
            self._add_images(done)

    def _add_images(self, images: Sequence[BaseNode]) -> None:
        if images:
            self.to.images.add(images, settings=self._settings)
            self._settings = {}

    def _with_embedding(self, node: BaseNode, outcome: Outcome) -> list[BaseNode]:
        """Return a copy of a node with its vector; nothing if the image is skipped."""
        if not isinstance(outcome, ImageError):
            return [node.model_copy(update={"embedding": outcome.tolist()})]
        if self.to.on_error == "raise":
            raise failure_of(node, outcome)
        self.skipped.add(node.node_id, str(outcome))
        logger.warning("skipped %s", failure_of(node, outcome))
        return []

    def _write_texts(self, texts: Sequence[BaseNode]) -> None:
        texts = with_stored_vectors(self.to.texts, texts, self.written_texts)
        for batch in self._text_batches(texts):
            self.to.texts.add(self._embedded_texts(batch))

    def _text_batches(self, texts: Sequence[BaseNode]) -> Iterator[list[BaseNode]]:
        shown = self.show_progress and not self.is_stream
        with tqdm(total=len(texts), desc="Embedding texts", disable=not shown) as bar:
            for batch in iter_batch(texts, self.to.batch_size):
                yield batch
                bar.update(len(batch))

    def _embedded_texts(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        ready = [node for node in nodes if node.embedding is not None]
        waiting = [node for node in nodes if node.embedding is None]
        vectors = embed_text_nodes(self.to.text_model, waiting)
        embedded = zip(waiting, vectors, strict=True)
        # The caller's nodes are not changed.
        return [*ready, *(node.model_copy(update={"embedding": vector}) for node, vector in embedded)]

    def _warn(self, message: str, *args: object) -> None:
        """Log a warning, once for all batches of a stream."""
        if not self.is_stream or message not in self._warned:
            logger.warning(message, *args)
        self._warned.add(message)
