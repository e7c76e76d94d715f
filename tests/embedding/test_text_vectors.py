"""Each distinct text is embedded once, beside others of its length, and comes back in its place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import text_vectors

TEXTS = ["飞机", "一架白色的飞机停在机场上", "猫", "飞机", "图" * 60, "", "狗", "猫", "两只猫和一只狗在草地上玩"]


@pytest.fixture
def shapes(tiny_embedding: ChineseClipEmbedding, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the forward passes that the test causes."""
    seen: list[tuple[int, ...]] = []
    backend = tiny_embedding._loaded
    run = backend.text_vectors

    def record(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        seen.append(tokens.shape)
        return run(tokens)

    monkeypatch.setattr(backend, "text_vectors", record)
    return seen


def one_by_one(model: ChineseClipEmbedding, texts: Sequence[str], long_text: str = "truncate") -> list[list[float]]:
    alone = model.model_copy(update={"long_text": long_text})
    return [alone.get_text_embedding(text) for text in texts]


def test_distinct_texts_are_embedded_once_and_sorted_by_length(
    tiny_embedding: ChineseClipEmbedding, shapes: list[tuple[int, ...]]
) -> None:
    vectors, cut = text_vectors(tiny_embedding._loaded, TEXTS, long_text="truncate", batch_size=3)
    assert cut == 1
    # Of nine texts seven are distinct: the empty one, three of one or two characters, three longer ones.
    assert shapes == [(3, 3), (3, 14), (1, 52)]
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, TEXTS), atol=3e-6)


def test_batches_of_the_public_call_hold_texts_of_like_length(
    tiny_embedding: ChineseClipEmbedding, shapes: list[tuple[int, ...]]
) -> None:
    texts = [character * length for length in (40, 2, 21) for character in "天地人你我他山水火风"]
    shuffled = [texts[index] for index in np.random.default_rng(0).permutation(len(texts))]

    vectors = tiny_embedding.model_copy(update={"embed_batch_size": 10}).get_text_embedding_batch(shuffled)

    assert shapes == [(10, 4), (10, 23), (10, 42)]
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, shuffled), atol=3e-6)


async def test_the_async_call_agrees(tiny_embedding: ChineseClipEmbedding) -> None:
    vectors = await tiny_embedding.aget_text_embedding_batch(TEXTS)
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, TEXTS), atol=3e-6)


def test_windows_of_long_texts_find_back_to_their_text(tiny_embedding: ChineseClipEmbedding) -> None:
    texts = ["天空" * 70, "短", "海洋" * 40, "天空" * 70]
    vectors, cut = text_vectors(tiny_embedding._loaded, texts, long_text="mean", batch_size=2)
    assert cut == 0
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, texts, "mean"), atol=3e-6)
