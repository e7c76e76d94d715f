"""For ``embedding.py``: the speed of matrix products in each precision, and the operations that an image takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

FORMULA = "2·n·d·3p² + 12·(24·N·d² + 4·N²·d) + 2·d·e"
"""Floating-point operations of the image encoder per image, counting a multiplication with its addition as two.

n patches of p × p pixels, N = n + 1 positions, width d, 12 layers, vectors of e dimensions. Of the 24·N·d² of a layer,
8 are the four projections of its attention and 16 its two linear layers; 4·N²·d are the products of queries with keys
and of weights with values."""

_SIZES = (1024, 2048, 4096)
_SECONDS = 0.4


def image_operations(config: Mapping[str, Any]) -> int:
    """Return the number of operations for an image, by ``FORMULA`` for any number of layers."""
    width, side = config["vision_width"], config["vision_patch_size"]
    patches = (config["image_resolution"] // side) ** 2
    positions = patches + 1
    layer = 24 * positions * width**2 + 4 * positions**2 * width
    ends = 2 * patches * width * 3 * side**2 + 2 * width * config["embed_dim"]
    return int(ends + config["vision_layers"] * layer)


@dataclass(frozen=True)
class Pass:
    """A call that multiplies.

    Attributes:
        run: The call.
        products: Number of products that it computes.
    """

    run: Callable[[], object]
    products: int = 1


class Products:
    """Multiplies large square matrices with one library in one precision."""

    def __init__(self, library: str, precision: str) -> None:
        self._prepare = _PASSES[precision][library]
        self._best: tuple[int, Pass] | None = None

    def rate(self) -> float:
        """Return the operations per second, at the size that was fastest in the first call."""
        if self._best is None:
            noise = np.random.default_rng(0)
            factors = {size: noise.standard_normal((2, size, size), np.float32) for size in _SIZES}
            passes = {size: self._prepare(*pair) for size, pair in factors.items()}
            self._best = max(passes.items(), key=lambda item: _rate(*item))
        return _rate(*self._best)


def makers(*, bf16: bool) -> dict[str, dict[str, Callable[[], Products]]]:
    """Return the constructors of the contenders of each precision.

    Args:
        bf16: Whether this CPU has bf16.
    """
    return {
        precision: {f"{library} {precision} product": partial(Products, library, precision) for library in libraries}
        for precision, libraries in _PASSES.items()
        if bf16 or precision != "bf16"
    }


def _rate(size: int, prepared: Pass) -> float:
    prepared.run()
    done, start = 0, time.perf_counter()
    while done < 2 or time.perf_counter() - start < _SECONDS:
        prepared.run()
        done += 1
    return 2 * size**3 * prepared.products * done / (time.perf_counter() - start)


def _torch(left: Matrix, right: Matrix) -> Pass:
    import torch

    return Pass(partial(torch.mm, torch.from_numpy(left), torch.from_numpy(right)))


def _torch_bf16(left: Matrix, right: Matrix) -> Pass:
    import torch

    return Pass(partial(torch.mm, torch.from_numpy(left).bfloat16(), torch.from_numpy(right).bfloat16()))


def _torch_int8(left: Matrix, right: Matrix) -> Pass:
    import torch

    return Pass(partial(torch._int_mm, *(torch.from_numpy(_in_8_bits(each)) for each in (left, right))))


def _numpy(left: Matrix, right: Matrix) -> Pass:
    return Pass(partial(np.matmul, left, right))


def _openvino(left: Matrix, right: Matrix) -> Pass:
    operations = import_module("openvino.opset8")
    parameter = operations.parameter(left.shape, np.float32)
    product = operations.matmul(parameter, right, False, False)
    return Pass(partial(_request([product], parameter, "f32").infer, {0: left}, share_inputs=True))


def _openvino_bf16(left: Matrix, right: Matrix) -> Pass:
    from llama_index_mm_zhipu.embedding.backends.openvino_runtime import import_openvino

    openvino = import_openvino()
    operations = import_module("openvino.opset8")
    parameter = operations.parameter(left.shape, openvino.Type.bf16)
    product = operations.matmul(parameter, operations.constant(right, openvino.Type.bf16), False, False)
    request = _request([product], parameter, "bf16")
    tensor = openvino.Tensor(openvino.Type.bf16, list(left.shape))
    # NumPy has no bf16, whose numbers are the upper halves of those of fp32.
    tensor.data.view(np.uint16)[:] = left.view(np.uint32) >> 16
    request.set_input_tensor(tensor)
    return Pass(request.infer)


def _openvino_int8(left: Matrix, right: Matrix) -> Pass:
    operations = import_module("openvino.opset8")
    limit = np.float32(4)
    parameter = operations.parameter(left.shape, np.float32)
    # OpenVINO takes 8-bit factors only where it quantises them itself. That time is divided among several products.
    quantized = operations.fake_quantize(parameter, -limit, limit, -limit, limit, 255)
    weights = (operations.convert(operations.constant(_in_8_bits(right) + each), np.float32) for each in range(4))
    products = [operations.matmul(quantized, operations.multiply(each, limit / 127), False, False) for each in weights]
    run = partial(_request(products, parameter, "f32").infer, {0: left}, share_inputs=True)
    return Pass(run, len(products))


def _request(results: list[Any], parameter: Any, precision: str) -> Any:
    from llama_index_mm_zhipu.embedding.backends.openvino_runtime import core, import_openvino

    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    return core().compile_model(import_openvino().Model(results, [parameter]), "CPU", hints).create_infer_request()


def _in_8_bits(matrix: Matrix) -> npt.NDArray[np.int8]:
    return np.clip(matrix * 30, -100, 100).astype(np.int8)


_PASSES: dict[str, dict[str, Callable[[Matrix, Matrix], Pass]]] = {
    "fp32": {"torch": _torch, "numpy": _numpy, "OpenVINO": _openvino},
    "bf16": {"torch": _torch_bf16, "OpenVINO": _openvino_bf16},
    "int8": {"torch": _torch_int8, "OpenVINO": _openvino_int8},
}
