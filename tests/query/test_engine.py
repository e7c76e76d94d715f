"""Answers rest on the images found: in all response modes, streaming and async, and when images or answers fail."""

from __future__ import annotations

import base64
import logging
import shutil
import threading
import warnings
from collections.abc import AsyncGenerator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.indices.prompt_helper import ChatPromptHelper
from llama_index.core.llms import MockLLM
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import Document, ImageNode, QueryBundle
from outline import IMAGE, images_of, outline
from PIL import Image, ImageFile
from pydantic import BaseModel

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    FaissMultiModalVectorStore,
    ZhipuMultiModal,
    build_index,
    read_folder,
)
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.llm import EmptyAnswerError, GLMQuotaError, UnreadableAnswerError
from llama_index_mm_zhipu.query import ImageQueryEngine
from llama_index_mm_zhipu.testing import MockGLMServer, Says

QUESTION = "哪张图里有帽子？"
OWN_IMAGE = "用户提供的图片（问题所指，没有编号）："


def sent_bytes(request: dict[str, object]) -> list[bytes]:
    return [base64.b64decode(image) for image in images_of(request)]


def of_files(nodes: list[ImageNode]) -> list[bytes]:
    return [Path(str(node.image_path)).read_bytes() for node in nodes]


# Response modes


@pytest.mark.parametrize(
    ("mode", "images_in_requests"),
    [
        ("compact", [3]),
        ("simple_summarize", [3]),
        ("tree_summarize", [3]),
        ("compact_accumulate", [3]),
        ("refine", [1, 1, 1]),
        ("accumulate", [1, 1, 1]),
        ("generation", [0]),
        ("no_text", []),
        ("context_only", []),
    ],
)
@pytest.mark.parametrize("use_async", [False, True])
async def test_every_response_mode(
    index: ImageIndex,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    mode: str,
    images_in_requests: list[int],
    use_async: bool,
) -> None:
    assert mode in set(ResponseMode)
    engine = index.as_query_engine(llm=llm, response_mode=mode, image_similarity_top_k=3)
    response = await engine.aquery(QUESTION) if use_async else engine.query(QUESTION)

    assert [len(images_of(request)) for request in server.requests] == images_in_requests
    labels = sorted(line for request in server.requests for line in outline(request) if line.startswith("图"))
    assert len(labels) == sum(images_in_requests)
    assert len(response.source_nodes) == (0 if mode == "generation" else 3)
    assert (QUESTION in str(response)) == bool(images_in_requests)
    if mode == "context_only":
        assert [line[:2] for line in str(response).splitlines() if line] == ["图1", "图2", "图3"]
    await llm.aclose()


@pytest.mark.parametrize("mode", ["compact", "simple_summarize", "tree_summarize", "refine", "generation"])
async def test_streams_are_the_answer(index: ImageIndex, llm: ZhipuMultiModal, mode: str) -> None:
    whole = str(index.as_query_engine(llm=llm, response_mode=mode).query(QUESTION))
    engine = index.as_query_engine(llm=llm, response_mode=mode, streaming=True)
    assert "".join(engine.query(QUESTION).response_gen) == whole  # type: ignore[union-attr]
    streamed = await engine.aquery(QUESTION)
    assert isinstance(streamed.response_gen, AsyncGenerator)  # type: ignore[union-attr]
    assert "".join([piece async for piece in streamed.async_response_gen()]) == whole  # type: ignore[union-attr]
    await llm.aclose()


def test_structured_answers(index: ImageIndex, connect: object, server: MockGLMServer) -> None:
    class Product(BaseModel):
        """What an image shows."""

        name: str

    llm = connect(model="glm-4.6v-flash")  # type: ignore[operator]
    response = index.as_query_engine(llm=llm, output_cls=Product).query(QUESTION)
    assert isinstance(response.response, Product)
    assert response.metadata["citations"] == {}
    assert len(images_of(server.requests[0])) == 2


def test_a_structured_llm_gives_objects(index: ImageIndex, connect: Any) -> None:
    class Product(BaseModel):
        """What an image shows."""

        name: str

    llm = connect(model="glm-4.6v-flash").as_structured_llm(Product)
    assert isinstance(index.as_query_engine(llm=llm).query(QUESTION).response, Product)


