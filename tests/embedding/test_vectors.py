"""Texts and images are turned into tokens and pixels as in cn_clip, and embedded in batches and in order."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cn_clip.clip
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from waiting import wait_until

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.backends import Vectors
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import (
    Pixels,
    QueryCache,
    decode_ahead,
    image_pixels,
    image_vectors,
    knows,
    text_vectors,
    token_batch,
    tokenize,
    windows,
)
from llama_index_mm_zhipu.images import ImageError


def test_tokens_equal_those_of_cn_clip_without_padding() -> None:
    texts = ["飞机", "一架 Boeing 747 停在机场", ""]
    theirs = cn_clip.clip.tokenize(texts).numpy()

    batch = token_batch([tokenize(text) for text in texts])

    np.testing.assert_array_equal(batch, theirs[:, : batch.shape[1]])
    assert not theirs[:, batch.shape[1] :].any()


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("飞机", True),
        ("𠮷野家", True),
        ("🐼 panda", True),
        ("？", True),
        ("★", True),
        ("🐼", False),
        ("🐼🎋 𠮷", False),
        ("🐼，🎋！", False),
        ("iphone🐼", False),
        ("ไทย", False),
        ("", False),
        (" \n", False),
    ],
)
def test_texts_of_unknown_characters_are_recognised(text: str, known: bool) -> None:
    assert knows(text) is known


def test_windows_cover_a_long_text_without_overlap() -> None:
    pieces = list(range(1, 121))
    runs = list(windows(pieces))
    assert [len(run) for run in runs] == [50, 50, 20]
    assert [piece for run in runs for piece in run] == pieces
    assert list(windows([])) == [[]]


def test_tokenizing_does_not_load_torch() -> None:
    code = """
import sys
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import tokenize
assert len(tokenize("飞机")) == 2
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


TEXTS = ["飞机", "一架白色的飞机停在机场上", "猫", "飞机", "图" * 60, "", "狗", "猫", "两只猫和一只狗在草地上玩"]


