"""Writers of images and captions in the published format of each data set."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from llama_index_mm_zhipu.readers import (
    PRODUCT1M,
    WUDAOMM,
    ChineseClipReader,
    CocoCnReader,
    ColumnReader,
    Columns,
    Flickr8kCnReader,
    Flickr30kCnReader,
    FolderReader,
    ImageReader,
    JsonlReader,
    MugeCaptionReader,
    MugeRetrievalReader,
    WukongReader,
)


class Example(NamedTuple):
    """An image of a data set: an id, a JPEG, a caption."""

    number: int
    image: bytes
    caption: str

    @property
    def base64(self) -> str:
        return base64.b64encode(self.image).decode("ascii")


class Form(NamedTuple):
    """Reader and writer of a data set, and the id within it by the number of an image."""

    reader: Callable[..., ImageReader]
    write: Callable[[Path, list[Example]], tuple[object, ...]]
    node_id: Callable[[int], str] = str


def write_lines(file: Path, lines: list[object]) -> Path:
    """Write one line per item: strings unchanged, other values as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return file


def write_images(folder: Path, examples: list[Example], name: Callable[[int], str]) -> Path:
    for example in examples:
        file = folder / name(example.number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(example.image)
    return folder


def write_tsv(file: Path, examples: list[Example]) -> None:
    write_lines(file, [f"{example.number}\t{example.base64}" for example in examples])


def folder_with_sidecars(root: Path, examples: list[Example]) -> tuple[object, ...]:
    write_images(root, examples, lambda number: f"{number}.jpg")
    for example in examples:
        write_lines(root / f"{example.number}.txt", [example.caption])
    return root, "sidecar"


def article(root: Path, examples: list[Example]) -> tuple[object, ...]:
    records: list[object] = [
        {"image_id": str(example.number), "image_base64": example.base64, "caption": example.caption}
        for example in examples
    ]
    return (write_lines(root / "test.jsonl", records),)


def chinese_clip(root: Path, examples: list[Example], split: str = "test") -> tuple[object, ...]:
    write_tsv(root / f"{split}_imgs.tsv", examples)
    texts: list[object] = [
        {"text_id": 9_000 + example.number, "text": example.caption, "image_ids": [example.number]}
        for example in examples
    ]
    write_lines(root / f"{split}_texts.jsonl", texts)
    return root, split


def muge_retrieval(root: Path, examples: list[Example]) -> tuple[object, ...]:
    write_tsv(root / "MR_valid_imgs.tsv", examples)
    queries: list[object] = [
        {"query_id": example.number, "query_text": example.caption, "item_ids": [example.number]}
        for example in examples
    ]
    write_lines(root / "MR_valid_queries.jsonl", queries)
    return root, "valid"


def muge_captions(root: Path, examples: list[Example]) -> tuple[object, ...]:
    write_tsv(root / "IC_valid.tsv", examples)
    records: list[object] = [{"image_id": str(example.number), "text": [example.caption]} for example in examples]
    write_lines(root / "IC_valid.jsonl", records)
    return root, "valid"


def wukong(root: Path, examples: list[Example]) -> tuple[object, ...]:
    file = root / "wukong_100m_0.csv"
    root.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as rows:
        writer = csv.writer(rows, lineterminator="\n")
        writer.writerow(["url", "caption"])
        writer.writerows([f"https://img.example.cn/{row}.jpg", example.caption] for row, example in enumerate(examples))
    rows_of = {example.number: row for row, example in enumerate(examples)}
    return file, write_images(root / "images", examples, lambda number: f"000/{rows_of[number]:05d}.jpg")


def flickr8k(root: Path, examples: list[Example]) -> tuple[object, ...]:
    lines: list[object] = [f"{example.number}_ab.jpg#zhc#0 {example.caption}" for example in examples]
    write_lines(root / "data" / "flickr8kzhc.caption.txt", lines)
    write_lines(root / "data" / "flickr8ktest.txt", [f"{example.number}_ab" for example in examples])
    return root / "data", write_images(root / "images", examples, lambda number: f"{number}_ab.jpg"), "test"


def flickr30k(root: Path, examples: list[Example]) -> tuple[object, ...]:
    name = "flickr30kzhmbosontest"
    lines: list[object] = [f"{example.number}#zhm#0 {' '.join(example.caption)}" for example in examples]
    write_lines(root / name / "TextData" / f"seg.{name}.caption.txt", lines)
    write_lines(root / name / "ImageSets" / f"{name}.txt", [str(example.number) for example in examples])
    return root, write_images(root / "images", examples, lambda number: f"{number}.jpg"), "test"


def coco_id(number: int) -> str:
    return f"COCO_val2014_{number:012d}"


def coco(root: Path, examples: list[Example]) -> tuple[object, ...]:
    lines: list[object] = [f"{coco_id(example.number)}#0\t{example.caption}" for example in examples]
    write_lines(root / "imageid.human-written-caption.txt", lines)
    write_lines(root / "coco-cn_test.txt", [coco_id(example.number) for example in examples])
    images = write_images(root / "images", examples, lambda number: f"val2014/{coco_id(number)}.jpg")
    return root, images, "test"


def wudaomm(root: Path, examples: list[Example]) -> tuple[object, ...]:
    records = [
        {"name": f"{example.number}.jpg", "tag": "符号", "url": "", "captions": example.caption} for example in examples
    ]
    write_images(root / "Art", examples, lambda number: f"{number}.jpg")
    return write_lines(root / "Art.json", [records]), root / "Art"


def product1m(root: Path, examples: list[Example]) -> tuple[object, ...]:
    lines: list[object] = [
        f"{n}#####{caption}#####https://a.example.cn/a.jpg#####http://b.example.cn/{n}.jpg#####品牌#;#其他\r"
        for n, _, caption in examples
    ]
    images = write_images(root / "images", examples, lambda number: f"{number}.jpg")
    return write_lines(root / "product1m_test_ossurl_v2.txt", lines), images


def table(root: Path, examples: list[Example]) -> tuple[object, ...]:
    rows: list[object] = [f"{number}.jpg\t{caption}" for number, _, caption in examples]
    images = write_images(root / "images", examples, lambda number: f"{number}.jpg")
    return write_lines(root / "t.tsv", ["file\ttext", *rows]), images


def parquet(root: Path, examples: list[Example]) -> tuple[object, ...]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": example.image, "path": f"{example.number}.jpg"} for example in examples]
    columns = {"id": [example.number for example in examples], "image": images}
    captions = [example.caption for example in examples]
    pq.write_table(pa.table({**columns, "text": captions}), root / "train.parquet")
    return (root / "train.parquet",)


FORMS = {
    "folder": Form(FolderReader, folder_with_sidecars, lambda number: f"{number}.jpg"),
    "article": Form(JsonlReader, article),
    "chinese-clip": Form(ChineseClipReader, chinese_clip),
    "muge-retrieval": Form(MugeRetrievalReader, muge_retrieval),
    "muge-captions": Form(MugeCaptionReader, muge_captions),
    "wukong": Form(WukongReader, wukong, lambda number: f"000/{number - 1:05d}"),
    "flickr8k-cn": Form(Flickr8kCnReader, flickr8k, lambda number: f"{number}_ab"),
    "flickr30k-cn": Form(Flickr30kCnReader, flickr30k),
    "coco-cn": Form(CocoCnReader, coco, coco_id),
    "wudaomm": Form(lambda **options: ColumnReader(WUDAOMM, **options), wudaomm, lambda number: f"Art/{number}.jpg"),
    "product1m": Form(lambda **options: ColumnReader(PRODUCT1M, **options), product1m),
    "table": Form(
        lambda **options: ColumnReader(Columns(caption="text", image="file", delimiter="\t"), **options),
        table,
        lambda number: f"t/{number}.jpg",
    ),
    "parquet": Form(
        lambda **options: ColumnReader(Columns(caption="text", base64="image", id="id"), **options), parquet
    ),
}
"""Formats by data set; examples are numbered from 1."""
