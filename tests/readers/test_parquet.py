"""Parquet files with images as bytes, base64, URLs or file names, and values of all types as metadata."""

from __future__ import annotations

import base64
import logging
import math
import sys
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.readers import ColumnReader, Columns, FolderReader, RecordError

INLINE = Columns(base64="image")
NAMED = Columns(image="file", metadata=("价格",))
LINK = "https://img.example.cn/1.jpg"


def write(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.fixture
def images(photos: list[Path]) -> list[bytes]:
    return [photo.read_bytes() for photo in photos[:3]]


@pytest.fixture
def goods(tmp_path: Path, images: list[bytes]) -> Path:
    """A file with three photographs."""
    return write(tmp_path / "t.parquet", {"image": images, "caption": ["裙子", "帽子", "雨伞"]})


def read(file: Path, columns: Columns, *images: Path) -> tuple[list[Any], dict[str, str]]:
    """Return the nodes of a file, and the reasons for skipped records."""
    reader = ColumnReader(columns, id_prefix="", on_error="skip")
    return reader.load_data(file, *images), dict(reader.skipped)


def metadata_of(tmp_path: Path, value: pa.Array) -> Any:
    """Return the metadata that a reader makes of the only value of a column."""
    columns = Columns(url="url", metadata=("value",))
    file = write(tmp_path / "value.parquet", {"url": [LINK], "caption": ["裙子"], "value": value})
    (node,) = ColumnReader(columns).load_data(file)
    return node.metadata["value"]


# Images


@pytest.mark.parametrize(
    "column_type",
    [
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int32(), pa.binary()),
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        pa.string(),
        pa.large_string(),
    ],
    ids=str,
)
def test_images_are_read_from_bytes_structs_and_base64(
    tmp_path: Path, images: list[bytes], column_type: pa.DataType
) -> None:
    encoded = [base64.b64encode(image).decode() for image in images]
    values: list[Any] = encoded if "string" in str(column_type)[:12] else images
    if pa.types.is_struct(column_type):
        values = [{"bytes": image, "path": "1.jpg"} for image in images]
    column = pa.array(values, column_type.value_type if pa.types.is_dictionary(column_type) else column_type)
    column = column.dictionary_encode() if pa.types.is_dictionary(column_type) else column
    file = write(tmp_path / "t.parquet", {"image": column, "caption": ["裙子", "帽子", "雨伞"]})

    nodes = ColumnReader(INLINE, id_prefix="").load_data(file)

    assert [node.image for node in nodes] == encoded
    assert [node.text for node in nodes] == ["裙子", "帽子", "雨伞"]
    assert [node.node_id for node in nodes] == ["t/0", "t/1", "t/2"]


def test_nodes_are_those_of_the_same_rows_in_json_lines(tmp_path: Path, images: list[bytes]) -> None:
    table = pa.table({"no": [7, 8], "image": images[:2], "title": ["裙子", None], "more": [["红", "长"], []]})
    pq.write_table(table, tmp_path / "a.parquet")
    lines = (
        f'{{"no": 7, "image": "{base64.b64encode(images[0]).decode()}", "title": "裙子", "more": ["红", "长"]}}\n'
        f'{{"no": 8, "image": "{base64.b64encode(images[1]).decode()}", "title": null, "more": []}}\n'
    )
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    reader = ColumnReader(Columns(caption=("title", "more"), base64="image", id="no"), id_prefix="goods")
    expected = reader.load_data(tmp_path / "a.jsonl")
    nodes = reader.load_data(tmp_path / "a.parquet")
    for node in [*nodes, *expected]:
        del node.metadata["source_root"], node.metadata["source_location"]
    assert [(node.node_id, node.text) for node in nodes] == [("goods/7", "裙子\n红\n长"), ("goods/8", "")]
    assert [node.to_dict() for node in nodes] == [node.to_dict() for node in expected]


def test_urls_and_names_of_files_are_read(tmp_path: Path, photos: list[Path]) -> None:
    names = [photo.name for photo in photos[:2]]
    file = write(tmp_path / "t.parquet", {"url": [LINK, "x"], "caption": ["裙子", "帽子"], "file": names})
    nodes, skipped = read(file, Columns(url="url", image="file"))
    assert [(node.image_url, node.node_id) for node in nodes] == [(LINK, f"t/{names[0]}")]
    assert skipped == {f"{file}, row 2": "'x' is not an http URL of an image"}
    nodes, _ = read(file, Columns(image="file"), photos[0].parent)
    assert [node.image_path for node in nodes] == [str(photo) for photo in photos[:2]]


