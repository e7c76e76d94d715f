"""Tables and JSON files of any form, and WuDaoMM and Product1M in their published formats."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from llama_index_mm_zhipu.readers import PRODUCT1M, WUDAOMM, ColumnReader, Columns, RecordError

CHINESE = Columns(caption="说明", image="图片", metadata=("类别",))


@pytest.fixture
def images(tmp_path: Path, photos: list[Path]) -> Path:
    for photo, name in zip(photos, ("a.jpg", "600000000001.jpg"), strict=False):
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.copy(photo, tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", '图片,说明,类别\na.jpg,"裙子, 红",服装\n'),
        ("t.json", json.dumps([{"图片": "a.jpg", "说明": "裙子, 红", "类别": "服装"}], ensure_ascii=False)),
        ("t.jsonl", json.dumps({"图片": "a.jpg", "说明": ["裙子, 红"], "类别": "服装"})),
    ],
)
def test_tables_arrays_and_json_lines_are_read(tmp_path: Path, images: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    (node,) = ColumnReader(CHINESE, id_prefix="").load_data(tmp_path / name, images)
    assert (node.node_id, node.text, node.metadata["类别"]) == ("t/a.jpg", "裙子, 红", "服装")
    assert node.image_path == str(images / "a.jpg")


def test_several_caption_columns_and_images_in_base64_are_read(tmp_path: Path, photos: list[Path]) -> None:
    encoded = base64.b64encode(photos[0].read_bytes()).decode()
    (tmp_path / "t.tsv").write_text(f"no\ttitle\tmore\tdata\n7\t裙子\t红色\t{encoded}\n", encoding="utf-8")
    columns = Columns(caption=("title", "more"), base64="data", id="no", delimiter="\t")
    (node,) = ColumnReader(columns, id_prefix="").load_data(tmp_path / "t.tsv")
    assert (node.node_id, node.text, node.image) == ("7", "裙子\n红色", encoded)


# WuDaoMM


def wudao(path: Path, *records: dict[str, str]) -> Path:
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return path


def test_wudaomm_is_read_with_image_files(tmp_path: Path, images: Path) -> None:
    file = wudao(tmp_path / "Art.json", {"name": "a.jpg", "tag": "工业", "captions": "桥梁,黄昏"})
    (node,) = ColumnReader(WUDAOMM, id_prefix="").load_data(file, images)
    assert (node.node_id, node.text, node.metadata["tag"]) == ("Art/a.jpg", "桥梁,黄昏", "工业")


def test_wudaomm_is_read_with_urls_and_copies_with_another_key(tmp_path: Path, images: Path) -> None:
    record = {"name": "a.jpg", "tag": "工业", "url": "http://img.example.cn/a.jpg", "captions": "桥梁"}
    (node,) = ColumnReader(WUDAOMM).load_data(wudao(tmp_path / "Art.json", record))
    assert (node.image_url, node.image_path) == ("http://img.example.cn/a.jpg", None)
    copy = {"RECORDS": [{"imagePath": "a.jpg", "tag": "工业", "captions": "桥梁"}]}
    (tmp_path / "Art.json").write_text(json.dumps(copy), encoding="utf-8")
    reader = ColumnReader(replace(WUDAOMM, image="imagePath"), id_prefix="")
    (node,) = reader.load_data(tmp_path / "Art.json", images)
    assert node.node_id == "Art/a.jpg"


# Product1M

PRODUCTS = (
    "600000000001#####某品牌面霜50g#####https://img.example.cn/a.jpg#####http://x.example.cn/600000000001.jpg"
    "#####品牌 面霜#;#品牌 水\r\n"
    "600000000002######新品#面膜#####https://img.example.cn/b.png#####http://x.example.cn/600000000002.jpg\r\n"
)


@pytest.fixture
def products(tmp_path: Path) -> Path:
    path = tmp_path / "product1m_dev_ossurl_v2.txt"
    path.write_bytes(PRODUCTS.encode())
    return path


def test_product1m_is_read_with_urls(products: Path) -> None:
    first, second = ColumnReader(PRODUCT1M, id_prefix="").load_data(products)
    assert (first.node_id, first.text, first.image_url) == (
        "600000000001",
        "某品牌面霜50g",
        "https://img.example.cn/a.jpg",
    )
    assert first.metadata["labels"] == ["品牌 面霜", "品牌 水"]
    assert (second.text, "labels" in second.metadata) == ("#新品#面膜", False)


def test_product1m_is_read_with_downloaded_images(products: Path, images: Path) -> None:
    reader = ColumnReader(PRODUCT1M, on_error="skip")
    (node,) = reader.load_data(products, images)
    assert node.image_path == str(images / "600000000001.jpg")
    (reason,) = reader.skipped.values()
    assert list(reader.skipped) == [f"{products}, line 2"]
    assert reason.startswith("there is no image")


# Errors


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("图片,说明\na.jpg,裙子\n", r"t\.csv, line 1: there is no column 类别, but"),
        ("图片,说明,类别\na.jpg,裙子,x\na.jpg,帽子,x\n", r"t\.csv, line 3: the image id 't/a\.jpg' is listed twice"),
        ("图片,说明,类别\nz.jpg,裙子,x\n", r"t\.csv, line 2: there is no image .*z\.jpg"),
        ("图片,说明,类别\n../a.jpg,裙子,x\n", r"t\.csv, line 2: '\.\./a\.jpg' is not an image within"),
        ("图片,说明,类别\n/a.jpg,裙子,x\n", r"t\.csv, line 2: '/a\.jpg' is not an image within"),
        ("图片,说明,类别\na\0.jpg,裙子,x\n", r"t\.csv, line 2: "),
        ("图片,说明,类别\n,裙子,x\n", r"t\.csv, line 2: '' is not an image within"),
    ],
)
def test_an_invalid_record_is_an_error_or_skipped(tmp_path: Path, images: Path, rows: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(rows, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        ColumnReader(CHINESE).load_data(tmp_path / "t.csv", images)
    reader = ColumnReader(CHINESE, on_error="skip")
    with_images = rows.startswith("图片,说明,类别\na.jpg")
    if with_images:
        assert len(reader.load_data(tmp_path / "t.csv", images)) == 1
    else:
        with pytest.raises(ValueError, match=r"holds no images; expected records with 图片, 说明"):
            reader.load_data(tmp_path / "t.csv", images)
    assert reader.skipped.count == 1


def test_what_is_no_address_is_named(products: Path) -> None:
    products.write_text("1#####标题#####a.jpg\n", encoding="utf-8")
    with pytest.raises(RecordError, match=r"line 1: 'a\.jpg' is not an http URL of an image"):
        ColumnReader(PRODUCT1M).load_data(products)


def test_columns_without_an_image_are_an_error() -> None:
    with pytest.raises(ValueError, match="columns without an image: give image, url or base64"):
        Columns()
    with pytest.raises(TypeError, match=r"'类别' is a string, not a tuple of columns: give \('类别',\)"):
        Columns(image="图片", metadata="类别")  # type: ignore[arg-type]


def test_image_columns_and_the_folder_of_images_must_match(products: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only image files: give the folder of the images, images=…"):
        ColumnReader(CHINESE).load_data(products)
    with pytest.raises(ValueError, match=r"name no image file: give Columns\(image=…\)"):
        ColumnReader(Columns(url="url")).load_data(products, tmp_path)


def test_halves_of_surrogate_pairs_are_replaced_or_an_error(tmp_path: Path, images: Path) -> None:
    records = [
        {"图片": "a.jpg", "说明": ["", " ", "裙子", "红\n色"], "类别": "\ud800"},
        {"图片": "\ud800.jpg", "说明": "x", "类别": "x"},
    ]
    (tmp_path / "t.json").write_text(json.dumps(records), encoding="utf-8")
    reader = ColumnReader(CHINESE, on_error="skip")
    (node,) = reader.load_data(tmp_path / "t.json", images)
    assert (node.text, node.metadata["类别"]) == ("裙子\n红 色", "\ufffd")
    (reason,) = reader.skipped.values()
    assert reason.startswith("the image id is 't/")


# Types and encodings


TYPED = Columns(
    caption="说明",
    image="图片",
    id="编号",
    metadata=("编号", "价格", "评分", "货号", "条码", "标签"),
    separators={"标签": "|"},
)


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "utf-16"])
def test_columns_of_numbers_become_numbers(tmp_path: Path, images: Path, encoding: str) -> None:
    (tmp_path / "t.csv").write_bytes(
        (
            "编号,图片,说明,价格,评分,货号,条码,标签\n"
            "1,a.jpg,裙子,199,4.5,007,6901234567890123,1|2\n"
            "2,600000000001.jpg,帽子,,5,8,,\n"
        ).encode(encoding)
    )
    for given in (None, encoding):
        first, second = ColumnReader(TYPED, encoding=given).load_data(tmp_path / "t.csv", images)
        for node in (first, second):
            for key in ("content_hash", "source_root", "source_location"):
                del node.metadata[key]
        assert first.metadata == {
            **{"编号": "1", "价格": 199, "评分": 4.5, "货号": "007", "条码": "6901234567890123", "标签": ["1", "2"]}
        }
        assert second.metadata == {"编号": "2", "评分": 5.0, "货号": "8"}
        assert type(second.metadata["评分"]) is float


def test_numbers_are_found_in_tables_without_quotes_or_header(tmp_path: Path, images: Path) -> None:
    (tmp_path / "t.tsv").write_bytes("图片\t说明\t价格\r\na.jpg\t裙子\t19.9\r\n".encode("utf-16"))
    (tmp_path / "t.txt").write_bytes("a.jpg##裙子##19.9\r\n600000000001.jpg##好看的帽子\r\n".encode("gbk"))
    columns = Columns(caption="说明", image="图片", metadata=("价格",), delimiter="\t")
    (node,) = ColumnReader(columns).load_data(tmp_path / "t.tsv", images)
    assert (node.text, node.metadata["价格"]) == ("裙子", 19.9)
    columns = replace(columns, delimiter="##", names=("图片", "说明", "价格"))
    first, second = ColumnReader(columns).load_data(tmp_path / "t.txt", images)
    assert (first.metadata["价格"], "价格" in second.metadata, second.text) == (19.9, False, "好看的帽子")


@pytest.mark.parametrize("encoding", ["gbk", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_json_is_read_in_other_encodings(tmp_path: Path, images: Path, encoding: str, name: str) -> None:
    record = {"图片": "a.jpg", "说明": "一条红色的裙子", "类别": "服装"}
    content = json.dumps([record] if name == "t.json" else record, ensure_ascii=False)
    (tmp_path / name).write_bytes(content.encode(encoding))
    (node,) = ColumnReader(CHINESE).load_data(tmp_path / name, images)
    assert (node.text, node.metadata["类别"]) == ("一条红色的裙子", "服装")
    with pytest.raises(RecordError, match="line 1: not ascii; give another encoding"):
        ColumnReader(CHINESE, encoding="ascii").load_data(tmp_path / name, images)


def test_values_of_json_keep_their_types(tmp_path: Path, images: Path) -> None:
    records = [
        {"图片": "a.jpg", "说明": "裙子", "价格": "199", "评分": 5, "货号": float("nan"), "条码": [1, float("inf")]},
    ]
    columns = replace(TYPED, id=None, metadata=("价格", "评分", "货号", "条码"))
    for name, content in (("t.json", json.dumps(records)), ("t.jsonl", json.dumps(records[0]))):
        (tmp_path / name).write_text(content, encoding="utf-8")
        (node,) = ColumnReader(columns).load_data(tmp_path / name, images)
        assert [node.metadata[key] for key in columns.metadata] == ["199", 5, None, [1, None]]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"图片": "a.jpg", "说明": "x", "编号": NaN}', "the image id is NaN, under 编号; an id is a string or"),
        (
            '{"图片": "a.jpg", "说明": "x", "编号": 3.0}',
            "the image id is 3.0, a float, under 编号; an id is a string",
        ),
        ('{"图片": NaN, "说明": "x", "编号": 3}', "图片 is NaN, not the name of a file"),
        ('{"图片": "a.jpg", "说明": {"x": 1}, "编号": 3}', "说明 holds {'x': 1}, an object, not a caption"),
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_nan_and_other_invalid_values_in_json_are_errors(
    tmp_path: Path, images: Path, name: str, record: str, message: str
) -> None:
    (tmp_path / name).write_text(f"[{record}]" if name == "t.json" else record, encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        ColumnReader(TYPED).load_data(tmp_path / name, images)
    assert message in str(caught.value)


def test_nan_is_neither_a_caption_nor_a_url(tmp_path: Path, images: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"图片": "a.jpg", "说明": NaN, "u": NaN}', encoding="utf-8")
    (node,) = ColumnReader(Columns(caption="说明", image="图片")).load_data(tmp_path / "t.jsonl", images)
    assert node.text == ""
    with pytest.raises(RecordError, match="line 1: NaN is not an http URL of an image"):
        ColumnReader(Columns(caption="说明", url="u")).load_data(tmp_path / "t.jsonl")


def test_reserved_metadata_names_are_an_error() -> None:
    for key in ("content_hash", "source_root", "source_location", "检索到的图片", "retrieved picture"):
        with pytest.raises(ValueError, match=f"own under '{key}'; rename the column"):
            Columns(image="图片", metadata=("类别", key))


def test_an_unknown_encoding_is_an_error_of_the_constructor() -> None:
    with pytest.raises(ValueError, match="encoding is 'gb2313', which is not a text encoding"):
        ColumnReader(CHINESE, encoding="gb2313")
