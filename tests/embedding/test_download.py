"""Official weights come from either source, say so in one line, and a broken download goes on where it was."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS, CheckpointError, download
from llama_index_mm_zhipu.embedding.checkpoint import find_checkpoint

# The HTTP client writes 10 MiB at a time, and goes on after these.
CONTENT = bytes(range(256)) * 100_000
FILE = OFFICIAL_MODELS["RN50"].filename
HUGGING_FACE_PATH = f"/OFA-Sys/chinese-clip-rn50/resolve/main/{FILE}"
MODELSCOPE_PATH = f"/models/AI-ModelScope/chinese-clip-rn50/resolve/master/{FILE}"
NOBODY = "http://127.0.0.1:9"


class Handler(BaseHTTPRequestHandler):
    """Gives the file of RN50 under the addresses of both sources, from where the client asks for it."""

    server: Source
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._send_head()

    def do_GET(self) -> None:
        start = self._send_head()
        if start is not None:
            end = len(CONTENT) // 2 if self.server.breaks.pop(0) else len(CONTENT)
            self.wfile.write(CONTENT[start:end])
            self.close_connection = True

    def _send_head(self) -> int | None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        start = int(wanted.group(1)) if wanted else 0
        self.server.asked.append((self.command, self.path, start))
        if self.path not in (HUGGING_FACE_PATH, MODELSCOPE_PATH):
            self.send_error(404)
            return None
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        return start

    def log_message(self, *args: object) -> None:
        pass


class Source(ThreadingHTTPServer):
    """A source on loopback.

    Attributes:
        asked: Method, path and first byte of each request.
        breaks: Whether each of the next downloads breaks off in the middle.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, str, int]] = []
        self.breaks = [False] * 10


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.005}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def both_sources(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """One server in the places of Hugging Face (as a mirror) and ModelScope."""
    monkeypatch.setenv("HF_ENDPOINT", source.url)
    monkeypatch.setattr(download, "MODELSCOPE", source.url)
    return source


def paths(source: Source) -> set[str]:
    return {path for _, path, _ in source.asked}


def said_lines(stderr: str) -> list[str]:
    """What was printed, without progress bars."""
    return [line for line in re.split(r"[\r\n]+", stderr) if line.strip() and "%|" not in line]


def test_a_missing_file_is_fetched_after_one_line_that_says_so(
    both_sources: Source, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = find_checkpoint("RN50", download_root=tmp_path / "new")

    assert checkpoint.path == tmp_path / "new" / FILE
    assert checkpoint.path.read_bytes() == CONTENT
    assert paths(both_sources) == {HUGGING_FACE_PATH}
    shown = capfd.readouterr()
    assert shown.out == ""
    assert said_lines(shown.err) == [
        f"Downloading {FILE} (26 MB) from {both_sources.url} to {tmp_path / 'new'}, once. "
        'If that is slow: HF_ENDPOINT=https://hf-mirror.com or download_source="modelscope".'
    ]
    assert caplog.records == []


def test_modelscope_is_asked_first_by_name(both_sources: Source, tmp_path: Path) -> None:
    path = find_checkpoint("RN50", download_root=tmp_path, download_source="modelscope").path
    assert path.read_bytes() == CONTENT
    assert paths(both_sources) == {MODELSCOPE_PATH}
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("endpoint", [NOBODY, "{url}/gone"], ids=["nobody there", "not there"])
def test_where_one_source_fails_the_other_is_tried_after_saying_so(
    endpoint: str,
    both_sources: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    mirror = endpoint.format(url=both_sources.url)
    monkeypatch.setenv("HF_ENDPOINT", mirror)

    assert find_checkpoint("RN50", download_root=tmp_path).path.read_bytes() == CONTENT

    failed, downloading = said_lines(capfd.readouterr().err)
    assert failed.startswith(f"cannot fetch {FILE} from {mirror}{HUGGING_FACE_PATH} (")
    assert failed.endswith(f"; trying {both_sources.url} instead.")
    assert downloading.startswith(f"Downloading {FILE} (26 MB) from {both_sources.url} to {tmp_path}, once. ")


def test_hugging_face_stands_in_for_modelscope(
    both_sources: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MODELSCOPE", NOBODY)
    assert find_checkpoint("RN50", download_root=tmp_path, download_source="modelscope").path.is_file()
    assert paths(both_sources) == {HUGGING_FACE_PATH}


@pytest.mark.parametrize("name", ["huggingface", "modelscope"])
def test_a_download_that_breaks_goes_on_where_it_was(
    name: download.DownloadSource,
    both_sources: Source,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    both_sources.breaks[0] = True
    path = find_checkpoint("RN50", download_root=tmp_path, download_source=name).path
    assert path.read_bytes() == CONTENT
    first, second = [start for method, _, start in both_sources.asked if method == "GET"]
    assert first == 0 < second <= len(CONTENT) // 2
    assert len(said_lines(capfd.readouterr().err)) == 1
    assert caplog.records == []


@pytest.mark.parametrize(("left", "start"), [(1000, 1000), (len(CONTENT) + 1, 0)], ids=["a part", "of another file"])
def test_what_an_interrupted_download_left_is_completed(
    both_sources: Source, tmp_path: Path, left: int, start: int
) -> None:
    (tmp_path / f"{FILE}.part").write_bytes((CONTENT + b"x")[:left])
    path = find_checkpoint("RN50", download_root=tmp_path, download_source="modelscope").path
    assert path.read_bytes() == CONTENT
    assert both_sources.asked[-1] == ("GET", MODELSCOPE_PATH, start)


def test_where_both_sources_fail_the_error_says_what_to_do(
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
    assert "set HF_ENDPOINT to a mirror of Hugging Face" in message
    assert message.endswith(f"put it at {tmp_path / 'clip_cn_vit-h-14.pt'}")
    assert len(said_lines(capfd.readouterr().err)) == 1


def test_no_other_source_is_asked_where_the_user_wants_no_network(
    both_sources: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="OfflineModeIsEnabled"):
        find_checkpoint("RN50", download_root=tmp_path)
    assert both_sources.asked == []


def test_a_folder_that_cannot_be_made_is_named(both_sources: Source, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=f"cannot make the folder {tmp_path}/file/clip .*give another download"):
        find_checkpoint("RN50", download_root=tmp_path / "file" / "clip")
    assert both_sources.asked == []
