"""The official models: their names, and the download of their weights from Hugging Face or ModelScope."""

from __future__ import annotations

import errno
import os
import re
import zipfile
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from llama_index_mm_zhipu.embedding.backends import CheckpointError, short_detail
from llama_index_mm_zhipu.reporting import errors_only, report, reported_when_slow

DEFAULT_DOWNLOAD_ROOT = "~/.cache/clip"
"""Folder in which cn_clip's own ``load_from_name`` keeps its files."""

DownloadSource: TypeAlias = Literal["huggingface", "modelscope"]

HUGGING_FACE = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn"
HUGGING_FACE_MIRROR = "https://hf-mirror.com"
"""A mirror that many people in China use; it is only named in messages."""

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
# The disk or its permissions are the problem: another source would not help.
_LOCAL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}

_OWNERS = ("ofa-sys/", "ai-modelscope/")
_URL = re.compile(r"https?://[^/]+/(models/)?")


@dataclass(frozen=True)
class OfficialModel:
    """One of the five models that the authors of Chinese-CLIP published.

    Attributes:
        vision_model_name: cn_clip's name of the image encoder's configuration.
        text_model_name: cn_clip's name of the text encoder's configuration.
        embed_dim: Dimension of the vectors.
        filename: Name of the weight file, as published and under ``download_root``.
        repository: Name of the repository at Hugging Face and ModelScope.
    """

    vision_model_name: str
    text_model_name: str
    embed_dim: int
    filename: str
    repository: str

    @property
    def architecture(self) -> str:
        """Name of the architecture, as in ``Checkpoint.architecture``."""
        return f"{self.vision_model_name}@{self.text_model_name}"


OFFICIAL_MODELS: dict[str, OfficialModel] = {
    "RN50": OfficialModel("RN50", "RBT3-chinese", 1024, "clip_cn_rn50.pt", "chinese-clip-rn50"),
    "ViT-B-16": OfficialModel(
        "ViT-B-16",
        "RoBERTa-wwm-ext-base-chinese",
        512,
        "clip_cn_vit-b-16.pt",
        "chinese-clip-vit-base-patch16",
    ),
    "ViT-L-14": OfficialModel(
        "ViT-L-14",
        "RoBERTa-wwm-ext-base-chinese",
        768,
        "clip_cn_vit-l-14.pt",
        "chinese-clip-vit-large-patch14",
    ),
    "ViT-L-14-336": OfficialModel(
        "ViT-L-14-336",
        "RoBERTa-wwm-ext-base-chinese",
        768,
        "clip_cn_vit-l-14-336.pt",
        "chinese-clip-vit-large-patch14-336px",
    ),
    "ViT-H-14": OfficialModel(
        "ViT-H-14",
        "RoBERTa-wwm-ext-large-chinese",
        1024,
        "clip_cn_vit-h-14.pt",
        "chinese-clip-vit-huge-patch14",
    ),
}


def official_name(name: str) -> str | None:
    """Return the official name for a spelling or a repository.

    Args:
        name: For example ``"ViT-B/16"``, ``"vit_b_16"``, ``"OFA-Sys/chinese-clip-vit-base-patch16"``,
            ``"AI-ModelScope/chinese-clip-vit-base-patch16"`` or the repository's name alone.

    Returns:
        A key of ``OFFICIAL_MODELS``; None for other names, including repositories of other owners, whose weights may
        differ.
    """
    return name if name in OFFICIAL_MODELS else _names_by_spelling().get(_spelling(name))


def nearest_official_name(name: str) -> str | None:
    """Return the official name with the spelling most similar to an unknown name; None if no spelling is similar."""
    names = _names_by_spelling()
    last_part = name.rstrip("/").rpartition("/")[2]
    similar = get_close_matches(_spelling(last_part), names, n=1) or get_close_matches(_spelling(name), names, n=1)
    return names[similar[0]] if similar else None


def official_file(official: OfficialModel, root: Path, source: DownloadSource) -> Path:
    """Return the weight file of an official model; download it if it is missing.

    If one source cannot be reached or does not have the file, the other is tried. A line on stderr reports the download
    and its source. An interrupted download is resumed by the next call. Processes that need the same file wait for the
    first one.

    Args:
        official: The model.
        root: Folder for the file, created if missing.
        source: The source to try first. ``HF_ENDPOINT`` names a mirror of Hugging Face; ``HF_HUB_OFFLINE`` forbids
            downloads.

    Raises:
        CheckpointError: Neither source provides the file, or it cannot be written.
    """
    from filelock import FileLock

    path = root / official.filename
    if path.is_file():
        return path
    sources = sources_of(official)
    if source == "modelscope":
        sources.reverse()
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_beside(path, "lock"))
        with reported_when_slow(f"Waiting for another process to download {path.name} …"):
            lock.acquire()
        try:
            if not path.is_file():
                _fetch_from_one_of(sources, path)
        finally:
            lock.release()
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path} ({error.strerror or error}); free some space, or give another download_root"
        ) from None
    return path


