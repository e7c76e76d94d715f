"""Videos become image nodes: frames at scene changes with their times, and errors of damaged and cut off files."""

from __future__ import annotations

import socket
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from llama_index.core import SimpleDirectoryReader
from llama_index.core.schema import ImageNode
from PIL import Image, ImageChops, ImageStat
from videos import HEIGHT, WIDTH, colour, scene, write_frames, write_rotated, write_silence, write_video

from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.readers import RecordError, VideoReader
from llama_index_mm_zhipu.readers.records import clock_time, time_of

Scenes = list[tuple[Image.Image, float]]


@pytest.fixture(scope="module")
def scenes(photos: list[Path]) -> Scenes:
    """Four photographs, shown for two to three seconds each."""
    return [(scene(photo), seconds) for photo, seconds in zip(photos[:4], (2, 3, 2.5, 2.5), strict=True)]


def reader(**settings: object) -> VideoReader:
    """Return a reader whose ids have no prefix."""
    return VideoReader(**{"id_prefix": "", **settings})  # type: ignore[arg-type]


def seconds_of(nodes: list[ImageNode]) -> list[float]:
    return [node.metadata["time_seconds"] for node in nodes]


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two images of one size, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)


def test_each_scene_becomes_a_node_with_its_time(tmp_path: Path, scenes: Scenes) -> None:
    nodes = reader().load_data(write_video(tmp_path / "lesson.mp4", scenes))

    assert [node.node_id for node in nodes] == [
        "lesson.mp4/00:00:00.000",
        "lesson.mp4/00:00:02.100",
        "lesson.mp4/00:00:05.100",
        "lesson.mp4/00:00:07.600",
    ]
    for node, (image, _) in zip(nodes, scenes, strict=True):
        assert node.metadata["file_name"] == "lesson.mp4"
        assert node.metadata["time"] == time_of(node) == node.node_id[11:19]
        assert node.text == ""
        assert node.image_path is None
        assert difference(load_image(node), image) < 6
    assert seconds_of(nodes) == [0, 2.1, 5.1, 7.6]


@pytest.mark.parametrize("name", ["a.mov", "a.mkv", "a.AVI", "a.webm"])
def test_other_formats_have_the_same_times(tmp_path: Path, scenes: Scenes, name: str) -> None:
    codec = "libvpx-vp9" if name.endswith("webm") else "mpeg4"
    nodes = reader().load_data(write_video(tmp_path / name, scenes, codec=codec))
    assert seconds_of(nodes) == [0, 2.1, 5.1, 7.6]


def test_images_may_be_files(tmp_path: Path, scenes: Scenes) -> None:
    (tmp_path / "videos" / "deep").mkdir(parents=True)
    write_video(tmp_path / "videos" / "deep" / "a.mp4", scenes[:2])
    write_video(tmp_path / "videos" / "b.mkv", scenes[:1])
    (tmp_path / "videos" / "notes.txt").write_text("no video")

    nodes = reader().load_data(tmp_path / "videos", tmp_path / "frames")

    assert [(node.node_id, node.image_path) for node in nodes] == [
        ("b.mkv/00:00:00.000", str(tmp_path / "frames" / "b.mkv-00-00-00.000.jpg")),
        ("deep/a.mp4/00:00:00.000", str(tmp_path / "frames" / "deep" / "a.mp4-00-00-00.000.jpg")),
        ("deep/a.mp4/00:00:02.100", str(tmp_path / "frames" / "deep" / "a.mp4-00-00-02.100.jpg")),
    ]
    with Image.open(str(nodes[0].image_path)) as image:
        assert (image.format, image.size) == ("JPEG", (WIDTH, HEIGHT))


def test_nodes_have_the_same_ids_and_hashes_each_time_and_by_each_way(tmp_path: Path, scenes: Scenes) -> None:
    write_video(tmp_path / "a.mp4", scenes[:2])
    first = VideoReader().load_data(tmp_path)
    again = VideoReader().load_data(tmp_path / "a.mp4")
    by_llama_index = SimpleDirectoryReader(tmp_path, file_extractor={".mp4": VideoReader()}).load_data()
    assert [node.node_id for node in first] == [node.node_id for node in again]
    assert [node.node_id for node in first] == [node.node_id for node in by_llama_index]
    assert [node.hash for node in first] == [node.hash for node in again]


