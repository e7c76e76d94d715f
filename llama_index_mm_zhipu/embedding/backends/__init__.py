"""What the backends have in common: ``torch`` and ``openvino`` each run Chinese-CLIP on a device."""

from __future__ import annotations

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
    """Raised when weights cannot be found, downloaded or loaded. The message names the file and says what to do."""


class BackendError(ValueError):
    """Raised when this machine cannot run a model as configured. The message says what to change or to install."""


def short_detail(message: object, max_length: int = 200) -> str:
    """Return the start of another library's message on one line, as a detail of an error of this package."""
    return " ".join(str(message).split())[:max_length]
