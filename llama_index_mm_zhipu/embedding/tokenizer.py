"""Texts to word pieces, as Chinese-CLIP was trained on them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import cn_clip_folder

MAX_WORD_PIECES = 50
"""What the text tower takes of a text: 52 positions less [CLS] and [SEP]."""

PADDING = 0
"""Id of [PAD]: the text tower's attention mask hides it."""

_UNKNOWN = "[UNK]"


def word_pieces(text: str) -> list[int]:
    """Split a text into the ids of its BERT word pieces, without [CLS] and [SEP] and of any length."""
    tokenizer = _tokenizer()
    ids: list[int] = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    return ids


# A retriever asks for each of its stores.
@lru_cache(maxsize=16)
def knows(text: str) -> bool:
    """Whether the vocabulary has any part of a text; beside parts that it does not have, punctuation does not count."""
    tokens: list[str] = _tokenizer().tokenize(text)
    known = [token for token in tokens if token != _UNKNOWN]
    if len(known) == len(tokens):
        return bool(tokens)
    # The tokenizer makes a token of each punctuation mark.
    return any(not unicodedata.category(token[-1]).startswith("P") for token in known)


def windows(pieces: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut word pieces into runs that the text tower takes; an empty text is one empty run."""
    for start in range(0, max(len(pieces), 1), MAX_WORD_PIECES):
        yield pieces[start : start + MAX_WORD_PIECES]


def token_batch(texts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Frame word pieces with [CLS] and [SEP] and pad them to the longest of the batch.

    A batch need not be padded to all 52 positions.

    Args:
        texts: Word pieces of each text, at most ``MAX_WORD_PIECES`` each.

    Returns:
        Array of shape ``(len(texts), longest + 2)``.
    """
    start, end = (_tokenizer().vocab[token] for token in ("[CLS]", "[SEP]"))
    batch = np.full((len(texts), max(map(len, texts)) + 2), PADDING, dtype=np.int64)
    for row, pieces in zip(batch, texts, strict=True):
        row[: len(pieces) + 2] = [start, *pieces, end]
    return batch


@cache
def _tokenizer() -> Any:
    """Load cn_clip's own tokenizer from its file: importing the package around it would load torch."""
    spec = spec_from_file_location(f"{__name__}.of_cn_clip", cn_clip_folder() / "clip" / "bert_tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FullTokenizer()
