"""Citations: which images an answer names, in the forms in which models write them."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.query import citations_in
from llama_index_mm_zhipu.query.citations import mentions_in
from llama_index_mm_zhipu.testing import MockGLMServer, Says

SOURCES = [
    NodeWithScore(node=TextNode(id_="text", text="说明")),
    *[NodeWithScore(node=ImageNode(id_=name)) for name in ("a", "b", "c", "d")],
]


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        ("红色（图1）。", "a"),
        ("见图2和图1，再看图2。", "ba"),
        ("如图 3、图４所示", "cd"),
        ("图1、2和4都有", "abd"),
        ("图1，3", "ac"),
        ("图1至3", "abc"),
        ("图2-4", "bcd"),
        ("图片2：帽子", "b"),
        ("【图1】[图2]", "ab"),
        ("Picture 1 and 2; see pictures 3, 4", "abcd"),
        ("没有答案", ""),
        ("图表1、地图", ""),
        ("图1和2个苹果", "a"),
        ("图3.5是架构", ""),
        ("图2-1是架构", ""),
        ("图1中的图2-1", "a"),
        ("图1、2.5米", "a"),
        ("图1，2人在散步", "a"),
        ("图1，3D打印；图1、2双鞋", "a"),
        ("Picture 1 and 2 hats; Picture 1 - 2 hats on it; picture 1, 3 people", "a"),
        ("图1，10cm", "a"),
        ("地图2、截图3", ""),
        ("图3至图1", "ca"),
        ("图2至图4", "bcd"),
        ("Pictures 1 and 2 show", "ab"),
        ("Pictures 1, 2, and 3", "abc"),
        ("Pictures 1 to 3; pictures 2 through 4", "abcd"),
        ("图1或2", "ab"),
        ("图1和3顶帽子、图1与2根木棍", "a"),
        ("流程图2、示意图3、意图1", ""),
        ("图[2]，图**1**", "ba"),
        ("红色[图1][图3]。蓝色【图2】", "acb"),
        ("[图1、图3]，（图2至4）", "acbd"),
        ("[图1，2]；[图 3,4]", "abcd"),
        ("[Picture 1][Picture 3]; [Pictures 2 and 4]", "acbd"),
        ("户型图3室2厅，效果图4K，图2S店", ""),
        ("户型图3[图1]", "a"),
        ("图1和2号车；图3，4号线", "ac"),
        ("图1，2，3都有", "abc"),
        ("图1、2中，图3，4显示", "abcd"),
        ("图1号楼，图2层，图3室", ""),
        ("心电图1、设计图2、正面图3、三视图4", ""),
        ("对比图1和图2，请参考图3；如果图4", "abcd"),
        ("这是图1而不是图2，不同于图3", "abc"),
        ("结果图1显示，只有图2里有", "ab"),
    ],
)
def test_what_counts_as_a_citation(answer: str, cited: str) -> None:
    nodes, unknown = citations_in(answer, SOURCES)
    assert "".join(node.node_id for node in nodes.values()) == cited
    assert unknown == []


def test_citations_are_found_by_name_in_either_language() -> None:
    assert list(citations_in("图2", SOURCES).nodes) == ["图2"]
    assert list(citations_in("图2", SOURCES, "en").nodes) == ["Picture 2"]


def test_numbers_that_no_image_has() -> None:
    nodes, unknown = citations_in("图1、图7和图0，图7", SOURCES)
    assert list(nodes) == ["图1"]
    assert unknown == ["图7", "图0"]


def test_the_response_maps_citations_to_nodes(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(Says("帽子在图2，不在图9。"))
    response = index.as_query_engine(llm=llm, image_similarity_top_k=3).query("哪张图里有帽子？")

    assert [Path(str(source.node.image_path)).is_file() for source in response.source_nodes] == [True] * 3
    assert response.metadata["citations"] == {"图2": response.source_nodes[1].node.node_id}
    assert response.metadata["unknown_citations"] == ["图9"]
    assert "the answer cites 图9, and no image has that name" in caplog.text


def test_a_stream_has_its_citations_at_its_end(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    server.script(Says("帽子在图1。"))
    response = index.as_query_engine(llm=llm, streaming=True).query("哪张图里有帽子？")
    assert "citations" not in response.metadata
    assert "".join(response.response_gen) == "帽子在图1。"
    assert list(response.metadata["citations"]) == ["图1"]


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("见图1、2和3。", [("图1", (1,)), ("2", (2,)), ("3", (3,))]),
        ("图1至3，图5", [("图1", (1,)), ("3", (2, 3)), ("图5", (5,))]),
        ("图1至图3都有", [("图1", (1,)), ("图3", (2, 3))]),
        ("Picture 1 to Picture 3, Picture 2", [("Picture 1", (1,)), ("Picture 3", (2, 3)), ("Picture 2", (2,))]),
        ("图2-1和图[4]", [("图[4]", (4,))]),
    ],
)
def test_mentions_are_found_once_and_where_they_are_written(
    answer: str, written: list[tuple[str, tuple[int, ...]]]
) -> None:
    mentions = list(mentions_in(answer))
    assert [(answer[mention.start : mention.end], mention.numbers) for mention in mentions] == written
    assert all(before.end <= after.start for before, after in pairwise(mentions))


async def test_an_async_stream_has_its_citations_at_its_end(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Says("帽子在图2。"))
    response = await index.as_query_engine(llm=llm, streaming=True).aquery("哪张图里有帽子？")
    pieces = [piece async for piece in response.async_response_gen()]
    assert "".join(pieces) == "帽子在图2。"
    assert len(pieces) > 1
    assert list(response.metadata["citations"]) == ["图2"]


def test_nothing_is_warned_of_without_cause(
    index: ImageIndex, llm: ZhipuMultiModal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    response = index.as_query_engine(llm=llm).query("哪张图里有帽子？")
    assert list(response.metadata["citations"]) == ["图1", "图2"]
    assert response.metadata["unknown_citations"] == []
    assert caplog.text == ""
