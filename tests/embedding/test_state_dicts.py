"""Checkpoints of other trainers and of transformers load; errors name whatever does not fit."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hf_reference import FULL, assert_same_vectors, image_vectors, small_config, text_vectors, write_folder
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS, CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model
from llama_index_mm_zhipu.embedding.chinese_clip.state_dicts import clip_config

State = dict[str, torch.Tensor]


@pytest.fixture
def state(tiny_model: Path) -> State:
    """The tensors of the tiny model, by their names in cn_clip."""
    weights: State = torch.load(tiny_model / "model.pt", weights_only=True)["state_dict"]
    return {name.removeprefix("module."): tensor.clone() for name, tensor in weights.items() if ".pooler." not in name}


@pytest.fixture
def save(tiny_model: Path, tmp_path: Path) -> Callable[[Any], Path]:
    """A function that saves a checkpoint with the tiny model's configuration."""

    def write(content: Any) -> Path:
        shutil.copy(tiny_model / "config.json", tmp_path)
        torch.save(content, tmp_path / "model.pt")
        return tmp_path

    return write


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def inside(state: State, encoder: str, wrapper: str) -> State:
    return {name.replace(f"{encoder}.", f"{encoder}.{wrapper}.", 1): tensor for name, tensor in state.items()}


FORMS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "module.": lambda state: prefixed(state, "module."),
    "module.module.": lambda state: prefixed(state, "module.module."),
    "model.": lambda state: prefixed(state, "model."),
    "_orig_mod.": lambda state: prefixed(state, "_orig_mod."),
    "module._orig_mod.model.module.": lambda state: prefixed(state, "module._orig_mod.model.module."),
    "clip.": lambda state: prefixed(state, "clip."),
    "one encoder compiled": lambda state: inside(state, "visual", "_orig_mod"),
    "one encoder parallel": lambda state: inside(state, "bert", "module"),
    "some with a prefix": lambda state: {
        ("model." if name.startswith("visual.") else "") + name: tensor for name, tensor in state.items()
    },
    "state_dict": lambda state: {"state_dict": prefixed(state, "module."), "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
    "model_state_dict": lambda state: {"epoch": 3, "model_state_dict": state, "loss": torch.ones(())},
    "nested": lambda state: {"checkpoint": {"model": {"state_dict": prefixed(state, "module.")}}},
    "an unknown wrapper": lambda state: {"net": state},
    "averaged weights beside it": lambda state: {
        "ema": {name: tensor * 0 for name, tensor in state.items()},
        "model": state,
    },
    "position_ids": lambda state: {**state, "bert.embeddings.position_ids": torch.arange(64)[None]},
    "position_ids with a prefix": lambda state: prefixed(
        {**state, "bert.embeddings.position_ids": torch.arange(64)[None]}, "model.module."
    ),
    "numbers beside it": lambda state: {**state, "epoch": 3, "best": 0.5},
    "logit_scale as a list": lambda state: {**state, "logit_scale": state["logit_scale"].reshape(1)},
    "float32": lambda state: {name: tensor.float() for name, tensor in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_of_other_trainers_load(
    form: str, state: State, save: Callable[[Any], Path], tiny_model: Path, photos: list[Path]
) -> None:
    reference = ChineseClipEmbedding(tiny_model, backend="torch", device="cpu")
    ours = ChineseClipEmbedding(save(FORMS[form](state)), backend="torch", device="cpu")

    np.testing.assert_allclose(ours.get_image_embedding(photos[0]), reference.get_image_embedding(photos[0]), atol=1e-6)
    np.testing.assert_allclose(ours.get_text_embedding("飞机"), reference.get_text_embedding("飞机"), atol=1e-6)


def test_files_in_torchs_old_format_load(state: State, save: Callable[[Any], Path]) -> None:
    folder = save(state)
    torch.save(state, folder / "model.pt", _use_new_zipfile_serialization=False)
    load_model(find_checkpoint(str(folder)))


def test_two_models_in_one_file_are_refused(state: State, save: Callable[[Any], Path]) -> None:
    with pytest.raises(CheckpointError, match=r"several models \(teacher, student\): save the state dict of one"):
        ChineseClipEmbedding(save({"teacher": state, "student": state}), backend="torch")
    both = {**state, **prefixed(state, "model.")}
    with pytest.raises(CheckpointError, match=r"two tensors for .*, \S+ and model\.\S+: save the state dict of one"):
        ChineseClipEmbedding(save(both), backend="torch")


def test_one_error_lists_missing_unexpected_and_reshaped_tensors(state: State, save: Callable[[Any], Path]) -> None:
    bias = state.pop("visual.ln_post.bias")
    state["visual.ln_last.bias"] = bias
    state["text_projection"] = torch.ones(64, 16)
    with pytest.raises(CheckpointError) as caught:
        ChineseClipEmbedding(save(state), backend="torch")
    message = str(caught.value)
    assert message.endswith(
        "model.pt are not of CLIP-32px-32d: missing visual.ln_post.bias; unexpected visual.ln_last.bias; "
        "of other shapes text_projection [64, 16] for [64, 32]"
    )


def test_the_error_for_another_model_lists_only_a_few_names(save: Callable[[Any], Path]) -> None:
    content = {f"layer{number}.weight": torch.ones(1) for number in range(99)}
    with pytest.raises(
        CheckpointError, match=r"missing [^\n]* and \d+ more; unexpected layer0\.weight, [^\n]* and 96 more$"
    ) as caught:
        ChineseClipEmbedding(save(content), backend="torch")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("visual.proj", math.nan, "NaN in module.visual.proj (1 of 2048 values)"),
        ("text_projection", math.nan, "NaN in module.text_projection"),
        ("bert.encoder.layer.1.output.LayerNorm.bias", math.nan, "NaN in module.bert.encoder.layer.1.output"),
        ("visual.ln_pre.weight", math.inf, "Inf in module.visual.ln_pre.weight"),
        ("visual.conv1.weight", -math.inf, "Inf in module.visual.conv1.weight"),
        ("logit_scale", math.nan, "NaN in module.logit_scale"),
        ("visual.proj", 1e6, "numbers beyond the range of fp16 in module.visual.proj"),
    ],
)
@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_weights_that_are_not_finite_are_refused(
    backend: Any,
    name: str,
    value: float,
    found: str,
    state: State,
    save: Callable[[Any], Path],
    request: pytest.FixtureRequest,
) -> None:
    if backend == "openvino":
        request.getfixturevalue("needs_openvino")
    state = {key: tensor.float() for key, tensor in state.items()}
    state[name].view(-1)[-1] = value
    folder = save(prefixed(state, "module."))
    with pytest.raises(CheckpointError) as caught:
        ChineseClipEmbedding(folder, backend=backend, device="cpu")
    assert f"model.pt hold {found}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(folder.glob("openvino*"))


