"""Vectors of unit length, whose inner products are cosines."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from llama_index.core.base.embeddings.base import Embedding

Floats = npt.NDArray[np.floating]

_TOLERANCE = 1e-3


def unit(vectors: Floats) -> Floats:
    """Bring vectors to unit length; those that have it, within rounding, and those of zeros stay as they are.

    Args:
        vectors: Shape ``(dimension,)`` or ``(n, dimension)``.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    is_other = (np.abs(lengths - 1) > _TOLERANCE) & (lengths > 0)
    return vectors / np.where(is_other, lengths, 1) if is_other.any() else vectors


def unit_embedding(embedding: Embedding) -> Embedding:
    """As ``unit``, of one embedding as LlamaIndex hands it over."""
    vector = np.asarray(embedding)
    scaled = unit(vector)
    return embedding if scaled is vector else scaled.tolist()
