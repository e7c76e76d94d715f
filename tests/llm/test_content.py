"""Every content block of LlamaIndex goes out as the model takes it, or is an error that says what to do instead."""

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
    VideoBlock,
)
from ways import Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMInvalidRequestError
from llama_index_mm_zhipu.llm.messages import holds_media, plain_messages
from llama_index_mm_zhipu.testing import MockGLMServer

Connect = Callable[..., ZhipuMultiModal]

MODEL = "glm-4.6v-flash"
VIDEO = "https://example.org/a.mp4"
FILE = "https://example.org/a.pdf"
IMAGE = ImageBlock(url="https://example.org/a.jpg")
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(40)
POINT = CachePoint(cache_control=CacheControl(type="ephemeral"))


@pytest.fixture
def own_server() -> Iterator[MockGLMServer]:
    """Stands in for vLLM."""
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
async def test_blocks_go_out_as_the_api_takes_them(
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
async def test_blocks_that_the_model_does_not_take_say_what_to_do(
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


async def test_a_server_of_ones_own_gets_videos_as_data_uris_and_no_files(way: Way, own_server: MockGLMServer) -> None:
    llm = ZhipuMultiModal("zai-org/GLM-4.6V-Flash", api_key="EMPTY", api_base=own_server.url)
    await way.ask(llm, chat(VideoBlock(video=MP4), TextBlock(text="看")))
    expected = f"data:video/mp4;base64,{base64.b64encode(MP4).decode()}"
    assert own_server.requests[0]["messages"][0]["content"] == [video(expected), text("看")]
    with pytest.raises(ValueError, match="takes no files here"):
        await way.ask(llm, chat(DocumentBlock(url=FILE), TextBlock(text="读")))


# The budget of images


def test_images_of_citable_blocks_count_and_videos_do_not(connect: Connect, server: MockGLMServer) -> None:
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


def test_media_are_found_within_citable_blocks() -> None:
    cited = CitableBlock(title="t", source="s", content=[IMAGE])
    assert [holds_media(chat(block)) for block in (cited, VideoBlock(url=VIDEO), DocumentBlock(url=FILE))] == [True] * 3
    assert not holds_media(chat(TextBlock(text="？"), POINT))
    (plain,) = plain_messages(chat(cited, POINT))
    assert plain.blocks == [IMAGE]
