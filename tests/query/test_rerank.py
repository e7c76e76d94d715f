"""Reranking: numbered sheets or one by one, with reasons; the order of retrieval where an answer cannot be read."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, NodeWithScore, QueryBundle, TextNode
from outline import IMAGE, images_of, outline

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.llm import GLMQuotaError
from llama_index_mm_zhipu.query import ImageReranker
from llama_index_mm_zhipu.query.rerank import NOT_READ, RERANK_REASON
from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer, Says

QUESTION = QueryBundle("哪张图里有帽子？")


@pytest.fixture
def candidates(photos: list[Path], captions: dict[str, str]) -> list[NodeWithScore]:
    """Four photographs; the second is of the hat."""
    return [
        NodeWithScore(
            node=ImageNode(id_=photo.name, image_path=str(photo), text=captions[photo.name]), score=1 - place / 10
        )
        for place, photo in enumerate(photos[:4])
    ]


def ids(results: list[NodeWithScore]) -> list[str]:
    return [result.node.node_id for result in results]


def reasons(results: list[NodeWithScore]) -> list[str]:
    return [result.node.metadata[RERANK_REASON] for result in results]


def test_candidates_are_scored_on_a_numbered_sheet(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Says('[{"number":2,"score":9,"reason":"有帽子"},{"number":1,"score":1,"reason":"裙子"}]'))
    found = ImageReranker(llm=llm, top_n=3).postprocess_nodes(candidates, QUESTION)

    (request,) = server.requests
    lines = outline(request)
    assert lines[1:5] == [f"编号{n}：「{result.node.get_content()}」" for n, result in enumerate(candidates, start=1)]
    assert lines[5] == IMAGE
    assert lines[6] == "问题：哪张图里有帽子？"
    sheet = load_image(base64.b64decode(images_of(request)[0]))
    assert sheet.width > 2 * 400
    assert ids(found)[:2] == [candidates[1].node.node_id, candidates[0].node.node_id]
    assert [result.score for result in found] == [9.0, 1.0, -1.0]
    assert reasons(found) == ["有帽子", "裙子", "the model gave no score"]
    assert all(RERANK_REASON not in result.node.metadata for result in candidates)


async def test_or_one_by_one_all_at_a_time(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    found = await ImageReranker(llm=llm, mode="single", top_n=2).apostprocess_nodes(candidates, QUESTION)
    assert len(server.requests) == 4
    assert all(len(images_of(request)) == 1 for request in server.requests)
    assert {load_image(base64.b64decode(images_of(request)[0])).size for request in server.requests} == {
        load_image(photo).size for photo in photos[:4]
    }
    assert ids(found)[0] == photos[1].name
    assert len(found) == 2
    await llm.aclose()


def test_many_candidates_take_several_sheets(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    found = ImageReranker(llm=llm, choice_batch_size=3, language="en").postprocess_nodes(candidates, QUESTION)
    assert sorted(line for request in server.requests for line in outline(request) if line.startswith("Number 1"))
    assert [len(images_of(request)) for request in server.requests] == [1, 1]
    assert ids(found)[0] == photos[1].name


@pytest.mark.parametrize("answer", ["都很好。", "", "[]"])
def test_the_order_of_retrieval_where_an_answer_cannot_be_read(
    candidates: list[NodeWithScore],
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    caplog: pytest.LogCaptureFixture,
    answer: str,
) -> None:
    server.script(Says(answer))
    found = ImageReranker(llm=llm, top_n=3).postprocess_nodes(candidates, QUESTION)
    assert ids(found) == ids(candidates)[:3]
    assert [result.score for result in found] == [result.score for result in candidates[:3]]
    assert reasons(found) == [NOT_READ] * 3
    assert "could not be read: 4 results stay as retrieved" in caplog.text
    assert f"it begins: '{answer}'" in caplog.text


def test_one_unread_sheet_of_two_leaves_all_as_they_were(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Says("都很好。"), None)
    found = ImageReranker(llm=llm, choice_batch_size=2).postprocess_nodes(candidates, QUESTION)
    assert ids(found) == ids(candidates)


def test_the_question_s_image_and_texts_are_shown_too(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    text = NodeWithScore(node=TextNode(id_="text", text="帽子的说明", metadata={"secret": "x"}), score=0.1)
    found = ImageReranker(llm=llm).postprocess_nodes(
        [*candidates, text], QueryBundle("帽子", image_path=str(photos[8]))
    )
    lines = outline(server.requests[0])
    assert lines[:2] == ["用户提供的图片（问题所指，没有编号）：", IMAGE]
    assert "编号5：「帽子的说明」" in lines
    assert "secret" not in "".join(lines)
    assert "text" in ids(found)[:2]


def test_images_that_vanished_come_last_with_the_reason(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer, tmp_path: Path
) -> None:
    candidates[1].node.image_path = str(tmp_path / "vanished.jpg")
    found = ImageReranker(llm=llm).postprocess_nodes(candidates, QUESTION)
    assert ids(found)[-1] == candidates[1].node.node_id
    assert "vanished.jpg" in reasons(found)[-1]


def test_images_by_address_go_out_by_address(llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    node = ImageNode(image_url="http://127.0.0.1:9/cat.jpg", text="猫")
    ImageReranker(llm=llm).postprocess_nodes([NodeWithScore(node=node)], QUESTION)
    assert images_of(server.requests[0]) == ["http://127.0.0.1:9/cat.jpg"]


def test_errors_of_the_api_are_errors(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.fail_next(429, "1113", "您的账户已欠费，请充值后重试。")
    with pytest.raises(GLMQuotaError):
        ImageReranker(llm=llm).postprocess_nodes(candidates, QUESTION)
    with pytest.raises(ValueError, match="ImageReranker needs the question"):
        ImageReranker(llm=llm).postprocess_nodes(candidates)
    assert ImageReranker(llm=llm).postprocess_nodes([], QUESTION) == []


def test_images_of_any_node_class_are_shown(llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]) -> None:
    nodes = [
        ImageDocument(id_="document", image_resource=MediaResource(path=photos[0])),
        Node(id_="node", image_resource=MediaResource(path=photos[1]), text_resource=MediaResource(text="帽子")),
    ]
    found = ImageReranker(llm=llm).postprocess_nodes([NodeWithScore(node=node) for node in nodes], QUESTION)
    assert len(images_of(server.requests[0])) == 1
    assert ids(found) == ["node", "document"]
    assert "编号1：（没有说明）" in outline(server.requests[0])


def test_one_refused_image_does_not_cost_the_others(
    candidates: list[NodeWithScore], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(ErrorAnswer(400, "1301", "系统检测到输入或生成内容可能包含不安全或敏感内容"))
    found = ImageReranker(llm=llm, mode="single").postprocess_nodes(candidates, QUESTION)
    assert sum(result.score == -1 for result in found) == 1
    assert len(found) == 4


def test_nothing_goes_on_after_an_error(
    candidates: list[NodeWithScore], connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    llm = connect(max_concurrency=1)
    server.fail_next(429, "1113", "您的账户已欠费，请充值后重试。")
    with pytest.raises(GLMQuotaError):
        ImageReranker(llm=llm, mode="single").postprocess_nodes(candidates, QUESTION)
    # What was on its way when the error came may arrive later.
    time.sleep(0.3)
    assert len(server.requests) < 4


async def test_answers_rest_on_reranked_images(
    index: ImageIndex, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer, photos: list[Path], key: str
) -> None:
    llm = connect()
    rerank = ImageReranker(llm=llm, top_n=2)
    engine = index.as_query_engine(llm=llm, image_similarity_top_k=8, node_postprocessors=[rerank])
    for response in (engine.query("帽子"), await engine.aquery("帽子")):
        answer = server.requests[-1]
        labels = [line for line in outline(answer) if line.startswith("图")]
        assert [label[:6] for label in labels] == ["图1（相似度", "图2（相似度"]
        assert response.source_nodes[0].node.node_id == photos[1].name
        assert "字在说明里" in reasons(response.source_nodes)[0]
        assert "字在说明里" not in "".join(outline(answer))
    assert not any(part in str(rerank.to_dict()) + repr(rerank) for part in key.split("."))
    await llm.aclose()
