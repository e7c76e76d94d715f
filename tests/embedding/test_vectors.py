"""Images are embedded in full batches, whatever some of them are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from llama_index_mm_zhipu.embedding.backends import Vectors
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import Pixels, image_vectors
from llama_index_mm_zhipu.images import ImageError


def decode(number: int) -> Pixels:
    if number % 10 == 3:
        raise ImageError(f"number {number} is damaged")
    return np.full((3, 2, 2), number, dtype=np.float32)


def test_batches_are_full_and_in_order_although_some_images_are_damaged() -> None:
    batches: list[list[int]] = []

    def embed(sources: Sequence[int], pixels: Pixels) -> Vectors:
        batches.append(list(sources))
        return pixels[:, 0, 0, :1]

    outcomes = [
        outcome for batch in image_vectors(range(45), decode, embed, batch_size=8, threads=3) for outcome in batch
    ]

    assert [source for source, _ in outcomes] == list(range(45))
    assert [len(batch) for batch in batches] == [8] * 5
    for source, outcome in outcomes:
        if source % 10 == 3:
            assert str(outcome) == f"number {source} is damaged"
        else:
            assert not isinstance(outcome, ImageError)
            assert float(outcome[0]) == source


def test_nothing_but_damaged_images_is_no_batch() -> None:
    def embed(sources: Sequence[int], pixels: Pixels) -> Vectors:
        raise AssertionError("there is nothing to embed")

    batches = list(image_vectors([3, 13, 23], decode, embed, batch_size=2, threads=1))
    assert [type(outcome) for batch in batches for _, outcome in batch] == [ImageError] * 3


def test_where_nothing_can_be_read_no_more_than_two_batches_are_held() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(3, 1000, 10):
            taken.append(number)
            yield number

    batches = image_vectors(numbers(), decode, lambda _, pixels: pixels[:, 0, 0, :1], batch_size=4, threads=1)
    assert len(next(batches)) == 8
    assert len(taken) <= 16
    batches.close()
