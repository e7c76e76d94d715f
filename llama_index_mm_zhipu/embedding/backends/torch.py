"""The two towers of Chinese-CLIP in torch: arrays in, unit vectors out."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from llama_index_mm_zhipu.embedding.backends import CPU_BATCH, BackendError, Precision, Vectors, in_one_line
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import Checkpoint, load_model

if TYPE_CHECKING:
    import torch
    from cn_clip.clip.model import CLIP


class OneDnnLinear(TorchFunctionMode):
    """Within this context ``torch.nn.functional.linear`` runs in oneDNN, with weights laid out for it once.

    A weight's own storage is freed when it has been laid out anew, so that it is not held twice: outside this context
    the model cannot be used any more. For fp32 weights on the CPU, without gradients.
    """

    def __init__(self) -> None:
        super().__init__()
        self._weights: dict[int, torch.Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one function of torch."""
        return (self._linear if func is functional.linear else func)(*args, **(kwargs or {}))

    def _linear(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:  # noqa: A002
        packed = self._weights.get(id(weight))
        if packed is None:
            packed = self._weights[id(weight)] = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
            weight.untyped_storage().resize_(0)
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, packed, bias, "none", [], "")
        return result


def has_onednn_linear() -> bool:
    """Whether this torch multiplies through oneDNN as ``OneDnnLinear`` needs it: the operators are not documented."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    ours, weight = torch.rand(3, 5), torch.rand(4, 5)
    try:
        with torch.inference_mode(), OneDnnLinear():
            found = functional.linear(ours, weight.clone(), None)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, functional.linear(ours, weight), atol=1e-5)


_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class TorchBackend:
    """cn_clip's model on one device.

    Attributes:
        name: What people call it.
        device: Where it runs: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        precision: Of the weights; layer norms of the image tower are always fp32, as in cn_clip.
        logit_scale: The learned factor that turns cosines into logits.
    """

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, device: str, precision: Precision) -> None:
        """Load the weights.

        Raises:
            CheckpointError: They are damaged, or of another architecture.
            BackendError: The device cannot compute in this precision.
        """
        _check(device, precision)
        self.device, self.precision = device, precision
        model = load_model(checkpoint)
        self.logit_scale = float(model.logit_scale.exp())
        self._model = _in_precision(model, precision).to(device)
        self._linear = _linear_layers(device, precision)
        # One forward pass at a time: torch already spreads a pass over all cores.
        self._turn = threading.Lock()
        self._process = os.getpid()
        self._batch = CPU_BATCH if device == "cpu" else None

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed images of shape ``(n, 3, side, side)``.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        import torch

        with self._running():
            parts = torch.split(torch.from_numpy(pixels), self._batch or len(pixels))
            return np.concatenate([_unit(self._model.encode_image(part.to(self.device))) for part in parts])

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed word pieces of shape ``(n, length)`` in one forward pass.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        import torch

        with self._running():
            return _unit(self._model.encode_text(torch.from_numpy(tokens).to(self.device)))

    @contextmanager
    def _running(self) -> Iterator[None]:
        import torch

        if os.getpid() != self._process:
            # torch's threads are not there, and it would wait for them for ever.
            raise BackendError(
                "the model was loaded before this process was forked: start processes by spawn, or load it in them only"
            )
        with self._turn, torch.inference_mode(), self._linear:
            yield


def best_device() -> str:
    """Return the best device that torch finds: CUDA, else MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check(device: str, precision: Precision) -> None:
    import torch

    if precision == "int8":
        raise BackendError(
            'precision="int8" needs OpenVINO, on a CPU: pip install "llama-index-mm-zhipu[openvino]", and '
            'backend="auto" or "openvino" with device="cpu"'
        )
    try:
        torch.empty(0, device=device)
    except Exception as error:
        raise BackendError(
            f"torch cannot use the device {device!r} here ({in_one_line(error)}); "
            'take "auto", "cpu", "cuda", "cuda:1" or "mps"'
        ) from None
    if device == "cpu" and precision == "fp16":
        raise BackendError('precision="fp16" needs a GPU; on a CPU take "fp32", "bf16" or "int8"')
    if device == "cpu" and precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise BackendError('this CPU has no bf16 instructions: take precision="fp32", or "int8" with OpenVINO')


def _in_precision(model: CLIP, precision: Precision) -> CLIP:
    import torch

    if precision == "fp32":
        return model.float()
    dtype = getattr(torch, _DTYPES[precision])
    for parameter in model.parameters():
        # What is fp32 after loading stays so: layer norms.
        if parameter.dtype == torch.float16:
            parameter.data = parameter.data.to(dtype)
    return model


def _linear_layers(device: str, precision: Precision) -> AbstractContextManager[object]:
    if device != "cpu" or precision != "fp32":
        return nullcontext()
    from llama_index_mm_zhipu.embedding.backends.torch import OneDnnLinear, has_onednn_linear

    return OneDnnLinear() if has_onednn_linear() else nullcontext()


def _unit(features: torch.Tensor) -> Vectors:
    # Divided in fp32: fp16 lengths would be off by up to 1e-3.
    features = features.float()
    unit: Vectors = (features / features.norm(dim=-1, keepdim=True)).cpu().numpy()
    return unit
