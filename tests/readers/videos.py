"""Small videos for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

RATE = 10
"""Frames per second."""

WIDTH, HEIGHT = 320, 240


def scene(photo: Path | Image.Image) -> Image.Image:
    """Return a photograph as a frame."""
    image = Image.open(photo) if isinstance(photo, Path) else photo
    return image.convert("RGB").resize((WIDTH, HEIGHT))


def colour(name: str) -> Image.Image:
    """Return a frame of one colour."""
    return Image.new("RGB", (WIDTH, HEIGHT), name)


def write_video(
    path: Path,
    scenes: Iterable[tuple[Image.Image, float]],
    *,
    codec: str = "mpeg4",
    rate: int = RATE,
    options: dict[str, str] | None = None,
    pixel_aspect_ratio: Fraction = Fraction(1),
    audio_seconds: float = 0,
) -> Path:
    """Write a video of images, each of which is shown for a number of seconds.

    Args:
        path: The file; its suffix is the format.
        scenes: Images and their durations in seconds.
        codec: Name of the encoder.
        rate: Frames per second.
        options: Options of the encoder and the format.
        pixel_aspect_ratio: Width of a pixel divided by its height.
        audio_seconds: Length of a track of silence in seconds; 0 for none.
    """
    images = (image for image, seconds in scenes for _ in range(round(seconds * rate)))
    frames = ((image, Fraction(number, rate)) for number, image in enumerate(images))
    return write_frames(
        path,
        frames,
        codec=codec,
        rate=rate,
        ticks=rate,
        options=options,
        pixel_aspect_ratio=pixel_aspect_ratio,
        audio_seconds=audio_seconds,
    )


def write_frames(
    path: Path,
    frames: Iterable[tuple[Image.Image, Fraction]],
    *,
    codec: str = "mpeg4",
    rate: int = RATE,
    ticks: int = 1000,
    options: dict[str, str] | None = None,
    pixel_aspect_ratio: Fraction = Fraction(1),
    audio_seconds: float = 0,
) -> Path:
    """Write a video of images that are shown from given times in seconds.

    Args:
        path: As for ``write_video``, and so are the others.
        frames: Images with their times.
        codec: Name of the encoder.
        rate: Frames per second, as the file names them.
        ticks: Units of time per second.
        options: Options of the encoder and the format.
        pixel_aspect_ratio: Width of a pixel divided by its height.
        audio_seconds: Length of a track of silence in seconds; 0 for none.
    """
    settings = dict(options or {})
    encoder = {key: settings.pop(key) for key in ("g",) if key in settings}
    with av.open(str(path), "w", options=settings) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=encoder)
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        stream.codec_context.time_base = Fraction(1, ticks)
        stream.codec_context.sample_aspect_ratio = pixel_aspect_ratio
        audio: Any = container.add_stream("aac", rate=16000) if audio_seconds else None
        stream.width, stream.height = WIDTH, HEIGHT
        for image, time in frames:
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = round(time * ticks), Fraction(1, ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            write_silence(container, audio, audio_seconds)
    return path


def write_silence(container: Any, stream: Any, seconds: float) -> None:
    """Write a track of silence into an open container."""
    samples = 1024
    for start in range(0, int(seconds * stream.rate), samples):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = stream.rate, start, Fraction(1, stream.rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_rotated(path: Path, scenes: Sequence[tuple[Image.Image, float]]) -> Path:
    """Write an MP4 video of which players turn the picture by 90° clockwise, as telephones held upright do."""
    data = bytearray(write_video(path, scenes).read_bytes())
    # The track header ends with a matrix of nine numbers, width and height.
    header = data.index(b"tkhd")
    matrix = header + 4 + 4 + 20 + 16
    ninety = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    data[matrix : matrix + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in ninety)
    path.write_bytes(data)
    return path
