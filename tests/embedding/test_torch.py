"""The torch backend computes the vectors of the bare model, and refuses precisions that the device does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llama_index_mm_zhipu.embedding import BackendError
from llama_index_mm_zhipu.embedding.backends.torch import TorchBackend
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model

HAS_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()

PIXELS = np.random.default_rng(0).standard_normal((11, 3, 32, 32), dtype=np.float32)
TOKENS = np.random.default_rng(0).integers(672, 21128, (5, 9))


def unit(features: torch.Tensor) -> np.ndarray:
    return (features / features.norm(dim=-1, keepdim=True)).float().numpy()


def test_vectors_equal_those_of_the_bare_model(tiny_model: Path) -> None:
    checkpoint = find_checkpoint(str(tiny_model))
    model = load_model(checkpoint).float()
    backend = TorchBackend(checkpoint, "cpu", "fp32")

    with torch.inference_mode():
        images = unit(model.encode_image(torch.from_numpy(PIXELS)))
        texts = unit(model.encode_text(torch.from_numpy(TOKENS)))

    np.testing.assert_allclose(backend.image_vectors(PIXELS), images, atol=3e-6)
    np.testing.assert_allclose(backend.text_vectors(TOKENS), texts, atol=3e-6)


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bf16 instructions")
def test_vectors_in_bf16_are_close_to_fp32(tiny_model: Path) -> None:
    checkpoint = find_checkpoint(str(tiny_model))
    exact, half = (TorchBackend(checkpoint, "cpu", precision) for precision in ("fp32", "bf16"))
    for ours, theirs in (
        (half.image_vectors(PIXELS), exact.image_vectors(PIXELS)),
        (half.text_vectors(TOKENS), exact.text_vectors(TOKENS)),
    ):
        assert ours.dtype == np.float32
        assert 0.999 < (ours * theirs).sum(axis=1).min() < 1 - 1e-7


def test_precisions_that_a_cpu_does_not_support_are_refused_with_advice(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = find_checkpoint(str(tiny_model))
    with pytest.raises(BackendError, match=r'precision="int8" needs OpenVINO.*\[openvino\]'):
        TorchBackend(checkpoint, "cpu", "int8")
    with pytest.raises(BackendError, match='precision="fp16" needs a GPU; on a CPU take "fp32", "bf16" or "int8"'):
        TorchBackend(checkpoint, "cpu", "fp16")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(BackendError, match="this CPU has no bf16 instructions"):
        TorchBackend(checkpoint, "cpu", "bf16")
