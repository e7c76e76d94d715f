"""Which reader takes which path, and what is left out of the paths that are to be indexed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from published_forms import Example
from videos import scene, write_video

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.images import ImageError, has_image
from llama_index_mm_zhipu.readers import JsonlReader
from llama_index_mm_zhipu.readers.records import EmptySourceError
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.inputs import IndexInputs

PAGES = Path(__file__).parents[1] / "data" / "pages"


def ids_of(inputs: IndexInputs) -> list[str]:
    """Return the ends of node ids, and the names of paths, in their order."""
    items: list[Any] = [*inputs.items()]
    return [item.name if isinstance(item, Path) else item.node_id.partition("/")[2] for item in items]


def names_of(examples: list[Example]) -> list[str]:
    return sorted(f"{example.caption}.jpg" for example in examples)


def write_jsonl(examples: list[Example], file: Path, *, captioned: bool = True, broken: int = 0) -> Path:
    """Write images as JSON Lines, and lines that are not JSON after them."""
    records = [
        {"image_id": e.number, "image_base64": e.base64, "caption": e.caption if captioned else ""} for e in examples
    ]
    lines = [*(json.dumps(record) for record in records), *(["{"] * broken)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_a_folder_gives_its_images_as_paths(emoji_folder: Path, examples: list[Example]) -> None:
    inputs = IndexInputs([emoji_folder])
    assert ids_of(inputs) == names_of(examples)
    assert inputs.is_light
    assert (dict(inputs.skipped), inputs.skipped.count) == ({}, 0)


def test_a_folder_gives_pages_and_frames_after_its_images(emoji_folder: Path, photos: list[Path]) -> None:
    shutil.copy(PAGES / "form.pdf", emoji_folder / "form.pdf")
    (emoji_folder / "more").mkdir()
    write_video(emoji_folder / "more" / "film.mp4", [(scene(photos[0]), 3.0)])
    inputs = IndexInputs([emoji_folder])
    ids = ids_of(inputs)
    assert ids[10:] == ["form.pdf/1", "more/film.mp4/00:00:00.000"]
    assert not inputs.is_light


def test_files_are_read_by_their_readers(photos: list[Path], examples: list[Example], tmp_path: Path) -> None:
    lines = write_jsonl(examples[:2], tmp_path / "emoji.ndjson")
    film = write_video(tmp_path / "film.MP4", [(scene(photos[0]), 3.0)])
    inputs = IndexInputs([lines, PAGES / "form.pdf", film, photos[0]])
    assert ids_of(inputs) == ["1", "2", "form.pdf/1", "film.MP4/00:00:00.000", photos[0].name]


def test_an_image_is_recognised_by_its_content(photos: list[Path], tmp_path: Path) -> None:
    unnamed = tmp_path / "photo"
    shutil.copy(photos[0], unnamed)
    assert ids_of(IndexInputs([unnamed])) == ["photo"]


def test_a_path_that_is_given_twice_is_read_once(
    emoji_folder: Path, photos: list[Path], examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(emoji_folder, target_is_directory=True)
    photo = photos[0]
    twice = [photo, photo.parent / ".." / photo.parent.name / photo.name]
    inputs = IndexInputs([emoji_folder, Path("emoji"), Path("link"), emoji_folder / ".", *twice])
    assert ids_of(inputs) == [*names_of(examples), photo.name]


def test_paths_are_texts_or_paths_and_one_or_several(photos: list[Path]) -> None:
    for paths in (photos[0], str(photos[0]), [str(photos[0])]):
        assert ids_of(IndexInputs(paths)) == [photos[0].name]
    with pytest.raises(ValueError, match="no paths are given"):
        IndexInputs([])
    with pytest.raises(ValueError, match="paths is a URL"):
        IndexInputs("https://images.example/a.jpg")


def test_nothing_is_read_if_a_path_is_missing_or_of_no_known_type(emoji_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*missing"):
        IndexInputs([emoji_folder, tmp_path / "missing"])
    table = tmp_path / "table.csv"
    table.write_text("file_name,caption\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"table\.csv is neither an image nor .*\.pdf.* ColumnReader"):
        IndexInputs([emoji_folder, table])


def test_a_broken_image_that_is_given_alone_is_an_error(photos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"broken\.jpg is not an image that Pillow can read"):
        IndexInputs([broken])
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        IndexInputs([photos[0], broken], on_error="raise")


def test_a_broken_image_among_others_is_left_out(photos: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    inputs = IndexInputs([broken, photos[0]])
    assert ids_of(inputs) == [photos[0].name]
    assert [*inputs.skipped] == [str(broken)]
    assert inputs.skipped.count == 1


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptySourceError, match=r"nothing to index: .* holds no images; expected files such as"):
        IndexInputs([tmp_path]).items()


def test_paths_without_images_are_left_out_beside_others(
    emoji_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    lines = write_jsonl([], tmp_path / "empty.jsonl")
    inputs = IndexInputs([tmp_path / "empty", lines, emoji_folder])
    assert ids_of(inputs) == names_of(examples)
    assert [*inputs.skipped] == [str(tmp_path / "empty"), str(lines)]
    assert inputs.skipped.count == 2
    nothing = IndexInputs([tmp_path / "empty", lines])
    with pytest.raises(EmptySourceError, match=r"empty holds no images"):
        ids_of(nothing)


def test_broken_records_are_counted_once(examples: list[Example], emoji_folder: Path, tmp_path: Path) -> None:
    lines = write_jsonl(examples[:2], tmp_path / "emoji.jsonl", broken=25)
    inputs = IndexInputs([lines, emoji_folder])
    assert len(ids_of(inputs)) == 12
    # The reasons of the first ones only: a file may have millions.
    assert (len(inputs.skipped), inputs.skipped.count) == (20, 25)
    assert next(iter(inputs.skipped)) == f"{lines}, line 3"
    all_broken = write_jsonl([], tmp_path / "broken.jsonl", broken=3)
    beside = IndexInputs([all_broken, emoji_folder])
    assert len(ids_of(beside)) == 10
    assert beside.skipped.count == 3


def test_strict_inputs_stop_at_the_first_broken_record(examples: list[Example], tmp_path: Path) -> None:
    lines = write_jsonl(examples[:2], tmp_path / "emoji.jsonl", broken=1)
    with pytest.raises(ValueError, match=r"emoji\.jsonl, line 3: "):
        ids_of(IndexInputs([lines], on_error="raise"))


def test_captions_come_from_a_table(emoji_folder: Path, captions_csv: Path, examples: list[Example]) -> None:
    with captions_csv.open("a", encoding="utf-8") as file:
        file.write("\nmissing.jpg,没有,5")
    inputs = IndexInputs([emoji_folder], captions_csv)
    (nodes,) = inputs.folder_nodes.values()
    assert {node.metadata["file_name"]: (node.text, node.metadata["price"]) for node in nodes} == {
        f"{e.caption}.jpg": (e.caption, e.number * 10) for e in examples
    }
    assert "there is no image missing.jpg" in " ".join(inputs.skipped.values())
    assert inputs.skipped.count == 1


def test_columns_of_the_table_can_be_named(emoji_folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "goods.csv"
    table.write_text("图片,标题\n飞机.jpg,一架飞机\n", encoding="utf-8")
    inputs = IndexInputs([emoji_folder], table, name_column="图片", caption_column="标题")
    (nodes,) = inputs.folder_nodes.values()
    assert [node.text for node in nodes if node.text] == ["一架飞机"]


def test_captions_come_from_files_beside_the_images(emoji_folder: Path, photos: list[Path], tmp_path: Path) -> None:
    (emoji_folder / "飞机.txt").write_text("一架飞机", encoding="utf-8")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos[0], other)
    (other / photos[0].name).with_suffix(".txt").write_text("照片", encoding="utf-8")
    inputs = IndexInputs([emoji_folder, other], "sidecar")
    nodes = [node for nodes in inputs.folder_nodes.values() for node in nodes]
    assert [node.text for node in nodes if node.text] == ["一架飞机", "照片"]


def test_captions_without_their_folder_are_an_error(emoji_folder: Path, captions_csv: Path, photos: list[Path]) -> None:
    with pytest.raises(ValueError, match="captions belong to the images of a folder; give the folder instead"):
        IndexInputs(photos, captions_csv)
    with pytest.raises(ValueError, match="captions belong"):
        IndexInputs([photos[0]], "sidecar")
    with pytest.raises(ValueError, match=r"captions\.csv has the captions of one folder, and 2 are given"):
        IndexInputs([emoji_folder, photos[0].parent], captions_csv)


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the libraries that draw pages and decode videos impossible to import."""
    for name in ("av", "pypdfium2"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_extras")
def test_files_that_need_an_extra_are_left_out_of_a_folder(emoji_folder: Path, examples: list[Example]) -> None:
    shutil.copy(PAGES / "form.pdf", emoji_folder / "form.pdf")
    (emoji_folder / "film.mp4").write_bytes(b"a video")
    inputs = IndexInputs([emoji_folder])
    assert ids_of(inputs) == names_of(examples)
    assert {name: "pip install" in reason for name, reason in inputs.skipped.items()} == {
        str(emoji_folder / "form.pdf"): True,
        str(emoji_folder / "film.mp4"): True,
    }


@pytest.mark.usefixtures("without_extras")
def test_files_that_need_an_extra_are_an_error_if_they_are_given(emoji_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"pip install .*llama-index-mm-zhipu\[pages\]"):
        IndexInputs([emoji_folder, PAGES / "form.pdf"])
    (tmp_path / "pages").mkdir()
    shutil.copy(PAGES / "form.pdf", tmp_path / "pages")
    with pytest.raises(EmptySourceError, match="pages"):
        ids_of(IndexInputs([tmp_path / "pages"]))


@pytest.mark.parametrize(
    ("captioned", "too_long", "expected"), [(True, False, 0.5), (False, False, 0.0), (True, True, 0.0)]
)
def test_the_caption_weight_of_a_file_is_that_of_a_list_of_its_images(
    captioned: bool,
    too_long: bool,
    expected: float,
    examples: list[Example],
    tiny_embedding: ChineseClipEmbedding,
    tmp_path: Path,
) -> None:
    chosen = [example._replace(caption=example.caption * (40 if too_long else 1)) for example in examples[:3]]
    lines = write_jsonl(chosen, tmp_path / "emoji.jsonl", captioned=captioned)
    inputs = IndexInputs([lines])
    weight = inputs.caption_weight_for(tiny_embedding)
    assert weight == build_index(JsonlReader().load_data(lines), tiny_embedding).caption_weight
    assert weight == pytest.approx(expected)
    # The images are read after that.
    assert len(ids_of(inputs)) == 3


def test_the_caption_weight_counts_folders_and_pages_beside_a_file(
    examples: list[Example],
    emoji_folder: Path,
    captions_csv: Path,
    tiny_embedding: ChineseClipEmbedding,
    tmp_path: Path,
) -> None:
    lines = write_jsonl(examples[:3], tmp_path / "emoji.jsonl")
    captioned = IndexInputs([lines, emoji_folder], captions_csv)
    assert captioned.caption_weight_for(tiny_embedding) == pytest.approx(0.5)
    for other in (emoji_folder, PAGES / "form.pdf", emoji_folder / "飞机.jpg"):
        assert IndexInputs([lines, other]).caption_weight_for(tiny_embedding) == 0
    # build_index counts the captions of a list itself.
    assert IndexInputs([emoji_folder]).caption_weight_for(tiny_embedding) is None


def test_what_was_left_out_is_counted_once_by_the_index(
    examples: list[Example], emoji_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    (emoji_folder / "broken.jpg").write_bytes(b"no image")
    lines = write_jsonl(examples[:2], tmp_path / "emoji.jsonl", broken=25)
    inputs = IndexInputs([lines, emoji_folder])
    service, report = ImageService.build(inputs, tmp_path / "store", model=tiny_model, device="cpu")
    with_images = [node for node in service.index.image_store.get_nodes() if has_image(node)]
    service.close()
    assert report.images == report.new_images == len(with_images) == 12
    assert report.skipped_count == 26
    assert len(report.skipped) == 21
