"""Checkpoints of other trainers load; what does not fit, and what is not a number, is named."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model

State = dict[str, torch.Tensor]


@pytest.fixture
def state(tiny_model: Path) -> State:
    """The tensors of the tiny model by cn_clip's names."""
    weights: State = torch.load(tiny_model / "model.pt", weights_only=True)["state_dict"]
    return {name.removeprefix("module."): tensor.clone() for name, tensor in weights.items() if ".pooler." not in name}


@pytest.fixture
def save(tiny_model: Path, tmp_path: Path) -> Callable[[Any], Path]:
    """Writes a checkpoint of the tiny model's architecture."""

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


def test_missing_unexpected_and_reshaped_tensors_are_shown_together(state: State, save: Callable[[Any], Path]) -> None:
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


def test_weights_of_another_model_are_shown_in_few_names(save: Callable[[Any], Path]) -> None:
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


def test_the_first_of_several_tensors_is_named(state: State, save: Callable[[Any], Path]) -> None:
    names = list(state)
    for name in (names[-1], names[5], names[9]):
        state[name] = torch.full_like(state[name], math.nan)
    with pytest.raises(CheckpointError, match=f"hold NaN in {names[5]} "):
        ChineseClipEmbedding(save(state), backend="torch")


def test_tensors_that_are_not_used_may_hold_anything(state: State, save: Callable[[Any], Path]) -> None:
    state["bert.pooler.dense.bias"] = torch.full((64,), math.nan)
    ChineseClipEmbedding(save(state), backend="torch")


def test_a_logit_scale_without_exponential_is_refused(state: State, save: Callable[[Any], Path]) -> None:
    state["logit_scale"] = torch.tensor(120.0)
    with pytest.raises(CheckpointError, match="logit_scale of 120, whose exponential is infinite"):
        ChineseClipEmbedding(save(state), backend="torch")