@pytest.fixture
def shapes(tiny_embedding: ChineseClipEmbedding, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the forward passes during the test."""
    seen: list[tuple[int, ...]] = []
    backend = tiny_embedding._model.backend
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
    vectors = text_vectors(tiny_embedding._model.backend, TEXTS, long_text="truncate", batch_size=3)
    # Seven of the nine texts are distinct: the empty one, three of one or two characters, three longer ones.
    assert shapes == [(3, 3), (3, 14), (1, 52)]
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, TEXTS), atol=3e-6)


def test_public_batches_contain_texts_of_similar_length(
    tiny_embedding: ChineseClipEmbedding, shapes: list[tuple[int, ...]]
) -> None:
    texts = [character * length for length in (40, 2, 21) for character in "天地人你我他山水火风"]
    shuffled = [texts[index] for index in np.random.default_rng(0).permutation(len(texts))]

    vectors = tiny_embedding.model_copy(update={"embed_batch_size": 10}).get_text_embedding_batch(shuffled)

    assert shapes == [(10, 4), (10, 23), (10, 42)]
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, shuffled), atol=3e-6)


async def test_the_async_call_gives_the_same_vectors(tiny_embedding: ChineseClipEmbedding) -> None:
    vectors = await tiny_embedding.aget_text_embedding_batch(TEXTS)
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, TEXTS), atol=3e-6)


def test_windows_are_averaged_per_text(tiny_embedding: ChineseClipEmbedding) -> None:
    texts = ["天空" * 70, "短", "海洋" * 40, "天空" * 70]
    vectors = text_vectors(tiny_embedding._model.backend, texts, long_text="mean", batch_size=2)
    np.testing.assert_allclose(vectors, one_by_one(tiny_embedding, texts, "mean"), atol=3e-6)


def test_the_cache_keeps_the_most_recently_used_queries() -> None:
    cache = QueryCache(size=2)
    computed: list[str] = []

    def ask(query: str) -> list[float]:
        return cache.get(query, lambda: (computed.append(query), [float(len(query))])[1])

    for query in ("a", "bb", "a", "ccc", "bb"):
        assert ask(query) == [len(query)]
    assert computed == ["a", "bb", "ccc", "bb"]


def test_changing_a_returned_vector_does_not_change_the_cache() -> None:
    cache = QueryCache()
    cache.get("query", lambda: [1.0, 2.0]).clear()
    assert cache.get("query", list) == [1.0, 2.0]


def test_copies_of_the_cache_start_empty() -> None:
    cache = QueryCache(size=3)
    cache.get("query", lambda: [1.0])
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.get("query", lambda: [2.0]) == [2.0]


def test_settings_that_change_vectors_are_part_of_the_cache_key(tiny_embedding: ChineseClipEmbedding) -> None:
    long = "天空" * 40
    whole = tiny_embedding.model_copy(update={"long_text": "mean"})
    assert tiny_embedding.get_query_embedding(long) != whole.get_query_embedding(long)
    assert whole.get_query_embedding(long) == whole.get_text_embedding(long)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "I;16"])
def test_exact_pixels_equal_those_of_cn_clip(photos: list[Path], mode: str, tmp_path: Path) -> None:
    for photo in photos:
        file = tmp_path / f"{photo.stem}.tiff"
        image = Image.open(photo).convert("I").convert("I;16") if mode == "I;16" else Image.open(photo).convert(mode)
        image.save(file)

        theirs = cn_clip.clip.image_transform(224)(Image.open(file)).numpy()

        np.testing.assert_array_equal(image_pixels(file, 224, exact=True), theirs)


def test_exact_pixels_ignore_the_orientation_like_cn_clip(photos: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "lying.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photos[0]).save(file, exif=exif)

    theirs = cn_clip.clip.image_transform(224)(Image.open(file)).numpy()

    np.testing.assert_array_equal(image_pixels(file, 224, exact=True), theirs)
    assert np.abs(image_pixels(file, 224) - theirs).max() > 0.5


def test_fast_pixels_of_small_images_are_exact(photos: list[Path], tmp_path: Path) -> None:
    for photo in photos:
        file = tmp_path / f"{photo.stem}.png"
        Image.open(photo).resize((230, 300)).save(file)
        np.testing.assert_array_equal(image_pixels(file, 224), image_pixels(file, 224, exact=True))


def test_fast_pixels_of_large_photographs_give_the_same_vectors(
    demo_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    large = []
    for photo in photos:
        large.append(tmp_path / photo.name)
        Image.open(photo).resize((2000, 1500), Image.Resampling.LANCZOS).save(large[-1], quality=92)

    fast = np.asarray(demo_embedding.get_image_embedding_batch(large))
    exact = np.asarray(demo_embedding.model_copy(update={"exact_preprocess": True}).get_image_embedding_batch(large))

    assert (fast * exact).sum(axis=1).mean() >= 0.999


def pixels_after(seconds: float) -> Pixels:
    """Stand in for decoding: sleep, and return one pixel with the seconds."""
    if seconds < 0:
        raise ImageError(f"{seconds} cannot be decoded")
    time.sleep(seconds)
    return np.full((3, 1, 1), seconds, dtype=np.float32)


def test_images_come_in_the_order_of_the_sources() -> None:
    sources = [0.03, 0.0, 0.02, 0.0, 0.01, 0.0]
    decoded = list(decode_ahead(sources, pixels_after, ahead=4, threads=4))
    assert [source for source, _ in decoded] == sources
    assert [float(pixels[0, 0, 0]) for _, pixels in decoded] == pytest.approx(sources)


def test_the_error_of_an_image_comes_in_its_position() -> None:
    outcomes = [outcome for _, outcome in decode_ahead([0.0, -1.0, 0.0], pixels_after, ahead=2, threads=2)]
    assert [isinstance(outcome, ImageError) for outcome in outcomes] == [False, True, False]


def test_the_error_of_an_image_does_not_reference_its_pixels() -> None:
    ((_, alone),) = decode_ahead([-1.0], pixels_after, ahead=2, threads=2)
    assert isinstance(alone, ImageError)
    assert alone.__traceback__ is alone.__context__ is None
    assert str(alone) == "-1.0 cannot be decoded"


def test_other_errors_are_raised() -> None:
    def decode(source: int) -> Pixels:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(decode_ahead([1, 2, 3], decode, ahead=2, threads=2))


def test_sources_are_consumed_only_as_far_as_images_are_decoded_ahead() -> None:
    read = 0

    def sources() -> Iterator[float]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield 0.0

    decoded = decode_ahead(sources(), pixels_after, ahead=8, threads=2)
    for taken in range(20):
        next(decoded)
        assert read <= taken + 9
    decoded.close()


def test_threads_decode_while_the_caller_works() -> None:
    done: list[int] = []

    def decode(source: int) -> Pixels:
        done.append(source)
        return pixels_after(0)

    decoded = decode_ahead(range(8), decode, ahead=8, threads=4)
    next(decoded)
    assert wait_until(lambda: len(done) == 8)
    assert len(list(decoded)) == 7


def test_closing_the_generator_stops_the_threads() -> None:
    before = threading.active_count()
    done: list[int] = []

    def decode(source: int) -> Pixels:
        done.append(source)
        return pixels_after(0.001)

    decoded = decode_ahead(range(1000), decode, ahead=100, threads=4)
    next(decoded)
    decoded.close()
    assert threading.active_count() == before
    assert len(done) <= 101


def test_a_single_image_is_decoded_without_a_thread() -> None:
    threads = []

    def decode(source: float) -> Pixels:
        threads.append(threading.current_thread())
        return pixels_after(source)

    assert len(list(decode_ahead([0.0], decode, ahead=2, threads=2))) == 1
    assert threads == [threading.current_thread()]
    assert list(decode_ahead([], decode, ahead=2, threads=2)) == []


def decode(number: int) -> Pixels:
    if number % 10 == 3:
        raise ImageError(f"number {number} is damaged")
    return np.full((3, 2, 2), number, dtype=np.float32)


def test_batches_are_full_and_in_order_even_if_images_are_damaged() -> None:
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


def test_damaged_images_alone_are_not_embedded() -> None:
    def embed(sources: Sequence[int], pixels: Pixels) -> Vectors:
        raise AssertionError("there is nothing to embed")

    batches = list(image_vectors([3, 13, 23], decode, embed, batch_size=2, threads=1))
    assert [type(outcome) for batch in batches for _, outcome in batch] == [ImageError] * 3


def test_at_most_two_batches_are_held_if_all_images_are_damaged() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(3, 1000, 10):
            taken.append(number)
            yield number

    batches = image_vectors(numbers(), decode, lambda _, pixels: pixels[:, 0, 0, :1], batch_size=4, threads=1)
    assert len(next(batches)) == 8
    assert len(taken) <= 16
    batches.close()
