"""Official models are recognised by all spellings of their names, and downloaded once from one of two sources."""

from __future__ import annotations

import errno
import logging
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import huggingface_hub.file_download
import numpy as np
import pytest
from serving import serving
from waiting import PATIENCE

from llama_index_mm_zhipu import ChineseClipEmbedding, reporting
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS, CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip import official_models
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import official_name
from llama_index_mm_zhipu.testing import tiny_checkpoint


@pytest.mark.parametrize("name", OFFICIAL_MODELS)
@pytest.mark.parametrize(
    "form",
    [
        "OFA-Sys/{}",
        "AI-ModelScope/{}",
        "ofa-sys/{}",
        "{}",
        "https://huggingface.co/OFA-Sys/{}",
        "https://hf-mirror.com/OFA-Sys/{}/",
        "https://www.modelscope.cn/models/AI-ModelScope/{}",
        "https://huggingface.co/OFA-Sys/{}.git",
    ],
)
def test_repository_names_are_recognised(name: str, form: str) -> None:
    repository = OFFICIAL_MODELS[name].repository
    assert official_name(form.format(repository)) == name
    assert official_name(form.format(repository.upper().replace("-", "_"))) == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ViT-B/16", "ViT-B-16"),
        ("vit-b-16", "ViT-B-16"),
        ("vit_b_16", "ViT-B-16"),
        ("ViT-B16", "ViT-B-16"),
        ("VIT-B/16 ", "ViT-B-16"),
        ("ViT-L/14", "ViT-L-14"),
        ("ViT-L/14@336px", "ViT-L-14-336"),
        ("ViT-L-14@336", "ViT-L-14-336"),
        ("vit-l-14-336px", "ViT-L-14-336"),
        ("chinese-clip-vit-large-patch14-336", "ViT-L-14-336"),
        ("ViT-H/14", "ViT-H-14"),
        ("rn50", "RN50"),
        ("chinese-clip-vit-h-14", "ViT-H-14"),
        ("clip_cn_vit-l-14", "ViT-L-14"),
        ("ViT-B-16@RoBERTa-wwm-ext-base-chinese", "ViT-B-16"),
    ],
)
def test_other_spellings_are_recognised(spelling: str, name: str) -> None:
    assert official_name(spelling) == name


@pytest.mark.parametrize(
    "name", ["somebody/chinese-clip-vit-base-patch16", "openai/clip-vit-base-patch16", "", "ViT/16"]
)
def test_repositories_of_other_owners_are_not_official(name: str) -> None:
    assert official_name(name) is None