def test_frames_are_yielded_while_the_video_is_read(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mkv", scenes)
    video.write_bytes(video.read_bytes()[:-20_000])
    frames = VideoReader().lazy_load_data(video)
    # The error of the missing end comes after the frames.
    assert [next(frames).metadata["time"] for _ in range(3)] == ["00:00:00", "00:00:02", "00:00:05"]
    frames.close()


def test_frames_are_turned_as_the_file_says(tmp_path: Path, scenes: Scenes) -> None:
    (node,) = reader().load_data(write_rotated(tmp_path / "a.mp4", scenes[:1]))
    assert load_image(node).size == (HEIGHT, WIDTH)
    assert difference(load_image(node), scenes[0][0].rotate(-90, expand=True)) < 6


def test_frames_are_reduced_and_never_enlarged(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mp4", scenes[:1])
    for longest_side, size in ((160, (160, 120)), (8192, (WIDTH, HEIGHT))):
        (node,) = reader(longest_side=longest_side).load_data(video)
        assert load_image(node).size == size


def test_pixels_become_square(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mkv", scenes[:1], pixel_aspect_ratio=Fraction(4, 3))
    (node,) = reader().load_data(video)
    assert load_image(node).size == (round(WIDTH * 4 / 3), HEIGHT)


# Times


def test_a_variable_frame_rate_has_exact_times(tmp_path: Path, scenes: Scenes) -> None:
    times = [0, 0.04, 3.21, 3.25, 3.3, 3.4, 60.5]
    pictures = [scenes[0][0]] * 2 + [scenes[1][0]] * 4 + [scenes[2][0]]
    frames = zip(pictures, (Fraction(time).limit_denominator(100) for time in times), strict=True)
    nodes = reader(max_seconds=None).load_data(write_frames(tmp_path / "a.mkv", frames))
    assert seconds_of(nodes) == [0, 3.3, 60.5]
    assert [node.metadata["time"] for node in nodes] == ["00:00:00", "00:00:03", "00:01:00"]


def test_times_count_from_the_start_of_the_video(tmp_path: Path, scenes: Scenes) -> None:
    frames = ((scenes[number // 20][0], 100 + Fraction(number, 10)) for number in range(40))
    video = write_frames(tmp_path / "a.mkv", frames)
    with av.open(str(video)) as container:
        assert container.start_time == 100_000_000
    assert seconds_of(reader(on_error="skip").load_data(video)) == [0, 2.1]


def test_the_same_scene_gives_another_frame_after_the_maximum_time(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mp4", [(scenes[0][0], 10)])
    assert seconds_of(reader(max_seconds=4).load_data(video)) == [0, 4.1, 8.2]
    assert seconds_of(reader(max_seconds=None).load_data(video)) == [0]


def test_frames_keep_their_minimum_distance(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mp4", [(image, 1) for image, _ in scenes])
    assert seconds_of(reader(min_seconds=0.5).load_data(video)) == [0, 1.1, 2.1, 3.1]
    assert seconds_of(reader(min_seconds=1.5).load_data(video)) == [0, 1.6, 3.2]


def test_the_threshold_is_the_share_that_changes(tmp_path: Path, scenes: Scenes) -> None:
    changed = scenes[0][0].copy()
    changed.paste(scenes[1][0].resize((WIDTH // 2, HEIGHT // 2)))
    video = write_video(tmp_path / "a.mp4", [(scenes[0][0], 3), (changed, 3)])
    assert seconds_of(reader().load_data(video)) == [0, 3.1]
    assert seconds_of(reader(threshold=0.3).load_data(video)) == [0]


def test_key_frames_alone_find_scenes_that_begin_with_one(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mp4", scenes, options={"g": "5"})
    assert seconds_of(reader(keyframes_only=True).load_data(video)) == [0, 2, 5, 7.5]


def test_clock_times_have_hours() -> None:
    assert [clock_time(seconds) for seconds in (0, 59.999, 83.48, 3600, 360000)] == [
        "00:00:00",
        "00:00:59",
        "00:01:23",
        "01:00:00",
        "100:00:00",
    ]
    assert [clock_time(seconds, digits=3) for seconds in (83.48, 0.007, 1.001)] == [
        "00:01:23.480",
        "00:00:00.007",
        "00:00:01.001",
    ]


def test_metadata_of_other_data_sets_are_no_times() -> None:
    for metadata in ({"time": "12:30:00"}, {"time": "12:30", "time_seconds": 1}, {"time": 3, "time_seconds": 3}):
        assert time_of(ImageNode(metadata=metadata)) == ""


# Frames without content


def test_blank_frames_are_left_out(tmp_path: Path, scenes: Scenes) -> None:
    parts = [(colour("black"), 1.0), scenes[0], (colour("#202020"), 1.0), scenes[1], (colour("white"), 1.0)]
    assert seconds_of(reader().load_data(write_video(tmp_path / "a.mp4", parts))) == [1.1, 4.1]


def test_a_video_of_blank_frames_is_an_error(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [(colour("black"), 3)])
    with pytest.raises(RecordError, match=r"a\.mp4: it shows nothing: all of its 30 frames have a single colour"):
        reader().load_data(video)


# Damaged files


def skipped_reason(path: Path, good: Scenes) -> str:
    """Return the reason why a file is skipped beside a whole one, which is read."""
    write_video(path.with_name("z.mp4"), good[:1])
    skipping = reader(on_error="skip")
    assert skipping.load_data(path.parent)[-1].node_id == "z.mp4/00:00:00.000"
    assert list(skipping.skipped) == [str(path)]
    assert skipping.skipped.count == 1
    with pytest.raises(RecordError):
        reader().load_data(path.parent)
    return skipping.skipped[str(path)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be opened as a video: it is empty"),
        (b"no video" * 100, "cannot be opened as a video: .*; is it damaged or cut off?"),
        (b"ffconcat version 1.0\nfile 'z.mp4'\n", "cannot be opened as a video: its content is of another format"),
    ],
)
def test_a_file_that_is_no_video_is_an_error_or_skipped(
    tmp_path: Path, scenes: Scenes, content: bytes, reason: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    assert skipped_reason(tmp_path / "a.mp4", scenes).startswith(reason.partition(".*")[0])


def test_an_mp4_that_is_cut_off_before_its_table_of_contents_is_an_error(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mp4", scenes)
    video.write_bytes(video.read_bytes()[:-3000])
    assert skipped_reason(video, scenes).endswith("is it damaged or cut off?")


@pytest.mark.parametrize(("name", "options"), [("a.mkv", {}), ("a.avi", {}), ("a.mp4", {"movflags": "faststart"})])
def test_of_a_video_that_is_cut_off_the_frames_before_are_read(
    tmp_path: Path, scenes: Scenes, name: str, options: dict[str, str]
) -> None:
    video = write_video(tmp_path / name, scenes, options=options)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    skipping = reader(on_error="skip")
    nodes = skipping.load_data(video)
    assert seconds_of(nodes) == [0, 2.1, 5.1][: len(nodes)]
    assert len(nodes) >= 2
    (reason,) = skipping.skipped.values()
    assert "it ends after " in reason
    assert reason.endswith(f" of 10.0 s; frames read: {len(nodes)}")


def test_of_a_damaged_video_the_other_parts_are_read(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mp4", scenes, options={"g": "10"})
    data = bytearray(video.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 20_000] = bytes(range(250)) * 80
    video.write_bytes(data)
    skipping = reader(on_error="skip")
    nodes = skipping.load_data(video)
    assert seconds_of(nodes)[0] == 0
    assert seconds_of(nodes)[-1] > 7
    (reason,) = skipping.skipped.values()
    assert "it has damaged parts (" in reason


def test_a_file_without_video_is_an_error(tmp_path: Path, photos: list[Path]) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        write_silence(container, container.add_stream("aac", rate=16000), 1)
    with pytest.raises(RecordError, match=r"a\.mp4: it has audio alone, no video"):
        reader().load_data(tmp_path / "a.mp4")


def test_an_audio_track_that_is_longer_is_no_error(tmp_path: Path, scenes: Scenes) -> None:
    video = write_video(tmp_path / "a.mkv", scenes, audio_seconds=20)
    assert seconds_of(reader().load_data(video)) == [0, 2.1, 5.1, 7.6]


def test_a_playlist_opens_no_other_file_and_no_url(tmp_path: Path, scenes: Scenes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.ts"
        for name, lines in {
            "a.mp4": ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:9,", url, "#EXT-X-ENDLIST"],
            "b.mp4": ["ffconcat version 1.0", f"file '{url}'"],
            "c.mp4": ["v=0", "c=IN IP4 127.0.0.1", "m=video 9 RTP/AVP 96", "a=rtpmap:96 H264/90000"],
        }.items():
            (tmp_path / name).write_text("\n".join(lines))
            with pytest.raises(RecordError, match="cannot be opened as a video"):
                reader().load_data(tmp_path / name)
        with pytest.raises(BlockingIOError):
            listener.accept()


# Arguments


def test_other_files_and_invalid_numbers_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.mp3 is none of \.mp4, \.mov, \.mkv, \.webm, \.avi"):
        reader().load_data(tmp_path / "a.mp3")
    with pytest.raises(ValueError, match=r"holds no videos; expected \.mp4"):
        reader().load_data(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        reader().load_data(tmp_path / "gone")
    for name, value in {
        "threshold": 0,
        "min_seconds": 0,
        "max_seconds": 1,
        "longest_side": 0,
    }.items():
        with pytest.raises(ValueError, match=f"{name} is {value}; it must be a number from "):
            reader(**{name: value})
    with pytest.raises(TypeError, match="did you mean 'min_seconds'"):
        reader(min_second=3)


def test_without_av_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r'pip install "llama-index-mm-zhipu\[video\]"'):
        VideoReader()


def test_a_progress_bar_is_shown_on_request(tmp_path: Path, scenes: Scenes, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "a.mp4", scenes)
    reader(show_progress=True).load_data(video)
    assert "Reading a.mp4: 100%" in capsys.readouterr().err
    reader().load_data(video)
    assert capsys.readouterr().err == ""
