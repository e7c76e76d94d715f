"""Pictures to pixels and texts to word pieces, as Chinese-CLIP was trained on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_WORD_PIECES = 50
"""What the text tower takes of a text: 52 positions less [CLS] and [SEP]."""

# The mean and standard deviation of CLIP's training pictures, in RGB from 0 to 1 (Radford et al. 2021).
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32).reshape(3, 1, 1)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32).reshape(3, 1, 1)


def pixels_of(image: Image.Image, side: int) -> npt.NDArray[np.float32]:
    """Squash an RGB picture to a square and normalise it.

    Args:
        image: An upright RGB picture of any size.
        side: Side of the square in pixels.

    Returns:
        Array of shape ``(3, side, side)``.
    """
    squashed = image.resize((side, side), Image.Resampling.BICUBIC)
    channels_first = np.asarray(squashed, dtype=np.float32).transpose(2, 0, 1) / 255.0
    return np.asarray((channels_first - _MEAN) / _STD, dtype=np.float32)


def word_pieces(text: str) -> list[int]:
    """Split a text into the ids of its BERT word pieces, without [CLS] and [SEP] and of any length."""
    from cn_clip.clip import _tokenizer

    ids: list[int] = _tokenizer.convert_tokens_to_ids(_tokenizer.tokenize(text))
    return ids


def windows(pieces: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut word pieces into runs that the text tower takes; an empty text is one empty run."""
    for start in range(0, max(len(pieces), 1), MAX_WORD_PIECES):
        yield pieces[start : start + MAX_WORD_PIECES]


def token_batch(texts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Frame word pieces with [CLS] and [SEP] and pad them to the longest of the batch.

    The attention mask hides padding, so a batch need not be padded to all 52 positions.

    Args:
        texts: Word pieces of each text, at most ``MAX_WORD_PIECES`` each.

    Returns:
        Array of shape ``(len(texts), longest + 2)``.
    """
    from cn_clip.clip import _tokenizer

    start, end, padding = (_tokenizer.vocab[token] for token in ("[CLS]", "[SEP]", "[PAD]"))
    batch = np.full((len(texts), max(map(len, texts)) + 2), padding, dtype=np.int64)
    for row, pieces in zip(batch, texts, strict=True):
        row[: len(pieces) + 2] = [start, *pieces, end]
    return batch
