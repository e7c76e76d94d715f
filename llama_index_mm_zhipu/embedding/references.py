"""Make the embedding model of an index again from the reference that the index recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.embedding.backends import Precision
from llama_index_mm_zhipu.embedding.chinese_clip.embedding import ChineseClipEmbedding


class LostModelError(FileNotFoundError):
    """The path of an index's model does not exist any more; the message names it."""


def model_of(
    reference: Mapping[str, Any], *, device: str = "auto", precision: Precision | None = None
) -> ChineseClipEmbedding:
    """Make the model that a reference describes.

    Args:
        reference: What ``contract.reference_of`` returned.
        device: As in ``ChineseClipEmbedding``.
        precision: As in ``ChineseClipEmbedding``.

    Raises:
        CheckpointError: The weights cannot be found or loaded.
        LostModelError: The path of the weights does not exist any more.
        ValueError: The model is of another class.
    """
    settings = dict(reference)
    class_name = settings.pop("class_name", None)
    if class_name != ChineseClipEmbedding.class_name():
        raise ValueError(f"the index was built with {class_name}, which it cannot make again; give embed_model=…")
    if is_lost(reference):
        raise LostModelError(
            f"the model of the index was at {reference['model_name']}, and there is nothing now; give the model with "
            "its present path once, and the index remembers that"
        )
    return ChineseClipEmbedding(**settings, device=device, precision=precision)


def is_lost(reference: Mapping[str, Any]) -> bool:
    """Return whether a reference names a path at which there is nothing."""
    path = Path(str(reference.get("model_name")))
    return path.is_absolute() and not path.exists()
