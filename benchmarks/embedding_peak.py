"""For ``embedding.py``: the speed of fp32 matrix products on this machine, and the operations that an image takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
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


class Products:
    """Multiplies large square matrices with one library."""

    def __init__(self, library: str) -> None:
        self._multiply = {"torch": _torch, "numpy": _numpy, "OpenVINO": _openvino}[library]
        self._best: tuple[int, Callable[[], object]] | None = None

    def rate(self) -> float:
        """Return the operations per second, at the size that was fastest in the first call."""
        if self._best is None:
            noise = np.random.default_rng(0)
            factors = {size: noise.standard_normal((2, size, size), np.float32) for size in _SIZES}
            calls = {size: self._multiply(*pair) for size, pair in factors.items()}
            self._best = max(calls.items(), key=lambda item: _rate(*item))
        return _rate(*self._best)


def makers() -> dict[str, Callable[[], Products]]:
    """Return the constructor of each contender."""
    return {f"{library} product": partial(Products, library) for library in ("torch", "numpy", "OpenVINO")}


def _rate(size: int, multiply: Callable[[], object]) -> float:
    multiply()
    done, start = 0, time.perf_counter()
    while done < 2 or time.perf_counter() - start < _SECONDS:
        multiply()
        done += 1
    return 2 * size**3 * done / (time.perf_counter() - start)


def _torch(left: Matrix, right: Matrix) -> Callable[[], object]:
    import torch

    return partial(torch.mm, torch.from_numpy(left), torch.from_numpy(right))


def _numpy(left: Matrix, right: Matrix) -> Callable[[], object]:
    return partial(np.matmul, left, right)


def _openvino(left: Matrix, right: Matrix) -> Callable[[], object]:
    from llama_index_mm_zhipu.embedding.backends.openvino_runtime import import_openvino

    openvino = import_openvino()
    operations = import_module("openvino.opset8")
    parameter = operations.parameter(left.shape, np.float32)
    model = openvino.Model([operations.matmul(parameter, right, False, False)], [parameter])
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
    return partial(request.infer, {0: left}, share_inputs=True)