def sources_of(official: OfficialModel) -> list[Source]:
    """Return the sources of an official model: Hugging Face, or the mirror in ``HF_ENDPOINT``, and ModelScope."""
    return [_hugging_face(official), _modelscope(official)]


class Source(NamedTuple):
    """A source of a weight file.

    Attributes:
        host: URL of the source, for messages.
        url: URL of the file. Both sources serve it by plain HTTPS, so that the modelscope package is not needed.
        hint: What to do if the source is slow.
    """

    host: str
    url: str
    hint: str


def _hugging_face(official: OfficialModel) -> Source:
    host = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    mirror = f"HF_ENDPOINT={HUGGING_FACE_MIRROR} or " if host == HUGGING_FACE else ""
    return Source(
        host,
        f"{host}/OFA-Sys/{official.repository}/resolve/main/{official.filename}",
        f'If that is slow: {mirror}download_source="modelscope".',
    )


def _modelscope(official: OfficialModel) -> Source:
    return Source(
        MODELSCOPE,
        f"{MODELSCOPE}/models/AI-ModelScope/{official.repository}/resolve/master/{official.filename}",
        'If that is slow: download_source="huggingface".',
    )


def _fetch_from_one_of(sources: list[Source], path: Path) -> None:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise CheckpointError(f"{path.name} is not in {path.parent}, and HF_HUB_OFFLINE forbids to download it")
    failures: list[str] = []
    for source in sources:
        if failures:
            report(f"{failures[-1]}; trying {source.host} instead.")
        try:
            with errors_only("huggingface_hub", "httpx", "httpx2"):
                _fetch(source, path)
            return
        except Exception as error:
            # Errors of huggingface_hub and of two HTTP clients; those of httpx2 are OSErrors too.
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                raise
            reason = short_detail(f"{type(error).__name__}: {error}")
            failures.append(f"cannot fetch {path.name} from {source.url} ({reason})")
    raise CheckpointError(
        f"{'; '.join(failures)}; set HF_ENDPOINT to a mirror of Hugging Face, such as {HUGGING_FACE_MIRROR}, or "
        f"download the file by hand and put it at {path}"
    )


def _fetch(source: Source, path: Path) -> None:
    """Download a file with a progress bar, resuming an interrupted download, and check that it contains weights."""
    from huggingface_hub.file_download import http_get

    with reported_when_slow(f"Waiting for an answer from {source.host} …"):
        size = _size(source.url)
    shown_size = f" ({size / 1e6:,.0f} MB)" if size else ""
    report(f"Downloading {path.name}{shown_size} from {source.host} to {path.parent}, once. {source.hint}")
    unfinished = unfinished_download(path)
    if size is not None and unfinished.is_file() and unfinished.stat().st_size > size:
        unfinished.unlink()
    with unfinished.open("ab") as file:
        http_get(source.url, file, resume_size=file.tell(), expected_size=size, displayed_filename=path.name)
    try:
        require_weights(unfinished)
    except CheckpointError:
        # The part that was resumed may belong to another file.
        unfinished.unlink()
        raise
    unfinished.replace(path)


def _size(url: str) -> int | None:
    """Return the size in bytes, asked without retries so that an unreachable source fails soon; None if unknown."""
    import httpx

    from llama_index_mm_zhipu.images.fetch import tls_context

    timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
    answer = httpx.head(url, follow_redirects=True, timeout=timeout, verify=tls_context())
    answer.raise_for_status()
    return int(answer.headers.get("Content-Length", 0)) or None


def unfinished_download(path: Path) -> Path:
    """Return the file that holds what was downloaded of a weight file so far."""
    return _beside(path, "part")


def require_weights(file: Path) -> None:
    """Refuse a file that torch did not write: its zip archives have checksums, older files start like a pickle.

    Raises:
        CheckpointError: The file is damaged, or something else.
    """
    with file.open("rb") as opened:
        start = opened.read(2)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if (damaged := archive.testzip()) is not None:
                raise CheckpointError(f"the download is damaged at {damaged}")
    elif start != b"\x80\x02":
        raise CheckpointError("the download is not a file of weights")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _spelling(name: str) -> str:
    """Return a name in lower case without separators, URL and the owner of the official repositories."""
    plain = _URL.sub("", name.strip().lower()).rstrip("/").removesuffix(".git")
    owner = next((owner for owner in _OWNERS if plain.startswith(owner)), "")
    # The slash after another owner stays, so that their repositories do not match.
    plain = re.sub(r"(vit-?_?[blh])/", r"\1", plain.removeprefix(owner))
    return re.sub(r"[-_.@ ]", "", plain)


@cache
def _names_by_spelling() -> dict[str, str]:
    names: dict[str, str] = {}
    for name, model in OFFICIAL_MODELS.items():
        for spelling in (
            name,
            f"{name}px" if "336" in name else name,
            model.repository,
            model.repository.removeprefix("chinese-clip-"),
            model.repository.removesuffix("px"),
            model.filename.removesuffix(".pt"),
            f"chinese-clip-{name}",
            model.architecture,
        ):
            names[_spelling(spelling)] = name
    return names
