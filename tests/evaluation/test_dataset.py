"""Queries are made from captions, from texts with image ids, and from questions."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode
from published_forms import Example, chinese_clip

from llama_index_mm_zhipu.evaluation import RetrievalDataset, RetrievalQuery
from llama_index_mm_zhipu.readers import ChineseClipReader
from llama_index_mm_zhipu.readers.records import Source

NODES = [
    ImageNode(id_="1", text="一只猫\n 猫在睡觉 "),
    ImageNode(id_="2", text="一只猫\n\n一只猫"),
    ImageNode(id_="3"),
]


def test_equal_captions_are_one_query_of_several_images() -> None:
    dataset = RetrievalDataset.from_nodes(iter(NODES))
    assert dataset.queries == [RetrievalQuery("一只猫", ("1", "2")), RetrievalQuery("猫在睡觉", ("1",))]
    assert dataset.texts_by_image() == {"1": [0, 1], "2": [0]}


def test_equal_captions_may_stay_separate_queries() -> None:
    dataset = RetrievalDataset.from_nodes(NODES, merge_equal_captions=False)
    assert [query.image_ids for query in dataset.queries] == [("1",), ("1",), ("2",), ("2",)]
    assert dataset.texts_by_image() == {"1": [0, 1], "2": [2, 3]}


def test_invalid_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="no queries: no image has a caption"):
        RetrievalDataset.from_nodes(NODES[2:])
    with pytest.raises(ValueError, match="the query '猫' has no image"):
        RetrievalDataset([RetrievalQuery("猫", ())])
    with pytest.raises(TypeError, match="the images of '猫' are '12'; give a tuple of node ids"):
        RetrievalDataset([RetrievalQuery("猫", "12")])  # type: ignore[arg-type]
    for query in (("猫",), (5, ("1",)), "猫"):
        with pytest.raises(TypeError, match="is not a text with a tuple of node ids"):
            RetrievalDataset([query])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"is not a node; for your own questions use RetrievalDataset\(\[…\]\)"):
        RetrievalDataset.from_nodes([RetrievalQuery("猫", ("1",))])  # type: ignore[list-item]


def test_ids_may_be_numbers_and_queries_a_generator() -> None:
    dataset = RetrievalDataset(query for query in [("猫", [12, "12", 3])])  # type: ignore[arg-type]
    assert dataset.queries == [RetrievalQuery("猫", ("12", "3"))]


def test_equal_texts_of_a_data_set_stay_separate_queries() -> None:
    dataset = RetrievalDataset.from_texts([("猫", ["1", "2"]), ("无", []), ("猫", ["3"])])
    assert dataset.queries == [RetrievalQuery("猫", ("1", "2")), RetrievalQuery("猫", ("3",))]


def test_texts_of_a_reader_become_queries(examples: list[Example], tmp_path: Path) -> None:
    chinese_clip(tmp_path, examples[:2])
    dataset = RetrievalDataset.from_texts(ChineseClipReader().load_texts(tmp_path, "test"))
    first, second = (Source.of(tmp_path).id_of(number) for number in ("1", "2"))
    assert dataset.queries == [RetrievalQuery("飞机", (first,)), RetrievalQuery("闹钟", (second,))]


def test_a_data_set_can_be_restricted_to_some_images() -> None:
    dataset = RetrievalDataset([RetrievalQuery("猫", ("1", "2")), RetrievalQuery("狗", ("3",))])
    assert dataset.restricted_to({"2", "9"}).queries == [RetrievalQuery("猫", ("2",))]
