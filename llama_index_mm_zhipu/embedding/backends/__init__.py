"""What the backends of Chinese-CLIP have in common: their interface, their errors, and a comparison of precisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]

BackendName = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]

CPU_BATCH = 8
"""Images in one forward pass on a CPU: 32 take as long or longer each, and three times the memory."""


class Backend(Protocol):
    """A loaded model: arrays in, unit vectors out. Threads may share it."""

    name: str
    device: str
    precision: Precision
    logit_scale: float

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed images of shape ``(n, 3, side, side)``, to shape ``(n, embed_dim)``."""

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed word pieces of shape ``(n, length)``, to shape ``(n, embed_dim)``."""


def in_one_line(error: object, longest: int = 200) -> str:
    """Return what another library says as the detail of an error: one line of so many characters at most."""
    return " ".join(str(error).split())[:longest]


class CheckpointError(ValueError):
    """Weights could not be found, fetched or loaded. The message names the file and says what to do."""


class BackendError(ValueError):
    """This machine cannot run a model as asked. The message says what to take instead, or what to install."""


@dataclass(frozen=True)
class PrecisionReport:
    """How near vectors are to those of torch in fp32, and whether words find the same images. ``print`` it.

    Attributes:
        backend: What computed the vectors, in words.
        images: How many images were compared.
        texts: How many texts were compared.
        least_image_cosine: The worst image; 1 is equal.
        mean_image_cosine: All images.
        least_text_cosine: The worst text.
        mean_text_cosine: All texts.
        top_k: How many images are found for each text.
        overlap: Share of them that both find, 0 to 1, in the mean over the texts.
    """

    backend: str
    images: int
    texts: int
    least_image_cosine: float
    mean_image_cosine: float
    least_text_cosine: float
    mean_text_cosine: float
    top_k: int
    overlap: float

    def __str__(self) -> str:
        """Return a small table."""
        return "\n".join(
            [
                f"{self.backend} against torch fp32: {self.images} images, {self.texts} texts",
                f"  cosine of images  mean {self.mean_image_cosine:.5f}  least {self.least_image_cosine:.5f}",
                f"  cosine of texts     mean {self.mean_text_cosine:.5f}  least {self.least_text_cosine:.5f}",
                f"  top {self.top_k} images of each text: {self.overlap:.1%} the same",
            ]
        )


def compare_precision(backend: str, images: Sequence[Vectors], texts: Sequence[Vectors], top_k: int) -> PrecisionReport:
    """Compare vectors with reference vectors.

    Args:
        backend: What computed the vectors, in words.
        images: Vectors of the images and their reference, each of shape ``(images, dim)``.
        texts: Vectors of the texts and their reference, each of shape ``(texts, dim)``.
        top_k: How many images to find for each text; no more than there are.
    """
    image_cosines, text_cosines = (np.sum(ours * reference, axis=1) for ours, reference in (images, texts))
    top_k = min(top_k, len(images[0]))
    found, expected = (_nearest(text, image, top_k) for text, image in zip(texts, images, strict=True))
    return PrecisionReport(
        backend=backend,
        images=len(images[0]),
        texts=len(texts[0]),
        least_image_cosine=float(image_cosines.min()),
        mean_image_cosine=float(image_cosines.mean()),
        least_text_cosine=float(text_cosines.min()),
        mean_text_cosine=float(text_cosines.mean()),
        top_k=top_k,
        overlap=float(np.mean([len(ours & theirs) / top_k for ours, theirs in zip(found, expected, strict=True)])),
    )


def _nearest(texts: Vectors, images: Vectors, top_k: int) -> list[set[int]]:
    ranked = np.argsort(-(texts @ images.T), axis=1, kind="stable")[:, :top_k]
    return [set(row) for row in ranked.tolist()]
