"""Each kind of file that is mistaken for weights is told apart, and nothing in it is executed."""

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
from safetensors.torch import save_file

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import CheckpointError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 753292673\n"
PAGE = b"\n<!DOCTYPE html>\n<html lang='zh'><head><title>404</title></head></html>"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A model's folder without weights."""
    shutil.copy(tiny_model / "config.json", tmp_path)
    return tmp_path


def refusal(folder: Path) -> str:
    """What is said when a folder is loaded, in one line that names a file in it."""
    with pytest.raises(CheckpointError) as caught:
        ChineseClipEmbedding(folder, backend="torch")
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


FILES = ["model.pt", "pytorch_model.bin", "model.safetensors"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("content", "said"),
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
def test_what_is_no_weights_is_named(file: str, content: bytes, said: str, folder: Path) -> None:
    (folder / file).write_bytes(content)
    message = refusal(folder)
    assert said in message
    assert file in message


def test_files_are_read_by_their_content(folder: Path, tiny_model: Path) -> None:
    weights = torch.load(tiny_model / "model.pt", weights_only=True)["state_dict"]
    expected = ChineseClipEmbedding(tiny_model, backend="torch").get_text_embedding("飞机")
    torch.save(weights, folder / "model.safetensors")
    assert ChineseClipEmbedding(folder, backend="torch").get_text_embedding("飞机") == expected
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.pt")
    assert ChineseClipEmbedding(folder, backend="torch").get_text_embedding("飞机") == expected


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_cut_off_is_to_be_fetched_again(file: str, folder: Path, tiny_model: Path) -> None:
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
def test_what_is_held_besides_tensors_is_named(
    content: Any, found: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, folder / "model.pt")
    message = refusal(folder)
    assert re.search(rf"holds more than tensors \(\S*{found}\).*save the model's state_dict\(\) alone", message)
    assert "executed" not in capsys.readouterr().out


def test_other_archives_are_damaged_weights(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("readme.txt", "weights follow")
    assert "is damaged or holds more than tensors" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [(POINTER, "git lfs pull"), (PAGE, "web page"), (b"", "it is empty"), (b"Entry not found", "Entry not found")],
)
def test_a_configuration_that_is_no_json_is_named(content: bytes, said: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    message = refusal(folder)
    assert "config.json is not a configuration" in message
    assert said in message


@pytest.mark.parametrize("content", [{"error": "Entry not found"}, [], "text", {"embed_dim": 5}])
def test_json_of_another_kind_is_no_configuration(content: Any, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(content))
    assert re.search(
        r"config\.json is not a configuration .*lacks .*image_resolution; fetch it again$", refusal(folder)
    )
