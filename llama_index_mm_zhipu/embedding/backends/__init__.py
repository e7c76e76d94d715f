"""What the backends of Chinese-CLIP have in common: their interface, their errors, and a comparison of precisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]
"""Vectors of unit length, of shape ``(n, embed_dim)``."""

BackendName = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]

CPU_BATCH = 8
"""Images in one forward pass on a CPU. Passes of 32 take at least as long per image, and three times the memory."""


class Backend(Protocol):
    """A loaded model, which turns arrays into unit vectors. Threads may share it."""

    name: str
    device: str
    precision: Precision
    logit_scale: float

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Return the vectors of preprocessed images of shape ``(n, 3, side, side)``."""

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Return the vectors of tokens of shape ``(n, length)``."""


class CheckpointError(ValueError):
    """Raised when weights cannot be found, downloaded or loaded. The message names the file and says what to do.

    Examples:
        >>> ChineseClipEmbedding("ViT-B-17").get_text_embedding("飞机")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.embedding.backends.CheckpointError: unknown model 'ViT-B-17': use one of RN50,
        ViT-B-16, ViT-L-14, ViT-L-14-336, ViT-H-14, or the path of an existing directory or .pt file; did you
        mean 'ViT-B-16'?
    """


class BackendError(ValueError):
    """Raised when this machine cannot run a model as configured. The message says what to change or to install.

    Examples:
        >>> ChineseClipEmbedding("ViT-B-16", backend="torch", precision="int8").get_text_embedding("飞机")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.embedding.backends.BackendError: precision="int8" needs OpenVINO, on a CPU: pip
        install "llama-index-mm-zhipu[openvino]", and backend="auto" or "openvino" with device="cpu"
    """


def short_detail(message: object, max_length: int = 200) -> str:
    """Return the start of another library's message on one line, as a detail of an error of this package."""
    return " ".join(str(message).split())[:max_length]


@dataclass(frozen=True)
class PrecisionReport:
    """How close vectors are to those of torch in fp32, and whether texts find the same images. ``print`` it.

    Attributes:
        backend: What computed the vectors, such as ``"OpenVINO on cpu in int8"``.
        images: Number of images compared.
        texts: Number of texts compared.
        min_image_cosine: Cosine of the image that differs most; 1 is equal.
        mean_image_cosine: Mean cosine of all images.
        min_text_cosine: Cosine of the text that differs most.
        mean_text_cosine: Mean cosine of all texts.
        top_k: Number of images found for each text.
        overlap: Share of these images that both find, 0 to 1, averaged over the texts.

    Examples:
        >>> report = embed_model.check_precision(["images/apple.jpg", "images/ship.jpg"], ["红苹果", "帆船"], top_k=1)
        >>> f"{report.mean_image_cosine:.3f}", f"{report.mean_text_cosine:.3f}", f"{report.overlap:.0%}"
        ('1.000', '1.000', '100%')
    """

    backend: str
    images: int
    texts: int
    min_image_cosine: float
    mean_image_cosine: float
    min_text_cosine: float
    mean_text_cosine: float
    top_k: int
    overlap: float

    def __str__(self) -> str:
        """Return a small table."""
        return "\n".join(
            [
                f"{self.backend} against torch fp32: {self.images} images, {self.texts} texts",
                f"  cosine of images  mean {self.mean_image_cosine:.5f}  min {self.min_image_cosine:.5f}",
                f"  cosine of texts   mean {self.mean_text_cosine:.5f}  min {self.min_text_cosine:.5f}",
                f"  top {self.top_k} images of each text: {self.overlap:.1%} the same",
            ]
        )


def compare_precision(backend: str, images: Sequence[Vectors], texts: Sequence[Vectors], top_k: int) -> PrecisionReport:
    """Compare vectors with reference vectors.

    Args:
        backend: What computed the vectors.
        images: Vectors of the images and their reference vectors, each of shape ``(images, embed_dim)``.
        texts: Vectors of the texts and their reference vectors, each of shape ``(texts, embed_dim)``.
        top_k: Number of images to find for each text; at most all images.
    """
    image_cosines, text_cosines = (np.sum(ours * reference, axis=1) for ours, reference in (images, texts))
    top_k = min(top_k, len(images[0]))
    found, expected = (_nearest(text, image, top_k) for text, image in zip(texts, images, strict=True))
    return PrecisionReport(
        backend=backend,
        images=len(images[0]),
        texts=len(texts[0]),
        min_image_cosine=float(image_cosines.min()),
        mean_image_cosine=float(image_cosines.mean()),
        min_text_cosine=float(text_cosines.min()),
        mean_text_cosine=float(text_cosines.mean()),
        top_k=top_k,
        overlap=float(np.mean([len(ours & theirs) / top_k for ours, theirs in zip(found, expected, strict=True)])),
    )


def _nearest(texts: Vectors, images: Vectors, top_k: int) -> list[set[int]]:
    """Return the indices of the images nearest to each text."""
    ranked = np.argsort(-(texts @ images.T), axis=1, kind="stable")[:, :top_k]
    return [set(row) for row in ranked.tolist()]
