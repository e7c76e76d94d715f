"""The modules that are converted give the vectors of cn_clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from llama_index_mm_zhipu.embedding.backends.encoders import UnitEncoder, reference_vectors
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model


@pytest.mark.parametrize("batch_size", [1, 3])
def test_images_with_the_batch_in_front_have_the_vectors_of_cn_clip(tiny_model: Path, batch_size: int) -> None:
    checkpoint = find_checkpoint(str(tiny_model))
    model, side = load_model(checkpoint).float(), checkpoint.input_resolution
    pixels = np.random.default_rng(0).standard_normal((batch_size, 3, side, side), np.float32)

    with torch.inference_mode():
        ours = UnitEncoder(model, "image").eval()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(ours, reference_vectors(model, "image", pixels), atol=1e-6)


def test_texts_have_the_unit_vectors_of_cn_clip(tiny_model: Path) -> None:
    model = load_model(find_checkpoint(str(tiny_model))).float()
    tokens = np.array([[101, 2000, 3000, 102], [101, 2000, 102, 0]])

    with torch.inference_mode():
        ours = UnitEncoder(model, "text").eval()(torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(ours, reference_vectors(model, "text", tokens), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)
