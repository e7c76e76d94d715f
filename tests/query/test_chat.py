"""Chat engines: several turns, each with the images found for it, labels and citations."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from pathlib import Path

import pytest
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.prompts import RichPromptTemplate
from llama_index.core.schema import QueryBundle
from outline import IMAGE, images_of, outline, system_of
from waiting import wait_until

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, read_folder
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.llm import EmptyAnswerError, GLMError
from llama_index_mm_zhipu.query import ImageContextChatEngine
from llama_index_mm_zhipu.query.chat import WRITER
from llama_index_mm_zhipu.query.streamed_chat import StreamedChatResponse
from llama_index_mm_zhipu.testing import Cut, MockGLMServer, Says, Stall

OWN = "用户提供的图片（问题所指，没有编号）："


@pytest.fixture(params=["context", "condense_plus_context"])
def chat(request: pytest.FixtureRequest, index: ImageIndex, llm: ZhipuMultiModal) -> BaseChatEngine:
    """Both chat engines over ten photographs."""
    return index.as_chat_engine(request.param, llm=llm, image_similarity_top_k=2, system_prompt="你是店员。")


def answering_requests(server: MockGLMServer) -> list[dict[str, object]]:
    """All requests but those that condense a question."""
    return [request for request in server.requests if images_of(request)]


def test_several_turns_with_images(chat: BaseChatEngine, server: MockGLMServer) -> None:
    first = chat.chat("哪张图里有帽子？")
    second = chat.chat("什么颜色？")

    one, two = answering_requests(server)
    assert outline(one)[0] == "基于以下相似图片信息："
    assert [line[:2] for line in outline(one)[1:5]] == ["图1", IMAGE[:2], "图2", IMAGE[:2]]
    assert outline(one)[-1] == "问题：哪张图里有帽子？"
    assert system_of(one).startswith("你是店员。\n\n你只依据给出的图片")
    assert [message["role"] for message in two["messages"]] == ["system", "user", "assistant", "user"]
    assert two["messages"][1]["content"] == "哪张图里有帽子？"
    assert outline(two)[-1] == "问题：什么颜色？"
    assert len(images_of(two)) == 2
    for response in (first, second):
        assert response.metadata["citations"] == {
            f"图{number}": source.node.node_id for number, source in enumerate(response.source_nodes, start=1)
        }


def test_streams_have_citations_at_their_end(chat: BaseChatEngine, server: MockGLMServer) -> None:
    server.script(Says("帽子在图2。"))
    response = chat.stream_chat("哪张图里有帽子？")
    assert "".join(response.response_gen) == "帽子在图2。"
    assert list(response.metadata["citations"]) == ["图2"]
    assert [message.content for message in chat.chat_history] == ["哪张图里有帽子？", "帽子在图2。"]


def test_an_error_in_a_stream_reaches_its_reader_and_nobody_else(
    chat: BaseChatEngine, server: MockGLMServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_threads: list[object] = []
    monkeypatch.setattr(threading, "excepthook", left_threads.append)
    server.script(Cut(3))
    response = chat.stream_chat("哪张图里有帽子？")
    with pytest.raises(GLMError, match="no connection"):
        "".join(response.response_gen)
    assert wait_until(lambda: WRITER not in {thread.name for thread in threading.enumerate()})
    assert left_threads == []


def test_a_reader_that_leaves_a_stream_does_not_wait_for_its_rest(chat: BaseChatEngine, server: MockGLMServer) -> None:
    server.script(Stall(after=1))
    pieces = chat.stream_chat("哪张图里有帽子？").response_gen
    assert next(pieces)
    pieces.close()
    # The program does not wait for it either.
    assert {thread.daemon for thread in threading.enumerate() if thread.name == WRITER} == {True}


def test_an_answer_that_is_stopped_ends_though_the_model_is_silent(chat: BaseChatEngine, server: MockGLMServer) -> None:
    server.script(Stall(after=2))
    response = chat.stream_chat("哪张图里有帽子？")
    assert isinstance(response, StreamedChatResponse)
    pieces = response.response_gen
    first = next(pieces)
    stopping = threading.Thread(target=response.stop)
    stopping.start()
    assert "".join(pieces) == ""
    stopping.join()
    assert response.response == first.strip()


def test_the_history_keeps_what_came_of_an_answer_that_is_stopped(chat: BaseChatEngine, server: MockGLMServer) -> None:
    server.script(Says("帽子在图2。" * 50))
    response = chat.stream_chat("哪张图里有帽子？")
    next(response.response_gen)
    response.stop()
    assert wait_until(lambda: WRITER not in {thread.name for thread in threading.enumerate()})
    question, answer = chat.chat_history
    assert (question.content, answer.content[:2]) == ("哪张图里有帽子？", "帽子")


def test_an_answer_that_was_read_can_be_read_again_as_a_whole(chat: BaseChatEngine, server: MockGLMServer) -> None:
    server.script(Says("帽子在图2。"), Cut(3))
    response = chat.stream_chat("哪张图里有帽子？")
    assert "".join(response.response_gen) == "帽子在图2。"
    assert [*response.response_gen] == ["帽子在图2。"]
    chat.reset()
    broken = chat.stream_chat("哪张图里有帽子？")
    for _ in range(2):
        with pytest.raises(GLMError):
            "".join(broken.response_gen)


async def test_async_turns(chat: BaseChatEngine, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    response = await chat.achat("哪张图里有帽子？")
    assert list(response.metadata["citations"]) == ["图1", "图2"]
    streamed = await chat.astream_chat("什么颜色？")
    answer = "".join([piece async for piece in streamed.async_response_gen()])
    assert "什么颜色？" in answer
    assert list(streamed.metadata["citations"]) == ["图1", "图2"]
    assert len(answering_requests(server)) == 2
    await llm.aclose()


def test_a_question_with_a_image(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    chat = index.as_chat_engine("context", llm=llm, query_mode="image")
    chat.chat(QueryBundle("这是什么？", image_path=str(photos[4])))
    (request,) = server.requests
    assert outline(request)[:3] == [OWN, IMAGE, "基于以下相似图片信息："]
    assert chat.chat_history[0].content == "这是什么？"


def test_a_later_question_with_a_image(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    chat = index.as_chat_engine(llm=llm, query_mode="fused")
    chat.chat("哪张图里有帽子？")
    server.script(Says("这条裤子是什么颜色？"))
    chat.chat(QueryBundle("那这个呢？", image_path=str(photos[4])))
    first, condensing, answering = server.requests
    assert outline(condensing)[-2:] == ["最新的一句话：那这个呢？", "独立的问题："]
    assert outline(answering)[-1] == "问题：那这个呢？"
    assert len(images_of(first)) == 2
    own, *_ = images_of(answering)
    assert base64.b64decode(own) == photos[4].read_bytes()


@pytest.mark.parametrize("mode", ["context", "condense_plus_context"])
@pytest.mark.parametrize("blank", ["", " ", "\u3000\n"])
def test_a_image_without_words_does_not_end_the_chat(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], mode: str, blank: str
) -> None:
    chat = index.as_chat_engine(mode, llm=llm)
    chat.chat(QueryBundle(blank, image_path=str(photos[4])))
    assert "什么颜色？" in str(chat.chat("什么颜色？"))
    assert outline(server.requests[-1])[:2] == [OWN, IMAGE]


def test_an_image_alone_is_told_where_no_images_go_out(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    chat = index.as_chat_engine("context", llm=llm, include_images=False)
    chat.chat(photos[4])
    chat.chat("什么颜色？")
    assert server.requests[-1]["messages"][1]["content"] == "（用户发来一张图片，没有写字）"


def test_nothing_found_is_said(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    index.as_chat_engine("context", llm=llm, similarity_cutoff=0.99).chat("帽子？")
    assert outline(server.requests[0]) == ["基于以下相似图片信息：", "（没有检索到相似的图片）", "问题：帽子？"]


def test_images_that_vanished_are_told(
    demo_embedding: ChineseClipEmbedding, llm: ZhipuMultiModal, photos: list[Path], tmp_path: Path
) -> None:
    for photo in photos[:3]:
        shutil.copy(photo, tmp_path)
    index = build_index(read_folder(tmp_path, id_prefix=""), embed_model=demo_embedding)
    (tmp_path / photos[0].name).unlink()
    for mode in ("context", "condense_plus_context"):
        chat = index.as_chat_engine(mode, llm=llm, image_similarity_top_k=3)
        assert list(chat.chat("裙子").metadata["skipped"]) == [photos[0].name]


def test_templates_for_texts_are_refused(index: ImageIndex, llm: ZhipuMultiModal) -> None:
    for name in ("context_template", "context_prompt"):
        with pytest.raises(ValueError, match=f"{name} is for texts; give chat_content_qa_template"):
            index.as_chat_engine("context", llm=llm, **{name: "{context_str}"})


def test_an_empty_answer_stays_out_of_the_history(chat: BaseChatEngine, server: MockGLMServer) -> None:
    server.script(Says(""))
    with pytest.raises(EmptyAnswerError):
        chat.chat("哪张图里有帽子？")
    assert chat.chat_history == []
    assert str(chat.chat("哪张图里有帽子？"))


def test_settings_of_answers(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    mine = RichPromptTemplate(
        '{% chat role="user" %}{% for message in context_messages %}{{ message.blocks[0].text }} '
        "{% endfor %}我问：{{ query_str }}{% endchat %}"
    )
    chat = index.as_chat_engine(
        "context", llm=llm, language="en", include_images=False, chat_content_qa_template=mine, image_similarity_top_k=1
    )
    chat.chat("hat?")
    (line,) = outline(server.requests[0])
    assert line.startswith("Picture 1 (similarity")
    assert line.endswith("我问：hat?")
    assert images_of(server.requests[0]) == []


def test_the_default_condenses_and_other_modes_are_core_s(index: ImageIndex, llm: ZhipuMultiModal) -> None:
    assert type(index.as_chat_engine(llm=llm)).__name__ == "ImageCondensePlusContextChatEngine"
    assert isinstance(index.as_chat_engine(ChatMode.SIMPLE, llm=llm), SimpleChatEngine)
    assert isinstance(ImageContextChatEngine.from_defaults(index.as_retriever(), multi_modal_llm=llm), BaseChatEngine)


@pytest.mark.parametrize("form", ["path", "bytes", "bundle"])
async def test_images_are_answered_without_sources_too(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], form: str
) -> None:
    chat = index.as_chat_engine("simple", llm=llm)
    question = {
        "path": photos[0],
        "bytes": photos[0].read_bytes(),
        "bundle": QueryBundle("这是什么？", image_path=str(photos[0])),
    }[form]
    "".join(chat.stream_chat(question).response_gen)
    await chat.achat(question)
    assert "".join([piece async for piece in (await chat.astream_chat(question)).async_response_gen()])
    assert "收到 4 张图片" in chat.chat(question).response
    assert [len(images_of(request)) for request in server.requests] == [1, 2, 3, 4]
    if form == "bundle":
        assert outline(server.requests[0]) == [IMAGE, "这是什么？"]


def test_blank_words_beside_an_image_are_left_out(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    for words in ("", " \n"):
        index.as_chat_engine("simple", llm=llm).chat(QueryBundle(words, image_path=str(photos[0])))
    with_none, with_blanks = map(outline, server.requests)
    assert with_blanks == with_none


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "condense_question", "simple"])
def test_halves_of_characters_in_questions_go_out_whole(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, mode: str
) -> None:
    chat = index.as_chat_engine(mode, llm=llm)
    for _ in range(2):
        chat.chat("帽子\ud83d是什么颜色？")
    chat.chat(QueryBundle("帽子\ude00"))
    index.as_query_engine(llm).query("裙子\ud83d")
    sent = json.dumps(server.requests, ensure_ascii=False)
    sent.encode()
    assert "帽子�是什么颜色" in sent
    assert "裙子�" in sent
