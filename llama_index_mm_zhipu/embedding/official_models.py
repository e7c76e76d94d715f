"""The five models that the authors of Chinese-CLIP published."""

from __future__ import annotations

from dataclasses import dataclass

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
