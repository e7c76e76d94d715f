"""What is asked: messages of LlamaIndex, an image and a prompt, and questions that no context holds."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import Document, ImageNode, NodeWithScore, QueryBundle
from outline import IMAGE, images_of, outline
from PIL import Image
from pydantic import Field

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.query import ImageQueryEngine
from llama_index_mm_zhipu.query.question import as_bundle
from llama_index_mm_zhipu.testing import MockGLMServer

OWN_IMAGE = "用户提供的图片（问题所指，没有编号）："


def sent_bytes(request: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(image) for image in images_of(request)]


class ReadOnce(BytesIO):
    """A stream that cannot go back."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: int) -> int:
        raise OSError("not seekable")


class KeepsOne(BaseNodePostprocessor):
    """Keeps the first result, and records the questions."""

    asked: list[str] = Field(default_factory=list)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        self.asked.append(query_bundle.query_str if query_bundle else "")
        return nodes[:1]


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("query_mode", ["fused", "image", "text"])
async def test_image_query_searches_by_the_image_and_asks_the_prompt(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], use_async: bool, query_mode: Any
) -> None:
    engine = index.as_query_engine(llm=llm, query_mode=query_mode, image_similarity_top_k=2)
    expected = [result.node.node_id for result in index.as_retriever().image_to_image_retrieve(photos[4])]
    with Image.open(photos[4]) as opened:
        forms = [
            str(photos[4]),
            photos[4],
            photos[4].read_bytes(),
            BytesIO(photos[4].read_bytes()),
            ReadOnce(photos[4].read_bytes()),
            opened,
            ImageNode(image_path=str(photos[4])),
            ImageBlock(path=photos[4]),
            QueryBundle("鞋", image_path=str(photos[4])),
        ]
        for image in forms:
            if use_async:
                response = await engine.aimage_query(image, "哪里有帽子？")  # type: ignore[arg-type]
            else:
                response = engine.image_query(image, "哪里有帽子？")  # type: ignore[arg-type]
            assert [source.node.node_id for source in response.source_nodes] == expected
            request = server.requests[-1]
            assert outline(request)[:3] == [OWN_IMAGE, IMAGE, "基于以下相似图片信息："]
            assert outline(request)[-1] == "问题：哪里有帽子？"
            if not isinstance(image, Image.Image):
                assert sent_bytes(request)[0] == photos[4].read_bytes()
    await llm.aclose()


def test_image_query_takes_any_retriever_and_applies_postprocessors(
    index: ImageIndex, llm: ZhipuMultiModal, photos: list[Path]
) -> None:
    fusion = QueryFusionRetriever([index.as_retriever()], llm=llm, num_queries=1, use_async=False)
    keep_one = KeepsOne()
    response = ImageQueryEngine.from_args(fusion, llm, node_postprocessors=[keep_one]).image_query(
        photos[4], "这是什么？"
    )
    (expected, *_) = index.as_retriever().image_to_image_retrieve(photos[4])
    assert [source.node.node_id for source in response.source_nodes] == [expected.node.node_id]
    assert keep_one.asked == ["这是什么？"]


def test_image_query_needs_an_image(index: ImageIndex, llm: ZhipuMultiModal) -> None:
    with pytest.raises(ValueError, match="image_path is a question without an image"):
        index.as_query_engine(llm=llm).image_query(QueryBundle("帽子"), "这是什么？")
    with pytest.raises(ImageError, match=r"none\.jpg"):
        index.as_query_engine(llm=llm).image_query("none.jpg", "这是什么？")


@pytest.mark.parametrize("use_async", [False, True])
async def test_a_chat_message_is_a_question(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], use_async: bool
) -> None:
    message = ChatMessage(blocks=[TextBlock(text="有何不同？"), *(ImageBlock(path=photo) for photo in photos[4:6])])
    retriever = index.as_retriever(query_mode="image", image_similarity_top_k=1)
    engine = ImageQueryEngine.from_args(retriever, llm)
    if use_async:
        found, response = await retriever.aretrieve(message), await engine.aquery(message)
    else:
        found, response = retriever.retrieve(message), engine.query(message)
    (expected,) = retriever.retrieve(photos[4])
    assert [result.node.node_id for result in found] == [expected.node.node_id]
    assert [source.node.node_id for source in response.source_nodes] == [expected.node.node_id]
    assert outline(server.requests[0])[:4] == [OWN_IMAGE, IMAGE] * 2
    assert sent_bytes(server.requests[0])[:2] == [photo.read_bytes() for photo in photos[4:6]]
    await llm.aclose()


# Questions that no context holds


@pytest.mark.parametrize(
    "mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "generation"]
)
@pytest.mark.parametrize("use_async", [False, True])
async def test_a_question_that_no_context_holds_is_refused(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, mode: str, use_async: bool
) -> None:
    engine = index.as_query_engine(llm=llm, response_mode=mode)
    tokens = "at least 50000" if mode == "generation" else "about 200000"
    said = f"the question has 100000 characters, {tokens} tokens, and glm-4v-flash takes 16384, 1024 of .*shorten"
    with pytest.raises(ValueError, match=said):
        await engine.aquery("啊" * 100_000) if use_async else engine.query("啊" * 100_000)
    with pytest.raises(ValueError, match="the question has 100000 characters"):
        engine.image_query(index.image_store.get_nodes()[0], "啊" * 100_000)
    assert server.requests == []


def test_questions_of_megabytes_are_refused_without_counting_all(index: ImageIndex, llm: ZhipuMultiModal) -> None:
    with pytest.raises(ValueError, match="the question has 20000000 characters, about 40000000 tokens"):
        index.as_query_engine(llm=llm).query("啊" * 20_000_000)


def test_modes_without_an_llm_take_questions_of_any_length(index: ImageIndex, llm: ZhipuMultiModal) -> None:
    assert index.as_query_engine(llm=llm, response_mode="no_text").query("帽子" * 20_000).source_nodes


@pytest.mark.parametrize("mode", ["compact", "refine"])
def test_long_questions_and_long_sources_go_together(
    demo_embedding: ChineseClipEmbedding, llm: ZhipuMultiModal, server: MockGLMServer, mode: str
) -> None:
    index = build_index([Document(text="轮胎气压二百三十千帕。" * 900)], embed_model=demo_embedding)
    question = "轮胎气压是多少？" * 200
    assert question[:8] in str(index.as_query_engine(llm=llm, response_mode=mode).query(question))
    assert server.requests
    with pytest.raises(ValueError, match=r"leave no room for texts: the model takes 16384.*shorten the question"):
        index.as_query_engine(llm=llm, response_mode=mode).query("轮胎气压是多少？" * 1_270)


def test_no_bytes_are_in_the_repr_of_a_question(photos: list[Path]) -> None:
    data = photos[0].read_bytes()
    for image in (data, bytearray(data), QueryBundle("帽子", image_path=data), ImageBlock(image=data)):  # type: ignore[arg-type]
        assert len(repr(as_bundle(image))) < 100
        assert as_bundle(image).image_path is not None
    block = ChatMessage(blocks=[ImageBlock(image=data), TextBlock(text="帽子？")])
    assert repr(as_bundle(block)) == f"ImageQuestion('帽子？', images=[an image given as {len(data)} bytes])"


def test_halves_of_characters_are_replaced_in_every_form_of_a_question(photos: list[Path]) -> None:
    image = str(photos[0])
    message = ChatMessage(content="帽子\ud83d")
    for question in ("帽子\ud83d", QueryBundle("帽子\ud83d"), QueryBundle("帽子\ud83d", image_path=image), message):
        assert as_bundle(question).query_str == "帽子\ufffd"
