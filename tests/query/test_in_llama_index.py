"""LlamaIndex's own engines, retrievers, routers and agents on our retriever and engine, and our parts in its index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import StorageContext
from llama_index.core.agent.workflow import FunctionAgent, ReActAgent
from llama_index.core.indices import MultiModalVectorStoreIndex, VectorStoreIndex
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine, RouterQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import ImageNode, QueryBundle, TextNode
from llama_index.core.selectors import LLMMultiSelector, LLMSingleSelector, PydanticSingleSelector
from llama_index.core.tools import QueryEngineTool
from outline import IMAGE, images_of, outline

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, ZhipuMultiModal
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.query import ImageNumbering, ImageQueryEngine
from llama_index_mm_zhipu.testing import MockGLMServer

Connect = Callable[..., ZhipuMultiModal]
QUESTION = "哪张图里有帽子？"


# Engines on our retriever


def test_the_stock_engine_shows_labels(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    engine = RetrieverQueryEngine.from_args(index.as_retriever(image_similarity_top_k=2), llm=llm, multimodal=True)
    response = engine.query(QUESTION)
    lines = outline(server.requests[0])
    for number, source in enumerate(response.source_nodes, start=1):
        label = f"检索到的图片: 图{number}（相似度 {source.score:.3g}）：「{source.node.get_content()}」"
        assert lines[lines.index(label) + 1] == IMAGE


def test_the_citation_engine_shows_labels(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    engine = CitationQueryEngine.from_args(
        index, llm=llm, retriever=index.as_retriever(image_similarity_top_k=2), multimodal=True
    )
    response = engine.query(QUESTION)
    lines = outline(server.requests[0])
    labels = [line for line in lines if line.startswith("检索到的图片: 图")]
    assert [label[8:10] + label[-9:] for label in labels] == ["图1Source 1:", "图2Source 2:"]
    assert [lines[lines.index(label) + 1] for label in labels] == [IMAGE, IMAGE]
    assert len(images_of(server.requests[0])) == len(response.source_nodes) == 2


def test_numbers_for_stock_engines_that_reorder(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    fusion = QueryFusionRetriever(
        [index.as_retriever(), index.as_retriever(vector_store_query_mode="text_search")], llm=llm, num_queries=1
    )
    engine = RetrieverQueryEngine.from_args(fusion, llm=llm, multimodal=True, node_postprocessors=[ImageNumbering()])
    response = engine.query("帽子")
    numbers = [
        line.removeprefix("检索到的图片: ")[:2]
        for line in outline(server.requests[0])
        if line.startswith("检索到的图片: ")
    ]
    assert numbers == [f"图{number}" for number in range(1, len(response.source_nodes) + 1)]


# Retrievers, routers and agents around our engine


@pytest.mark.parametrize("mode", ["reciprocal_rerank", "relative_score", "dist_based_score", "simple"])
async def test_fused_retrieval(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, mode: str) -> None:
    fusion = QueryFusionRetriever(
        [index.as_retriever(image_similarity_top_k=3), index.as_retriever(vector_store_query_mode="text_search")],
        llm=llm,
        num_queries=2,
        mode=mode,
        similarity_top_k=3,
        use_async=False,
    )
    engine = ImageQueryEngine.from_args(fusion, llm=llm)
    for response in (engine.query("帽子"), await engine.aquery("帽子")):
        answer = server.requests[-1]
        labels = [line for line in outline(answer) if line.startswith("图")]
        assert [label[:2] for label in labels] == [f"图{n}" for n in range(1, len(response.source_nodes) + 1)]
        assert len(images_of(answer)) == len(response.source_nodes) > 0
        assert len({source.node.node_id for source in response.source_nodes}) == len(response.source_nodes)
    await llm.aclose()


@pytest.mark.parametrize("selector", [LLMSingleSelector, LLMMultiSelector, PydanticSingleSelector])
def test_a_router_chooses_an_engine(index: ImageIndex, connect: Connect, server: MockGLMServer, selector: Any) -> None:
    llm = connect(model="glm-4.6v-flash")
    tools = [
        QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), name="photos", description="哪张图里有什么"),
        QueryEngineTool.from_defaults(
            index.as_query_engine(llm=llm, language="en"), name="manual", description="轮胎 气压"
        ),
    ]
    router = RouterQueryEngine(selector.from_defaults(llm=llm), tools, llm=llm)
    response = router.query(QUESTION)
    assert outline(server.requests[-1])[0] == "基于以下相似图片信息："
    assert response.metadata["citations"].keys() == {"图1", "图2"}
    assert response.metadata["selector_result"].selections[0].index == 0


async def test_a_function_calling_agent_asks_the_engine(
    index: ImageIndex, connect: Connect, server: MockGLMServer
) -> None:
    llm = connect(model="glm-4.6v-flash")
    tool = QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), name="photos", description="回答图片的问题")
    agent = FunctionAgent(tools=[tool], llm=llm)
    result = await agent.run(QUESTION)

    call, answer, last = server.requests
    assert call["tools"][0]["function"]["name"] == "photos"
    assert len(images_of(answer)) == 2
    assert outline(answer)[-1] == f"问题：{QUESTION}"
    assert last["messages"][-1]["role"] == "tool"
    assert "平均颜色" in str(result)
    assert list(result.tool_calls[0].tool_output.raw_output.metadata["citations"]) == ["图1", "图2"]


async def test_a_react_agent_asks_the_engine(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    tool = QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), name="photos", description="回答图片的问题")
    result = await ReActAgent(tools=[tool], llm=llm).run(QUESTION)
    assert len(images_of(server.requests[1])) == 2
    assert "平均颜色" in str(result)


# Our parts in LlamaIndex's own indexes


@pytest.fixture
def stock_index(tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> MultiModalVectorStoreIndex:
    """Core's index on our store and model."""
    return MultiModalVectorStoreIndex(
        photo_nodes,
        storage_context=StorageContext.from_defaults(vector_store=FaissMultiModalVectorStore()),
        embed_model=tiny_embedding,
        image_vector_store=FaissMultiModalVectorStore(namespace="image"),
        image_embed_model=tiny_embedding,
    )


