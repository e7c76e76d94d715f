"""Images are decoded by threads, in order and only so far ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from waiting import wait_until

from llama_index_mm_zhipu.embedding.chinese_clip.vectors import Pixels, decode_ahead
from llama_index_mm_zhipu.images import ImageError


def pixels_after(seconds: float) -> Pixels:
    """What stands for decoding here: a wait, and one pixel that tells how long it was."""
    if seconds < 0:
        raise ImageError(f"{seconds} cannot be decoded")
    time.sleep(seconds)
    return np.full((3, 1, 1), seconds, dtype=np.float32)


def test_the_order_is_that_of_the_sources_however_long_each_takes() -> None:
    sources = [0.03, 0.0, 0.02, 0.0, 0.01, 0.0]
    decoded = list(decode_ahead(sources, pixels_after, ahead=4, threads=4))
    assert [source for source, _ in decoded] == sources
    assert [float(pixels[0, 0, 0]) for _, pixels in decoded] == pytest.approx(sources)


def test_a_bad_image_stands_in_its_place() -> None:
    outcomes = [outcome for _, outcome in decode_ahead([0.0, -1.0, 0.0], pixels_after, ahead=2, threads=2)]
    assert [isinstance(outcome, ImageError) for outcome in outcomes] == [False, True, False]


def test_the_error_of_a_bad_image_does_not_hold_its_pixels() -> None:
    ((_, alone),) = decode_ahead([-1.0], pixels_after, ahead=2, threads=2)
    assert isinstance(alone, ImageError)
    assert alone.__traceback__ is alone.__context__ is None
    assert str(alone) == "-1.0 cannot be decoded"


def test_other_errors_are_raised() -> None:
    def decode(source: int) -> Pixels:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(decode_ahead([1, 2, 3], decode, ahead=2, threads=2))


def test_sources_are_read_only_as_far_as_is_decoded_ahead() -> None:
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


def test_threads_work_while_the_caller_does() -> None:
    done: list[int] = []

    def decode(source: int) -> Pixels:
        done.append(source)
        return pixels_after(0)

    decoded = decode_ahead(range(8), decode, ahead=8, threads=4)
    next(decoded)
    assert wait_until(lambda: len(done) == 8)
    assert len(list(decoded)) == 7


def test_leaving_early_stops_the_threads() -> None:
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


def test_a_single_image_takes_no_thread() -> None:
    threads = []

    def decode(source: float) -> Pixels:
        threads.append(threading.current_thread())
        return pixels_after(source)

    assert len(list(decode_ahead([0.0], decode, ahead=2, threads=2))) == 1
    assert threads == [threading.current_thread()]
    assert list(decode_ahead([], decode, ahead=2, threads=2)) == []
