"""Images in folders, with captions and metadata from sidecar files and CSV files."""

from __future__ import annotations

import csv
import os
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, read_folder
from llama_index_mm_zhipu.readers import (
    FolderReader,
    ImageReader,
    JsonlReader,
    MugeRetrievalReader,
    PageReader,
    RecordError,
    VideoReader,
    WukongReader,
)


def test_images_are_sorted_and_their_ids_are_paths(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "slides").mkdir()
    shutil.copy(photos[0], tmp_path / "slides" / "b.JPG")
    shutil.copy(photos[1], tmp_path / "a.jpeg")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "paper.pdf").write_text("no image either")

    nodes = read_folder(tmp_path, id_prefix="")

    assert [node.node_id for node in nodes] == ["a.jpeg", "slides/b.JPG"]
    assert [node.image_path for node in nodes] == [str(tmp_path / "a.jpeg"), str(tmp_path / "slides" / "b.JPG")]
    assert [node.metadata["file_name"] for node in nodes] == ["a.jpeg", "slides/b.JPG"]
    assert [node.node_id for node in read_folder(tmp_path, recursive=False, id_prefix="")] == ["a.jpeg"]


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_folder(tmp_path / "nowhere")


def test_hidden_files_and_other_files_are_left_out(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    (tmp_path / "._a.jpg").write_bytes(b"of macOS")
    (tmp_path / ".thumbnails").mkdir()
    shutil.copy(photos[0], tmp_path / ".thumbnails" / "b.jpg")
    (tmp_path / "film.mpg").write_bytes(b"a film")
    assert [node.node_id for node in read_folder(tmp_path, id_prefix="")] == ["a.jpg"]


def test_paths_are_absolute(tmp_path: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    monkeypatch.chdir(tmp_path)
    (node,) = read_folder(".")
    assert node.image_path == str(tmp_path / "a.jpg")
    assert node.hash == read_folder(tmp_path)[0].hash


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system that takes any name")
def test_a_name_that_is_not_utf_8_is_an_error(tmp_path: Path, photos: list[Path]) -> None:
    shutil.copy(photos[0], os.path.join(os.fsencode(tmp_path), b"\xff.jpg"))  # noqa: PTH118
    with pytest.raises(ValueError, match=r"\.jpg: the name is not UTF-8; rename it"):
        read_folder(tmp_path)


# Captions


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    for photo, name in zip(photos, ("a.jpg", "b.jpg", "deep/c.jpg", "d.jpg"), strict=False):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_captions_are_read_from_sidecar_files(folder: Path) -> None:
    (folder / "a.txt").write_text("\ufeff一条裙子\n\n红色的\n", encoding="utf-8")
    (folder / "b.json").write_text('{"caption": "帽子"}', encoding="utf-8")
    (folder / "deep" / "c.json").write_text('["外套", "蓝色"]', encoding="utf-8")
    found = {node.node_id: node.text for node in read_folder(folder, captions="sidecar", id_prefix="")}
    assert found == {"a.jpg": "一条裙子\n红色的", "b.jpg": "帽子", "d.jpg": "", "deep/c.jpg": "外套\n蓝色"}
    assert {node.text for node in read_folder(folder)} == {""}


def test_captions_are_read_from_a_csv(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(
        '\ufefffile_name,caption\n./a.jpg,"裙子, 红色"\n\ndeep\\c.jpg,外套\na.jpg,"两行\n说明"\n', encoding="utf-8"
    )
    found = {node.node_id: node.text for node in read_folder(folder, captions=table, id_prefix="")}
    assert found == {"a.jpg": "裙子, 红色\n两行 说明", "b.jpg": "", "d.jpg": "", "deep/c.jpg": "外套"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            "裙子\n".encode() + "裙子很好看".encode("gbk"),
            r"a\.txt, line 2: not UTF-8 \(byte \d\), but perhaps GBK",
        ),
        ("a.txt", b"\xff\xfe\xff", r"a\.txt, line 1: not utf-16; give another encoding, such as encoding='gb18030'"),
        ("a.json", b"{\n,", r"a\.json, line 2: not JSON"),
        ("a.json", b'{"name": "x"}', r"a\.json, line 1: not a caption, nor an object with caption"),
    ],
)
def test_an_invalid_sidecar_file_is_an_error_or_skipped(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_folder(folder, captions="sidecar")
    reader = FolderReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(folder, "sidecar")] == ["b.jpg", "d.jpg", "deep/c.jpg"]
    assert reader.skipped.count == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "name,caption\na.jpg,裙子",
            r"captions\.csv, line 1: there is no column file_name, but \['name', 'caption'\]; name yours with",
        ),
        ("a;b\n1;2", r"captions\.csv, line 1: there is no column file_name nor caption, but \['a;b'\]"),
        ("file_name,caption,p,p\n", r"captions\.csv, line 1: more than one column is called 'p'"),
        ("file_name,caption,content_hash\n", r"captions\.csv, line 1: the column 'content_hash' has the name of this"),
        ("file_name,caption,source_location\n", r"line 1: the column 'source_location' has the name of this"),
        ("file_name,caption\n\na.jpg", r"captions\.csv, line 3: a row without caption"),
        ("file_name,caption\nx.jpg,裙子", r"captions\.csv, line 2: there is no image x\.jpg in"),
        ('file_name,caption\na.jpg,"裙"子', r"captions\.csv, line 2: not a row of a CSV"),
        ("", r"captions\.csv: the file is empty; expected a header with file_name and caption"),
    ],
)
def test_an_invalid_csv_is_an_error(folder: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "captions.csv").write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read_folder(folder, captions=tmp_path / "captions.csv")


