"""The two towers of Chinese-CLIP in OpenVINO: arrays in, unit vectors out."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.embedding.backend import CPU_BATCH, Precision, Vectors
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import Checkpoint
from llama_index_mm_zhipu.embedding.errors import BackendError
from llama_index_mm_zhipu.embedding.backends.openvino import Tower, converted_model
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import EXTRA, compiled_tower, core, has_openvino
from llama_index_mm_zhipu.embedding.tokenizer import PADDING

# OpenVINO prepares itself for every shape that it meets: 5 ms, and memory that it keeps. For batches, four lengths are
# made one; a query is not made longer.
_LENGTH_STEP = 4


class OpenVinoBackend:
    """A converted model on the CPU. torch is needed for the conversion only.

    Attributes:
        name: What people call it.
        device: ``"cpu"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"`` (8-bit weights, activations quantised as they come).
        logit_scale: The learned factor that turns cosines into logits.
    """

    name = "OpenVINO"

    def __init__(
        self, checkpoint: Checkpoint, device: str, precision: Precision, cache_dir: Path | None = None
    ) -> None:
        """Load a converted model, converting it first if that was not done yet.

        Raises:
            CheckpointError: The weights are damaged, or of another architecture.
            BackendError: OpenVINO is not installed or cannot do this; the converted model cannot be written, or its
                vectors differ from torch's.
        """
        _check(device, precision)
        self.device, self.precision = device, precision
        # In fp32 two pictures take twice as long in one pass as in two passes, and up to five longer than one by one.
        self._rest_at_once = 1 if precision == "fp32" else CPU_BATCH
        converted = converted_model(checkpoint, precision, cache_dir)
        self.logit_scale = converted.logit_scale
        self._towers = {tower: compiled_tower(file, precision) for tower, file in converted.files.items()}
        # One forward pass at a time: OpenVINO already spreads a pass over all cores.
        self._turn = threading.Lock()

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed pictures of shape ``(n, 3, side, side)``.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        full = len(pixels) // CPU_BATCH * CPU_BATCH
        bounds = [*range(0, full, CPU_BATCH), *range(full, len(pixels), self._rest_at_once), len(pixels)]
        return np.concatenate([self._run("image", pixels[start:end]) for start, end in pairwise(bounds)])

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed word pieces of shape ``(n, length)`` in one forward pass.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        missing = -tokens.shape[1] % _LENGTH_STEP if len(tokens) > 1 else 0
        return self._run("text", np.pad(tokens, ((0, 0), (0, missing)), constant_values=PADDING))

    def _run(self, tower: Tower, batch: npt.NDArray[Any]) -> Vectors:
        with self._turn:
            # A copy: OpenVINO writes the next result into the same memory.
            vectors: Vectors = self._towers[tower].infer({0: batch}, share_inputs=True)[0].copy()
        return vectors


def _check(device: str, precision: Precision) -> None:
    if not has_openvino():
        raise BackendError(f'backend="openvino" needs OpenVINO: {EXTRA}')
    if device != "cpu":
        raise BackendError(f'backend="openvino" runs on the CPU, not on {device!r}: take backend="torch" there')
    if precision == "fp16":
        raise BackendError('precision="fp16" needs a GPU and backend="torch"; on a CPU take "fp32", "bf16" or "int8"')
    if precision == "bf16" and not _has_bf16():
        raise BackendError('this CPU has no bf16 instructions: take precision="fp32" or "int8"')


def _has_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
