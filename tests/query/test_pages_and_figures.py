"""A page and a figure on it are not both sent, because the page shows the figure."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode, NodeWithScore
from outline import images_of

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.images import read_bytes
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.query.sources import Sources
from llama_index_mm_zhipu.readers import PageReader
from llama_index_mm_zhipu.testing import MockGLMServer

MANUAL = Path(__file__).parents[2] / "examples" / "cases" / "car_maintenance.pdf"
QUESTION = "千斤顶应该放在车身的哪个位置？"


@pytest.fixture(scope="module")
def nodes() -> dict[str, ImageNode]:
    """Pages and figures of the car manual by id."""
    reader = PageReader(longest_side=256, id_prefix="", figures=True)
    return {node.node_id.removeprefix("car_maintenance.pdf/"): node for node in reader.load_data(MANUAL)}


@pytest.fixture(scope="module")
def manual(nodes: dict[str, ImageNode], demo_embedding: ChineseClipEmbedding) -> ImageIndex:
    return build_index(list(nodes.values()), embed_model=demo_embedding)


def sent_and_skipped(nodes: dict[str, ImageNode], *names: str, **settings: bool) -> tuple[list[str], dict[str, str]]:
    """Return what is sent of results in this order, and what is left out."""
    results = [NodeWithScore(node=nodes[name], score=1 - index / 10) for index, name in enumerate(names)]
    sources = Sources.of(results, **settings)  # type: ignore[arg-type]
    sent = [result.node.node_id.removeprefix("car_maintenance.pdf/") for result in sources.results]
    return sent, dict(sources.skipped)


def test_a_figure_of_a_page_that_is_sent_is_left_out(nodes: dict[str, ImageNode]) -> None:
    sent, skipped = sent_and_skipped(nodes, "13", "13/figure-2", "14/figure-1")
    assert sent == ["13", "14/figure-1"]
    assert skipped == {"car_maintenance.pdf/13/figure-2": "it is on car_maintenance.pdf/13, which is sent"}


def test_a_page_is_left_out_if_its_figures_come_first(nodes: dict[str, ImageNode]) -> None:
    sent, skipped = sent_and_skipped(nodes, "13/figure-2", "13", "13/figure-1", "12")
    assert sent == ["13/figure-2", "13/figure-1", "12"]
    assert skipped == {"car_maintenance.pdf/13": "its figure car_maintenance.pdf/13/figure-2 is sent"}


def test_the_rule_is_the_same_where_only_texts_are_sent(nodes: dict[str, ImageNode]) -> None:
    assert sent_and_skipped(nodes, "13", "13/figure-2", needs_images=False)[0] == ["13"]


def test_a_figure_stands_in_for_a_page_that_cannot_be_read(nodes: dict[str, ImageNode], tmp_path: Path) -> None:
    gone = nodes["13"].model_copy(update={"image": None, "image_path": str(tmp_path / "gone.jpg")})
    sent, skipped = sent_and_skipped({**nodes, "13": gone}, "13", "13/figure-2")
    assert sent == ["13/figure-2"]
    assert list(skipped) == ["car_maintenance.pdf/13"]


def test_answers_report_what_was_left_out_and_retrieval_is_complete(
    manual: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"similarity_top_k": 4, "vector_store_query_mode": "text_search"}
    found = [result.node.node_id for result in manual.as_retriever(**settings).retrieve(QUESTION)]
    assert {"car_maintenance.pdf/13", "car_maintenance.pdf/13/figure-2"} <= set(found)
    first = min(("car_maintenance.pdf/13", "car_maintenance.pdf/13/figure-2"), key=found.index)

    with caplog.at_level(logging.WARNING):
        response = manual.as_query_engine(llm=llm, **settings).query(QUESTION)

    sent = [source.node.node_id for source in response.source_nodes]
    assert first in sent
    assert set(found) == {*sent, *response.metadata["skipped"]}
    assert not set(sent) & set(response.metadata["skipped"])
    assert len(images_of(server.requests[0])) == len(sent)
    assert not [record for record in caplog.records if "skipped" in record.message]


def test_nothing_is_left_out_without_figures(nodes: dict[str, ImageNode]) -> None:
    sent, skipped = sent_and_skipped(nodes, "12", "13", "14")
    assert (sent, skipped) == (["12", "13", "14"], {})
    assert read_bytes(nodes["13"]) != read_bytes(nodes["13/figure-1"])