@pytest.mark.parametrize("content", ["", "name,caption\na.jpg,裙子", "file_name,caption,caption\na.jpg,裙子,裤子"])
def test_a_table_without_its_columns_is_an_error_even_where_records_are_skipped(
    folder: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "captions.csv").write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=r"captions\.csv"):
        FolderReader(on_error="skip").load_data(folder, tmp_path / "captions.csv")


def test_columns_of_the_csv_may_have_other_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("图片,说明\na.jpg,裙子\n", encoding="utf-8")
    reader = FolderReader(name_column="图片", caption_column="说明")
    assert reader.load_data(folder, tmp_path / "captions.csv")[0].text == "裙子"


def test_a_csv_may_have_absolute_paths_and_no_captions(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "goods.csv").write_text(f"file_name,price\n{folder / 'a.jpg'},5\ndeep/c.jpg,7\n", encoding="utf-8")
    nodes = read_folder(folder, captions=tmp_path / "goods.csv", caption_column=None)
    assert {node.metadata["file_name"]: (node.text, node.metadata.get("price")) for node in nodes} == {
        "a.jpg": ("", 5),
        "b.jpg": ("", None),
        "d.jpg": ("", None),
        "deep/c.jpg": ("", 7),
    }
    with pytest.raises(RecordError, match="which is None where there are no captions"):
        read_folder(folder, captions=tmp_path / "goods.csv")


