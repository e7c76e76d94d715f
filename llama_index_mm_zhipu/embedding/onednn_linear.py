"""torch's linear layers through oneDNN, on CPUs.

torch multiplies fp32 matrices with MKL, which is slow on CPUs that are not Intel's and for few rows. On an AMD EPYC
oneDNN, which torch also contains, multiplied twice as fast, and a query's few rows 2.5 times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


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
