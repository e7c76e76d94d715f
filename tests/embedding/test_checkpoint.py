"""Weights are found by name or path and loaded without executing anything; errors name what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS, CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model
from llama_index_mm_zhipu.testing import tiny_checkpoint


@pytest.mark.integration
@pytest.mark.parametrize(("name", "root"), [("RN50", "rn50_root"), ("ViT-B-16", "vit_b_16_root")])
def test_an_official_file_in_the_folder_of_cn_clip_is_used(
    name: str,
    root: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    embed = ChineseClipEmbedding(name, download_root=request.getfixturevalue(root), device="cpu")

    assert embed.embed_dim == OFFICIAL_MODELS[name].embed_dim
    assert capfd.readouterr().out == ""


def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"unknown model 'ViT-B-61': use one of RN50, ViT-B-16, .*or the path"):
        ChineseClipEmbedding("ViT-B-61")


def test_a_file_with_another_name_needs_the_names_of_its_encoders(rn50_root: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "epoch_latest.pt"
    shutil.copy(rn50_root / "clip_cn_rn50.pt", tuned)

    with pytest.raises(CheckpointError, match="give vision_model_name and text_model_name"):
        find_checkpoint(str(tuned))
    with pytest.raises(CheckpointError, match="cn_clip has no configuration named 'ResNet'"):
        find_checkpoint(str(tuned), vision_model_name="ResNet", text_model_name="RBT3-chinese")

    named = find_checkpoint(str(tuned), vision_model_name="RN50", text_model_name="RBT3-chinese")
    official = find_checkpoint("RN50", download_root=rn50_root)
    assert named.fingerprint() == official.fingerprint()
    assert named.architecture == "RN50@RBT3-chinese"


def test_weights_of_another_architecture_are_refused(rn50_root: Path) -> None:
    wrong = find_checkpoint(
        str(rn50_root / "clip_cn_rn50.pt"),
        vision_model_name="ViT-B-16",
        text_model_name="RoBERTa-wwm-ext-base-chinese",
    )
    with pytest.raises(CheckpointError, match=r"clip_cn_rn50\.pt are not of ViT-B-16@"):
        load_model(wrong)


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_a_file_that_would_execute_code_is_not_loaded(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    torch.save({"state_dict": _Malicious()}, tmp_path / "model.pt")

    with pytest.raises(CheckpointError, match="damaged or holds more than tensors"):
        ChineseClipEmbedding(str(tmp_path))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"model": {"weight": torch.ones(1)}, "epoch": 1}, "model, epoch"),
        ({"state_dict": [1]}, "state_dict"),
        ({1: torch.ones(1)}, "1"),
    ],
)
def test_a_file_without_a_state_dict_is_refused(tiny_model: Path, tmp_path: Path, content: object, found: str) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=rf"model\.pt holds no state dict of tensors.*; found: {found}$"):
        ChineseClipEmbedding(tmp_path, backend="torch")


@pytest.mark.parametrize("change", [{"colour": "red"}, {"vision_layers": None}, {"embed_dim": "many"}])
def test_a_configuration_that_cn_clip_rejects_is_refused(
    tiny_model: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    config = {**json.loads((tmp_path / "config.json").read_text()), **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cn_clip cannot build CLIP-"):
        ChineseClipEmbedding(tmp_path, backend="torch")


@pytest.mark.parametrize("content", [b"hello world", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", b""])
def test_a_text_file_is_refused(tiny_model: Path, tmp_path: Path, content: bytes) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pt is damaged or holds more than tensors[^\n]*fetch it again$"):
        ChineseClipEmbedding(tmp_path, backend="torch")


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_a_file_of_random_content_is_refused(tiny_model: Path, tmp_path: Path, file: str) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    (tmp_path / file).write_bytes(b"no weights at all" * 100)

    with pytest.raises(CheckpointError, match=f"{file} is (damaged|not a safetensors file)"):
        ChineseClipEmbedding(str(tmp_path))


def test_the_error_for_an_incomplete_directory_names_the_missing_file(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        find_checkpoint(str(tmp_path))
    for config in ({"embed_dim": 8}, [8]):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="is not a configuration of cn_clip's CLIP"):
            find_checkpoint(str(tmp_path))
    shutil.copy(tiny_model / "config.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"exactly one \.pt file; found: none"):
        find_checkpoint(str(tmp_path))


def test_fingerprints_differ_between_models_and_contain_no_path(tiny_model: Path, tmp_path: Path) -> None:
    same = tiny_checkpoint(tmp_path / "same")
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    prints = [find_checkpoint(str(folder)).fingerprint() for folder in (tiny_model, same, other)]

    assert prints[0] == prints[1] != prints[2]
    assert not any(str(tmp_path) in text for text in prints)


def test_tiny_checkpoints_of_unknown_architectures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown architecture 'ViT-X'"):
        tiny_checkpoint(tmp_path, "ViT-X")