def test_the_system_prompt_of_the_llm_comes_before_the_rules(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    index.as_query_engine(llm=llm.model_copy(update={"system_prompt": "你是店员。"})).query(QUESTION)
    first, second, _ = server.requests[0]["messages"]
    assert (first["role"], first["content"]) == ("system", "你是店员。")
    assert (second["role"], second["content"][:4]) == ("system", "你只依据")


def test_an_image_that_is_not_sent_is_no_reason_to_ask(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    question = QueryBundle("这是什么？", image_path=str(photos[0]))
    engine = index.as_query_engine(llm=llm, include_images=False, node_ids=[])
    assert str(engine.query(question)) == "Empty Response"
    assert server.requests == []


def test_a_prompt_helper_of_the_user_packs_the_sources(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[int] = []

    class Counting(ChatPromptHelper):
        def repack(self, prompt: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
            packed.append(len(messages))
            return super().repack(prompt, messages, *args, **kwargs)

    monkeypatch.setattr(Settings, "_chat_prompt_helper", Counting.from_llm_metadata(llm.metadata))
    index.as_query_engine(llm=llm).query(QUESTION)
    assert packed[0] == 2


def test_structured_answers_in_text_are_read_or_shown(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    class Product(BaseModel):
        """What an image shows."""

        name: str

    for mode in ("compact", "refine", "tree_summarize"):
        engine = index.as_query_engine(llm=llm, output_cls=Product, response_mode=mode)
        server.script(*[Says('好的：{"name": "帽子",}')] * (2 if mode == "refine" else 1))
        assert engine.query(QUESTION).response == Product(name="帽子")  # type: ignore[union-attr]
        server.script(Says("这是一顶帽子。"))
        with pytest.raises(UnreadableAnswerError, match=r"cannot be read as Product.*这是一顶帽子"):
            engine.query(QUESTION)


def test_more_images_than_the_model_takes_go_out_in_one_request(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    response = index.as_query_engine(llm=llm, image_similarity_top_k=8).query(QUESTION)
    (request,) = server.requests
    assert len(images_of(request)) == 5
    assert len(response.source_nodes) == 8
    assert [line[:2] for line in outline(request) if line.startswith("图")] == [f"图{n}" for n in range(1, 9)]


def test_texts_reach_the_answer_too(
    demo_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    index = build_index([*photo_nodes, Document(text="轮胎气压二百三十千帕。")], embed_model=demo_embedding)
    response = index.as_query_engine(llm=llm).query("轮胎气压是多少？")
    assert [type(source.node).__name__ for source in response.source_nodes] == ["TextNode", "ImageNode", "ImageNode"]
    assert outline(server.requests[0])[1:3] == ["文字资料：", "> 轮胎气压二百三十千帕。"]
    assert list(response.metadata["citations"]) == ["图1", "图2"]


def test_core_s_own_warnings_are_not_raised(index: ImageIndex, llm: ZhipuMultiModal) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        index.as_query_engine(llm=llm).query(QUESTION)


def test_stored_nodes_stay_as_they_were(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], llm: ZhipuMultiModal, tmp_path: Path
) -> None:
    index = build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path)
    index.as_query_engine(llm=llm).query(QUESTION)
    stored = FaissMultiModalVectorStore(tmp_path, namespace="image").get_nodes()
    assert [node.metadata for node in stored] == [{}] * len(photo_nodes)


# A question with an image


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("use_async", [False, True])
async def test_the_question_s_image_comes_first_and_is_marked(
    index: ImageIndex,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    photos: list[Path],
    streaming: bool,
    use_async: bool,
) -> None:
    engine = index.as_query_engine(llm=llm, image_similarity_top_k=3, streaming=streaming)
    query = QueryBundle(query_str="这是什么？", image_path=str(photos[4]))
    response = await engine.aquery(query) if use_async else engine.query(query)
    if streaming:
        answer = (
            "".join([piece async for piece in response.async_response_gen()])
            if use_async
            else "".join(response.response_gen)
        )
    else:
        answer = str(response)

    (request,) = server.requests
    lines = outline(request)
    assert lines[:3] == [OWN_IMAGE, IMAGE, "基于以下相似图片信息："]
    assert lines[3].startswith("图1（相似度")
    assert lines[-1] == "问题：这是什么？"
    sources = [source.node for source in response.source_nodes]
    assert sent_bytes(request) == [photos[4].read_bytes(), *of_files(sources)]
    assert "收到 4 张图片" in answer
    assert list(response.metadata["citations"]) == ["图1", "图2", "图3"]
    await llm.aclose()


@pytest.mark.parametrize("mode", ["refine", "accumulate", "tree_summarize", "generation"])
def test_the_question_s_image_is_in_every_request(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], mode: str
) -> None:
    index.as_query_engine(llm=llm, response_mode=mode).query(QueryBundle("这是什么？", image_path=str(photos[4])))
    assert all(outline(request)[:2] == [OWN_IMAGE, IMAGE] for request in server.requests)
    assert all(sent_bytes(request)[0] == photos[4].read_bytes() for request in server.requests)


def test_contact_sheets_leave_the_question_s_image_alone(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    engine = index.as_query_engine(llm=llm, image_similarity_top_k=8)
    engine.query(QueryBundle("这是什么？", image_path=str(photos[4])))
    (request,) = server.requests
    assert sent_bytes(request)[0] == photos[4].read_bytes()
    assert "（下面一张是拼图，含2张图片，上方标有编号1、2；此处指其中编号1的图片。）" in outline(request)


def test_a_question_s_image_that_cannot_be_read_is_named(
    index: ImageIndex, llm: ZhipuMultiModal, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        index.as_query_engine(llm=llm).query(QueryBundle("这是什么？", image_path=missing))
    with pytest.raises(ImageError, match=r"missing\.jpg"):
        index.as_query_engine(llm=llm, query_mode="text").query(QueryBundle("帽子？", image_path=missing))


def test_a_question_s_image_is_asked_about_if_nothing_is_found(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    engine = index.as_query_engine(llm=llm, similarity_cutoff=0.9999)
    response = engine.query(QueryBundle("这是什么？", image_path=photos[4]))  # type: ignore[arg-type]
    assert outline(server.requests[0])[2:] == [
        "基于以下相似图片信息：",
        "（没有检索到相似的图片）",
        "问题：这是什么？",
    ]
    assert response.source_nodes == []


# What can fail


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """Three photographs that a test may spoil."""
    for photo in photos[:3]:
        shutil.copy(photo, tmp_path)
    return tmp_path


@pytest.fixture
def folder_index(folder: Path, demo_embedding: ChineseClipEmbedding) -> ImageIndex:
    """An index of these."""
    return build_index(read_folder(folder, id_prefix=""), embed_model=demo_embedding)


def test_a_image_that_vanished_is_left_out_and_counted(
    folder_index: ImageIndex,
    folder: Path,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, *others = sorted(folder.glob("*.jpg"))
    first.unlink()
    response = folder_index.as_query_engine(llm=llm, image_similarity_top_k=3).query("裙子")

    assert len(images_of(server.requests[0])) == 2
    assert sorted(source.node.node_id for source in response.source_nodes) == [other.name for other in others]
    assert [line[:2] for line in outline(server.requests[0]) if line.startswith("图")] == ["图1", "图2"]
    assert list(response.metadata["skipped"]) == [first.name]
    assert str(first) in response.metadata["skipped"][first.name]
    assert "skipped 1 of 3 images" in caplog.text
    assert folder_index.image_store.count() == 3


def test_no_image_left_is_an_error(folder_index: ImageIndex, folder: Path, llm: ZhipuMultiModal) -> None:
    for file in folder.glob("*.jpg"):
        file.unlink()
    with pytest.raises(ImageError, match=r"none of the images found can be sent: skipped 2 of 2 images"):
        folder_index.as_query_engine(llm=llm).query("裙子")
    response = folder_index.as_query_engine(llm=llm, include_images=False).query("裙子")
    assert len(response.source_nodes) == 2


def test_or_it_is_an_error(folder_index: ImageIndex, folder: Path, llm: ZhipuMultiModal) -> None:
    first, *_ = sorted(folder.glob("*.jpg"))
    first.unlink()
    engine = folder_index.as_query_engine(llm=llm, image_similarity_top_k=3, on_error="raise")
    with pytest.raises(ImageError, match=f"node {first.name} was found, but its image cannot be sent"):
        engine.query("裙子")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_image_that_was_damaged_is_named(
    folder_index: ImageIndex, folder: Path, llm: ZhipuMultiModal, streaming: bool
) -> None:
    first, *_ = sorted(folder.glob("*.jpg"))
    buffer = BytesIO()
    Image.effect_noise((200, 200), 100).save(buffer, "PNG")
    first.write_bytes(buffer.getvalue()[:-2000] + b"\xff" * 2000)
    engine = folder_index.as_query_engine(llm=llm, image_similarity_top_k=3, streaming=streaming)
    with pytest.raises(ImageError, match=first.name):
        str(engine.query("裙子"))


@pytest.mark.parametrize("mode", ["compact", "simple_summarize", "tree_summarize"])
@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_answer_is_an_error(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, mode: str, text: str
) -> None:
    server.script(Says(text))
    with pytest.raises(EmptyAnswerError, match="the model answered nothing to a question with 2 sources"):
        index.as_query_engine(llm=llm, response_mode=mode).query(QUESTION)


async def test_an_empty_stream_is_an_error(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    server.script(Says(""), Says(""))
    engine = index.as_query_engine(llm=llm, streaming=True)
    with pytest.raises(EmptyAnswerError):
        list(engine.query(QUESTION).response_gen)  # type: ignore[union-attr]
    with pytest.raises(EmptyAnswerError):
        [piece async for piece in (await engine.aquery(QUESTION)).async_response_gen()]  # type: ignore[union-attr]
    await llm.aclose()


def test_errors_of_the_api_reach_the_caller(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    server.fail_next(429, "1113", "您的账户已欠费，请充值后重试。")
    with pytest.raises(GLMQuotaError):
        index.as_query_engine(llm=llm).query(QUESTION)


def test_nothing_found_is_no_error(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    response = index.as_query_engine(llm=llm, similarity_cutoff=0.99).query(QUESTION)
    assert (response.source_nodes, server.requests) == ([], [])
    assert response.metadata["citations"] == {}


def test_addresses_are_not_fetched_to_answer(
    demo_embedding: ChineseClipEmbedding, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    node = ImageNode(image_url="http://127.0.0.1:9/cat.jpg", text="猫", embedding=[0.0] * demo_embedding.embed_dim)
    index = build_index([node], embed_model=demo_embedding)
    index.as_query_engine(llm=llm).query("猫？")
    assert images_of(server.requests[0]) == ["http://127.0.0.1:9/cat.jpg"]


def test_no_bytes_and_no_key_are_logged(
    index: ImageIndex, llm: ZhipuMultiModal, photos: list[Path], key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    response = index.as_query_engine(llm=llm).query(QueryBundle("帽子", image_path=str(photos[0])))
    told = caplog.text + repr(response.source_nodes) + repr(response.metadata)
    start = base64.b64encode(photos[0].read_bytes()[:60]).decode()
    assert not any(secret in told for secret in (start, *key.split(".")))


async def test_images_are_decoded_and_encoded_off_the_event_loop(
    demo_embedding: ChineseClipEmbedding, llm: ZhipuMultiModal, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Above the 5 MB that the API takes, so that the image is encoded again.
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    image = base64.b64encode(buffer.getvalue()).decode()
    index = build_index([ImageNode(image=image, text="雪")], embed_model=demo_embedding)
    threads: dict[str, set[int]] = {"load": set(), "save": set()}
    for owner, name in ((ImageFile.ImageFile, "load"), (Image.Image, "save")):
        method = getattr(owner, name)

        def recorded(self: Any, *args: Any, name: str = name, method: Any = method, **options: Any) -> Any:
            threads[name].add(threading.get_ident())
            return method(self, *args, **options)

        monkeypatch.setattr(owner, name, recorded)

    await index.as_query_engine(llm=llm).aquery("雪？")

    assert all(threads.values())
    assert not any(threading.get_ident() in used for used in threads.values())
    await llm.aclose()


def test_tracing_sees_the_sources(index: ImageIndex, llm: ZhipuMultiModal) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    engine = index.as_query_engine(llm=llm)
    engine._response_synthesizer.callback_manager = CallbackManager([debug])
    response = engine.query(QUESTION)
    ((_, end),) = debug.get_event_pairs(CBEventType.SYNTHESIZE)
    assert end.payload is not None
    traced = end.payload["response"].source_nodes
    assert [node.score for node in traced] == [node.score for node in response.source_nodes]


# Settings


def test_a_synthesizer_for_texts_gets_labels_and_no_more(
    demo_embedding: ChineseClipEmbedding, photos: list[Path], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    node = ImageNode(image_path=str(photos[0]), text="帽子", metadata={"file_path": str(photos[0])})
    retriever = build_index([node], embed_model=demo_embedding).as_retriever()
    texts = get_response_synthesizer(llm=llm)
    with pytest.raises(ValueError, match="sends no images: make it with multimodal=True"):
        ImageQueryEngine.from_args(retriever, response_synthesizer=texts)
    ImageQueryEngine(retriever, texts, include_images=False).query(QUESTION)
    prompt = "\n".join(outline(server.requests[0]))
    assert "图1（相似度" in prompt
    assert str(photos[0]) not in prompt


def test_an_engine_needs_a_retriever_only(
    index: ImageIndex, server: MockGLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_llm", None)
    monkeypatch.setenv("ZHIPUAI_API_KEY", "id.secret")
    monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
    for engine in (ImageQueryEngine(index.as_retriever()), ImageQueryEngine.from_args(index.as_retriever())):
        assert QUESTION in str(engine.query(QUESTION))
        assert QUESTION in str(engine.synthesize(QUESTION, index.as_retriever().retrieve(QUESTION)))


def test_without_an_llm_settings_are_asked_then_zhipu(index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "_llm", None)
    for name in ("ZHIPUAI_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="set ZHIPUAI_API_KEY"):
        index.as_query_engine()
    monkeypatch.setenv("ZHIPUAI_API_KEY", "id.secret")
    assert index.as_query_engine()
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    with pytest.raises(ValueError, match="requires a chat LLM"):
        index.as_query_engine()


def test_another_retriever_keeps_the_settings(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    engine = index.as_query_engine(llm=llm, language="en", include_images=False)
    other = engine.with_retriever(index.as_retriever(image_similarity_top_k=1, language="en"))
    assert isinstance(other, ImageQueryEngine)
    other.query("hat?")
    assert len(outline(server.requests[0])) == 3
    assert outline(server.requests[0])[1].startswith("Picture 1 (similarity")