def test_the_error_names_the_first_tensor_that_is_not_finite(state: State, save: Callable[[Any], Path]) -> None:
    names = list(state)
    for name in (names[-1], names[5], names[9]):
        state[name] = torch.full_like(state[name], math.nan)
    with pytest.raises(CheckpointError, match=f"hold NaN in {names[5]} "):
        ChineseClipEmbedding(save(state), backend="torch")


def test_unused_tensors_may_contain_nan(state: State, save: Callable[[Any], Path]) -> None:
    state["bert.pooler.dense.bias"] = torch.full((64,), math.nan)
    ChineseClipEmbedding(save(state), backend="torch")


def test_a_logit_scale_with_infinite_exponential_is_refused(state: State, save: Callable[[Any], Path]) -> None:
    state["logit_scale"] = torch.tensor(120.0)
    with pytest.raises(CheckpointError, match="logit_scale of 120, whose exponential is infinite"):
        ChineseClipEmbedding(save(state), backend="torch")


@pytest.fixture(scope="module")
def images(photos: list[Path]) -> list[Image.Image]:
    return [Image.open(photo).convert("RGB") for photo in photos[:4]]


@pytest.fixture
def config() -> dict[str, Any]:
    """A small configuration of ViT-B-16."""
    return small_config("ViT-B-16")


