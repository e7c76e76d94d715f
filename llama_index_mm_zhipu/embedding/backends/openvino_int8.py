"""Compute the matrix products of a model for OpenVINO in 8 bits, without calibration.

OpenVINO's own dynamic quantisation adds up the products of each group of 128 activations apart, and on CPUs with AMX it
only unpacks the 8-bit weights and computes in bf16. A product in which all activations of a row have one scale uses the
fastest instructions of each CPU. OpenVINO builds it where the activations pass a ``FakeQuantize`` with constant limits.
So each row is divided by its largest absolute value before, and multiplied by it after the product.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_MAX = np.float32(127)

_RANK_OF_SEQUENCES = 3

# The largest value of a row counts as at least this, because rows of zeros cannot be divided by theirs.
_MIN_LARGEST = np.float32(2**-13)

# No value of GELU or QuickGELU is below minus this, so its rows, the longest of all, need no absolute values.
_MAX_BELOW_ZERO = np.float32(0.17)


def quantize_products(model: Any) -> None:
    """Replace the products of sequences of activations with constant matrices by products in 8 bits.

    Weights get one scale for each output, activations one for each row (a position of an image or text), computed at
    run time.

    Args:
        model: An ``openvino.Model`` with fp32 weights; changed in place.
    """
    for product in model.get_ordered_ops():
        weights = _weights(product)
        if weights is not None:
            quantized = _quantized(product.input_value(0), weights)
            for reader in product.output(0).get_target_inputs():
                reader.replace_source_output(quantized.output(0))
    model.validate_nodes_and_infer_types()


def _weights(product: Any) -> Matrix | None:
    """Return the constant matrix of a product, a row for each output; None if this is no such product."""
    # The final projection, of one row for each image or text, stays as it is: OpenVINO computes everything after the
    # last product in fp32 or bf16 in fp32, which would be nearly the whole model.
    if product.get_type_name() != "MatMul" or len(product.get_output_partial_shape(0)) != _RANK_OF_SEQUENCES:
        return None
    constant = product.input_value(1).get_node()
    if constant.get_type_name() != "Constant" or len(constant.shape) != 2:
        return None
    weights: Matrix = np.asarray(constant.data, np.float32)
    return weights if product.get_attributes()["transpose_b"] else weights.T


def _quantized(activations: Any, weights: Matrix) -> Any:
    operations = import_module("openvino.opset8")
    scale = operations.multiply(_largest_of_rows(activations), 1 / _MAX)
    scaled = operations.multiply(activations, operations.divide(np.float32(1), scale))
    in_8_bits = operations.fake_quantize(scaled, -_MAX, _MAX, -_MAX, _MAX, 255)
    product = operations.matmul(in_8_bits, _dequantized_weights(weights), False, True)
    return operations.multiply(product, scale)


def _largest_of_rows(activations: Any) -> Any:
    """Return the largest absolute value of each row."""
    operations = import_module("openvino.opset8")
    last_axis = np.array([-1], np.int64)
    if activations.get_node().get_type_name() in ("Gelu", "Swish"):
        return operations.maximum(operations.reduce_max(activations, last_axis, True), _MAX_BELOW_ZERO)
    return operations.maximum(operations.reduce_max(operations.absolute(activations), last_axis, True), _MIN_LARGEST)


def _dequantized_weights(weights: Matrix) -> Any:
    """Return 8-bit weights times their scales; OpenVINO moves that multiplication behind the product."""
    operations = import_module("openvino.opset8")
    # Rounded before the division, because models are saved with fp16 constants.
    scales = (np.abs(weights).max(axis=1, keepdims=True) / _MAX).astype(np.float16).astype(np.float32)
    scales[scales == 0] = 1
    values = np.clip(np.rint(weights / scales), -_MAX, _MAX).astype(np.int8)
    return operations.multiply(operations.convert(operations.constant(values), np.float32), scales)
