"""``VideoReader``: frames of videos at scene changes, with their times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index.core.schema import ImageNode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import in_range
from llama_index_mm_zhipu.images import encode_image
from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.files import FileReader
from llama_index_mm_zhipu.readers.image_nodes import MAX_LONGEST_SIDE, image_fields
from llama_index_mm_zhipu.readers.records import (
    FILE_NAME,
    TIME,
    TIME_SECONDS,
    ImageRecord,
    RecordError,
    clock_time,
    content_hash,
)
from llama_index_mm_zhipu.readers.scenes import scene_frames
from llama_index_mm_zhipu.readers.video_frames import Video, VideoFrame, open_video, require_av
from llama_index_mm_zhipu.types import OnError

THRESHOLD = 0.08
"""Default for the share of a frame that must change: another slide changes 13 % and more, a line of text about 5 %."""

MIN_SECONDS = 2.0
"""Default for the minimum time between two frames in seconds."""

MAX_SECONDS = 120.0
"""Default for the time in seconds after which the same scene gives another frame."""

LONGEST_SIDE = 1920
"""Default for the longer side of a frame in pixels."""

_SHORTEST_INTERVAL = 0.1
_DAY = 86400.0


class VideoReader(FileReader):
    """Reads the frames of a video at its scene changes, each as an image with its time.

    ``load_data(path, images)``: ``path`` is a file, or a folder of files that is searched recursively (``.mp4``,
    ``.mov``, ``.mkv``, ``.webm``, ``.avi``). By default nodes contain the images; with ``images``, they refer to JPEG
    files that are written to that folder. Node ids end with ``lesson.mp4/00:01:23.480``; metadata are ``file_name``,
    ``time`` (``"00:01:23"``) and ``time_seconds`` (83.48). Answers cite the time: ``[图1，00:01:23]``.

    A frame is taken at the start, and when the picture differs from the last frame taken and has settled, about a tenth
    of a second after a cut or at the end of a fade. Frames of a single colour, such as black ones, are left out. Videos
    are decoded one frame at a time, so that memory use does not grow with their length; frames are turned as the file
    says, and smaller frames are not enlarged. A file of which a part is damaged or missing gives the frames that it
    has, and then an error.

    Needs the extra ``video``.

    Args:
        threshold: Share of the frame that must change for a new scene, above 0 to 1; 0.08 by default. Higher for a
            camera that moves, lower for slides that grow line by line.
        min_seconds: Minimum time between two frames of a video in seconds, 0.1 to 86,400; 2 by default.
        max_seconds: Time in seconds after which the same scene gives another frame, at least ``min_seconds``; 120 by
            default, None for never.
        keyframes_only: Whether to decode key frames alone. This is many times faster and finds a scene at its first key
            frame: encoders put one at most cuts, and one every few seconds.
        longest_side: Longer side of an image in pixels, 1920 by default, at most 8192; larger frames are reduced.
        follow_links: Whether to follow links that lead out of the folder, and links to folders. By default they are
            left out with a warning.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar for each video.

    Raises:
        ImportError: The extra is not installed.
        ValueError: A number is out of range.

    Examples:
        >>> from llama_index_mm_zhipu.readers import VideoReader
        >>> frames = VideoReader().load_data("lesson.mp4")
        >>> [(frame.metadata["time"], frame.metadata["time_seconds"]) for frame in frames]
        [('00:00:00', 0.0), ('00:00:03', 3.1), ('00:00:06', 6.1)]
    """

    suffixes = (".mp4", ".mov", ".mkv", ".webm", ".avi")
    what = "videos"

    def __init__(
        self,
        *,
        threshold: float = THRESHOLD,
        min_seconds: float = MIN_SECONDS,
        max_seconds: float | None = MAX_SECONDS,
        keyframes_only: bool = False,
        longest_side: int = LONGEST_SIDE,
        follow_links: bool = False,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(follow_links=follow_links, id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        in_range(threshold, "threshold", 0.001, 1)
        in_range(min_seconds, "min_seconds", _SHORTEST_INTERVAL, _DAY)
        in_range(max_seconds, "max_seconds", min_seconds, float("inf"))
        in_range(longest_side, "longest_side", 1, MAX_LONGEST_SIDE)
        self.threshold = threshold
        self.min_seconds = min_seconds
        self.max_seconds = max_seconds
        self.keyframes_only = keyframes_only
        self.longest_side = longest_side
        require_av()

    def _images_of(self, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        with open_video(file, keyframes_only=self.keyframes_only) as video:
            selected = scene_frames(
                self._frames(video, file),
                threshold=self.threshold,
                min_seconds=self.min_seconds,
                max_seconds=self.max_seconds,
            )
            count = 0
            for frame in selected:
                count += 1
                yield self._node(frame, name, folder)
            if reason := video.problem():
                yield RecordError(str(file), f"{reason}; frames read: {count}")
            elif not count:
                yield RecordError(
                    str(file), f"it shows nothing: all of its {video.decoded} frames have a single colour"
                )

    def _frames(self, video: Video, file: Path) -> Iterator[VideoFrame]:
        """Yield all frames, and show the time of each in a progress bar."""
        total = None if video.duration is None else round(video.duration)
        with tqdm(total=total, desc=f"Reading {file.name}", unit="s", disable=not self.show_progress) as bar:
            for frame in video.frames():
                bar.update(int(frame.seconds) - bar.n)
                yield frame
            bar.update((total or bar.n) - bar.n)

    def _node(self, frame: VideoFrame, name: str, folder: Path | None) -> ImageNode:
        image = encode_image(frame.image(self.longest_side))
        seconds = round(frame.seconds, 3)
        time = clock_time(seconds, digits=3)
        # File names of Windows have no colons.
        file = None if folder is None else folder / f"{name}-{time.replace(':', '-')}.jpg"
        metadata = {FILE_NAME: name, TIME: clock_time(seconds), TIME_SECONDS: seconds}
        return ImageRecord.of(f"{name}/{time}", content_hash(image), metadata=metadata, **image_fields(image, file))