def test_only_the_columns_that_are_used_are_read(tmp_path: Path, images: list[bytes], photos: list[Path]) -> None:
    columns = {"file": [photos[0].name], "caption": ["裙子"], "price": [1.5], "image": images[:1]}
    file = write(tmp_path / "t.parquet", columns, compression=None, use_dictionary=False)
    content = file.read_bytes()
    # Another column would fail to decode.
    at = content.index(images[0])
    file.write_bytes(content[: at - 30] + bytes(30 + len(images[0])) + content[at + len(images[0]) :])
    nodes, _ = read(file, Columns(image="file", metadata=("price",)), photos[0].parent)
    assert nodes[0].metadata["price"] == 1.5
    with pytest.raises(RecordError, match=r"t\.parquet, row 1: damaged \(.*\); the rest of the file is not read"):
        ColumnReader(INLINE).load_data(file)


# Metadata

CHINA = pa.timestamp("ns", tz="Asia/Shanghai")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (pa.array([199]), 199),
        (pa.array([2**63], pa.uint64()), 2**63),
        (pa.array([True]), True),
        (pa.array([19.9], pa.float32()), 19.9),
        (pa.array([np.float16(0.5)]), 0.5),
        (pa.array([math.inf]), None),
        (pa.array([math.nan], pa.float32()), None),
        (pa.array([None], pa.string()), None),
        (pa.array(["服装"]).dictionary_encode(), "服装"),
        (pa.array([["红", "长"]]), ["红", "长"]),
        (pa.array([[1.5, math.nan]]), [1.5, None]),
        (pa.array([{"w": 3, "on": date(2024, 5, 1)}]), {"w": 3, "on": "2024-05-01"}),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), [["a", 1]]),
        (pa.array([Decimal("19.90")]), 19.9),
        (pa.array([Decimal("12345678901234567890")]), 12345678901234567890),
        (pa.array([date(2024, 5, 1)]), "2024-05-01"),
        (pa.array([time(8, 30)]), "08:30:00"),
        (pa.array([timedelta(minutes=1.5)]), 90.0),
        (pa.array([datetime(2024, 5, 1, 8, 30)]), "2024-05-01T08:30:00"),
        (pa.array([1_714_523_400_123_456_789], CHINA), "2024-05-01T08:30:00.123456+08:00"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_metadata_keeps_its_type_or_becomes_what_json_can_hold(tmp_path: Path, value: pa.Array, expected: Any) -> None:
    found = metadata_of(tmp_path, value)
    assert (found, type(found)) == (expected, type(expected))


def test_bytes_are_left_out_of_metadata_with_a_warning(goods: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = pq.read_table(goods)
    nested = pa.array([[{"crop": b"\xff\xd8"}]] * 3)
    pq.write_table(table.append_column("crops", nested).append_column("price", pa.array([1, 2, 3])), goods)
    with caplog.at_level(logging.WARNING):
        nodes = ColumnReader(Columns(base64="image", metadata=("image", "crops", "price"))).load_data(goods)
    assert [set(node.metadata) & {"image", "crops", "price"} for node in nodes] == [{"price"}] * 3
    assert [record.message for record in caplog.records] == [
        f"{goods}: metadata cannot hold bytes; left out: image, crops"
    ]


def test_filters_compare_the_numbers_of_a_file(
    tmp_path: Path, images: list[bytes], tiny_embedding: ChineseClipEmbedding
) -> None:
    columns = {
        "image": images,
        "caption": ["裙子", "帽子", "雨伞"],
        "price": [99, 100, 250],
        "tags": [["a"], ["b"], None],
    }
    file = write(tmp_path / "t.parquet", columns)
    reader = ColumnReader(Columns(base64="image", metadata=("price", "tags")), id_prefix="")
    index = build_index(reader.lazy_load_data(file), embed_model=tiny_embedding)
    price = MetadataFilter(key="price", value=100, operator=FilterOperator.GTE)
    found = index.as_retriever(filters=MetadataFilters(filters=[price])).retrieve("裙子")
    assert {result.node.node_id for result in found} == {"t/1", "t/2"}
    index.close()


# Rows that cannot be used


def test_rows_without_an_image_are_named(tmp_path: Path, images: list[bytes]) -> None:
    values = [images[0], None, b"no image", b""]
    file = write(tmp_path / "t.parquet", {"image": values, "caption": ["a"] * 4})
    nodes, skipped = read(file, INLINE)
    assert [node.node_id for node in nodes] == ["t/0"]
    assert skipped == {
        f"{file}, row 2": "there is no image, image is null",
        f"{file}, row 3": "the content of 't/2' is not an image that Pillow can read",
        f"{file}, row 4": "the content of 't/3' is not an image that Pillow can read",
    }
    structs = [{"bytes": None, "path": "1.jpg"}, None, {"bytes": images[0], "path": None}]
    write(file, {"image": structs, "caption": ["a", "b", "c"]})
    nodes, skipped = read(file, INLINE)
    assert [node.node_id for node in nodes] == ["t/2"]
    assert skipped == {f"{file}, row {row}": "there is no image, image.bytes is null" for row in (1, 2)}
    # Without any value, pyarrow writes a column of the type null.
    write(file, {"image": [None], "caption": ["a"]})
    with pytest.raises(RecordError, match=r"t\.parquet, row 1: there is no image, image is null"):
        ColumnReader(INLINE).load_data(file)


def test_base64_that_is_none_and_ids_that_are_none_are_named(tmp_path: Path, images: list[bytes]) -> None:
    encoded = base64.b64encode(images[0]).decode()
    columns = {"image": ["%%%", encoded, encoded, encoded], "caption": ["a"] * 4, "no": [1.0, None, 3.0, None]}
    file = write(tmp_path / "t.parquet", columns)
    _, skipped = read(file, INLINE)
    assert skipped == {f"{file}, row 1": "the image of 't/0' is not base64"}
    with pytest.raises(RecordError, match=r"row 1: the image id is 1\.0, a float, under no; an id is a string or"):
        ColumnReader(Columns(base64="image", id="no")).load_data(file)
    write(file, {**columns, "no": [1, 2, None, 2]})
    nodes, skipped = read(file, Columns(base64="image", id="no"))
    assert [node.node_id for node in nodes] == ["2"]
    assert skipped[f"{file}, row 4"] == "the image id '2' is listed twice"
    assert skipped[f"{file}, row 3"].startswith("the image id is null, under no")


def test_values_that_python_cannot_read_are_errors_of_their_rows(tmp_path: Path) -> None:
    text = pa.array([b"\xd0\xc2", "裙子".encode()]).view(pa.string())
    file = write(tmp_path / "t.parquet", {"url": [LINK] * 2, "caption": text, "at": pa.array([0, 1], pa.int64())})
    nodes, skipped = read(file, Columns(url="url"))
    assert [node.text for node in nodes] == ["裙子"]
    assert skipped == {f"{file}, row 1": "caption cannot be read as string"}
    far = pa.array([2**58, 0], pa.timestamp("ms"))
    write(file, {"url": [LINK] * 2, "caption": ["a", "b"], "at": far})
    nodes, skipped = read(file, Columns(url="url", metadata=("at",)))
    assert [node.metadata["at"] for node in nodes] == ["1970-01-01T00:00:00"]
    assert skipped == {f"{file}, row 1": "at cannot be read as timestamp[ms]"}


# Files that cannot be used


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(base64="picture"), r"there is no column picture, but \['image', 'caption'\]"),
        (Columns(base64="image", caption="text", id="no"), r"there is no column no nor text, but \["),
        (Columns(base64="image", metadata=("price",)), r"there is no column price, but \["),
        (Columns(base64="image", caption="image"), r"column image holds binary, not text; give a column of images as"),
        (
            Columns(base64="image", id="image"),
            r"column image holds binary, not text; give .* Columns\(base64='image'\)",
        ),
        (Columns(base64="image", image="image"), r"column image holds binary, not text"),
        (Columns(url="image"), r"column image holds binary, not text"),
    ],
)
def test_columns_that_do_not_fit_are_one_error(goods: Path, columns: Columns, message: str) -> None:
    with pytest.raises(RecordError, match=rf"t\.parquet: {message}"):
        ColumnReader(columns).load_data(goods)
    reader = ColumnReader(columns, on_error="skip")
    with pytest.raises(ValueError, match=r"t\.parquet holds no images; .*skipped 1 record"):
        reader.load_data(goods)


