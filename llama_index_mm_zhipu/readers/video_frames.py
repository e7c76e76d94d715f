"""Frames of video files: opening, decoding, times, and upright images."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.readers.scenes import CELL_COLUMNS, CELL_ROWS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

MAX_PIXELS = 8192 * 8192
"""Limit for the area of a frame in pixels: ``images`` would not open a larger image."""

# Other formats of FFmpeg, such as playlists, name further files and URLs, which it would open.
_FORMATS = "mov,matroska,avi,mpegts,flv"
_PROTOCOLS = "file"

_MAX_MISSING_SECONDS = 2.0
_USUAL_RATE = 25


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video.

    Attributes:
        seconds: Time at which players show it, in seconds from the start of the video.
        decoded: The frame as PyAV decodes it.
        resize: Converts a frame; one converter for all frames of a video saves time.
        pixel_aspect_ratio: Width of a pixel divided by its height.
    """

    seconds: float
    decoded: Any
    resize: Any
    pixel_aspect_ratio: float = 1.0

    @cached_property
    def cells(self) -> NDArray[np.uint8]:
        """Small version of the frame, not turned: rows × columns × RGB."""
        small = self.resize(self.decoded, CELL_COLUMNS, CELL_ROWS, "rgb24", interpolation="AREA")
        cells: NDArray[np.uint8] = small.to_ndarray()
        return cells

    def image(self, longest_side: int) -> Image.Image:
        """Return the frame as an RGB image, turned as the file says, with square pixels.

        Args:
            longest_side: Longer side in pixels; smaller frames are not enlarged.
        """
        width, height = self.decoded.width * self.pixel_aspect_ratio, self.decoded.height
        scale = min(1.0, longest_side / max(width, height))
        size = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
        image: Image.Image = self.decoded.to_image(**size, interpolation="LANCZOS")
        turned = round(self.decoded.rotation / 90) * 90 % 360
        return image.rotate(turned, expand=True) if turned else image


class Video:
    """An open video file.

    Args:
        container: PyAV's container.
        stream: Its video stream.

    Attributes:
        duration: Duration in seconds according to the file; None if it does not say.
        decoded: Number of frames that were decoded so far.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        from av.video.reformatter import VideoReformatter

        self._container = container
        self._stream = stream
        self._resize = VideoReformatter().reformat
        # A negative start is that of an audio track, which players align with the start of the video.
        self._pixel_aspect_ratio = float(stream.sample_aspect_ratio or 1)
        self._start = max(0.0, (container.start_time or 0) / 1_000_000)
        self._end = 0.0
        self._damaged_parts = 0
        self._read_error = ""
        self._last_seconds: float | None = None
        self.duration = _duration_of(container, stream)
        self.decoded = 0

    def frames(self) -> Iterator[VideoFrame]:
        """Decode the frames one after the other; parts that cannot be decoded are left out, see ``problem``."""
        for packet in self._packets():
            try:
                frames = packet.decode()
            except _ffmpeg_error():
                self._damaged_parts += 1
                continue
            for frame in frames:
                self.decoded += 1
                if frame.is_corrupt:
                    self._damaged_parts += 1
                    continue
                yield VideoFrame(self._seconds_of(frame), frame, self._resize, self._pixel_aspect_ratio)

    def problem(self) -> str:
        """Return what is wrong with a file that was read to its end; empty if nothing is."""
        missing = (self.duration or 0.0) - self._end
        reasons = []
        if self._damaged_parts:
            reasons.append(f"it has damaged parts ({self._damaged_parts})")
        if missing > _MAX_MISSING_SECONDS:
            reasons.append(f"it ends after {self._end:.1f} of {self.duration:.1f} s")
        elif self._read_error:
            reasons.append(f"it cannot be read to its end ({self._read_error})")
        return ", and ".join(reasons)

    def _packets(self) -> Iterator[Any]:
        """Yield the packets of the video, and at the end an empty one, which flushes the decoder."""
        try:
            for packet in self._container.demux():
                # Audio may be longer than the video: all packets count for the end.
                self._note_end(packet)
                if packet.stream.index == self._stream.index:
                    yield packet
        except _ffmpeg_error() as error:
            self._read_error = _reason_of(error)

    def _note_end(self, packet: Any) -> None:
        start = packet.pts if packet.pts is not None else packet.dts
        if start is not None and packet.time_base is not None:
            end = float((start + (packet.duration or 0)) * packet.time_base) - self._start
            self._end = max(self._end, end)

    def _seconds_of(self, frame: Any) -> float:
        pts = frame.pts if frame.pts is not None else frame.dts
        seconds = None if pts is None or frame.time_base is None else float(pts * frame.time_base) - self._start
        last = self._last_seconds
        if seconds is None or (last is not None and seconds <= last):
            # Without times, or with times that begin again, frames are counted by the frame rate.
            rate = float(self._stream.average_rate or self._stream.guessed_rate or _USUAL_RATE)
            seconds = 0.0 if last is None else last + 1 / rate
        self._last_seconds = seconds
        return max(0.0, seconds)


def _duration_of(container: Any, stream: Any) -> float | None:
    duration = container.duration / 1_000_000 if container.duration else None
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        # FFmpeg computes the duration of a file that was cut off from its size.
        return max(duration or 0.0, float(stream.frames / stream.average_rate))
    return duration


@contextmanager
def open_video(file: Path, *, keyframes_only: bool = False) -> Iterator[Video]:
    """Open a video file; the first video stream that is not a cover image is read.

    Args:
        file: The file. Its content decides about the format, whatever its suffix.
        keyframes_only: Whether to decode key frames alone.

    Raises:
        RecordError: The file cannot be opened, or it has no video that can be decoded.
    """
    import av

    try:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": _PROTOCOLS}
        container = av.open(str(file), options=options, metadata_errors="replace")
    except _ffmpeg_error() as error:
        raise RecordError(str(file), f"cannot be opened as a video: {_why_not_opened(file, error)}") from None
    with container:
        stream = _video_stream(container, file)
        stream.thread_type = "AUTO"
        if keyframes_only:
            stream.codec_context.skip_frame = "NONKEY"
        yield Video(container, stream)


def _video_stream(container: Any, file: Path) -> Any:
    from av.stream import Disposition

    streams = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not streams:
        has = "audio alone" if container.streams.audio else "no frames"
        raise RecordError(str(file), f"it has {has}, no video")
    stream = streams[0]
    if stream.codec_context is None:
        raise RecordError(str(file), "this FFmpeg has no decoder for it; convert it to H.264")
    if stream.width * stream.height > MAX_PIXELS:
        raise RecordError(
            str(file), f"its frames have {stream.width} × {stream.height} pixels; {MAX_PIXELS:,} is the limit"
        )
    return stream


def _why_not_opened(file: Path, error: Exception) -> str:
    if file.is_file() and not file.stat().st_size:
        return "it is empty"
    if getattr(error, "errno", None) == errno.EINVAL:
        # FFmpeg's error for a format that is not allowed.
        return f"its content is of another format; allowed are {_FORMATS}"
    return f"{_reason_of(error)}; is it damaged or cut off?"


def _ffmpeg_error() -> type[Exception]:
    from av.error import FFmpegError

    error: type[Exception] = FFmpegError
    return error


def _reason_of(error: Exception) -> str:
    """Return FFmpeg's words for an error, without the path."""
    return str(getattr(error, "strerror", None) or error)


def require_av() -> None:
    """Raise an error if PyAV is not installed.

    Raises:
        ImportError: It is not installed; the message names the extra.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise ImportError('VideoReader needs PyAV: pip install "llama-index-mm-zhipu[video]"') from None
