"""Flickr8k-CN: captions by image name, splits, and the quirks of the published files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import Flickr8kCnReader, RecordError


@pytest.fixture
def images(tmp_path: Path, photos: list[Path]) -> Path:
    """Three images, named as Flickr8k's are."""
    folder = tmp_path / "Flicker8k_Dataset"
    folder.mkdir()
    for photo, stem in zip(photos, ("111_ab", "222_cd", "333_ef"), strict=False):
        shutil.copy(photo, folder / f"{stem}.jpg")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The form of its ``data/``: the third image is in no split, one name ends in ``.jpg.1``."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "flickr8kzhc.caption.txt").write_text(
        "111_ab.jpg#zhc#0 一只狗在草地上奔跑。\n"
        "111_ab.jpg#zhc#1  一只 狗 \n"
        "222_cd.jpg.1#zhc#0 两个人#在骑车\n"
        "333_ef.jpg#zhc#0 雪山\n",
        encoding="utf-8",
    )
    (data / "flickr8kzhmtest.captions.txt").write_text("222_cd.jpg#zhm#0 两个男人骑车\n", encoding="utf-8")
    (data / "flickr8ktrain.txt").write_text("111_ab\n")
    (data / "flickr8ktest.txt").write_text("222_cd\n")
    return data


def test_all_captioned_images_or_those_of_a_split(folder: Path, images: Path) -> None:
    found = {node.node_id: node.text for node in Flickr8kCnReader(id_prefix="").load_data(folder, images)}
    assert found == {"111_ab": "一只狗在草地上奔跑。\n一只 狗", "222_cd": "两个人#在骑车", "333_ef": "雪山"}
    train = Flickr8kCnReader(id_prefix="").load_data(folder, images, split="train")
    assert [node.node_id for node in train] == ["111_ab"]
    (test,) = Flickr8kCnReader().load_data(folder, images, split="test", captions="zhmtest")
    assert test.text == "两个男人骑车"
    assert test.image_path == str(images / "222_cd.jpg")


def test_what_is_wrong_is_named_or_skipped(folder: Path, images: Path) -> None:
    (images / "333_ef.jpg").unlink()
    with (folder / "flickr8kzhc.caption.txt").open("a", encoding="utf-8") as lines:
        lines.write("没有名字\n")
    with pytest.raises(RecordError, match=r"flickr8kzhc\.caption\.txt, line 5: not an image's name, '#'"):
        Flickr8kCnReader().load_data(folder, images)
    reader = Flickr8kCnReader(on_error="skip")
    assert len(reader.load_data(folder, images)) == 2
    assert reader.skipped.count == 2
    assert list(reader.skipped) == [f"{folder / 'flickr8kzhc.caption.txt'}, line {number}" for number in (5, 4)]
    assert list(reader.skipped.values())[1].startswith("there is no image")


def test_missing_files_are_named(folder: Path, images: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"flickr8kzhb\.caption\.txt"):
        Flickr8kCnReader().load_data(folder, images, captions="zhb")
    with pytest.raises(FileNotFoundError, match=r"flickr8kval\.txt"):
        Flickr8kCnReader().load_data(folder, images, split="val")


def test_names_lead_nowhere_but_into_the_folder(folder: Path, images: Path) -> None:
    shutil.copy(images / "111_ab.jpg", images.parent / "secret.jpg")
    with (folder / "flickr8kzhc.caption.txt").open("a", encoding="utf-8") as lines:
        lines.write("../secret.jpg#zhc#0 别处的图片\n")
    with pytest.raises(RecordError, match=r"line 5: '\.\./secret\.jpg' is not an image within"):
        Flickr8kCnReader().load_data(folder, images)


def test_a_split_that_names_a_image_twice(folder: Path, images: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "flickr8ktest.txt").write_text("222_cd\n222_cd\n")
    with pytest.raises(RecordError, match=r"flickr8ktest\.txt, line 2: the image '222_cd' comes a second time"):
        Flickr8kCnReader().load_data(folder, images, "test")
    Flickr8kCnReader().load_data(folder, images, "train", "zhmtest")
    assert "1 of 1 images of" in caplog.text
