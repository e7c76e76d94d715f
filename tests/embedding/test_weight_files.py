"""Weights in a folder are found, in one file or several, and read without executing anything in them."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from cn_clip.clip.model import CLIP
from hf_reference import small_config, write_folder
from safetensors.torch import save_file

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model
from llama_index_mm_zhipu.testing import tiny_checkpoint

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 753292673\n"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone of a published repository: transformers' configuration and ``pytorch_model.bin``."""
    folder = tmp_path / "clone"
    write_folder(folder, small_config("ViT-B-16"))
    return folder


def found(folder: Path) -> list[str]:
    return [path.name for path in find_checkpoint(str(folder)).files]


def test_a_pt_file_takes_precedence_in_a_clone(clone: Path) -> None:
    weights = load_model(find_checkpoint(str(clone))).state_dict()
    (clone / "pytorch_model.bin").write_bytes(b"not looked at")
    for name in ("clip_cn_vit-b-16.pt", "renamed.pt"):
        file = clone / name
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in weights.items()}}, file)
        assert found(clone) == [name]
        loaded = load_model(find_checkpoint(str(clone))).state_dict()
        assert all(torch.equal(loaded[key], tensor) for key, tensor in weights.items())
        file.unlink()


def test_other_files_of_a_trainer_are_ignored(clone: Path) -> None:
    for name in ("optimizer.pt", "scheduler.pt", "scaler.pt", "training_args.bin", "rng_state_0.pt"):
        (clone / name).touch()
    assert found(clone) == ["pytorch_model.bin"]


def test_the_official_file_is_chosen_from_several_pt_files(clone: Path) -> None:
    for name in ("epoch_1.pt", "epoch_2.pt"):
        (clone / name).write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=r"found: epoch_1\.pt, epoch_2\.pt; give the path of one$"):
        find_checkpoint(str(clone))
    assert find_checkpoint(str(clone / "epoch_2.pt")).path.name == "epoch_2.pt"
    (clone / "clip_cn_vit-b-16.pt").write_bytes(b"weights")
    assert found(clone) == ["clip_cn_vit-b-16.pt"]


def test_fetched_files_take_precedence_over_git_lfs_pointers(clone: Path) -> None:
    (clone / "clip_cn_vit-b-16.pt").write_bytes(POINTER)
    (clone / "model.safetensors").write_bytes(POINTER)
    assert found(clone) == ["pytorch_model.bin"]
    (clone / "pytorch_model.bin").write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=r"clip_cn_vit-b-16\.pt .* git-lfs pointer; run git lfs pull in "):
        ChineseClipEmbedding(clone, backend="torch")


def test_an_official_file_needs_no_configuration(rn50_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chinese-clip-rn50"
    folder.mkdir()
    shutil.copy(rn50_root / "clip_cn_rn50.pt", folder)
    by_name = find_checkpoint("RN50", download_root=rn50_root)
    assert find_checkpoint(str(folder)).fingerprint() == by_name.fingerprint()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "config.json", "."])
def test_a_file_is_read_with_the_configuration_in_its_folder(name: str, clone: Path) -> None:
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
def test_weights_in_several_files_equal_those_in_one(suffix: str, index: bool, clone: Path) -> None:
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


def test_the_error_names_a_missing_file_of_several(clone: Path) -> None:
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


def test_the_error_names_an_index_that_is_a_git_lfs_pointer(clone: Path) -> None:
    (clone / "pytorch_model.bin").unlink()
    (clone / "pytorch_model.bin.index.json").write_bytes(POINTER)
    with pytest.raises(CheckpointError, match=r"index\.json .* git-lfs pointer; run git lfs pull"):
        find_checkpoint(str(clone))


