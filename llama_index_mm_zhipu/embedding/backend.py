"""What runs a model: the interface that the torch and OpenVINO backends share."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]

BackendName = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]

CPU_BATCH = 8
"""Pictures in one forward pass on a CPU: 32 take as long or longer each, and three times the memory."""


class Backend(Protocol):
    """A loaded model: arrays in, unit vectors out. Threads may share it."""

    name: str
    device: str
    precision: Precision
    logit_scale: float

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed pictures of shape ``(n, 3, side, side)``, to shape ``(n, embed_dim)``."""

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed word pieces of shape ``(n, length)``, to shape ``(n, embed_dim)``."""
