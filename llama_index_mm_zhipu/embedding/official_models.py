"""The five models that the authors of Chinese-CLIP published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

DEFAULT_DOWNLOAD_ROOT = "~/.cache/clip"
"""Where cn_clip's own ``load_from_name`` keeps its files."""


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
