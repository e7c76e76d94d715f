"""Models in the form of transformers give the vectors of transformers, or are refused by the name of a field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_reference import assert_same_vectors, image_vectors, random_model, text_vectors
from PIL import Image
from safetensors.torch import save_file

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS, CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model
from llama_index_mm_zhipu.embedding.chinese_clip.state_dicts import clip_config

# The published configurations, as far as they differ from transformers' defaults.
TEXT_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
VISION_LARGE = {**TEXT_LARGE, "patch_size": 14}
VISION_HUGE = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 16,
    "num_hidden_layers": 32,
    "patch_size": 14,
}
FULL: dict[str, dict[str, Any]] = {
    "ViT-B-16": {"projection_dim": 512, "vision_config": {"patch_size": 16}},
    "ViT-L-14": {"projection_dim": 768, "vision_config": VISION_LARGE},
    "ViT-L-14-336": {"projection_dim": 768, "vision_config": {**VISION_LARGE, "image_size": 336}},
    "ViT-H-14": {"projection_dim": 1024, "vision_config": VISION_HUGE, "text_config": TEXT_LARGE},
}
for _config in FULL.values():
    _config |= {"model_type": "chinese_clip", "text_config": {"vocab_size": 21128, **_config.get("text_config", {})}}


def small_config(name: str) -> dict[str, Any]:
    """Return the configuration of an architecture with two layers and two heads of the original width per encoder."""
    full = json.loads(json.dumps(FULL[name]))
    for encoder in ("text_config", "vision_config"):
        config = full[encoder]
        width = config.get("hidden_size", 768) // config.get("num_attention_heads", 12) * 2
        config |= {
            "hidden_size": width,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "intermediate_size": 4 * width,
        }
    full["vision_config"]["image_size"] = full["vision_config"].get("image_size", 224) // 4
    return full


def write_folder(folder: Path, config: dict[str, Any], *, file: str = "pytorch_model.bin", seed: int = 0) -> Any:
    """Write a clone of a repository of such a model, and return transformers' model of it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = random_model(config, seed=seed)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if file.endswith(".safetensors"):
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / file)
    else:
        torch.save(model.state_dict(), folder / file)
    return model


@pytest.fixture(scope="module")
def images(photos: list[Path]) -> list[Image.Image]:
    return [Image.open(photo).convert("RGB") for photo in photos[:4]]


@pytest.fixture
def config() -> dict[str, Any]:
    """A small configuration of ViT-B-16."""
    return small_config("ViT-B-16")


