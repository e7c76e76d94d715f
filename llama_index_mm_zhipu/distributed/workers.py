"""What the actors do with a part: transformations such as OCR, and embedding."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode, TransformComponent
from ray import cloudpickle
from ray.exceptions import RayError

from llama_index_mm_zhipu.arguments import require_positive
from llama_index_mm_zhipu.distributed.parts import Failure, Message, Part, SkippedImage, dumps, loads
from llama_index_mm_zhipu.distributed.sources import changed
from llama_index_mm_zhipu.embedding.contract import fingerprint_of, precision_of
from llama_index_mm_zhipu.embedding.nodes import embed_nodes
from llama_index_mm_zhipu.images import ImageError, read_file
from llama_index_mm_zhipu.index.settings import are_texts_apart
from llama_index_mm_zhipu.readers.records import CONTENT_HASH, content_hash
from llama_index_mm_zhipu.reporting import Skipped, errors_only
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError

MESSAGE = "message"
"""Column of the blocks between stages."""

_MAX_ATTEMPTS = 5


@dataclass(frozen=True)
class Stage:
    """A transformation of images with the actors that run it, such as OCR.

    Args:
        transformation: A transformation that keeps images, such as ``ImageOcr`` or ``ImageCaptioner``; it must be
            picklable. Secrets are best left to environment variables of the machines: a pickled key is sent to them.
        num_actors: How many processes run it.
        num_cpus: CPUs of each; 0 for transformations that wait for a service. It also is the number of threads.
        num_gpus: GPUs of each.

    Examples:
        >>> from llama_index_mm_zhipu.distributed import Stage
        >>> stages = [Stage(ImageCaptioner(llm), num_cpus=0), Stage(ImageOcr(), num_actors=4)]
        >>> [type(stage.transformation).__name__ for stage in stages]
        ['ImageCaptioner', 'ImageOcr']
    """

    transformation: TransformComponent
    num_actors: int = 1
    num_cpus: float = 1
    num_gpus: float = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not isinstance(self.transformation, TransformComponent):
            raise TypeError(f"a {type(self.transformation).__name__} is no transformation of LlamaIndex")
        require_positive(self.num_actors, "num_actors")
        require_shares(self.num_cpus, self.num_gpus)


@dataclass(frozen=True)
class Transform:
    """Applies a transformation to a part.

    Attributes:
        transformation: The transformation.
    """

    transformation: TransformComponent

    def __call__(self, part: Part) -> Part:
        """Return the part with transformed nodes, and with the images whose transformation failed."""
        before = [node.node_id for node in part.nodes]
        part.nodes = list(self.transformation(part.nodes))
        left = {node.node_id for node in part.nodes}
        name = type(self.transformation).__name__
        part.skipped += [SkippedImage(node_id, f"left out by {name}") for node_id in before if node_id not in left]
        # Transformations of this package skip what fails, and list it.
        failed = getattr(self.transformation, "skipped", None)
        if isinstance(failed, Skipped):
            part.skipped += [SkippedImage(*item, stage=name) for item in failed.items() if item[0] in left]
        return part


@dataclass(frozen=True)
class Embed:
    """Embeds a part.

    Attributes:
        model: The model, which is loaded when this object is unpickled.
        expected: Fingerprint of the driver's model.
        caption_weight: Share of captions in the vectors.
        on_error: What to do with images that cannot be read.
    """

    model: MultiModalEmbedding
    expected: str
    caption_weight: float
    on_error: OnError

    def __call__(self, part: Part) -> Part:
        """Return the part with embedded nodes.

        Raises:
            FileNotFoundError: A file that was read, or the folder of an image, is not on this machine.
            ImageError: An image cannot be read, with ``on_error="raise"``.
            ModelMismatchError: The weights on this machine are others than those of the driver.
            RecordError: An image changed after it was read.
        """
        part.model, part.precision = fingerprint_of(self.model), precision_of(self.model)
        if part.model != self.expected:
            raise ModelMismatchError(
                f"the model is {part.model} here, and {self.expected} where embed_dataset runs; copy the same weights "
                "to all machines"
            )
        _require_files(part.nodes)
        # Skipped images are listed in the driver's report.
        with errors_only("llama_index_mm_zhipu.embedding"):
            embedded = embed_nodes(part.nodes, self.model, caption_weight=self.caption_weight, on_error=self.on_error)
        part.nodes = embedded.nodes
        part.has_texts_apart = are_texts_apart(part.nodes, self.model)
        part.skipped += [SkippedImage(*item) for item in embedded.skipped.items()]
        for node in part.nodes:
            _require_unchanged(node)
        return part


class Worker:
    """An actor of Ray Data: applies its work to the parts that it is sent.

    Args:
        work: A pickled function of parts, which is unpickled with the first part: what fails then is an error of that
            part, which the driver reports, and not one of the actor, which Ray would start again and again.
        folder: Current folder of the driver, for relative paths of models, if it is on this machine.
        attempts: Handle of an actor, an ``Attempts``.
    """

    def __init__(self, work: bytes, folder: str, attempts: Any) -> None:
        self._pickled = work
        self._folder = folder
        self._attempts = attempts
        self._name = hashlib.sha256(work).hexdigest()
        self._work: Callable[[Part], Part] | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        """Return the messages of a block after the work on its parts."""
        return {MESSAGE: [self._answer(data) for data in batch[MESSAGE]]}

    def _answer(self, data: bytes) -> bytes:
        try:
            # What cannot be pickled is an error of the part, too.
            return dumps(self._after_work(loads(data)))
        except Exception as error:
            return dumps(Failure(error, socket.gethostname()))

    def _after_work(self, message: Message) -> Message:
        if not isinstance(message, Part) or not message.nodes:
            return message
        self._count_attempt(message)
        if self._work is None:
            with contextlib.suppress(OSError):
                os.chdir(self._folder)
            self._work = cloudpickle.loads(self._pickled)
        return self._work(message)

    def _count_attempt(self, part: Part) -> None:
        """Raise an error if work on a part has ended its process several times."""
        count = 0
        with contextlib.suppress(RayError):
            count = ray.get(self._attempts.begin.remote(f"{self._name} {part.source} {part.number}"))
        if count > _MAX_ATTEMPTS:
            raise RuntimeError(
                f"the process ended {_MAX_ATTEMPTS} times during work on the images from "
                f"{one_line(part.nodes[0].node_id)} to {one_line(part.nodes[-1].node_id)}: perhaps the machine has too "
                "little memory, or an image crashes a library"
            )


def require_shares(num_cpus: float, num_gpus: float) -> None:
    """Check the CPUs and GPUs of an actor.

    Raises:
        ValueError: One of them is negative or not a number.
    """
    for name, value in (("num_cpus", num_cpus), ("num_gpus", num_gpus)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; it must be at least 0")


def pickled(work: Callable[[Part], Part], name: str) -> bytes:
    """Return work for a ``Worker``.

    Raises:
        TypeError: It cannot be pickled.
    """
    try:
        data: bytes = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise TypeError(f"{name} cannot be pickled, which sending it to other processes needs: {error}") from None
    return data


def _file_of(node: BaseNode) -> Path | None:
    path = getattr(node, "image_path", None)
    return Path(path) if path and not getattr(node, "image", None) else None


def _require_files(nodes: Sequence[BaseNode]) -> None:
    """Raise an error if images are not here at all, which are no images that cannot be read.

    Files that the reader has hashed were there; the folders of others are looked for.
    """
    for node in nodes:
        file = _file_of(node)
        if file is None:
            continue
        needed = file if CONTENT_HASH in node.metadata else file.parent
        if not os.path.lexists(needed):
            raise FileNotFoundError(
                f"{one_line(str(needed))} is not on this machine: images that are files must have the same path on all "
                "machines, as on a shared drive; if it was removed meanwhile, run again"
            )


def _require_unchanged(node: BaseNode) -> None:
    """Raise an error if the file of an image has another content than the reader found."""
    file, digest = _file_of(node), node.metadata.get(CONTENT_HASH)
    if file is None or digest is None:
        return
    try:
        is_same = content_hash(read_file(file)) == digest
    except ImageError:
        is_same = False
    if not is_same:
        raise changed(one_line(str(file)))
