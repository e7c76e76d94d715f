"""What the backends of Chinese-CLIP have in common: ``torch.py`` and ``openvino.py`` each run a model on a device."""

from __future__ import annotations

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
