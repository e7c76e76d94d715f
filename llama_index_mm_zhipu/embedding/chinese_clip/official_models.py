"""Fetch the weights of an official model from Hugging Face or ModelScope, once."""

from __future__ import annotations

import errno
import os
import re
import zipfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from llama_index_mm_zhipu.embedding.backends import CheckpointError, in_one_line
from llama_index_mm_zhipu.reporting import errors_only, report, reported_when_slow

DEFAULT_DOWNLOAD_ROOT = "~/.cache/clip"
"""Where cn_clip's own ``load_from_name`` keeps its files."""


@dataclass(frozen=True)
class OfficialModel:
    """One of the five models that the authors of Chinese-CLIP published.

    Attributes:
        vision_model_name: cn_clip's name of the image tower's configuration.
        text_model_name: cn_clip's name of the text tower's configuration.
        embed_dim: Dimension of the vectors.
        filename: Name of the published file, and under ``download_root``.
        repository: Name of the repository at Hugging Face and ModelScope.
    """

    vision_model_name: str
    text_model_name: str
    embed_dim: int
    filename: str
    repository: str


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

_OWNERS = ("ofa-sys/", "ai-modelscope/")
_URL = re.compile(r"https?://[^/]+/(models/)?")


def official_name(name: str) -> str | None:
    """Return the official name that a spelling or a repository stands for.

    Args:
        name: For example ``"ViT-B/16"``, ``"vit_b_16"``, ``"OFA-Sys/chinese-clip-vit-base-patch16"``,
            ``"AI-ModelScope/chinese-clip-vit-base-patch16"`` or the repository's name alone.

    Returns:
        A key of ``OFFICIAL_MODELS``, or None. Repositories of other owners may hold other weights: they are unknown.
    """
    return name if name in OFFICIAL_MODELS else _SPELLINGS.get(_spelling(name))


def nearest_official_name(name: str) -> str | None:
    """Return the official name whose spellings are nearest to an unknown name, or None if none is near."""
    near = get_close_matches(_spelling(name.rstrip("/").rpartition("/")[2]), _SPELLINGS, n=1) or get_close_matches(
        _spelling(name), _SPELLINGS, n=1
    )
    return _SPELLINGS[near[0]] if near else None


def _spelling(name: str) -> str:
    """Return the letters and digits of a name, without the owner of the official repositories."""
    plain = _URL.sub("", name.strip().lower()).rstrip("/").removesuffix(".git")
    owner = next((owner for owner in _OWNERS if plain.startswith(owner)), "")
    # Another owner's slash stays, so that his repositories are not taken for the official ones.
    plain = re.sub(r"(vit-?_?[blh])/", r"\1", plain.removeprefix(owner))
    return re.sub(r"[-_.@ ]", "", plain)


def _spellings() -> dict[str, str]:
    spellings: dict[str, str] = {}
    for name, model in OFFICIAL_MODELS.items():
        for spelling in (
            name,
            f"{name}px" if "336" in name else name,
            model.repository,
            model.repository.removeprefix("chinese-clip-"),
            model.repository.removesuffix("px"),
            model.filename.removesuffix(".pt"),
            f"chinese-clip-{name}",
            f"{model.vision_model_name}@{model.text_model_name}",
        ):
            spellings[_spelling(spelling)] = name
    return spellings


_SPELLINGS = _spellings()


DownloadSource: TypeAlias = Literal["huggingface", "modelscope"]

HUGGING_FACE = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn"
HUGGING_FACE_MIRROR = "https://hf-mirror.com"
"""The mirror that most people in China use; it is only named in messages."""

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 10.0
# The disk, or the rights to it, are the problem: another source would not help.
_LOCAL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def official_file(official: OfficialModel, root: Path, source: DownloadSource) -> Path:
    """Return the file of an official model; fetch it first if it is not there yet.

    Where one source cannot be reached, or does not have the file, the other one is tried. A line on stderr says what is
    fetched from where. What a break leaves is completed by the next call; processes that want the same file wait for
    the first.

    Args:
        official: The model.
        root: Folder for the file, made if missing.
        source: The source to try first. ``HF_ENDPOINT`` names a mirror of Hugging Face; with ``HF_HUB_OFFLINE``
            nothing is fetched.

    Raises:
        CheckpointError: Neither source gives the file, or it cannot be written.
    """
    from filelock import FileLock

    path = root / official.filename
    if path.is_file():
        return path
    sources = [_hugging_face(official), _modelscope(official)]
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


class _Source(NamedTuple):
    """Where a file comes from.

    Attributes:
        host: Address of the source, for messages.
        url: Address of the file: plain HTTPS at both sources, so that modelscope's package is not needed.
        hint: What to do where the source is slow.
    """

    host: str
    url: str
    hint: str


def _hugging_face(official: OfficialModel) -> _Source:
    host = os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/")
    mirror = f"HF_ENDPOINT={HUGGING_FACE_MIRROR} or " if host == HUGGING_FACE else ""
    return _Source(
        host,
        f"{host}/OFA-Sys/{official.repository}/resolve/main/{official.filename}",
        f'If that is slow: {mirror}download_source="modelscope".',
    )


def _modelscope(official: OfficialModel) -> _Source:
    return _Source(
        MODELSCOPE,
        f"{MODELSCOPE}/models/AI-ModelScope/{official.repository}/resolve/master/{official.filename}",
        'If that is slow: download_source="huggingface".',
    )


def _fetch_from_one_of(sources: list[_Source], path: Path) -> None:
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
            # Errors of huggingface_hub and of two HTTP clients; httpx2's are OSErrors, too.
            if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                raise
            reason = in_one_line(f"{type(error).__name__}: {error}")
            failures.append(f"cannot fetch {path.name} from {source.url} ({reason})")
    raise CheckpointError(
        f"{'; '.join(failures)}; set HF_ENDPOINT to a mirror of Hugging Face, such as {HUGGING_FACE_MIRROR}, or "
        f"download the file by hand and put it at {path}"
    )


def _fetch(source: _Source, path: Path) -> None:
    """Download a file with a progress bar, going on after a break, and look whether it is one of weights."""
    from huggingface_hub.file_download import http_get

    with reported_when_slow(f"Waiting for an answer from {source.host} …"):
        size = _size(source.url)
    shown_size = f" ({size / 1e6:,.0f} MB)" if size else ""
    report(f"Downloading {path.name}{shown_size} from {source.host} to {path.parent}, once. {source.hint}")
    unfinished = _beside(path, "part")
    if size is not None and unfinished.is_file() and unfinished.stat().st_size > size:
        unfinished.unlink()
    with unfinished.open("ab") as file:
        http_get(source.url, file, resume_size=file.tell(), expected_size=size, displayed_filename=path.name)
    try:
        _require_weights(unfinished)
    except CheckpointError:
        # It may have been begun with a part of another file.
        unfinished.unlink()
        raise
    unfinished.replace(path)


def _size(url: str) -> int | None:
    """Ask for the size in bytes, once: this fails soon where nobody answers."""
    import httpx

    from llama_index_mm_zhipu.images.fetch import tls_context

    timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
    answer = httpx.head(url, follow_redirects=True, timeout=timeout, verify=tls_context())
    answer.raise_for_status()
    return int(answer.headers.get("Content-Length", 0)) or None


def _require_weights(file: Path) -> None:
    """Refuse what is no file of torch's: its zip archives hold checksums, its older files begin as pickles do."""
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