def assert_parity(folder: Path, reference: Any, images: list[Image.Image], texts: list[str]) -> None:
    """The vectors of a folder are those of transformers' model."""
    ours = ChineseClipEmbedding(folder, device="cpu", backend="torch")
    side = find_checkpoint(str(folder)).input_resolution
    assert_same_vectors(ours.get_image_embedding_batch(images), image_vectors(reference, images, side), 0.9999)
    assert_same_vectors(ours.get_text_embedding_batch(texts), text_vectors(reference, texts), 0.9999)
    assert ours._loaded.logit_scale == pytest.approx(reference.logit_scale.exp().item())


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("name", FULL)
def test_vectors_are_those_of_transformers(
    name: str, file: str, tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    reference = write_folder(tmp_path, small_config(name), file=file)
    assert_parity(tmp_path, reference, images, texts)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ViT-B-16", marks=pytest.mark.integration),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ViT-L-14", "ViT-L-14-336", "ViT-H-14")),
    ],
)
def test_full_size_vectors_are_those_of_transformers(
    name: str, tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    reference = write_folder(tmp_path, FULL[name], file="model.safetensors")
    assert_parity(tmp_path, reference, images[:2], texts[:2])


@pytest.mark.parametrize("name", FULL)
def test_published_configurations_are_those_of_cn_clip(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FULL[name]))
    (tmp_path / "pytorch_model.bin").touch()
    official = OFFICIAL_MODELS[name]
    named = find_checkpoint(
        str(tmp_path / "pytorch_model.bin"),
        vision_model_name=official.vision_model_name,
        text_model_name=official.text_model_name,
    )

    found = find_checkpoint(str(tmp_path))

    assert (found.struct, found.config) == (named.struct, named.config)
    assert found.fingerprint() == named.fingerprint()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_every_precision_load(
    dtype: torch.dtype, config: dict[str, Any], tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    reference = write_folder(tmp_path, config)
    reference = reference.to(dtype).float()
    torch.save(reference.to(dtype).state_dict(), tmp_path / "pytorch_model.bin")
    assert_parity(tmp_path, reference.float(), images, texts)


def test_old_configurations_are_read_as_by_transformers(
    config: dict[str, Any], tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    old = {
        **config,
        # What is in both is taken from here.
        "vision_config": {"patch_size": 32, "hidden_size": 9},
        "vision_config_dict": config["vision_config"],
        "text_config_dict": None,
    }
    reference = write_folder(tmp_path, old)
    assert_parity(tmp_path, reference, images, texts)


def test_sides_of_squares_may_be_given_twice(config: dict[str, Any]) -> None:
    side = config["vision_config"]["image_size"]
    config["vision_config"] |= {"image_size": [side, side], "patch_size": [16, 16]}
    translated = clip_config(config, Path("config.json"))
    assert (translated["image_resolution"], translated["vision_patch_size"]) == (side, 16)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations_of_the_text_encoder_are_those_of_transformers(
    activation: str, config: dict[str, Any], tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    config["text_config"]["hidden_act"] = activation
    assert_parity(tmp_path, write_folder(tmp_path, config), images, texts)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("", {"model_type": "clip"}, "model_type is 'clip', not 'chinese_clip'"),
        ("", {"projection_dim": None}, "projection_dim is None"),
        ("", {"vision_config": 7}, "vision_config is 7"),
        ("", {"quantization_config": {"load_in_8bit": True}}, "quantization_config is "),
        ("vision_config", {"hidden_act": "gelu"}, "vision_config.hidden_act is 'gelu'.* it takes 'quick_gelu'"),
        ("vision_config", {"layer_norm_eps": 1e-6}, "vision_config.layer_norm_eps is 1e-06"),
        ("vision_config", {"num_channels": 4}, "vision_config.num_channels is 4"),
        ("vision_config", {"intermediate_size": 100}, "vision_config.intermediate_size is 100.* it takes 512"),
        ("vision_config", {"num_attention_heads": 3}, "vision_config.num_attention_heads is 3"),
        ("vision_config", {"num_hidden_layers": "2"}, "vision_config.num_hidden_layers is '2'"),
        ("vision_config", {"image_size": [56, 112]}, r"vision_config.image_size is \[56, 112\]"),
        ("vision_config", {"patch_size": 0}, "vision_config.patch_size is 0"),
        ("text_config", {"hidden_act": "mish"}, "text_config.hidden_act is 'mish'"),
        ("text_config", {"layer_norm_eps": None}, "text_config.layer_norm_eps is None"),
        ("text_config", {"position_embedding_type": "relative_key"}, "text_config.position_embedding_type is "),
        ("text_config", {"num_attention_heads": 5}, "text_config.num_attention_heads is 5"),
        ("text_config", {"vocab_size": 100}, "text_config.vocab_size is 100.* it takes 21128 or more"),
        ("text_config", {"max_position_embeddings": 32}, "text_config.max_position_embeddings is 32"),
    ],
)
def test_what_cn_clip_cannot_represent_is_refused_by_the_name_of_the_field(
    part: str, change: dict[str, Any], message: str, config: dict[str, Any], tmp_path: Path
) -> None:
    (config[part] if part else config).update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=rf"^[^\n]*config\.json[^\n]*{message}[^\n]*$"):
        find_checkpoint(str(tmp_path))


def test_tensors_that_clip_does_not_use_are_left_out(config: dict[str, Any], tmp_path: Path) -> None:
    state = write_folder(tmp_path, config).state_dict()
    state |= {
        "text_model.pooler.dense.weight": torch.ones(128, 128),
        "text_model.embeddings.position_ids": torch.arange(512)[None],
        "vision_model.embeddings.position_ids": torch.arange(13)[None],
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    load_model(find_checkpoint(str(tmp_path)))


def test_what_is_missing_and_unexpected_has_the_names_of_transformers(config: dict[str, Any], tmp_path: Path) -> None:
    model = write_folder(tmp_path, config)
    state = model.state_dict()
    state["vision_model.encoder.layers.1.self_attn.rotary"] = torch.ones(1)
    del state["vision_model.encoder.layers.0.self_attn.k_proj.weight"]
    state["text_projection.weight"] = torch.ones(3, 5)
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError) as caught:
        load_model(find_checkpoint(str(tmp_path)))
    message = str(caught.value)
    assert "missing vision_model.encoder.layers.0.self_attn.k_proj.weight; unexpected " in message
    assert "vision_model.encoder.layers.1.self_attn.rotary" in message
    assert "of other shapes text_projection [5, 3] for [128, 512]" in message


def test_weights_are_found_by_their_names_in_every_kind_of_file(
    config: dict[str, Any], tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    reference = write_folder(tmp_path, config)
    wrapped = {f"module.model.{name}": tensor for name, tensor in reference.state_dict().items()}
    (tmp_path / "pytorch_model.bin").unlink()
    torch.save({"model": wrapped, "epoch": 3}, tmp_path / "best.pt")
    assert_parity(tmp_path, reference, images, texts)
    assert_parity(tmp_path / "best.pt", reference, images, texts)
