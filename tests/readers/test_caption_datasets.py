"""Flickr8k-CN, Flickr30k-CN, COCO-CN and Wukong in their published formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import CocoCnReader, Flickr8kCnReader, Flickr30kCnReader, RecordError, WukongReader

# Flickr8k-CN


@pytest.fixture
def flickr8k_images(tmp_path: Path, photos: list[Path]) -> Path:
    """Three images with names like those of Flickr8k."""
    folder = tmp_path / "Flicker8k_Dataset"
    folder.mkdir()
    for photo, stem in zip(photos, ("111_ab", "222_cd", "333_ef"), strict=False):
        shutil.copy(photo, folder / f"{stem}.jpg")
    return folder


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """A folder like its ``data/``: the third image is in no split, one name ends with ``.jpg.1``."""
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


def test_flickr8k_reads_all_captioned_images_or_those_of_a_split(flickr8k: Path, flickr8k_images: Path) -> None:
    found = {node.node_id: node.text for node in Flickr8kCnReader(id_prefix="").load_data(flickr8k, flickr8k_images)}
    assert found == {"111_ab": "一只狗在草地上奔跑。\n一只 狗", "222_cd": "两个人#在骑车", "333_ef": "雪山"}
    train = Flickr8kCnReader(id_prefix="").load_data(flickr8k, flickr8k_images, split="train")
    assert [node.node_id for node in train] == ["111_ab"]
    (test,) = Flickr8kCnReader().load_data(flickr8k, flickr8k_images, split="test", captions="zhmtest")
    assert test.text == "两个男人骑车"
    assert test.image_path == str(flickr8k_images / "222_cd.jpg")


def test_invalid_lines_and_missing_images_of_flickr8k_are_errors_or_skipped(
    flickr8k: Path, flickr8k_images: Path
) -> None:
    (flickr8k_images / "333_ef.jpg").unlink()
    with (flickr8k / "flickr8kzhc.caption.txt").open("a", encoding="utf-8") as lines:
        lines.write("没有名字\n")
    with pytest.raises(RecordError, match=r"flickr8kzhc\.caption\.txt, line 5: not an image's name, '#'"):
        Flickr8kCnReader().load_data(flickr8k, flickr8k_images)
    reader = Flickr8kCnReader(on_error="skip")
    assert len(reader.load_data(flickr8k, flickr8k_images)) == 2
    assert reader.skipped.count == 2
    assert list(reader.skipped) == [f"{flickr8k / 'flickr8kzhc.caption.txt'}, line {number}" for number in (5, 4)]
    assert list(reader.skipped.values())[1].startswith("there is no image")


def test_missing_files_of_flickr8k_are_errors(flickr8k: Path, flickr8k_images: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"flickr8kzhb\.caption\.txt"):
        Flickr8kCnReader().load_data(flickr8k, flickr8k_images, captions="zhb")
    with pytest.raises(FileNotFoundError, match=r"flickr8kval\.txt"):
        Flickr8kCnReader().load_data(flickr8k, flickr8k_images, split="val")


def test_names_that_lead_out_of_the_folder_are_errors(flickr8k: Path, flickr8k_images: Path) -> None:
    shutil.copy(flickr8k_images / "111_ab.jpg", flickr8k_images.parent / "secret.jpg")
    with (flickr8k / "flickr8kzhc.caption.txt").open("a", encoding="utf-8") as lines:
        lines.write("../secret.jpg#zhc#0 别处的图片\n")
    with pytest.raises(RecordError, match=r"line 5: '\.\./secret\.jpg' is not an image within"):
        Flickr8kCnReader().load_data(flickr8k, flickr8k_images)


def test_an_image_that_is_twice_in_a_split_is_an_error(
    flickr8k: Path, flickr8k_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (flickr8k / "flickr8ktest.txt").write_text("222_cd\n222_cd\n")
    with pytest.raises(RecordError, match=r"flickr8ktest\.txt, line 2: the image '222_cd' is listed twice"):
        Flickr8kCnReader().load_data(flickr8k, flickr8k_images, "test")
    Flickr8kCnReader().load_data(flickr8k, flickr8k_images, "train", "zhmtest")
    assert "1 of 1 images of" in caplog.text


# Flickr30k-CN


@pytest.fixture
def flickr30k_images(tmp_path: Path, photos: list[Path]) -> Path:
    folder = tmp_path / "flickr30k-images"
    folder.mkdir()
    for photo, stem in zip(photos, ("111", "222"), strict=False):
        shutil.copy(photo, folder / f"{stem}.jpg")
    return folder


def write_archive(root: Path, name: str, captions: str, ids: str) -> Path:
    """Write a split in the layout of the archive."""
    for part, file, content in [
        ("ImageSets", f"{name}.txt", ids),
        ("TextData", f"seg.{name}.caption.txt", captions),
    ]:
        (root / name / part).mkdir(parents=True)
        (root / name / part / file).write_text(content, encoding="utf-8")
    return root


def test_segmented_words_of_the_flickr30k_archive_are_joined(tmp_path: Path, flickr30k_images: Path) -> None:
    root = write_archive(
        tmp_path / "flickr30k-cn",
        "flickr30kzhmbosontest",
        "111#zhm#0 两:m 个:q 男人:n  骑车:v\n111#zhm#1 一 件 T 恤 和 New York\n222#zhm#0 狗:n\n333#zhm#0 无:v\n",
        "111\n222\n",
    )
    nodes = Flickr30kCnReader(id_prefix="").load_data(root, flickr30k_images, split="test")
    assert [(node.node_id, node.text) for node in nodes] == [
        ("111", "两个男人，骑车\n一件T恤和New York"),
        ("222", "狗"),
    ]
    assert nodes[0].image_path == str(flickr30k_images / "111.jpg")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("flickr30k_cna_val.txt", "111\t两个男人，骑车\n111\t骑车\n222\t狗\n"),
        ("flickr30k_cn_val.txt", "111 两个男人，骑车\n111 骑车\n222 狗\n"),
        ("flickr30k_cn_val.txt", "image_name,caption\n111.jpg,两个男人，骑车\n111.jpg,骑车\n222.jpg,狗\n"),
    ],
)
def test_redistributed_formats_of_flickr30k(tmp_path: Path, flickr30k_images: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    nodes = Flickr30kCnReader(id_prefix="").load_data(tmp_path, flickr30k_images, "val")
    assert {node.node_id: node.text for node in nodes} == {"111": "两个男人，骑车\n骑车", "222": "狗"}


def test_invalid_lines_and_missing_images_of_flickr30k_are_errors_or_skipped(
    tmp_path: Path, flickr30k_images: Path
) -> None:
    (tmp_path / "flickr30k_cna_test.txt").write_text("111\t骑车\n没有编号\n999\t猫\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"flickr30k_cna_test\.txt, line 2: not an image's number, a tab"):
        Flickr30kCnReader().load_data(tmp_path, flickr30k_images)
    reader = Flickr30kCnReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path, flickr30k_images)] == ["111"]
    file = tmp_path / "flickr30k_cna_test.txt"
    assert list(reader.skipped) == [f"{file}, line 2", f"{file}, line 3"]
    assert reader.skipped[f"{file}, line 3"].startswith("there is no image")


def test_a_missing_split_of_flickr30k_is_an_error(tmp_path: Path, flickr30k_images: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither a folder flickr30k…train with TextData in it nor"):
        Flickr30kCnReader().load_data(tmp_path, flickr30k_images, "train")


def test_human_translations_are_preferred_to_machine_translations_and_english(
    tmp_path: Path, flickr30k_images: Path
) -> None:
    root = tmp_path / "flickr30k-cn"
    for name, caption in [
        ("flickr30kzhbbosontest", "机 器"),
        ("flickr30kzhmbosontest", "人"),
        ("flickr30kenctest", "a"),
    ]:
        write_archive(root, name, f"111#zhm#0 {caption}:nr1\n", "111\n")
    (node,) = Flickr30kCnReader().load_data(root, flickr30k_images)
    assert node.text == "人"


# COCO-CN


VAL, TRAIN = "COCO_val2014_000000000123", "COCO_train2014_000000000456"


@pytest.fixture
def coco_images(tmp_path: Path, photos: list[Path]) -> Path:
    """One image in each folder of MS-COCO."""
    for photo, name in zip(photos, (VAL, TRAIN), strict=False):
        folder = tmp_path / "coco" / name.split("_")[1]
        folder.mkdir(parents=True)
        shutil.copy(photo, folder / f"{name}.jpg")
    return tmp_path / "coco"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "imageid.human-written-caption.txt").write_text(
        f"{VAL}#0\t一只猫趴在窗台上\n{TRAIN}#0\t红色的公交车\n{VAL}#1\t窗台上的猫\n", encoding="utf-8"
    )
    (tmp_path / "imageid.manually-translated-caption.txt").write_text(f"{VAL}#0\t一只猫\n", encoding="utf-8")
    (tmp_path / "coco-cn_test.txt").write_text(f"{VAL}\n{TRAIN}\n")
    return tmp_path


def test_coco_images_are_found_in_the_folder_of_their_name(coco: Path, coco_images: Path) -> None:
    nodes = CocoCnReader(id_prefix="").load_data(coco, coco_images, split="test")
    assert [(node.node_id, node.text) for node in nodes] == [
        (VAL, "一只猫趴在窗台上\n窗台上的猫"),
        (TRAIN, "红色的公交车"),
    ]
    assert nodes[1].image_path == str(coco_images / "train2014" / f"{TRAIN}.jpg")
    (translated,) = CocoCnReader().load_data(coco, coco_images, captions="manually-translated-caption")
    assert translated.text == "一只猫"


def test_invalid_names_and_missing_images_of_coco_are_errors(coco: Path, coco_images: Path) -> None:
    (coco / "coco-cn_val.txt").write_text("123\n")
    with pytest.raises(RecordError, match=r"coco-cn_val\.txt, line 1: '123' is not a name such as COCO_val2014"):
        CocoCnReader().load_data(coco, coco_images, split="val")
    (coco_images / "train2014" / f"{TRAIN}.jpg").unlink()
    with pytest.raises(RecordError, match=r"coco-cn_test\.txt, line 2: there is no image .*check the folder"):
        CocoCnReader().load_data(coco, coco_images, split="test")


def test_segmented_captions_of_coco_are_joined_and_other_files_read(coco: Path, coco_images: Path) -> None:
    (coco / "imageid.human-written-caption.bosonseg.txt").write_text(f"{VAL}#0\t一:m 只:q 猫:n\n", encoding="utf-8")
    (coco / "coco-cn_ext.icap2020.txt").write_text(f"{TRAIN}#0\t公交车\n", encoding="utf-8")
    (joined,) = CocoCnReader().load_data(coco, coco_images, captions="human-written-caption.bosonseg")
    assert joined.text == "一只猫"
    (other,) = CocoCnReader(id_prefix="").load_data(coco, coco_images, captions="coco-cn_ext.icap2020")
    assert (other.node_id, other.text) == (TRAIN, "公交车")


# Wukong


ROWS = 'https://img.example.cn/a.jpg,"周末露营, 一家三口"\nhttps://img.example.cn/b.jpg,带\r回车\n'


@pytest.fixture
def wukong(tmp_path: Path) -> Path:
    path = tmp_path / "wukong_100m_7.csv"
    path.write_bytes(("\ufeffurl,caption\r\n" + ROWS).encode())
    return path


def test_wukong_yields_urls_and_captions(wukong: Path) -> None:
    nodes = WukongReader(id_prefix="").load_data(wukong)
    assert [(node.node_id, node.image_url, node.text) for node in nodes] == [
        ("007/00000", "https://img.example.cn/a.jpg", "周末露营, 一家三口"),
        ("007/00001", "https://img.example.cn/b.jpg", "带 回车"),
    ]


def test_downloaded_images_of_wukong_are_found(wukong: Path, tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "images" / "007").mkdir(parents=True)
    shutil.copy(photos[0], tmp_path / "images" / "007" / "00001.jpg")
    reader = WukongReader(id_prefix="", on_error="skip")
    (node,) = reader.load_data(wukong, tmp_path / "images")
    assert node.node_id == "007/00001"
    assert node.image_path == str(tmp_path / "images" / "007" / "00001.jpg")
    assert list(reader.skipped) == [f"{wukong}, line 2"]
    assert reader.skipped[f"{wukong}, line 2"].startswith("there is no image")


def test_invalid_rows_of_wukong_are_counted_in_ids(wukong: Path) -> None:
    with wukong.open("ab") as lines:
        lines.write("只有一列\n".encode() + "猫,狗".encode("gbk") + b"\n" + b"https://img.example.cn/c.jpg,c\n")
    reader = WukongReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(wukong)] == ["007/00000", "007/00001", "007/00004"]
    assert reader.skipped[f"{wukong}, line 4"] == "a row without caption"
    assert reader.skipped[f"{wukong}, line 5"].startswith("not UTF-8")


def test_a_wrong_header_of_wukong_is_an_error(wukong: Path) -> None:
    wukong.write_text("a,b\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"wukong_100m_7\.csv, line 1: there is no column url nor caption, but"):
        WukongReader().load_data(wukong)


def test_ids_count_rows_and_not_lines(wukong: Path) -> None:
    wukong.write_text(
        'url,caption\nhttps://a.example.cn/0.jpg,"两\n行"\nhttps://a.example.cn/1.jpg,b\n', encoding="utf-8"
    )
    found = {node.node_id: node.text for node in WukongReader(id_prefix="").load_data(wukong)}
    assert found == {"007/00000": "两 行", "007/00001": "b"}


def test_equal_rows_have_different_hashes(wukong: Path) -> None:
    wukong.write_text("url,caption\n" + "https://a.example.cn/0.jpg,b\n" * 2, encoding="utf-8")
    first, second = WukongReader().load_data(wukong)
    assert first.hash != second.hash


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "http://[bad/a.jpg"])
def test_an_invalid_url_in_wukong_is_an_error(wukong: Path, url: str) -> None:
    wukong.write_text(f"url,caption\n{url},猫\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"line 2: .* is not an http URL of an image"):
        WukongReader().load_data(wukong)


def test_ids_begin_with_the_file_name_if_it_has_no_number(tmp_path: Path) -> None:
    (tmp_path / "wukong.csv").write_text("url,caption\nhttps://a.example.cn/0.jpg,b\n", encoding="utf-8")
    (node,) = WukongReader(id_prefix="").load_data(tmp_path / "wukong.csv")
    assert node.node_id == "wukong/00000"
