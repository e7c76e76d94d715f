"""COCO-CN: captions by image name, images in the folder that the name tells."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import CocoCnReader, RecordError

VAL, TRAIN = "COCO_val2014_000000000123", "COCO_train2014_000000000456"


@pytest.fixture
def images(tmp_path: Path, photos: list[Path]) -> Path:
    """An image of each of MS-COCO's folders."""
    for photo, name in zip(photos, (VAL, TRAIN), strict=False):
        folder = tmp_path / "coco" / name.split("_")[1]
        folder.mkdir(parents=True)
        shutil.copy(photo, folder / f"{name}.jpg")
    return tmp_path / "coco"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "imageid.human-written-caption.txt").write_text(
        f"{VAL}#0\t一只猫趴在窗台上\n{TRAIN}#0\t红色的公交车\n{VAL}#1\t窗台上的猫\n", encoding="utf-8"
    )
    (tmp_path / "imageid.manually-translated-caption.txt").write_text(f"{VAL}#0\t一只猫\n", encoding="utf-8")
    (tmp_path / "coco-cn_test.txt").write_text(f"{VAL}\n{TRAIN}\n")
    return tmp_path


def test_images_lie_where_their_names_say(folder: Path, images: Path) -> None:
    nodes = CocoCnReader(id_prefix="").load_data(folder, images, split="test")
    assert [(node.node_id, node.text) for node in nodes] == [
        (VAL, "一只猫趴在窗台上\n窗台上的猫"),
        (TRAIN, "红色的公交车"),
    ]
    assert nodes[1].image_path == str(images / "train2014" / f"{TRAIN}.jpg")
    (translated,) = CocoCnReader().load_data(folder, images, captions="manually-translated-caption")
    assert translated.text == "一只猫"


def test_what_is_wrong_is_named(folder: Path, images: Path) -> None:
    (folder / "coco-cn_val.txt").write_text("123\n")
    with pytest.raises(RecordError, match=r"coco-cn_val\.txt, line 1: '123' is not a name such as COCO_val2014"):
        CocoCnReader().load_data(folder, images, split="val")
    (images / "train2014" / f"{TRAIN}.jpg").unlink()
    with pytest.raises(RecordError, match=r"coco-cn_test\.txt, line 2: there is no image .*check the folder"):
        CocoCnReader().load_data(folder, images, split="test")


def test_segmented_captions_are_joined_and_other_files_named(folder: Path, images: Path) -> None:
    (folder / "imageid.human-written-caption.bosonseg.txt").write_text(f"{VAL}#0\t一:m 只:q 猫:n\n", encoding="utf-8")
    (folder / "coco-cn_ext.icap2020.txt").write_text(f"{TRAIN}#0\t公交车\n", encoding="utf-8")
    (joined,) = CocoCnReader().load_data(folder, images, captions="human-written-caption.bosonseg")
    assert joined.text == "一只猫"
    (later,) = CocoCnReader(id_prefix="").load_data(folder, images, captions="coco-cn_ext.icap2020")
    assert (later.node_id, later.text) == (TRAIN, "公交车")
