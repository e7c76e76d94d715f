"""Products in 8 bits are close to those in fp32 in each row, however large or small its values are."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from llama_index_mm_zhipu.embedding.backends.openvino_int8 import quantize_products
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import core, has_openvino, import_openvino

if not has_openvino():
    pytest.skip("needs OpenVINO", allow_module_level=True)

openvino = import_openvino()
operations = import_module("openvino.opset8")

Array = npt.NDArray[np.float32]

WIDTH, OUTPUTS = 64, 32


def noise(*shape: int) -> Array:
    """Return the same normal numbers for the same shape."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def model(weights: Array, *, activation: str | None = None, transposed: bool = True, ranks: int = 3) -> Any:
    """Return a model that multiplies rows, after an activation function, with weights."""
    rows = operations.parameter(openvino.PartialShape([-1] * (ranks - 1) + [WIDTH]), np.float32)
    before = {"gelu": operations.gelu, "swish": operations.swish, None: lambda node: node}[activation](
        *([rows, "erf"] if activation == "gelu" else [rows])
    )
    constant = operations.constant(weights if transposed else np.ascontiguousarray(weights.T))
    return openvino.Model([operations.matmul(before, constant, False, transposed)], [rows])


def compiled(built: Any) -> Any:
    """Compile a model; what is not in 8 bits is computed in fp32."""
    return core().compile_model(built, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def results(built: Any, rows: Array) -> Array:
    """Return the output of a model."""
    output: Array = compiled(built)({0: rows})[0].copy()
    return output


def errors_of_rows(ours: Array, exact: Array) -> Array:
    """Return the length of the error relative to that of the exact row."""
    errors: Array = np.linalg.norm(ours - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
    return errors


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("activation", [None, "gelu", "swish"])
def test_products_are_computed_in_8_bits_and_stay_close(activation: str | None, transposed: bool) -> None:
    weights, rows = noise(OUTPUTS, WIDTH), noise(2, 5, WIDTH)
    exact = results(model(weights, activation=activation, transposed=transposed), rows)
    quantized = model(weights, activation=activation, transposed=transposed)
    quantize_products(quantized)

    assert 0 < errors_of_rows(results(quantized, rows), exact).max() < 0.02


def test_the_processor_multiplies_8_bit_numbers() -> None:
    quantized = model(noise(OUTPUTS, WIDTH))
    quantize_products(quantized)
    request = compiled(quantized).create_infer_request()
    request.infer({0: noise(2, 5, WIDTH)})

    info = [node.get_rt_info() for node in request.get_compiled_model().get_runtime_model().get_ops()]
    products = [each["primitiveType"].astype(str) for each in info if each["layerType"].astype(str) == "FullyConnected"]
    assert [primitive.lower().endswith("i8") for primitive in products] == [True]


def test_each_row_has_its_own_scale() -> None:
    weights, rows = noise(OUTPUTS, WIDTH), noise(1, 5, WIDTH)
    sizes = np.array([1e-3, 1, 10, 1e3, 1e4], np.float32)[:, None]
    exact = results(model(weights), rows * sizes)
    quantized = model(weights)
    quantize_products(quantized)

    assert errors_of_rows(results(quantized, rows * sizes), exact).max() < 0.02


def test_rows_and_outputs_of_zeros_stay_zeros() -> None:
    weights, rows = noise(OUTPUTS, WIDTH), noise(1, 5, WIDTH)
    weights[3], rows[0, 2] = 0, 0
    quantized = model(weights)
    quantize_products(quantized)

    found = results(quantized, rows)
    assert not found[0, 2].any()
    assert not found[..., 3].any()
    assert np.isfinite(found).all()


def test_values_below_zero_after_an_activation_function_are_not_cut_off() -> None:
    rows = np.full((1, 1, WIDTH), -0.75, np.float32)
    exact = results(model(noise(OUTPUTS, WIDTH), activation="gelu"), rows)
    quantized = model(noise(OUTPUTS, WIDTH), activation="gelu")
    quantize_products(quantized)

    assert errors_of_rows(results(quantized, rows), exact).max() < 0.02


def test_the_projection_of_single_rows_is_not_changed() -> None:
    projection = model(noise(OUTPUTS, WIDTH), ranks=2)
    quantize_products(projection)
    assert not any(node.get_type_name() == "FakeQuantize" for node in projection.get_ops())