def assert_parity(folder: Path, reference: Any, images: list[Image.Image], texts: list[str]) -> None:
    """Check that the vectors of the model in a folder equal those of transformers' model."""
    ours = ChineseClipEmbedding(folder, device="cpu", backend="torch")
    side = find_checkpoint(str(folder)).input_resolution
    assert_same_vectors(ours.get_image_embedding_batch(images), image_vectors(reference, images, side), 0.9999)
    assert_same_vectors(ours.get_text_embedding_batch(texts), text_vectors(reference, texts), 0.9999)
    assert ours._model.backend.logit_scale == pytest.approx(reference.logit_scale.exp().item())


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("name", FULL)
def test_vectors_equal_those_of_transformers(
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
def test_vectors_of_full_size_models_equal_those_of_transformers(
    name: str, tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    reference = write_folder(tmp_path, FULL[name], file="model.safetensors")
    assert_parity(tmp_path, reference, images[:2], texts[:2])


@pytest.mark.parametrize("name", FULL)
def test_published_configurations_equal_those_of_cn_clip(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FULL[name]))
    (tmp_path / "pytorch_model.bin").touch()
    official = OFFICIAL_MODELS[name]
    named = find_checkpoint(
        str(tmp_path / "pytorch_model.bin"),
        vision_model_name=official.vision_model_name,
        text_model_name=official.text_model_name,
    )

    found = find_checkpoint(str(tmp_path))

    assert (found.architecture, found.config) == (named.architecture, named.config)
    assert found.fingerprint() == named.fingerprint()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_every_dtype_load(
    dtype: torch.dtype, config: dict[str, Any], tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    reference = write_folder(tmp_path, config)
    reference = reference.to(dtype).float()
    torch.save(reference.to(dtype).state_dict(), tmp_path / "pytorch_model.bin")
    assert_parity(tmp_path, reference.float(), images, texts)


def test_old_configurations_are_read_like_in_transformers(
    config: dict[str, Any], tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    old = {
        **config,
        # Values in vision_config_dict take precedence over these.
        "vision_config": {"patch_size": 32, "hidden_size": 9},
        "vision_config_dict": config["vision_config"],
        "text_config_dict": None,
    }
    reference = write_folder(tmp_path, old)
    assert_parity(tmp_path, reference, images, texts)


def test_sizes_may_be_pairs_of_equal_numbers(config: dict[str, Any]) -> None:
    side = config["vision_config"]["image_size"]
    config["vision_config"] |= {"image_size": [side, side], "patch_size": [16, 16]}
    translated = clip_config(config, Path("config.json"))
    assert (translated["image_resolution"], translated["vision_patch_size"]) == (side, 16)


@pytest.mark.parametrize("activation", ["gelu_new", "relu", "silu"])
def test_other_activations_of_the_text_encoder_give_the_vectors_of_transformers(
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
def test_the_error_names_a_field_that_cn_clip_cannot_represent(
    part: str, change: dict[str, Any], message: str, config: dict[str, Any], tmp_path: Path
) -> None:
    (config[part] if part else config).update(change)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=rf"^[^\n]*config\.json[^\n]*{message}[^\n]*$"):
        find_checkpoint(str(tmp_path))


def test_unused_tensors_are_left_out(config: dict[str, Any], tmp_path: Path) -> None:
    state = write_folder(tmp_path, config).state_dict()
    state |= {
        "text_model.pooler.dense.weight": torch.ones(128, 128),
        "text_model.embeddings.position_ids": torch.arange(512)[None],
        "vision_model.embeddings.position_ids": torch.arange(13)[None],
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    load_model(find_checkpoint(str(tmp_path)))


def test_missing_and_unexpected_tensors_have_their_names_in_transformers(
    config: dict[str, Any], tmp_path: Path
) -> None:
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


def test_weights_of_transformers_are_recognised_in_every_file(
    config: dict[str, Any], tmp_path: Path, images: list[Image.Image], texts: list[str]
) -> None:
    reference = write_folder(tmp_path, config)
    wrapped = {f"module.model.{name}": tensor for name, tensor in reference.state_dict().items()}
    (tmp_path / "pytorch_model.bin").unlink()
    torch.save({"model": wrapped, "epoch": 3}, tmp_path / "best.pt")
    assert_parity(tmp_path, reference, images, texts)
    assert_parity(tmp_path / "best.pt", reference, images, texts)