def test_captions_in_other_formats_are_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text('{"a.jpg": "裙子"}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"captions\.jsonl is not a CSV; captions are 'sidecar' or a CSV"):
        read_folder(folder, captions=tmp_path / "captions.jsonl")
    with pytest.raises(TypeError, match="captions is True; give a path"):
        read_folder(folder, captions=True)  # type: ignore[arg-type]


# Metadata


GOODS = """编号,图片,标题,价格,重量,货号,条码,库存,备注,
1,a.jpg,"裙子, 红",199,1.5,007,6901234567890123,12,,
2,deep\\c.jpg,外套,,0.25,8,6901234567890124,1,"好
看",
3,b.jpg,帽子,89,2,0123,6901234567890125,,热卖,
"""
COLUMNS = {"name_column": "图片", "caption_column": "标题"}


def metadata_by_id(nodes: list[ImageNode]) -> dict[str, dict[str, object]]:
    """Return the metadata of nodes that come from a table."""
    own = ("file_name", "content_hash", "source_root", "source_location")
    return {node.node_id: {key: node.metadata[key] for key in node.metadata if key not in own} for node in nodes}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_other_columns_become_metadata_with_numbers(
    folder: Path, tmp_path: Path, encoding: str, delimiter: str
) -> None:
    table = tmp_path / "goods.csv"
    rows = csv.reader(StringIO(GOODS))
    with table.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    nodes = read_folder(folder, captions=table, id_prefix="", **COLUMNS)
    assert {node.node_id: node.text for node in nodes}["a.jpg"] == "裙子, 红"
    assert metadata_by_id(nodes) == {
        "a.jpg": {"编号": 1, "价格": 199, "重量": 1.5, "货号": "007", "条码": "6901234567890123", "库存": 12},
        "b.jpg": {
            **{"编号": 3, "价格": 89, "重量": 2.0, "货号": "0123", "条码": "6901234567890125", "备注": "热卖"},
        },
        "d.jpg": {},
        "deep/c.jpg": {"编号": 2, "重量": 0.25, "货号": "8", "条码": "6901234567890124", "库存": 1, "备注": "好\n看"},
    }
    assert {type(node.metadata["价格"]) for node in nodes if "价格" in node.metadata} == {int}


def test_a_filter_compares_numbers_of_a_csv(folder: Path, tmp_path: Path, demo_embedding: ChineseClipEmbedding) -> None:
    (tmp_path / "goods.csv").write_text(GOODS, encoding="utf-8")
    nodes = read_folder(folder, captions=tmp_path / "goods.csv", id_prefix="", **COLUMNS)
    index = build_index(nodes, embed_model=demo_embedding)
    dear = MetadataFilters(filters=[MetadataFilter(key="价格", value=100, operator=FilterOperator.GTE)])
    found = index.as_retriever(filters=dear, image_similarity_top_k=10).retrieve("裙子")
    assert [result.node.node_id for result in found] == ["a.jpg"]
    as_text = MetadataFilters(filters=[MetadataFilter(key="货号", value=7, operator=FilterOperator.EQ)])
    with pytest.raises(ValueError, match="compares numbers with text"):
        index.as_retriever(filters=as_text).retrieve("裙子")


def test_metadata_changes_the_hash_and_not_the_vector(
    folder: Path, tmp_path: Path, demo_embedding: ChineseClipEmbedding
) -> None:
    table = tmp_path / "goods.csv"
    hashes, vectors = set(), []
    for price in (1, 2):
        table.write_text(f"file_name,caption,price\na.jpg,裙子,{price}\n", encoding="utf-8")
        node = read_folder(folder, captions=table)[0]
        hashes.add(node.hash)
        vectors.append(demo_embedding([node])[0].embedding)
    assert len(hashes) == 2
    assert vectors[0] == vectors[1]


def test_of_several_rows_of_an_image_the_first_values_are_kept(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "goods.csv"
    table.write_text("file_name,caption,price,kind\na.jpg,裙子,,x\na.jpg,红色,5,x\na.jpg,新款,6,y\n", encoding="utf-8")
    nodes = read_folder(folder, captions=table, id_prefix="")
    assert nodes[0].text == "裙子\n红色\n新款"
    assert metadata_by_id(nodes)["a.jpg"] == {"price": 5, "kind": "x"}
    (message,) = caplog.messages
    assert message.startswith("2 values differ between rows of one image; the first of each is kept (")
    assert "line 4: price of a.jpg is '6', and '5' before" in message


def test_another_column_called_file_name_is_an_error(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "goods.csv"
    table.write_text("图片,caption,file_name\na.jpg,裙子,x\n", encoding="utf-8")
    with pytest.raises(
        RecordError, match=r"goods\.csv, line 1: the column 'file_name' has the name of this package's own"
    ):
        read_folder(folder, captions=table, name_column="图片")


# Encodings


def test_sidecar_files_in_gbk_are_read_with_one_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "a.txt").write_bytes("一条红色的裙子".encode("gbk"))
    (folder / "b.json").write_bytes('{"caption": "一顶很好看的帽子"}'.encode("gbk"))
    found = {node.node_id: node.text for node in read_folder(folder, captions="sidecar", id_prefix="")}
    assert (found["a.jpg"], found["b.jpg"]) == ("一条红色的裙子", "一顶很好看的帽子")
    (message,) = caplog.messages
    assert "2 files with captions, such as " in message
    assert "read as GB18030 (GBK)" in message
    caplog.clear()
    read_folder(folder, captions="sidecar", encoding="gbk")
    assert caplog.messages == []


@pytest.mark.parametrize(("content", "caption"), [("NaN", ""), ('{"caption": NaN}', ""), ('["裙子", NaN]', "裙子")])
def test_nan_in_a_sidecar_file_is_no_caption(folder: Path, content: str, caption: str) -> None:
    (folder / "a.json").write_text(content, encoding="utf-8")
    assert read_folder(folder, captions="sidecar")[0].text == caption


# Links


@pytest.fixture
def linked(folder: Path, photos: list[Path], tmp_path: Path) -> Path:
    """A folder with links to files and folders inside and outside it, including cycles."""
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(photos[5], outside / "o.jpg")
    (outside / "secret.txt").write_text("secret")
    try:
        (folder / "inside.jpg").symlink_to("a.jpg")
    except OSError:
        pytest.skip("this system makes no links")
    (folder / "o.jpg").symlink_to(outside / "o.jpg")
    (folder / "a.txt").symlink_to(outside / "secret.txt")
    (folder / "folder").symlink_to(outside, target_is_directory=True)
    (folder / "deep" / "circle").symlink_to(folder, target_is_directory=True)
    (folder / "broken.jpg").symlink_to("gone.jpg")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    return folder


def test_links_out_of_the_folder_are_left_out_with_a_warning(
    linked: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    nodes = {node.node_id: node.text for node in read_folder(linked, captions="sidecar", id_prefix="")}
    assert nodes == {"a.jpg": "", "b.jpg": "", "d.jpg": "", "deep/c.jpg": "", "inside.jpg": ""}
    (message,) = caplog.messages
    assert message == (
        f"left out 3 links to outside of {linked}, such as folder -> {(tmp_path / 'outside').resolve()}; "
        "follow_links=True reads them"
    )


def test_links_are_followed_on_request_and_cycles_end(linked: Path, caplog: pytest.LogCaptureFixture) -> None:
    nodes = read_folder(linked, captions="sidecar", follow_links=True, id_prefix="")
    texts = {node.node_id: node.text for node in nodes}
    assert texts.pop("a.jpg") == "secret"
    assert sorted(texts) == ["b.jpg", "d.jpg", "deep/c.jpg", "folder/o.jpg", "inside.jpg", "o.jpg"]
    assert caplog.messages == []


def test_the_error_of_a_folder_with_only_links_names_follow_links(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "links").mkdir()
    try:
        (tmp_path / "links" / "a.jpg").symlink_to(photos[0])
    except OSError:
        pytest.skip("this system makes no links")
    with pytest.raises(ValueError, match=r"links holds no images; left out 1 link .*; follow_links=True reads them"):
        read_folder(tmp_path / "links")
    (node,) = read_folder(tmp_path / "links", follow_links=True, id_prefix="")
    assert node.node_id == "a.jpg"


def test_a_folder_that_is_a_link_is_read(linked: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(linked, target_is_directory=True)
    nodes = read_folder(tmp_path / "link", recursive=False, id_prefix="")
    assert [node.node_id for node in nodes] == ["a.jpg", "b.jpg", "d.jpg", "inside.jpg"]


# Arguments


@pytest.mark.parametrize(
    "reader", [FolderReader, JsonlReader, PageReader, VideoReader, MugeRetrievalReader, WukongReader]
)
def test_an_unknown_argument_is_an_error(reader: type[ImageReader]) -> None:
    with pytest.raises(TypeError, match="on_eror"):
        reader(on_eror="skip")  # type: ignore[call-arg]


def test_an_unknown_encoding_is_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="encoding is 'gbkk', which is not a text encoding that Python knows"):
        read_folder(folder, encoding="gbkk")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs permissions that are heeded")
def test_folders_that_cannot_be_listed_are_a_warning(
    tmp_path: Path, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    (tmp_path / "closed").mkdir()
    shutil.copy(photos[1], tmp_path / "closed" / "b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        assert len(read_folder(tmp_path)) == 1
        assert "left out 1 folder in" in caplog.text
        with pytest.raises(PermissionError, match="closed"):
            read_folder(tmp_path / "closed")
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize("name", ["goods.xlsx", "goods.XLS", "goods.ods"])
def test_a_workbook_instead_of_a_csv_is_an_error(tmp_path: Path, photos: list[Path], name: str) -> None:
    shutil.copy(photos[0], tmp_path / "a.jpg")
    (tmp_path / name).write_bytes(b"PK\x03\x04\xff")
    with pytest.raises(RecordError, match=rf"{name}: a workbook, not a text file; save it as CSV"):
        read_folder(tmp_path, captions=tmp_path / name)