@pytest.mark.parametrize("name", ["OFA-Sys/chinese-clip-rn50", "chinese-clip-rn50", "rn50", "RN-50"])
def test_all_spellings_give_the_same_checkpoint(name: str, rn50_root: Path) -> None:
    found, official = (find_checkpoint(name, download_root=rn50_root) for name in (name, "RN50"))
    assert found == official
    assert found.fingerprint() == official.fingerprint()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("OFA-Sys/chinese-clip-vit-base-patch61", "ViT-B-16"),
        ("somebody/chinese-clip-vit-huge-patch14", "ViT-H-14"),
        ("ViT-L/14@363px", "ViT-L-14-336"),
        ("weights/clip_cn_rn50.pt", "RN50"),
    ],
)
def test_the_error_for_an_unknown_name_suggests_the_most_similar(name: str, near: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^unknown model '{name}': [^\n]*; did you mean '{near}'\?$"):
        find_checkpoint(name)


def test_nothing_is_suggested_for_a_very_different_name() -> None:
    with pytest.raises(CheckpointError, match=r"directory or \.pt file$"):
        find_checkpoint("bert-base-uncased")


def test_an_existing_folder_takes_precedence_over_a_name(
    rn50_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OFA-Sys/chinese-clip-rn50", "ViT-B/16", "RN50"):
        tiny_checkpoint(name)
        assert ChineseClipEmbedding(name, backend="torch", download_root=str(rn50_root)).embed_dim == 32


def test_an_empty_folder_does_not_hide_the_model_of_its_name(
    rn50_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RN50").mkdir()
    assert find_checkpoint("RN50", download_root=rn50_root).embed_dim == 1024


FILE = OFFICIAL_MODELS["RN50"].filename
HUGGING_FACE_PATH = f"/OFA-Sys/chinese-clip-rn50/resolve/main/{FILE}"
MODELSCOPE_PATH = f"/models/AI-ModelScope/chinese-clip-rn50/resolve/master/{FILE}"
NOBODY = "http://127.0.0.1:9"


def _archive() -> bytes:
    """Return a zip archive, like torch's files, of more than the 10 MiB that the HTTP client writes at a time."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("weights", np.random.default_rng(0).bytes(25_000_000))
    return buffer.getvalue()


CONTENT = _archive()


class Handler(BaseHTTPRequestHandler):
    """Serves the file of RN50 at the paths of both sources, with support for resumed downloads."""

    server: Source
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._send_head()

    def do_GET(self) -> None:
        start = self._send_head()
        if start is not None:
            content = self.server.content
            end = len(content) // 2 if self.server.breaks.pop(0) else len(content)
            self.wfile.write(content[start:end])
            self.close_connection = True

    def _send_head(self) -> int | None:
        self.server.before_answers(self.path)
        content = self.server.content
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        start = int(wanted.group(1)) if wanted else 0
        self.server.asked.append((self.command, self.path, start))
        if self.path == f"/moved{HUGGING_FACE_PATH}":
            self.send_response(302)
            self.send_header("Location", HUGGING_FACE_PATH)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if self.path not in (HUGGING_FACE_PATH, MODELSCOPE_PATH):
            self.send_error(404)
            return None
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        return start

    def log_message(self, *args: object) -> None:
        pass


class Source(ThreadingHTTPServer):
    """A source on the loopback interface.

    Attributes:
        content: Content of the file.
        asked: Method, path and first byte of each request.
        breaks: Whether each of the next downloads is interrupted in the middle.
        before_answers: Called with the path of each request.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.content = CONTENT
        self.asked: list[tuple[str, str, int]] = []
        self.breaks = [False] * 10
        self.before_answers: Callable[[str], Any] = lambda path: None

    def downloads(self) -> list[tuple[str, int]]:
        """Path and first byte of each download."""
        return [(path, start) for method, path, start in self.asked if method == "GET"]


@pytest.fixture
def source() -> Iterator[Source]:
    running = Source()
    with serving(running):
        yield running


@pytest.fixture
def both_sources(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """One server that stands for Hugging Face (as a mirror) and for ModelScope."""
    monkeypatch.setenv("HF_ENDPOINT", source.url)
    monkeypatch.setattr(official_models, "MODELSCOPE", source.url)
    return source


def printed_lines(stderr: str) -> list[str]:
    """Return the printed lines without progress bars and without lines that only appear on a busy machine."""
    lines = re.split(r"[\r\n]+", stderr)
    return [line for line in lines if line.strip() and "%|" not in line and not line.startswith("Waiting")]


def test_a_missing_file_is_downloaded_and_one_line_reports_it(
    both_sources: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    checkpoint = find_checkpoint("RN50", download_root=tmp_path / "new")

    assert checkpoint.path == tmp_path / "new" / FILE
    assert checkpoint.path.read_bytes() == CONTENT
    assert both_sources.downloads() == [(HUGGING_FACE_PATH, 0)]
    shown = capfd.readouterr()
    assert shown.out == ""
    assert printed_lines(shown.err) == [
        f"Downloading {FILE} (25 MB) from {both_sources.url} to {tmp_path / 'new'}, once. "
        'If that is slow: download_source="modelscope".'
    ]
    assert [record for record in caplog.records if not record.name.startswith("llama_index_mm_zhipu")] == []


def test_the_line_suggests_a_mirror_if_none_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    official = official_models._hugging_face(OFFICIAL_MODELS["ViT-B-16"])
    assert official.host == "https://huggingface.co"
    assert official.hint == 'If that is slow: HF_ENDPOINT=https://hf-mirror.com or download_source="modelscope".'


def test_modelscope_can_be_the_first_source(both_sources: Source, tmp_path: Path) -> None:
    path = find_checkpoint("RN50", download_root=tmp_path, download_source="modelscope").path
    assert path.read_bytes() == CONTENT
    assert both_sources.downloads() == [(MODELSCOPE_PATH, 0)]


@pytest.mark.parametrize("endpoint", [NOBODY, "{url}/gone"], ids=["unreachable", "file missing"])
def test_the_other_source_is_tried_if_the_first_fails(
    endpoint: str,
    both_sources: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    mirror = endpoint.format(url=both_sources.url)
    monkeypatch.setenv("HF_ENDPOINT", mirror)

    assert find_checkpoint("RN50", download_root=tmp_path).path.read_bytes() == CONTENT

    failed, downloading = printed_lines(capfd.readouterr().err)
    assert failed.startswith(f"cannot fetch {FILE} from {mirror}{HUGGING_FACE_PATH} (")
    assert failed.endswith(f"; trying {both_sources.url} instead.")
    assert downloading.startswith(f"Downloading {FILE} (25 MB) from {both_sources.url} to {tmp_path}, once. ")


def test_hugging_face_is_tried_if_modelscope_fails(
    both_sources: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official_models, "MODELSCOPE", NOBODY)
    assert find_checkpoint("RN50", download_root=tmp_path, download_source="modelscope").path.is_file()
    assert both_sources.downloads() == [(HUGGING_FACE_PATH, 0)]


def test_redirects_are_followed(both_sources: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{both_sources.url}/moved")
    assert find_checkpoint("RN50", download_root=tmp_path).path.read_bytes() == CONTENT
    assert both_sources.downloads()[-1] == (HUGGING_FACE_PATH, 0)


def test_waiting_for_an_answer_is_reported(
    both_sources: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reported = threading.Event()
    report = reporting.report

    def report_and_tell(message: str) -> None:
        report(message)
        if message.startswith("Waiting for an answer from"):
            reported.set()

    monkeypatch.setattr(reporting, "SLOW_SECONDS", 0.01)
    monkeypatch.setattr(reporting, "report", report_and_tell)
    monkeypatch.setattr(official_models, "_ANSWER_SECONDS", PATIENCE)
    both_sources.before_answers = lambda path: reported.wait(PATIENCE)
    find_checkpoint("RN50", download_root=tmp_path)
    assert f"Waiting for an answer from {both_sources.url} …" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["huggingface", "modelscope"])
def test_an_interrupted_download_is_resumed(
    name: official_models.DownloadSource,
    both_sources: Source,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    both_sources.breaks[0] = True
    path = find_checkpoint("RN50", download_root=tmp_path, download_source=name).path
    assert path.read_bytes() == CONTENT
    (_, first), (_, second) = both_sources.downloads()
    assert first == 0 < second <= len(CONTENT) // 2
    assert len(printed_lines(capfd.readouterr().err)) == 1
    assert caplog.records == []


@pytest.mark.parametrize(
    ("left", "starts"),
    [(CONTENT[:1000], [1000]), (CONTENT + b"x", [0]), (b"Z" * 1000, [1000, 0])],
    ids=["a part", "too much", "of another file"],
)
def test_the_rest_of_an_earlier_download_is_completed(
    both_sources: Source, tmp_path: Path, left: bytes, starts: list[int]
) -> None:
    (tmp_path / f"{FILE}.part").write_bytes(left)
    path = find_checkpoint("RN50", download_root=tmp_path).path
    assert path.read_bytes() == CONTENT
    assert [start for _, start in both_sources.downloads()] == starts
    assert not (tmp_path / f"{FILE}.part").exists()


@pytest.mark.parametrize("content", [b"<html>log in first</html>", b"version https://git-lfs.github.com/spec/v1"])
def test_a_downloaded_file_without_weights_is_deleted(both_sources: Source, tmp_path: Path, content: bytes) -> None:
    both_sources.content = content
    with pytest.raises(CheckpointError, match=r"the download is not a file of weights.*; cannot fetch .*put it at"):
        find_checkpoint("RN50", download_root=tmp_path)
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".lock"] == []


def test_concurrent_calls_download_a_file_once(both_sources: Source, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: find_checkpoint("RN50", download_root=tmp_path).path, range(4)))
    assert {path.read_bytes() == CONTENT for path in found} == {True}
    assert both_sources.downloads() == [(HUGGING_FACE_PATH, 0)]


def test_the_error_says_what_to_do_if_both_sources_fail(
    both_sources: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint("ViT-H-14", download_root=tmp_path)

    message = str(caught.value)
    assert "\n" not in message
    for path in (
        "/OFA-Sys/chinese-clip-vit-huge-patch14/resolve/main/clip_cn_vit-h-14.pt",
        "/models/AI-ModelScope/chinese-clip-vit-huge-patch14/resolve/master/clip_cn_vit-h-14.pt",
    ):
        assert f"cannot fetch clip_cn_vit-h-14.pt from {both_sources.url}{path} (" in message
    assert "set HF_ENDPOINT to a mirror of Hugging Face, such as https://hf-mirror.com" in message
    assert message.endswith(f"put it at {tmp_path / 'clip_cn_vit-h-14.pt'}")
    assert len(printed_lines(capfd.readouterr().err)) == 1


@pytest.mark.parametrize("name", ["huggingface", "modelscope"])
def test_offline_mode_sends_no_request(
    name: official_models.DownloadSource, both_sources: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=f"{FILE} is not in {tmp_path}, and HF_HUB_OFFLINE forbids"):
        find_checkpoint("RN50", download_root=tmp_path, download_source=name)
    assert both_sources.asked == []


def test_a_full_disk_is_reported_without_trying_the_other_source(
    both_sources: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
    with pytest.raises(CheckpointError, match=rf"cannot write .*{FILE} \(No space left on device\); free some space"):
        find_checkpoint("RN50", download_root=tmp_path)
    assert len(both_sources.asked) == 1


def test_the_error_names_a_folder_that_cannot_be_created(both_sources: Source, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=f"cannot write {tmp_path}/file/clip/{FILE} .*give another download_root"):
        find_checkpoint("RN50", download_root=tmp_path / "file" / "clip")
    assert both_sources.asked == []
