"""The five models that the authors of Chinese-CLIP published, and where their files come from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from llama_index_mm_zhipu.embedding.errors import CheckpointError, in_one_line

DownloadSource = Literal["huggingface", "modelscope"]

DEFAULT_DOWNLOAD_ROOT = "~/.cache/clip"
"""Where cn_clip's own ``load_from_name`` keeps its files."""

_HUGGING_FACE = "https://huggingface.co"
_MODELSCOPE = "https://modelscope.cn"


@dataclass(frozen=True)
class OfficialModel:
    """One of the five models that the authors of Chinese-CLIP published.

    Attributes:
        vision_model_name: cn_clip's name of the picture tower's configuration.
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


def official_file(official: OfficialModel, root: Path, source: DownloadSource) -> Path:
    """Return the file of an official model, fetching it if it is not there yet.

    Raises:
        CheckpointError: It cannot be fetched.
    """
    path = root / official.filename
    if path.is_file():
        return path
    fetch = _fetch_from_modelscope if source == "modelscope" else _fetch_from_hugging_face
    root.mkdir(parents=True, exist_ok=True)
    return fetch(official, root)


def _fetch_from_hugging_face(official: OfficialModel, root: Path) -> Path:
    from huggingface_hub import hf_hub_download

    endpoint = os.environ.get("HF_ENDPOINT", _HUGGING_FACE).rstrip("/")
    repository = f"OFA-Sys/{official.repository}"
    try:
        return Path(hf_hub_download(repository, official.filename, local_dir=root, endpoint=endpoint))
    except Exception as error:
        # huggingface_hub raises errors of its own, of its HTTP client and of the file system.
        address = f"{endpoint}/{repository}/resolve/main/{official.filename}"
        raise _not_fetched(official, root, address, error) from None


def _fetch_from_modelscope(official: OfficialModel, root: Path) -> Path:
    if find_spec("modelscope") is None:
        raise CheckpointError(
            'download_source="modelscope" needs the modelscope package: pip install "llama-index-mm-zhipu[modelscope]"'
        )
    from modelscope.hub.file_download import model_file_download

    repository = f"AI-ModelScope/{official.repository}"
    try:
        return Path(model_file_download(model_id=repository, file_path=official.filename, local_dir=str(root)))
    except Exception as error:
        # As above: errors of the hub, of requests and of the file system.
        address = f"{_MODELSCOPE}/models/{repository}/resolve/master/{official.filename}"
        raise _not_fetched(official, root, address, error) from None


def _not_fetched(official: OfficialModel, root: Path, address: str, error: Exception) -> CheckpointError:
    cause = in_one_line(f"{type(error).__name__}: {error}")
    return CheckpointError(
        f"cannot fetch {official.filename} from {address} ({cause}); set HF_ENDPOINT to a mirror of Hugging Face, "
        'take the other download_source ("huggingface" or "modelscope"), or download the file by hand and put it at '
        f"{root / official.filename}"
    )
