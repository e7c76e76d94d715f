"""Selection of frames at scene changes, by comparison of small versions of the frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CELL_COLUMNS, CELL_ROWS = 64, 36
"""Size of the small version of a frame: each cell is the mean colour of a part of the frame."""

# A cell has changed if a colour differs by more than this, of 255. Noise and compression change less.
_CHANGED_LEVELS = 12
# A frame is blank if no colour varies by more than this over the frame.
_BLANK_LEVELS = 16

# A new picture is taken when it has hardly changed for this time: not in the middle of a fade or a slide transition.
# It is two frames of 25 a second, or one of 10, and somewhat less because times are rounded.
_SETTLE_SECONDS = 0.075
_SETTLED_LEVELS = 4
_SETTLED_SHARE = 0.02
# A picture that keeps moving is taken after this time.
_MAX_SETTLE_SECONDS = 1.0
# A frame that is shown for this time before the next one has settled by itself, as in slide shows and of key frames.
_STILL_SECONDS = 0.5


class Frame(Protocol):
    """A frame of a video."""

    @property
    def seconds(self) -> float:
        """Time at which the frame is shown, in seconds from the start of the video."""

    @property
    def cells(self) -> NDArray[np.uint8]:
        """Small version of the frame: rows × columns × RGB."""


F = TypeVar("F", bound=Frame)


def scene_frames(
    frames: Iterable[F], *, threshold: float, min_seconds: float, max_seconds: float | None = None
) -> Iterator[F]:
    """Yield the first frame, and a frame of each new scene when its picture has settled; blank frames are left out.

    At most three frames are referenced at a time.

    Args:
        frames: Frames in the order of their times. ``cells`` is read only where a frame may be selected.
        threshold: Share of the cells, 0 to 1, that must differ from the frame selected last.
        min_seconds: Minimum time between two selected frames in seconds.
        max_seconds: Time in seconds after which a frame is selected although it shows the same scene; None for never.
    """
    selection: _Selection[F] = _Selection(threshold, min_seconds, max_seconds)
    for frame in frames:
        yield from selection.add(frame)
    yield from selection.end()


@dataclass
class _Candidate(Generic[F]):
    """A picture that is to be selected when it has settled.

    Attributes:
        first: The first frame that shows it.
        latest: The latest frame that shows it.
        since: Time at which the picture became another than the one selected last.
    """

    first: F
    latest: F
    since: float


class _Selection(Generic[F]):
    """State of the selection."""

    def __init__(self, threshold: float, min_seconds: float, max_seconds: float | None) -> None:
        self._threshold = threshold
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._is_start = True
        self._selected: F | None = None
        self._candidate: _Candidate[F] | None = None

    def add(self, frame: F) -> Iterator[F]:
        """Take the next frame, and yield the frames that this selects."""
        candidate = self._candidate
        if candidate is not None and frame.seconds - candidate.latest.seconds >= _STILL_SECONDS:
            yield self._select(candidate.latest)
        if self._follows_closely(frame):
            return
        is_start, self._is_start = self._is_start, False
        if _is_blank(frame.cells):
            self._candidate = None
        elif is_start or self._has_settled(frame):
            yield self._select(frame)

    def end(self) -> Iterator[F]:
        """Yield the frame of the last scene, if the video ends before its picture has settled."""
        if self._candidate is not None:
            yield self._select(self._candidate.latest)

    def _select(self, frame: F) -> F:
        self._selected = frame
        self._candidate = None
        return frame

    def _follows_closely(self, frame: F) -> bool:
        return self._selected is not None and frame.seconds - self._selected.seconds < self._min_seconds

    def _has_settled(self, frame: F) -> bool:
        """Update the candidate, and return whether its picture has settled or moves for too long."""
        candidate = self._candidate
        if candidate is not None and _changed(candidate.first, frame, _SETTLED_LEVELS) < _SETTLED_SHARE:
            candidate.latest = frame
            return frame.seconds - candidate.first.seconds >= _SETTLE_SECONDS
        if not self._is_wanted(frame):
            self._candidate = None
            return False
        since = frame.seconds if candidate is None else candidate.since
        self._candidate = _Candidate(frame, frame, since)
        return frame.seconds - since >= _MAX_SETTLE_SECONDS

    def _is_wanted(self, frame: F) -> bool:
        if self._selected is None:
            return True
        if self._max_seconds is not None and frame.seconds - self._selected.seconds >= self._max_seconds:
            return True
        return _changed(self._selected, frame, _CHANGED_LEVELS) >= self._threshold


def _changed(before: Frame, after: Frame, levels: int) -> float:
    """Return the share of cells, 0 to 1, in which a colour differs by more than a number of levels."""
    differences = abs(before.cells.astype("int16") - after.cells)
    return float((differences.max(axis=2) > levels).mean())


def _is_blank(cells: NDArray[np.uint8]) -> bool:
    """Return whether a frame has one colour: black before the start, white or grey between two parts."""
    return bool((cells.max(axis=(0, 1)) - cells.min(axis=(0, 1))).max() <= _BLANK_LEVELS)
