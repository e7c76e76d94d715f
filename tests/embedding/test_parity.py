"""The vectors equal those of an independent implementation, and those of cn_clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cn_clip.clip
import numpy as np
import pytest
import torch
from hf_reference import Weights, assert_same_vectors, image_vectors, reference_model, text_vectors
from PIL import Image
from safetensors.torch import load_file
from transformers import ChineseCLIPModel

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import OFFICIAL_MODELS
from llama_index_mm_zhipu.testing import tiny_checkpoint


def _unit(features: torch.Tensor) -> np.ndarray:
    return (features / features.norm(dim=-1, keepdim=True)).numpy()


@pytest.fixture(scope="module", params=["torch", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    """The backend under test."""
    if request.param == "openvino":
        request.getfixturevalue("needs_openvino")
    return str(request.param)


class Official(NamedTuple):
    """An official name, and the folder of a checkpoint with that architecture."""

    name: str
    root: Path


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.integration) for name in ("RN50", "ViT-B-16")]
)
def official(request: pytest.FixtureRequest) -> Official:
    roots = {"RN50": "rn50_root", "ViT-B-16": "vit_b_16_root"}
    return Official(request.param, request.getfixturevalue(roots[request.param]))


@pytest.fixture(scope="module")
def official_embedding(official: Official, backend: Any) -> ChineseClipEmbedding:
    return ChineseClipEmbedding(official.name, download_root=str(official.root), device="cpu", backend=backend)


@pytest.fixture(scope="module")
def cn_clip_model(official: Official) -> tuple[Any, Any]:
    """The model and preprocessing of cn_clip."""
    model, preprocess = cn_clip.clip.load_from_name(official.name, device="cpu", download_root=str(official.root))
    return model.eval(), preprocess


@pytest.fixture(scope="module", params=["demo model", pytest.param("ViT-B-16", marks=pytest.mark.integration)])
def vit_checkpoint(request: pytest.FixtureRequest, demo_folder: Path) -> Path:
    """A checkpoint with a vision transformer, which Hugging Face's implementation has."""
    if request.param == "demo model":
        return demo_folder / "model"
    root: Path = request.getfixturevalue("vit_b_16_root")
    return root / OFFICIAL_MODELS["ViT-B-16"].filename


@pytest.fixture(scope="module")
def hugging_face_model(vit_checkpoint: Path) -> ChineseCLIPModel:
    checkpoint = find_checkpoint(str(vit_checkpoint))
    return reference_model(checkpoint.config, weights_in(checkpoint.path))


@pytest.fixture(scope="module")
def images(photos: list[Path]) -> list[Image.Image]:
    return [Image.open(photo).convert("RGB") for photo in photos[:4]]


def test_vectors_equal_those_of_hugging_face(
    vit_checkpoint: Path,
    hugging_face_model: ChineseCLIPModel,
    backend: Any,
    images: list[Image.Image],
    texts: list[str],
) -> None:
    ours = ChineseClipEmbedding(vit_checkpoint, device="cpu", backend=backend)
    side = find_checkpoint(str(vit_checkpoint)).input_resolution

    assert_same_vectors(ours.get_image_embedding_batch(images), image_vectors(hugging_face_model, images, side), 0.9999)
    assert_same_vectors(ours.get_text_embedding_batch(texts), text_vectors(hugging_face_model, texts), 0.9999)


def weights_in(file: Path) -> Weights:
    if file.suffix == ".safetensors":
        return load_file(file)
    weights: Weights = torch.load(file, weights_only=True)["state_dict"]
    return weights


def test_vectors_equal_those_of_cn_clip(
    cn_clip_model: tuple[Any, Any],
    official_embedding: ChineseClipEmbedding,
    images: list[Image.Image],
    texts: list[str],
) -> None:
    model, preprocess = cn_clip_model
    with torch.inference_mode():
        image_features = model.encode_image(torch.stack([preprocess(image) for image in images]))
        text_features = model.encode_text(cn_clip.clip.tokenize(texts))

    assert_same_vectors(official_embedding.get_image_embedding_batch(images), _unit(image_features), 0.99999)
    assert_same_vectors(official_embedding.get_text_embedding_batch(texts), _unit(text_features), 0.99999)


def test_probabilities_equal_those_of_cn_clip(
    cn_clip_model: tuple[Any, Any], official_embedding: ChineseClipEmbedding, images: list[Image.Image]
) -> None:
    labels = ["衣服", "鞋子", "帽子"]
    model, preprocess = cn_clip_model
    with torch.inference_mode():
        logits, _ = model.get_similarity(
            torch.stack([preprocess(image) for image in images]), cn_clip.clip.tokenize(labels)
        )

    np.testing.assert_allclose(official_embedding.similarity(images, labels), logits.softmax(dim=-1).numpy(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-L-14", "ViT-L-14-336", "ViT-H-14"])
def test_larger_models_load_and_embed(name: str, tmp_path: Path, photos: list[Path]) -> None:
    tiny_checkpoint(tmp_path, name)
    embed = ChineseClipEmbedding(name, download_root=str(tmp_path), device="cpu")

    vectors = np.asarray([embed.get_image_embedding(photos[0]), embed.get_text_embedding("连衣裙")])

    assert vectors.shape == (2, OFFICIAL_MODELS[name].embed_dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
