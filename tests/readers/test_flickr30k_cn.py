"""Flickr30k-CN: the archive with its segmented captions, and the files that go round instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import Flickr30kCnReader, RecordError


@pytest.fixture
def images(tmp_path: Path, photos: list[Path]) -> Path:
    folder = tmp_path / "flickr30k-images"
    folder.mkdir()
    for photo, stem in zip(photos, ("111", "222"), strict=False):
        shutil.copy(photo, folder / f"{stem}.jpg")
    return folder


def archive(root: Path, name: str, captions: str, ids: str) -> Path:
    """Write a split as the archive has it."""
    for part, file, content in [
        ("ImageSets", f"{name}.txt", ids),
        ("TextData", f"seg.{name}.caption.txt", captions),
    ]:
        (root / name / part).mkdir(parents=True)
        (root / name / part / file).write_text(content, encoding="utf-8")
    return root


def test_words_of_the_archive_are_joined(tmp_path: Path, images: Path) -> None:
    root = archive(
        tmp_path / "flickr30k-cn",
        "flickr30kzhmbosontest",
        "111#zhm#0 两:m 个:q 男人:n  骑车:v\n111#zhm#1 一 件 T 恤 和 New York\n222#zhm#0 狗:n\n333#zhm#0 无:v\n",
        "111\n222\n",
    )
    nodes = Flickr30kCnReader(id_prefix="").load_data(root, images, split="test")
    assert [(node.node_id, node.text) for node in nodes] == [
        ("111", "两个男人，骑车\n一件T恤和New York"),
        ("222", "狗"),
    ]
    assert nodes[0].image_path == str(images / "111.jpg")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("flickr30k_cna_val.txt", "111\t两个男人，骑车\n111\t骑车\n222\t狗\n"),
        ("flickr30k_cn_val.txt", "111 两个男人，骑车\n111 骑车\n222 狗\n"),
        ("flickr30k_cn_val.txt", "image_name,caption\n111.jpg,两个男人，骑车\n111.jpg,骑车\n222.jpg,狗\n"),
    ],
)
def test_variants(tmp_path: Path, images: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    nodes = Flickr30kCnReader(id_prefix="").load_data(tmp_path, images, "val")
    assert {node.node_id: node.text for node in nodes} == {"111": "两个男人，骑车\n骑车", "222": "狗"}


def test_what_is_wrong_is_named_or_skipped(tmp_path: Path, images: Path) -> None:
    (tmp_path / "flickr30k_cna_test.txt").write_text("111\t骑车\n没有编号\n999\t猫\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"flickr30k_cna_test\.txt, line 2: not an image's number, a tab"):
        Flickr30kCnReader().load_data(tmp_path, images)
    reader = Flickr30kCnReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path, images)] == ["111"]
    file = tmp_path / "flickr30k_cna_test.txt"
    assert list(reader.skipped) == [f"{file}, line 2", f"{file}, line 3"]
    assert reader.skipped[f"{file}, line 3"].startswith("there is no image")


def test_a_folder_without_the_split_is_named(tmp_path: Path, images: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither a folder flickr30k…train with TextData in it nor"):
        Flickr30kCnReader().load_data(tmp_path, images, "train")


def test_human_translations_come_before_the_machines_and_english_never(tmp_path: Path, images: Path) -> None:
    root = tmp_path / "flickr30k-cn"
    for name, caption in [
        ("flickr30kzhbbosontest", "机 器"),
        ("flickr30kzhmbosontest", "人"),
        ("flickr30kenctest", "a"),
    ]:
        archive(root, name, f"111#zhm#0 {caption}:nr1\n", "111\n")
    (node,) = Flickr30kCnReader().load_data(root, images)
    assert node.text == "人"