@pytest.mark.filterwarnings("ignore:.*SimpleMultiModalQueryEngine:DeprecationWarning")
def test_core_s_index_finds_and_answers(
    stock_index: MultiModalVectorStoreIndex, llm: ZhipuMultiModal, photos: list[Path]
) -> None:
    best = stock_index.as_retriever(image_similarity_top_k=1).image_to_image_retrieve(str(photos[4]))
    assert [result.node.node_id for result in best] == [photos[4].name]

    response = stock_index.as_query_engine(llm=llm, image_similarity_top_k=3).query(QUESTION)
    assert QUESTION in str(response)
    assert "平均颜色" in str(response)


@pytest.mark.parametrize("engine", [RetrieverQueryEngine, CitationQueryEngine])
def test_core_s_other_engines_answer(
    stock_index: MultiModalVectorStoreIndex, llm: ZhipuMultiModal, engine: Any
) -> None:
    retriever = stock_index.as_retriever(similarity_top_k=1, image_similarity_top_k=2)
    kwargs = {"retriever": retriever, "llm": llm, "multimodal": True}
    built = engine.from_args(**kwargs) if engine is RetrieverQueryEngine else engine.from_args(stock_index, **kwargs)
    assert "平均颜色" in str(built.query(QUESTION))


def test_our_engine_on_core_s_index(
    stock_index: MultiModalVectorStoreIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    retriever = stock_index.as_retriever(similarity_top_k=0, image_similarity_top_k=2)
    ImageQueryEngine.from_args(retriever, llm=llm).query(QueryBundle(QUESTION, image_path=str(photos[0])))
    assert [line[:2] for line in outline(server.requests[0]) if line.startswith("图")] == ["图1", "图2"]


def test_the_parts_work_in_a_plain_vector_index(
    tiny_embedding: ChineseClipEmbedding, llm: ZhipuMultiModal, tmp_path: Path
) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    index = VectorStoreIndex(
        [TextNode(text="轮胎气压二百三十千帕。")],
        storage_context=StorageContext.from_defaults(vector_store=store),
        embed_model=tiny_embedding,
    )
    assert "轮胎气压" in str(index.as_query_engine(llm=llm).query("轮胎气压是多少？"))
    reopened = VectorStoreIndex.from_vector_store(store, embed_model=tiny_embedding)
    assert len(reopened.as_retriever().retrieve("气压")) == 1
