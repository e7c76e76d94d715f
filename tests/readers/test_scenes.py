"""Which frames of a sequence are selected: first, settled after a change, at the limits of time, and never blank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from llama_index_mm_zhipu.readers.scenes import CELL_COLUMNS, CELL_ROWS, scene_frames

RATE = 25


def picture(seed: int) -> NDArray[np.uint8]:
    """Return a picture that differs from those of other seeds in most of its cells."""
    return np.random.default_rng(seed).integers(0, 256, (CELL_ROWS, CELL_COLUMNS, 3), dtype=np.uint8)


A, B, C = map(picture, range(3))
BLACK = np.zeros_like(A)
GREY = np.full_like(A, 128)


@dataclass
class Shown:
    """A frame as ``scene_frames`` takes it."""

    seconds: float
    cells: NDArray[np.uint8]


def shown(*parts: tuple[NDArray[np.uint8], float], rate: float = RATE) -> Iterator[Shown]:
    """Yield the frames of pictures that are each shown for some seconds."""
    pictures = [cells for cells, seconds in parts for _ in range(round(seconds * rate))]
    return (Shown(number / rate, cells) for number, cells in enumerate(pictures))


def faded(before: NDArray[np.uint8], after: NDArray[np.uint8], seconds: float) -> list[tuple[NDArray[np.uint8], float]]:
    """Return the pictures of a fade."""
    steps = round(seconds * RATE)
    weights = [(step + 1) / (steps + 1) for step in range(steps)]
    return [((before * (1 - weight) + after * weight).astype(np.uint8), 1 / RATE) for weight in weights]


def selected(
    frames: Iterator[Shown], *, threshold: float = 0.1, min_seconds: float = 1.0, max_seconds: float | None = None
) -> list[float]:
    """Return the times of the selected frames."""
    chosen = scene_frames(frames, threshold=threshold, min_seconds=min_seconds, max_seconds=max_seconds)
    return [round(frame.seconds, 3) for frame in chosen]


def test_the_first_frame_and_one_two_frames_after_each_cut_are_selected() -> None:
    assert selected(shown((A, 3), (B, 3), (A, 3))) == [0, 3.08, 6.08]


@pytest.mark.parametrize(("rate", "after"), [(10, 0.1), (30, 0.1), (60, 0.083), (1, 0), (0.2, 0)])
def test_a_frame_follows_its_cut_closely_at_every_frame_rate(rate: float, after: float) -> None:
    assert selected(shown((A, 10), (B, 10), rate=rate)) == [0, 10 + after]


def test_in_slide_shows_every_frame_is_a_scene() -> None:
    assert selected(shown((A, 1), (B, 1), (C, 1), (A, 1), rate=1)) == [0, 1, 2, 3]


def test_frames_are_selected_after_a_fade_not_in_it() -> None:
    (second,) = selected(shown((A, 2), *faded(A, B, 0.8), (B, 2)))[1:]
    assert 2.8 <= second <= 3


def test_blank_frames_are_left_out() -> None:
    assert selected(shown((BLACK, 1), (A, 2), (GREY, 2), (B, 2), (BLACK, 1))) == [1.08, 5.08]
    assert selected(shown((BLACK, 1), *faded(BLACK, A, 0.4), (A, 2))) == pytest.approx([1.5], abs=0.1)
    assert selected(shown((BLACK, 5))) == []


def test_a_dark_frame_with_something_in_it_is_not_blank() -> None:
    with_a_word = BLACK.copy()
    with_a_word[18, 30:34] = 200
    assert selected(shown((with_a_word, 1))) == [0]


def test_a_flash_is_no_scene() -> None:
    assert selected(shown((A, 2), (B, 0.04), (A, 2))) == [0]


def test_frames_keep_their_minimum_distance() -> None:
    frames = [(cells, 0.3) for _ in range(10) for cells in (A, B, C)]
    times = selected(shown(*frames), min_seconds=2)
    assert len(times) == 5
    assert all(2 <= after - before < 2.5 for before, after in pairwise(times))


def test_a_scene_that_begins_soon_after_another_is_selected_at_the_minimum_distance() -> None:
    assert selected(shown((A, 0.5), (B, 5)), min_seconds=2) == [0, 2.08]


def test_the_same_scene_is_selected_again_after_the_maximum_time() -> None:
    assert selected(shown((A, 10)), max_seconds=4) == [0, 4.08, 8.16]
    assert selected(shown((A, 2), (BLACK, 4), (A, 2)), max_seconds=3) == [0, 6.08]


def test_a_picture_that_never_settles_is_selected_after_a_second() -> None:
    moving = [(picture(seed), 1 / RATE) for seed in range(4 * RATE)]
    assert selected(shown(*moving), min_seconds=1) == [0, 2, 4 - 1 / RATE]


def test_the_threshold_is_the_share_of_the_frame_that_changes() -> None:
    quarter = A.copy()
    quarter[: CELL_ROWS // 2, : CELL_COLUMNS // 2] ^= 128
    assert selected(shown((A, 2), (quarter, 2)), threshold=0.24) == [0, 2.08]
    assert selected(shown((A, 2), (quarter, 2)), threshold=0.26) == [0]


def test_changes_add_up() -> None:
    lines = [A.copy() for _ in range(7)]
    for number, cells in enumerate(lines):
        cells[: 2 * number] ^= 128
    times = selected(shown(*((cells, 2.0) for cells in lines)), threshold=0.15)
    assert times == [0, 6.08, 12.08]


def test_the_last_scene_is_selected_even_if_it_is_short() -> None:
    assert selected(shown((A, 2), (B, 0.04))) == [0, 2]
    assert selected(iter([])) == []


def test_cells_are_read_only_where_a_frame_may_be_selected() -> None:
    class Hidden:
        seconds = 0.5

        @property
        def cells(self) -> NDArray[np.uint8]:
            raise AssertionError("compared in vain")

    frames = [Shown(0, A), Hidden(), Shown(1, A)]
    assert len(list(scene_frames(frames, threshold=0.1, min_seconds=1))) == 1
