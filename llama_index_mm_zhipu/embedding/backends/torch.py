"""Chinese-CLIP in torch, on any device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from llama_index_mm_zhipu.concurrency import FairLock
from llama_index_mm_zhipu.embedding.backends import CPU_BATCH, BackendError, Precision, Vectors, short_detail
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import Checkpoint, load_model

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """cn_clip's model on one device.

    Attributes:
        name: ``"torch"``.
        device: Name of the device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: Precision of the weights; the layer norms are always fp32, as in cn_clip.
        logit_scale: Learned factor between cosines and logits.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, device: str, precision: Precision) -> None:
        """Load the weights.

        Raises:
            CheckpointError: The weights are damaged, or belong to another architecture.
            BackendError: The device does not exist or cannot compute in this precision.
        """
        _require_support(device, precision)
        self.device, self.precision = device, precision
        model = load_model(checkpoint)
        self.logit_scale = float(model.logit_scale.exp())
        self._model = _in_precision(model, precision).to(device)
        # One forward pass at a time: torch distributes each over all cores.
        self._lock = FairLock()
        self._process = os.getpid()
        self._batch_size = CPU_BATCH if device == "cpu" else None

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed images of shape ``(n, 3, side, side)``.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        batches = torch.split(torch.from_numpy(pixels), self._batch_size or len(pixels))
        return np.concatenate([self._vectors_of_batch(batch) for batch in batches])

    def _vectors_of_batch(self, pixels: torch.Tensor) -> Vectors:
        # Queries of other threads get their turn between two batches.
        with self._exclusive_inference():
            return _unit(self._model.encode_image(pixels.to(self.device)))

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed tokens of shape ``(n, length)`` in one forward pass.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        with self._exclusive_inference():
            return _unit(self._model.encode_text(torch.from_numpy(tokens).to(self.device)))

    @contextmanager
    def _exclusive_inference(self) -> Iterator[None]:
        if os.getpid() != self._process:
            # torch's threads do not exist in a forked process, and it would wait for them forever.
            raise BackendError(
                "the model was loaded before this process was forked: start processes by spawn, or load it in them only"
            )
        with self._lock, torch.inference_mode():
            yield


def best_device() -> str:
    """Return the best device that torch finds: CUDA, else MPS, else the CPU."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _require_support(device: str, precision: Precision) -> None:
    if precision == "int8":
        raise BackendError(
            'precision="int8" needs OpenVINO, on a CPU: pip install "llama-index-mm-zhipu[openvino]", and '
            'backend="auto" or "openvino" with device="cpu"'
        )
    try:
        torch.empty(0, device=device)
    except Exception as error:
        raise BackendError(
            f"torch cannot use the device {device!r} here ({short_detail(error)}); "
            'take "auto", "cpu", "cuda", "cuda:1" or "mps"'
        ) from None
    if device == "cpu" and precision == "fp16":
        raise BackendError('precision="fp16" needs a GPU; on a CPU take "fp32", "bf16" or "int8"')
    if device == "cpu" and precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise BackendError('this CPU has no bf16 instructions: take precision="fp32", or "int8" with OpenVINO')


def _in_precision(model: CLIP, precision: Precision) -> CLIP:
    if precision == "fp32":
        return model.float()
    for parameter in model.parameters():
        # Parameters that are not fp16 after loading are those of layer norms, which stay fp32.
        if parameter.dtype == torch.float16:
            parameter.data = parameter.data.to(_DTYPES[precision])
    return model


def _unit(features: torch.Tensor) -> Vectors:
    # Divided in fp32: lengths in fp16 would be off by up to 1e-3.
    features = features.float()
    vectors: Vectors = (features / features.norm(dim=-1, keepdim=True)).cpu().numpy()
    return vectors
