"""The weights that are meant are found in a folder, in one file or in several."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_transformers_weights import small_config, write_folder

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model
from llama_index_mm_zhipu.testing import tiny_checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 753292673\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a published repository: transformers' configuration and ``pytorch_model.bin``."""
    folder = tmp_path / "clone"
    write_folder(folder, small_config("ViT-B-16"))
    return folder


def found(folder: Path) -> list[str]:
    return [path.name for path in find_checkpoint(str(folder)).files]


def test_the_pt_file_of_a_clone_is_taken_first(clone: Path) -> None:
    weights = load_model(find_checkpoint(str(clone))).state_dict()
    (clone / "pytorch_model.bin").write_bytes(b"not looked at")
    for name in ("clip_cn_vit-b-16.pt", "renamed.pt"):
        file = clone / name
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in weights.items()}}, file)
        assert found(clone) == [name]
        loaded = load_model(find_checkpoint(str(clone))).state_dict()
        assert all(torch.equal(loaded[key], tensor) for key, tensor in weights.items())
        file.unlink()


def test_what_a_trainer_writes_beside_the_weights_is_not_taken_for_them(clone: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin", "rng_state_0.pt"):
        (clone / name).touch()
    assert found(clone) == ["pytorch_model.bin"]


def test_of_several_pt_files_the_official_one_is_taken(clone: Path) -> None:
    for name in ("epoch_1.pt", "epoch_2.pt"):
        (clone / name).write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"found: epoch_1\.pt, epoch_2\.pt; give the path of one$"):
        find_checkpoint(str(clone))
    assert find_checkpoint(str(clone / "epoch_2.pt")).path.name == "epoch_2.pt"
    (clone / "clip_cn_vit-b-16.pt").write_bytes(b"weights")
    assert found(clone) == ["clip_cn_vit-b-16.pt"]


def test_files_that_were_fetched_are_taken_before_pointers(clone: Path) -> None:
    (clone / "clip_cn_vit-b-16.pt").write_text(POINTER)
    (clone / "model.safetensors").write_text(POINTER)
    assert found(clone) == ["pytorch_model.bin"]
    (clone / "pytorch_model.bin").write_text(POINTER)
    with pytest.raises(CheckpointError, match=r"clip_cn_vit-b-16\.pt .* git-lfs pointer; run git lfs pull in "):
        ChineseClipEmbedding(clone, backend="torch")


def test_an_official_file_needs_no_configuration(rn50_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chinese-clip-rn50"
    folder.mkdir()
    shutil.copy(rn50_root / "clip_cn_rn50.pt", folder)
    by_name = find_checkpoint("RN50", download_root=rn50_root)
    assert find_checkpoint(str(folder)).fingerprint() == by_name.fingerprint()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "config.json", "."])
def test_files_in_a_folder_are_read_by_its_configuration(name: str, clone: Path) -> None:
    checkpoint = find_checkpoint(str(clone / name))
    assert checkpoint == find_checkpoint(str(clone))
    load_model(checkpoint)


def split(folder: Path, suffix: str, *, index: bool) -> list[str]:
    """Split the weights of a clone over two files, as transformers does."""
    file = folder / "pytorch_model.bin"
    state = torch.load(file, weights_only=True)
    file.unlink()
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    names = [f"{stem}-0000{number}-of-00002{suffix}" for number in (1, 2)]
    weight_map = {key: names[number % 2] for number, key in enumerate(state)}
    for name in names:
        part = {key: tensor.contiguous() for key, tensor in state.items() if weight_map[key] == name}
        if suffix == ".safetensors":
            save_file(part, folder / name)
        else:
            torch.save(part, folder / name)
    if index:
        content = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(content))
    return names


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_weights_in_several_files_are_those_of_one(suffix: str, index: bool, clone: Path) -> None:
    whole = load_model(find_checkpoint(str(clone))).state_dict()
    names = split(clone, suffix, index=index)

    checkpoint = find_checkpoint(str(clone))

    loaded = load_model(checkpoint).state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in whole.items())
    assert find_checkpoint(str(clone / names[1])) == checkpoint
    before = checkpoint.fingerprint(), checkpoint.file_state
    content = (clone / names[1]).read_bytes()
    (clone / names[1]).write_bytes(content + b"changed")
    assert checkpoint.fingerprint() != before[0]
    assert checkpoint.file_state != before[1]


def test_a_file_that_is_missing_of_several_is_named(clone: Path) -> None:
    names = split(clone, ".safetensors", index=True)
    (clone / names[1]).unlink()
    with pytest.raises(CheckpointError, match=rf"lacks files of the weights, fetch them: {names[1]}$"):
        find_checkpoint(str(clone))


@pytest.mark.parametrize("content", [{}, [], {"weight_map": {"a": "../secret.bin"}}, {"weight_map": {"a": 7}}])
def test_a_damaged_index_is_refused(content: Any, clone: Path) -> None:
    (clone / "pytorch_model.bin").rename(clone / "old")
    (clone / "pytorch_model.bin.index.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"index\.json is not an index of files of weights: .*fetch it again"):
        find_checkpoint(str(clone))


def test_an_index_that_git_lfs_did_not_fetch_is_named(clone: Path) -> None:
    (clone / "pytorch_model.bin").unlink()
    (clone / "pytorch_model.bin.index.json").write_text(POINTER)
    with pytest.raises(CheckpointError, match=r"index\.json .* git-lfs pointer; run git lfs pull"):
        find_checkpoint(str(clone))


def test_folders_of_cn_clips_form_are_read_as_before(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert found(tmp_path) == ["model.pt"]
    (tmp_path / "model.safetensors").touch()
    assert found(tmp_path) == ["model.safetensors"]


def test_cn_clips_own_two_files_make_a_configuration(rn50_root: Path, tmp_path: Path) -> None:
    config = find_checkpoint("RN50", download_root=rn50_root).config
    (tmp_path / "config.json").write_text(json.dumps({**config, "vision_layers": "[3,4,6,3]"}))
    (tmp_path / "model.pt").touch()
    assert find_checkpoint(str(tmp_path)).config == config
