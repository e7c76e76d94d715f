"""Fetch the weights of an official model from Hugging Face or ModelScope, once."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, TypeAlias

from llama_index_mm_zhipu.embedding.errors import CheckpointError, in_one_line
from llama_index_mm_zhipu.embedding.official_models import OfficialModel
from llama_index_mm_zhipu.reporting import errors_only, report
from llama_index_mm_zhipu.tls import tls_context

DownloadSource: TypeAlias = Literal["huggingface", "modelscope"]

HUGGING_FACE = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn"
HUGGING_FACE_MIRROR = "https://hf-mirror.com"
"""The mirror that most people in China use; it is only named in messages."""

_ANSWER_SECONDS = 10.0


def official_file(official: OfficialModel, root: Path, source: DownloadSource) -> Path:
    """Return the file of an official model; fetch it first if it is not there yet.

    Where one source cannot be reached, or does not have the file, the other one is tried. A line on stderr says what is
    fetched from where.

    Args:
        official: The model.
        root: Folder for the file, made if missing.
        source: The source to try first. ``HF_ENDPOINT`` names a mirror of Hugging Face.

    Raises:
        CheckpointError: Neither source gives the file, or it cannot be written.
    """
    path = root / official.filename
    if path.is_file():
        return path
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"cannot make the folder {root} for {official.filename} ({error.strerror}); give another download_root"
        ) from None
    failures: list[str] = []
    for kind in (_HuggingFace, _ModelScope) if source == "huggingface" else (_ModelScope, _HuggingFace):
        tried = kind(official)
        if failures:
            report(f"{failures[-1]}; trying {tried.host} instead.")
        try:
            tried.download(path)
            return path
        except Exception as error:
            # Both sources raise errors of huggingface_hub, of its HTTP client and of the file system.
            reason = in_one_line(f"{type(error).__name__}: {error}")
            failures.append(f"cannot fetch {official.filename} from {tried.url} ({reason})")
            if _is_final(error):
                break
    raise CheckpointError(
        f"{'; '.join(failures)}; set HF_ENDPOINT to a mirror of Hugging Face, such as {HUGGING_FACE_MIRROR}, or "
        f"download the file by hand and put it at {path}"
    )


class _Source(ABC):
    """Where one file comes from.

    Attributes:
        host: Address of the source, for messages.
        url: Address of the file.
        hint: What to do where the source is slow.
    """

    host: str
    url: str
    hint: str

    @abstractmethod
    def size(self) -> int | None:
        """Ask for the size in bytes, once: this fails fast where nobody answers."""

    @abstractmethod
    def fetch(self, path: Path) -> None:
        """Download the file with a progress bar; what a break leaves is completed by the next call."""

    def download(self, path: Path) -> None:
        """Say what is downloaded, and download it."""
        with errors_only("huggingface_hub"):
            size = self.size()
            shown = f" ({size / 1e6:,.0f} MB)" if size else ""
            report(f"Downloading {path.name}{shown} from {self.host} to {path.parent}, once. {self.hint}")
            self.fetch(path)


class _HuggingFace(_Source):
    hint = f'If that is slow: HF_ENDPOINT={HUGGING_FACE_MIRROR} or download_source="modelscope".'

    def __init__(self, official: OfficialModel) -> None:
        from huggingface_hub import hf_hub_url

        self.host = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
        self._repository = f"OFA-Sys/{official.repository}"
        self.url = hf_hub_url(self._repository, official.filename, endpoint=self.host)

    def size(self) -> int | None:
        from huggingface_hub import get_hf_file_metadata

        return get_hf_file_metadata(self.url, timeout=_ANSWER_SECONDS).size

    def fetch(self, path: Path) -> None:
        from huggingface_hub import hf_hub_download

        hf_hub_download(self._repository, path.name, local_dir=path.parent, endpoint=self.host)


class _ModelScope(_Source):
    """Public files at ModelScope are plain HTTPS: its own package, with forty dependencies, is not needed."""

    hint = 'If that is slow: download_source="huggingface".'

    def __init__(self, official: OfficialModel) -> None:
        self.host = MODELSCOPE
        self.url = f"{MODELSCOPE}/models/AI-ModelScope/{official.repository}/resolve/master/{official.filename}"

    def size(self) -> int | None:
        import httpx

        answer = httpx.head(self.url, follow_redirects=True, timeout=_ANSWER_SECONDS, verify=tls_context())
        answer.raise_for_status()
        return int(answer.headers.get("Content-Length", 0)) or None

    def fetch(self, path: Path) -> None:
        from huggingface_hub.file_download import http_get

        size = self.size()
        unfinished = path.with_name(f"{path.name}.part")
        if size is not None and unfinished.is_file() and unfinished.stat().st_size > size:
            unfinished.unlink()
        with unfinished.open("ab") as file:
            http_get(self.url, file, resume_size=file.tell(), expected_size=size, displayed_filename=path.name)
        unfinished.replace(path)


def _is_final(error: Exception) -> bool:
    """Whether another source would not help: the disk is the problem, or the user wants no network."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, OfflineModeIsEnabled) or (isinstance(error, OSError) and error.filename is not None)