@pytest.mark.parametrize(
    ("values", "column_type"),
    [([1], "int64"), ([[b"x"]], "list<.*binary>"), ([{"path": "x"}], "struct<path: string>")],
)
def test_a_column_that_holds_no_images_is_one_error(tmp_path: Path, values: list[Any], column_type: str) -> None:
    file = write(tmp_path / "t.parquet", {"image": values, "caption": ["a"]})
    with pytest.raises(RecordError, match=rf"t\.parquet: column image holds {column_type}, not images: these are"):
        ColumnReader(INLINE).load_data(file)


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([LINK]), pa.array(["a"]), pa.array(["b"])], ["url", "caption", "caption"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(RecordError, match=r"t\.parquet: more than one column is called 'caption'"):
        ColumnReader(Columns(url="url")).load_data(tmp_path / "t.parquet")


@pytest.mark.parametrize("size", [0, 3, 4, 1000, 0.5, 0.9, -9, -8, -4, -1])
def test_a_file_that_is_cut_short_is_an_error(goods: Path, size: float) -> None:
    content = goods.read_bytes()
    goods.write_bytes(content[: int(size * len(content)) if isinstance(size, float) else size])
    with pytest.raises(RecordError, match=r"t\.parquet: not a Parquet file, or one that is cut short \(") as caught:
        ColumnReader(INLINE).load_data(goods)
    assert "\n" not in str(caught.value)


def test_another_file_and_a_damaged_one_are_errors(goods: Path, images: list[bytes]) -> None:
    content = goods.read_bytes()
    for garbage in (b"\xff" * 10_000, b"PAR1" * 100, b"url,caption\n" * 100, images[0]):
        goods.write_bytes(garbage)
        with pytest.raises(RecordError, match=r"t\.parquet: not a Parquet file"):
            ColumnReader(INLINE).load_data(goods)
    middle = len(content) // 2
    goods.write_bytes(content[:20] + bytes(middle) + content[20 + middle :])
    with pytest.raises(RecordError, match=r"t\.parquet, row 1: damaged \(.*the rest of the file is not read"):
        ColumnReader(INLINE).load_data(goods)


def test_rows_before_a_damaged_row_group_are_read(tmp_path: Path, images: list[bytes]) -> None:
    columns = {"image": images, "caption": ["裙子", "帽子", "雨伞"]}
    options = {"row_group_size": 1, "use_dictionary": False, "compression": None, "write_page_checksum": True}
    file = write(tmp_path / "t.parquet", columns, **options)
    content = bytearray(file.read_bytes())
    # Changed bytes in the middle of an image are found by the checksum.
    content[content.index(images[1]) + 100] ^= 1
    file.write_bytes(content)
    nodes, skipped = read(file, INLINE)
    assert [node.text for node in nodes] == ["裙子"]
    assert list(skipped) == [f"{file}, row 2"]


def test_missing_files_and_folders_are_errors_as_in_other_formats(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file: .*t\.parquet; check the path"):
        ColumnReader(INLINE).load_data(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").mkdir()
    with pytest.raises(IsADirectoryError, match=r"t\.parquet is a folder; give the file in it"):
        ColumnReader(INLINE).load_data(tmp_path / "t.parquet")


def test_a_file_without_rows_holds_no_images(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", {"image": pa.array([], pa.binary()), "caption": pa.array([], pa.string())})
    with pytest.raises(ValueError, match=r"t\.parquet holds no images; expected records with image, caption"):
        ColumnReader(INLINE).load_data(file)


def test_files_are_named_with_the_reader_that_reads_them(goods: Path, tiny_embedding: ChineseClipEmbedding) -> None:
    with pytest.raises(ValueError, match=r"no image; .*ColumnReader\(Columns\(…\)\)\.load_data\('.*t\.parquet'\)"):
        build_index(str(goods), embed_model=tiny_embedding)
    with pytest.raises(ValueError, match=r"t\.parquet is not a CSV; .* ColumnReader reads other tables"):
        FolderReader().load_data(goods.parent, goods)


def test_without_pyarrow_the_extra_is_named(goods: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'need pyarrow: pip install "llama-index-mm-zhipu\[parquet\]"'):
        ColumnReader(INLINE).load_data(goods)


# Streaming


def test_rows_are_numbered_across_row_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    urls = [*[f"https://img.example.cn/{number}.jpg" for number in range(999)], "x"]
    file = write(tmp_path / "t.parquet", {"url": urls, "caption": map(str, range(1000))}, row_group_size=300)
    reader = ColumnReader(Columns(url="url"), encoding="gb18030", on_error="skip", show_progress=True)
    nodes = reader.load_data(file)
    assert [node.text for node in nodes] == [str(number) for number in range(999)]
    assert list(reader.skipped) == [f"{file}, row 1000"]
    assert "Reading t.parquet: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("is_same", [False, True])
def test_few_large_rows_are_in_memory_at_a_time(tmp_path: Path, images: list[bytes], is_same: bool) -> None:
    size = 1 << 20
    # JPEG decoders ignore bytes after the end of the image.
    values = [images[0].ljust(size, bytes([0 if is_same else number])) for number in range(64)]
    # Pages of few rows; equal images are stored once, in a dictionary.
    file = write(
        tmp_path / "t.parquet",
        {"image": values, "caption": ["裙子"] * 64},
        compression=None,
        use_dictionary=is_same,
        write_batch_size=4,
    )
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in ColumnReader(INLINE).lazy_load_data(file)]
    assert len(held) == 64
    assert max(held) < 32 * size
