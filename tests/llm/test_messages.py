"""Messages and content blocks are converted to the form of the API, or refused with advice."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.bridge.pydantic import BaseModel
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.llm.messages import holds_media, plain_messages
from llama_index_mm_zhipu.testing import MockGLMServer

Connect = Callable[..., ZhipuMultiModal]

CALLS = [{"id": "c1", "type": "function", "function": {"name": "price", "arguments": "{}"}}]
CALLED = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": CALLS})


def user(content: str | None) -> ChatMessage:
    return ChatMessage(role="user", content=content)


def tool(content: str | None) -> ChatMessage:
    return ChatMessage(role="tool", content=content, additional_kwargs={"tool_call_id": "c1"})


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        ([], "the chat has no message that says anything, .* 1214; give it one with a text or an image"),
        ([ChatMessage(role="system", content="")], "the chat has no message that says anything"),
        ([user("")], r"messages\[0\] \(role 'user'\) is empty, .* 1214; give it a text or an image, or leave it out"),
        ([user(None)], r"messages\[0\] \(role 'user'\) is empty"),
        ([*CHAT, ChatMessage(role="assistant", content=""), user(" \n")], r"messages\[2\] \(role 'user'\) is empty"),
    ],
)
async def test_an_empty_user_message_is_refused_before_anything_is_sent(
    chat: list[ChatMessage], message: str, way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    with pytest.raises(GLMInvalidRequestError, match=message) as caught:
        await way.ask(llm, chat)
    assert not caught.value.retryable
    assert server.requests == []


def test_an_empty_prompt_is_refused(llm: ZhipuMultiModal) -> None:
    with pytest.raises(GLMInvalidRequestError, match=r"messages\[0\] \(role 'user'\) is empty"):
        llm.complete("")


async def test_empty_messages_of_llama_index_are_not_sent(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    empty: list[Any] = [ChatMessage(role=role, content="") for role in ("system", "assistant")]
    await way.ask(llm, [*empty, *CHAT])
    assert [message["role"] for message in server.requests[0]["messages"]] == ["user"]


@pytest.mark.parametrize("content", ["", None])
async def test_a_tool_may_return_nothing(
    content: str | None, way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    await way.ask(llm, [*CHAT, CALLED, tool(content)])
    assert [message["role"] for message in server.requests[0]["messages"]] == ["user", "assistant", "tool"]


def test_an_image_without_text_is_not_empty(llm: ZhipuMultiModal) -> None:
    blocks = [ImageBlock(url="https://example.org/a.jpg"), TextBlock(text=" ")]
    assert "收到 1 张图片" in str(llm.chat([ChatMessage(role="user", blocks=blocks)]))


# Histories of other LLMs


class Function(BaseModel):
    """A function as in OpenAI's SDK."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """A tool call as in OpenAI's SDK, which has an index in streams."""

    id: str
    function: Function
    index: int = 0
    type: str = "function"


SENT_CALL = {"id": "c1", "type": "function", "function": {"name": "price", "arguments": '{"name": "苹果"}'}}
OBJECT = ToolCall(id="c1", function=Function(name="price", arguments='{"name": "苹果"}'))


@pytest.mark.parametrize(
    "call",
    [
        SENT_CALL,
        {**SENT_CALL, "index": 0},
        {"id": "c1", "function": {"name": "price", "arguments": {"name": "苹果"}}},
        OBJECT,
        {"id": "c1", "type": "function", "function": OBJECT.function},
    ],
    ids=["dict", "with index", "arguments as a dict", "object", "object in a dict"],
)
async def test_tool_calls_of_other_llms_are_read(call: Any, way: Way, connect: Connect, server: MockGLMServer) -> None:
    answer = ChatMessage(role="assistant", content=None, additional_kwargs={"tool_calls": [call]})
    await way.ask(connect(model="glm-4.6v"), [*CHAT, answer, tool("5")])
    _, called, result = server.requests[0]["messages"]
    assert called == {"role": "assistant", "content": "", "tool_calls": [SENT_CALL]}
    assert result == {"role": "tool", "content": "5", "tool_call_id": "c1"}


@pytest.mark.parametrize("function", [SENT_CALL["function"], OBJECT.function], ids=["dict", "object"])
async def test_a_function_call_and_its_result_get_an_id(
    function: Any, way: Way, connect: Connect, server: MockGLMServer
) -> None:
    answer = ChatMessage(role="assistant", content="", additional_kwargs={"function_call": function})
    result = ChatMessage(role="function", content="5", additional_kwargs={"name": "price"})
    await way.ask(connect(model="glm-4.6v"), [*CHAT, answer, result, *CHAT, answer, result])
    messages = server.requests[0]["messages"]
    assert [message.get("tool_call_id") for message in messages] == [None, None, "call_1", None, None, "call_4"]
    assert [call["id"] for message in messages for call in message.get("tool_calls", [])] == ["call_1", "call_4"]
    assert messages[1]["tool_calls"][0]["function"] == SENT_CALL["function"]


def test_results_without_an_id_answer_the_call_of_the_same_function(connect: Connect, server: MockGLMServer) -> None:
    blocks = [ToolCallBlock(tool_call_id=f"c-{name}", tool_name=name, tool_kwargs={}) for name in ("a", "b")]
    results = [ChatMessage(role="function", content=name, additional_kwargs={"name": name}) for name in ("b", "a")]
    connect(model="glm-4.6v").chat([*CHAT, ChatMessage(role="assistant", blocks=blocks), *results])
    assert [message["tool_call_id"] for message in server.requests[0]["messages"][2:]] == ["c-b", "c-a"]


def test_tool_call_blocks_are_preferred_to_listed_calls(connect: Connect, server: MockGLMServer) -> None:
    block = ToolCallBlock(tool_call_id="c1", tool_name="price", tool_kwargs={"name": "苹果"})
    answer = ChatMessage(role="assistant", blocks=[block], additional_kwargs={"tool_calls": [{"id": "other"}]})
    connect(model="glm-4.6v").chat([*CHAT, answer, tool("5")])
    assert server.requests[0]["messages"][1]["tool_calls"] == [SENT_CALL]


def test_entries_that_are_no_tool_calls_are_refused(llm: ZhipuMultiModal) -> None:
    answer = ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": ["price()"]})
    with pytest.raises(ValueError, match="the tool calls of a message hold a str; give them as ToolCallBlock"):
        llm.chat([*CHAT, answer])


# Content blocks


MODEL = "glm-4.6v-flash"
VIDEO = "https://example.org/a.mp4"
FILE = "https://example.org/a.pdf"
IMAGE = ImageBlock(url="https://example.org/a.jpg")
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(40)
POINT = CachePoint(cache_control=CacheControl(type="ephemeral"))


@pytest.fixture
def own_server() -> Iterator[MockGLMServer]:
    """A mock of a self-hosted server such as vLLM."""
    with MockGLMServer(api_style="openai") as running:
        yield running


def chat(*blocks: Any) -> list[ChatMessage]:
    return [ChatMessage(role="user", blocks=list(blocks))]


def video(url: str) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url}}


def file(url: str) -> dict[str, Any]:
    return {"type": "file_url", "file_url": {"url": url}}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


SENT = {
    "video after text": ([TextBlock(text="看"), VideoBlock(url=VIDEO)], [video(VIDEO), text("看")]),
    "video alone": ([VideoBlock(url=VIDEO)], [video(VIDEO), text("请看视频。")]),
    "bytes of a video": (
        [VideoBlock(video=MP4), TextBlock(text="看")],
        [video(base64.b64encode(MP4).decode()), text("看")],
    ),
    "file": ([DocumentBlock(url=FILE), TextBlock(text="读")], [file(FILE), text("读")]),
    "file alone": ([DocumentBlock(url=FILE)], [file(FILE), text("请看文件。")]),
    "document of text": ([DocumentBlock(data="价格：5元。".encode()), TextBlock(text="读")], "价格：5元。\n读"),
    "document in GBK": ([DocumentBlock(data="价格：5元。".encode("gbk"))], "价格：5元。"),
    "document of JSON": ([DocumentBlock(data=b'{"a": 1}', document_mimetype="application/json")], '{"a": 1}'),
    "citable": (
        [CitableBlock(title="t", source="s", content=[TextBlock(text="文"), IMAGE]), TextBlock(text="问")],
        [text("文"), image("https://example.org/a.jpg"), text("问")],
    ),
    "citation": (
        [
            CitationBlock(cited_content=TextBlock(text="文"), source="s", title="t", additional_location_info={}),
            TextBlock(text="问"),
        ],
        "文\n问",
    ),
    "cache point": ([TextBlock(text="甲"), POINT, TextBlock(text="乙")], "甲\n乙"),
}


@pytest.mark.parametrize(("blocks", "sent"), SENT.values(), ids=SENT)
async def test_blocks_are_sent_in_the_form_of_the_api(
    blocks: list[Any], sent: Any, way: Way, connect: Connect, server: MockGLMServer
) -> None:
    messages = chat(*blocks)
    await way.ask(connect(model=MODEL), messages)
    assert server.requests[0]["messages"][0]["content"] == sent
    assert messages[0].blocks == blocks


REFUSED = {
    "audio": ([AudioBlock(audio=b"UklGRg==")], MODEL, "takes text, images, videos and files, not a AudioBlock; leave"),
    "video": (
        [VideoBlock(url=VIDEO)],
        "glm-4v-flash",
        "takes no video; choose a model that does, such as",
    ),
    "video and image": ([VideoBlock(url=VIDEO), IMAGE], MODEL, "no images beside a video or a file in one message"),
    "file and image": ([DocumentBlock(url=FILE), IMAGE], MODEL, "no images beside a video or a file in one message"),
    "file": ([DocumentBlock(url=FILE)], "glm-4v-plus", "glm-4v-plus takes no files here, .* give its text as a TextB"),
    "bytes of a PDF": (
        [DocumentBlock(data=b"%PDF-1.7\n1 0 obj", title="合同")],
        MODEL,
        "takes files that are given by URL here, and the document '合同' is not at hand as text; .* PageReader",
    ),
    "bytes of nothing known": ([DocumentBlock(data=b"\x01\x02\xff\x00")], MODEL, "is not at hand as text"),
    "no such document": ([DocumentBlock(path="/no/such.txt")], MODEL, r"the document /no/such.txt cannot be read"),
    "empty document": ([DocumentBlock(data=b"")], MODEL, "the document of a message cannot be read .*it is empty"),
}


@pytest.mark.parametrize(("blocks", "model", "message"), [case for name, case in REFUSED.items()], ids=REFUSED)
async def test_blocks_that_the_model_does_not_accept_are_refused_with_advice(
    blocks: list[Any], model: str, message: str, way: Way, connect: Connect, server: MockGLMServer
) -> None:
    with pytest.raises(ValueError, match=message):
        await way.ask(connect(model=model), chat(*blocks, TextBlock(text="？")))
    assert server.requests == []


def test_files_of_videos_and_texts_are_read(connect: Connect, server: MockGLMServer, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(MP4)
    (tmp_path / "a.txt").write_text("说明书", encoding="utf-8")
    llm = connect(model=MODEL)
    llm.chat(chat(VideoBlock(path=tmp_path / "a.mp4"), DocumentBlock(path=tmp_path / "a.txt")))
    expected = base64.b64encode(MP4).decode()
    assert server.requests[0]["messages"][0]["content"] == [video(expected), text("说明书")]


async def test_self_hosted_servers_get_videos_as_data_uris_and_no_files(way: Way, own_server: MockGLMServer) -> None:
    llm = ZhipuMultiModal("zai-org/GLM-4.6V-Flash", api_key="EMPTY", api_base=own_server.url)
    await way.ask(llm, chat(VideoBlock(video=MP4), TextBlock(text="看")))
    expected = f"data:video/mp4;base64,{base64.b64encode(MP4).decode()}"
    assert own_server.requests[0]["messages"][0]["content"] == [video(expected), text("看")]
    with pytest.raises(ValueError, match="takes no files here"):
        await way.ask(llm, chat(DocumentBlock(url=FILE), TextBlock(text="读")))


# Number of images


def test_images_in_citable_blocks_count_towards_the_limit_but_videos_do_not(
    connect: Connect, server: MockGLMServer
) -> None:
    cited = CitableBlock(title="t", source="s", content=[TextBlock(text="文"), IMAGE, IMAGE])
    answered = ChatMessage(role="assistant", content="好")
    history = [*chat(cited, cited), answered, *chat(VideoBlock(url=VIDEO)), answered]
    llm = connect(model="glm-4v-plus", image_policy="error")
    llm.chat([*history, *chat(IMAGE)])
    with pytest.raises(GLMInvalidRequestError, match="6 images, and the model takes 5"):
        llm.chat([*history, *chat(IMAGE, IMAGE)])
    connect(model="glm-4v-plus", image_policy="newest").chat([*history, *chat(IMAGE, IMAGE)])
    parts = [part for message in server.requests[-1]["messages"] for part in message["content"]]
    types = [part["type"] for part in parts if isinstance(part, dict)]
    assert (types.count("image_url"), types.count("video_url")) == (5, 1)


def test_media_in_citable_blocks_are_found() -> None:
    cited = CitableBlock(title="t", source="s", content=[IMAGE])
    assert [holds_media(chat(block)) for block in (cited, VideoBlock(url=VIDEO), DocumentBlock(url=FILE))] == [True] * 3
    assert not holds_media(chat(TextBlock(text="？"), POINT))
    (plain,) = plain_messages(chat(cited, POINT))
    assert plain.blocks == [IMAGE]
