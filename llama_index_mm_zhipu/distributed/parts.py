"""Parts of a data set: consecutive images that are embedded and stored together, and what is told about them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.stores.image_storage import inline_image_of
from llama_index_mm_zhipu.stores.transfer.shards import MAX_INLINE_IMAGES


class SkippedImage(NamedTuple):
    """An image that was left out, or that is stored without the result of a stage.

    Attributes:
        name: Node id of the image, or file and line of its record.
        reason: What is wrong.
        stage: Name of the transformation that failed, for images that are stored without its result.
    """

    name: str
    reason: str
    stage: str = ""


@dataclass
class Part:
    """Consecutive images of a source.

    Attributes:
        source: Key of the source, ``DatasetSource.key``.
        number: Position among the parts of the source, from 0.
        fingerprint: Hash of what was read: ids, captions, metadata and hashes of the images' contents.
        nodes: The images, after embedding with their vectors.
        skipped: Images that were left out so far, or are to be stored without the result of a stage.
        model: Fingerprint of the model that embedded the nodes; None before.
        precision: Precision of that model, such as ``"fp32"``, if it has one.
        has_texts_apart: Whether images have texts that are in no vector, such as page texts.
    """

    source: str
    number: int
    fingerprint: str
    nodes: list[BaseNode]
    skipped: list[SkippedImage] = field(default_factory=list)
    model: str | None = None
    precision: str | None = None
    has_texts_apart: bool = False

    @property
    def size(self) -> int:
        """Number of images, with those that were left out."""
        return len(self.nodes) + sum(not image.stage for image in self.skipped)


@dataclass(frozen=True)
class StoredPart:
    """A part that an earlier run has stored, with the same content.

    Attributes:
        source: As in ``Part``.
        number: As in ``Part``.
    """

    source: str
    number: int


@dataclass(frozen=True)
class SourceEnd:
    """The end of a source.

    Attributes:
        source: As in ``Part``.
        parts: How many parts it has.
    """

    source: str
    parts: int


@dataclass(frozen=True)
class Failure:
    """An error in another process, which ends the run.

    Attributes:
        error: The error.
        host: Name of the machine; empty for that of the driver.
    """

    error: Exception
    host: str = ""


Message: TypeAlias = Part | StoredPart | SourceEnd | Failure
"""What is sent from reading to embedding, and from there to the driver."""


def cut_into_parts(source: str, records: Iterable[NodeOrError], max_nodes: int) -> Iterator[Part]:
    """Yield the parts of a source, which are the same ones in each run if the source has not changed.

    Args:
        source: Key of the source.
        records: Images, and errors of records, which are listed as skipped.
        max_nodes: Maximum number of records in a part; large inline images end it earlier.
    """
    nodes: list[BaseNode] = []
    skipped: list[SkippedImage] = []
    number = size = 0
    for record in records:
        if isinstance(record, RecordError):
            skipped.append(SkippedImage(record.position, record.reason))
        else:
            nodes.append(record)
            size += len(inline_image_of(record) or "")
        if len(nodes) + len(skipped) >= max_nodes or size > MAX_INLINE_IMAGES:
            yield Part(source, number, _fingerprint(nodes, skipped), nodes, skipped)
            nodes, skipped, size = [], [], 0
            number += 1
    if nodes or skipped:
        yield Part(source, number, _fingerprint(nodes, skipped), nodes, skipped)


def dumps(message: Message) -> bytes:
    """Return a message as bytes, for the blocks of a Ray dataset."""
    try:
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        if isinstance(message, Failure):
            # Errors whose constructors take other arguments than their message can be pickled, and not unpickled.
            pickle.loads(data)
    except Exception as error:
        if not isinstance(message, Failure):
            raise
        # Errors of other packages may hold what cannot be pickled.
        named = f"{type(message.error).__name__}: {message.error}"
        replaced = Failure(RuntimeError(f"{named} ({type(error).__name__} when it was sent)"), message.host)
        return pickle.dumps(replaced, protocol=pickle.HIGHEST_PROTOCOL)
    return data


def loads(data: bytes) -> Message:
    """Return the message that ``dumps`` wrote."""
    message: Message = pickle.loads(data)
    return message


def _fingerprint(nodes: Iterable[BaseNode], skipped: Iterable[SkippedImage]) -> str:
    digest = hashlib.sha256()
    for node in nodes:
        # The hash of an inline image is in the metadata.
        digest.update(node.model_dump_json(exclude={"embedding", "image"}).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    for image in skipped:
        digest.update(f"{image.name}\0{image.reason}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
