"""Weights are found where users have them, loaded without executing them, and missing ones are explained."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS, CheckpointError
from llama_index_mm_zhipu.embedding.checkpoint import find_checkpoint, load_model
from llama_index_mm_zhipu.testing import tiny_checkpoint


@pytest.fixture
def hub(download_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A mirror of Hugging Face on loopback that has RN50 only; yields the paths that were asked for."""
    content = (download_root / OFFICIAL_MODELS["RN50"].filename).read_bytes()
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def _head(self) -> bool:
            asked.append(self.path)
            if self.path != "/OFA-Sys/chinese-clip-rn50/resolve/main/clip_cn_rn50.pt":
                self.send_error(404)
                return False
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            return True

        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            if self._head():
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["RN50", "ViT-B-16"])
def test_a_file_in_the_articles_layout_is_used_as_it_is(
    name: str, download_root: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    embed = ChineseClipEmbedding(name, download_root=str(download_root), device="cpu")

    assert embed.embed_dim == OFFICIAL_MODELS[name].embed_dim
    assert capfd.readouterr().out == ""


def test_a_missing_file_is_fetched_from_the_mirror(hub: list[str], tmp_path: Path, download_root: Path) -> None:
    checkpoint = find_checkpoint("RN50", download_root=tmp_path / "new")

    assert checkpoint.path == tmp_path / "new" / "clip_cn_rn50.pt"
    assert checkpoint.path.read_bytes() == (download_root / "clip_cn_rn50.pt").read_bytes()
    assert hub


def test_a_failed_fetch_says_what_to_do(hub: list[str], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("ViT-H-14", download_root=tmp_path)

    message = str(caught.value)
    assert "\n" not in message
    assert "clip_cn_vit-h-14.pt" in message
    assert "/OFA-Sys/chinese-clip-vit-huge-patch14/resolve/main/clip_cn_vit-h-14.pt" in message
    assert str(tmp_path / "clip_cn_vit-h-14.pt") in message
    assert "HF_ENDPOINT" in message


def test_modelscope_is_asked_for_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"modelscope"):
        find_checkpoint("RN50", download_root=tmp_path, download_source="modelscope")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"unknown model 'ViT-B-61': use one of RN50, ViT-B-16, .*or the path"):
        ChineseClipEmbedding("ViT-B-61")


def test_a_file_of_another_name_needs_its_towers(download_root: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "epoch_latest.pt"
    shutil.copy(download_root / "clip_cn_rn50.pt", tuned)

    with pytest.raises(CheckpointError, match="give vision_model_name and text_model_name"):
        find_checkpoint(str(tuned))
    with pytest.raises(CheckpointError, match="cn_clip has no configuration named 'ResNet'"):
        find_checkpoint(str(tuned), vision_model_name="ResNet", text_model_name="RBT3-chinese")

    named = find_checkpoint(str(tuned), vision_model_name="RN50", text_model_name="RBT3-chinese")
    official = find_checkpoint("RN50", download_root=download_root)
    assert named.fingerprint() == official.fingerprint()
    assert named.struct == "RN50@RBT3-chinese"


def test_weights_of_another_architecture_are_refused(download_root: Path) -> None:
    wrong = find_checkpoint(
        str(download_root / "clip_cn_rn50.pt"),
        vision_model_name="ViT-B-16",
        text_model_name="RoBERTa-wwm-ext-base-chinese",
    )
    with pytest.raises(CheckpointError, match=r"clip_cn_rn50\.pt are not of ViT-B-16@"):
        load_model(wrong)


class _Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_a_file_that_would_execute_code_is_refused(
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
def test_what_holds_no_state_dict_is_refused(tiny_model: Path, tmp_path: Path, content: object, found: str) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=rf"model\.pt holds no state dict of tensors.*; found: {found}$"):
        ChineseClipEmbedding(tmp_path, backend="torch")


@pytest.mark.parametrize("change", [{"colour": "red"}, {"vision_layers": None}, {"embed_dim": "many"}])
def test_a_configuration_that_cn_clip_does_not_take_is_refused(
    tiny_model: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    shutil.copytree(tiny_model, tmp_path, dirs_exist_ok=True)
    config = {**json.loads((tmp_path / "config.json").read_text()), **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cn_clip cannot build CLIP-"):
        ChineseClipEmbedding(tmp_path, backend="torch")


@pytest.mark.parametrize("content", [b"hello world", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", b""])
def test_text_is_no_checkpoint(tiny_model: Path, tmp_path: Path, content: bytes) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.pt is damaged or holds more than tensors[^\n]*fetch it again$"):
        ChineseClipEmbedding(tmp_path, backend="torch")


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_garbage_is_refused(tiny_model: Path, tmp_path: Path, file: str) -> None:
    shutil.copy(tiny_model / "config.json", tmp_path)
    (tmp_path / file).write_bytes(b"no weights at all" * 100)

    with pytest.raises(CheckpointError, match=f"{file} is (damaged|not a safetensors file)"):
        ChineseClipEmbedding(str(tmp_path))


def test_a_directory_says_what_it_lacks(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        find_checkpoint(str(tmp_path))
    for config in ({"embed_dim": 8}, [8]):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="is not a configuration of cn_clip's CLIP"):
            find_checkpoint(str(tmp_path))
    shutil.copy(tiny_model / "config.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"exactly one \.pt file; found: none"):
        find_checkpoint(str(tmp_path))


def test_fingerprints_tell_models_apart_and_hold_no_path(tiny_model: Path, tmp_path: Path) -> None:
    same = tiny_checkpoint(tmp_path / "same")
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    prints = [find_checkpoint(str(folder)).fingerprint() for folder in (tiny_model, same, other)]

    assert prints[0] == prints[1] != prints[2]
    assert not any(str(tmp_path) in text for text in prints)


def test_tiny_checkpoints_of_unknown_structs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown struct 'ViT-X'"):
        tiny_checkpoint(tmp_path, "ViT-X")