def test_safetensors_take_precedence_in_folders_of_cn_clip(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert found(tmp_path) == ["model.pt"]
    (tmp_path / "model.safetensors").touch()
    assert found(tmp_path) == ["model.safetensors"]


def test_the_layers_of_cn_clips_rn50_configuration_are_parsed(rn50_root: Path, tmp_path: Path) -> None:
    config = find_checkpoint("RN50", download_root=rn50_root).config
    (tmp_path / "config.json").write_text(json.dumps({**config, "vision_layers": "[3,4,6,3]"}))
    (tmp_path / "model.pt").touch()
    assert find_checkpoint(str(tmp_path)).config == config


PAGE = b"\n<!DOCTYPE html>\n<html lang='zh'><head><title>404</title></head></html>"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """The folder of a model, without its weights."""
    shutil.copy(tiny_model / "config.json", tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    """Return the error message of loading a folder, which must be one line with the path."""
    with pytest.raises(CheckpointError) as caught:
        ChineseClipEmbedding(folder, backend="torch")
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


FILES = ["model.pt", "pytorch_model.bin", "model.safetensors"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (POINTER, "it is a git-lfs pointer; run git lfs pull in "),
        (PAGE, "it is a web page (HTML), saved in place of the file; download it again, from a mirror"),
        (b"<HTML><BODY>Moved</BODY></HTML>", "it is a web page"),
        (b'{"error":"Repository not found"}', """it is a text that begins with '{"error":"Repository not found"}'"""),
        (b"Invalid username or password.", "it is a text that begins with 'Invalid username or password.'"),
        ("抱歉，文件不存在".encode(), "it is a text that begins with '抱歉，文件不存在'"),
        (b"", "it is empty; fetch it again"),
    ],
)
def test_the_error_describes_a_file_that_contains_no_weights(
    file: str, content: bytes, expected: str, folder: Path
) -> None:
    (folder / file).write_bytes(content)
    message = refusal(folder)
    assert expected in message
    assert file in message


def test_the_format_is_recognised_by_content(folder: Path, tiny_model: Path) -> None:
    weights = torch.load(tiny_model / "model.pt", weights_only=True)["state_dict"]
    expected = ChineseClipEmbedding(tiny_model, backend="torch").get_text_embedding("飞机")
    torch.save(weights, folder / "model.safetensors")
    assert ChineseClipEmbedding(folder, backend="torch").get_text_embedding("飞机") == expected
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.pt")
    assert ChineseClipEmbedding(folder, backend="torch").get_text_embedding("飞机") == expected


@pytest.mark.parametrize("file", FILES)
def test_a_truncated_file_is_to_be_fetched_again(file: str, folder: Path, tiny_model: Path) -> None:
    weights = torch.load(tiny_model / "model.pt", weights_only=True)["state_dict"]
    if file.endswith(".safetensors"):
        save_file(weights, folder / file)
    else:
        torch.save(weights, folder / file)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    assert re.search(r"is (damaged|not a safetensors file).*fetch it again$", refusal(folder))


def tiny_clip(folder: Path) -> torch.nn.Module:
    model: torch.nn.Module = CLIP(**json.loads((folder / "config.json").read_text()))
    return model


class _Executed:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


class _ModelOfItsOwn(torch.nn.Linear):
    def __setstate__(self, state: object) -> None:
        print("executed")


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}])
@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"model": model, "epoch": 1}])
def test_a_whole_pickled_model_is_not_loaded(
    wrap: Any, options: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, name in ((tiny_clip(folder), "CLIP"), (_ModelOfItsOwn(2, 2), "_ModelOfItsOwn")):
        torch.save(wrap(model), folder / "model.pt", **options)
        message = refusal(folder)
        assert re.search(
            rf"model\.pt holds a whole pickled model \(\S*{name}\).*torch\.save\(model\.state_dict\(\)", message
        )
    assert "executed" not in capsys.readouterr().out


def test_a_torchscript_program_is_not_loaded(folder: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(folder / "model.pt"))
    assert "holds a whole pickled model (TorchScript)" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"state_dict": {}, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        ({"state_dict": _Executed()}, "print"),
        ([_Executed()], "print"),
    ],
)
def test_the_error_names_objects_other_than_tensors(
    content: Any, found: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, folder / "model.pt")
    message = refusal(folder)
    assert re.search(rf"holds more than tensors \(\S*{found}\).*save the model's state_dict\(\) alone", message)
    assert "executed" not in capsys.readouterr().out


def test_other_archives_are_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("readme.txt", "weights follow")
    assert "is damaged or holds more than tensors" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(POINTER, "git lfs pull"), (PAGE, "web page"), (b"", "it is empty"), (b"Entry not found", "Entry not found")],
)
def test_the_error_describes_a_configuration_that_is_not_json(content: bytes, expected: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    message = refusal(folder)
    assert "config.json is not a configuration" in message
    assert expected in message


@pytest.mark.parametrize("content", [{"error": "Entry not found"}, [], "text", {"embed_dim": 5}])
def test_json_of_other_content_is_refused_as_configuration(content: Any, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(content))
    assert re.search(
        r"config\.json is not a configuration .*lacks .*image_resolution; fetch it again$", refusal(folder)
    )
