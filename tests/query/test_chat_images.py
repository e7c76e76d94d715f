"""The user's images stay in a chat: in every mode, in every form, and nowhere but in this process."""

from __future__ import annotations

import base64
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import AudioBlock, ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.schema import QueryBundle
from outline import IMAGE, images_of, outline
from PIL import Image

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.testing import MockGLMServer

OWN = "用户提供的图片（问题所指，没有编号）："
MODES = ("context", "condense_plus_context", "condense_question", "simple")


@pytest.fixture
def llm(connect: Callable[..., ZhipuMultiModal]) -> ZhipuMultiModal:
    """A model that takes fifty images, so that none gives way."""
    return connect(model="glm-4.6v")


@pytest.fixture(params=MODES)
def chat(request: pytest.FixtureRequest, index: ImageIndex, llm: ZhipuMultiModal) -> BaseChatEngine:
    """The chat engines of every mode over ten photographs."""
    return index.as_chat_engine(request.param, llm=llm)


def sent_bytes(request: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(image) for image in images_of(request)]


async def say(chat: BaseChatEngine, way: str, message: Any) -> str:
    """Say something by one of the four methods, and return the whole answer."""
    if way == "chat":
        return str(chat.chat(message))
    if way == "achat":
        return str(await chat.achat(message))
    if way == "stream_chat":
        return "".join(chat.stream_chat(message).response_gen)
    streamed = await chat.astream_chat(message)
    return "".join([piece async for piece in streamed.async_response_gen()])


@pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_a_follow_up_shows_the_image_of_the_earlier_message(
    chat: BaseChatEngine, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], way: str
) -> None:
    await say(chat, way, QueryBundle("这张图里有什么", image_path=str(photos[4])))
    await say(chat, way, "你好")
    await say(chat, way, "那张图的左边呢？")
    assert photos[4].read_bytes() in sent_bytes(server.requests[-1])
    assert sent_bytes(server.requests[-1]).count(photos[4].read_bytes()) == 1
    chat.reset()
    assert chat.chat_history == []
    await say(chat, way, "那张图的左边呢？")
    assert OWN not in outline(server.requests[-1])
    await llm.aclose()


@pytest.mark.parametrize("mode", ["context", "condense_plus_context"])
def test_images_found_stay_with_their_own_message(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], mode: str
) -> None:
    chat = index.as_chat_engine(mode, llm=llm, image_similarity_top_k=2)
    chat.chat(QueryBundle("这张图里有什么", image_path=str(photos[4])))
    chat.chat("那张图的左边呢？")
    messages = server.requests[-1]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert outline({"messages": messages[:2]}) == [OWN, IMAGE, "这张图里有什么"]
    assert len(images_of({"messages": messages[3:]})) == 2
    labels = [line[:2] for line in outline({"messages": messages[3:]}) if line.startswith("图")]
    assert labels == ["图1", "图2"]


@pytest.mark.parametrize("form", ["path", "text path", "bytes", "PIL", "block"])
def test_images_of_every_form_are_remembered_and_printed_nowhere(
    chat: BaseChatEngine,
    server: MockGLMServer,
    photos: list[Path],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    data = photos[4].read_bytes()
    image = {
        "path": photos[4],
        "text path": str(photos[4]),
        "bytes": data,
        "PIL": Image.open(photos[4]),
        "block": ImageBlock(image=data),
    }[form]
    first = chat.chat(QueryBundle("这是什么？", image_path=image))  # type: ignore[arg-type]
    second = chat.chat("左边呢？")
    own = images_of(server.requests[0])[0]
    assert own in images_of(server.requests[-1])
    told = caplog.text + "".join(capsys.readouterr()) + repr((first.sources, second.sources, chat.chat_history))
    assert base64.b64encode(data[:60]).decode() not in told
    assert repr(data[:40])[2:-1] not in told
    assert own[:60] not in told


def test_no_bytes_reach_a_memory_on_disk(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], tmp_path: Path
) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/chat.db"
    data = photos[4].read_bytes()
    for mode in ("context", "simple"):
        memory = Memory.from_defaults(session_id=mode, token_limit=9000, async_database_uri=database)
        chat = index.as_chat_engine(mode, llm=llm, memory=memory)
        chat.chat(QueryBundle("这是什么？", image_path=data))  # type: ignore[arg-type]
        chat.chat(QueryBundle("这个呢？", image_path=str(photos[5])))
        chat.chat("左边呢？")
        assert {data, photos[5].read_bytes()} <= set(sent_bytes(server.requests[-1]))
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert str(photos[5]).encode() in written
    assert base64.b64encode(data[:60]) not in written

    # Another process knows the file, and not the bytes.
    memory = Memory.from_defaults(session_id="context", token_limit=9000, async_database_uri=database)
    later = index.as_chat_engine("context", llm=llm, memory=memory)
    later.chat("右边呢？")
    assert photos[5].read_bytes() in sent_bytes(server.requests[-1])
    assert outline(server.requests[-1])[:2] == ["[图片已无法读取]", "这是什么？"]


def test_a_file_that_vanished_does_not_end_the_chat(
    chat: BaseChatEngine, server: MockGLMServer, photos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = Path(shutil.copy(photos[4], tmp_path / "图 片#1.jpg"))
    chat.chat(QueryBundle("这是什么？", image_path=str(file)))
    chat.chat("左边呢？")
    assert photos[4].read_bytes() in sent_bytes(server.requests[-1])
    file.unlink()
    chat.chat("右边呢？")
    assert photos[4].read_bytes() not in sent_bytes(server.requests[-1])
    assert "an image of an earlier message is left out" in caplog.text


def test_older_images_give_way_first(
    index: ImageIndex, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer, photos: list[Path]
) -> None:
    chat = index.as_chat_engine("context", llm=connect(), image_similarity_top_k=3)
    for photo in photos[:3]:
        chat.chat(QueryBundle("这是什么？", image_path=str(photo)))
    chat.chat("左边呢？")
    assert sent_bytes(server.requests[-1])[:2] == [photo.read_bytes() for photo in photos[1:3]]
    assert "[图片略]" in outline(server.requests[-1])


def test_images_found_do_not_push_out_the_user_s_own(
    index: ImageIndex, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer, photos: list[Path]
) -> None:
    chat = index.as_chat_engine(llm=connect(), image_similarity_top_k=9)
    chat.chat(QueryBundle("这是什么？", image_path=str(photos[4])))
    chat.chat("左边呢？")
    assert sent_bytes(server.requests[-1])[0] == photos[4].read_bytes()
    assert len(images_of(server.requests[-1])) == 5


@pytest.mark.parametrize("mode", MODES)
async def test_a_history_with_images_is_honoured(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], tmp_path: Path, mode: str
) -> None:
    file = Path(shutil.copy(photos[4], tmp_path))
    history = [
        ChatMessage(role="user", blocks=[TextBlock(text="这是什么？"), ImageBlock(path=file)]),
        ChatMessage(role="assistant", content="一条裤子。"),
    ]
    chat = index.as_chat_engine(mode, llm=llm, chat_history=history)
    chat.chat("左边呢？")
    assert photos[4].read_bytes() in sent_bytes(server.requests[-1])
    file.unlink()
    chat.chat("右边呢？")
    assert photos[4].read_bytes() not in sent_bytes(server.requests[-1])
    if mode == "condense_question":
        # LlamaIndex looks at the history of the call, and does not keep it.
        return
    history[0].blocks[1] = ImageBlock(path=photos[4])
    chat = index.as_chat_engine(mode, llm=llm)
    await chat.achat("左边呢？", chat_history=history)
    assert photos[4].read_bytes() in sent_bytes(server.requests[-1])
    assert chat.chat_history[0].blocks[1] == ImageBlock(path=photos[4])
    await llm.aclose()


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "simple"])
def test_a_memory_that_counts_tokens_of_its_own_works_too(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], mode: str
) -> None:
    memory = ChatMemoryBuffer.from_defaults(token_limit=3000)
    chat = index.as_chat_engine(mode, llm=llm, memory=memory, system_prompt="你是店员。")
    chat.chat(QueryBundle("这是什么？", image_path=str(photos[4])))
    chat.chat("左边呢？")
    assert photos[4].read_bytes() in sent_bytes(server.requests[-1])
    stored = "".join(message.model_dump_json() for message in memory.get_all())
    assert base64.b64encode(photos[4].read_bytes()[:60]).decode() not in stored


# Messages of LlamaIndex


@pytest.mark.parametrize("way", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_a_chat_message_is_a_message(
    chat: BaseChatEngine, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path], way: str
) -> None:
    blocks = [
        TextBlock(text="这两张"),
        *(ImageBlock(path=photo) for photo in photos[4:6]),
        TextBlock(text="有何不同？"),
    ]
    answer = await say(chat, way, ChatMessage(role=MessageRole.USER, blocks=blocks))
    assert sent_bytes(server.requests[0])[:2] == [photo.read_bytes() for photo in photos[4:6]]
    assert "有何不同？" in answer
    await say(chat, way, "左边呢？")
    assert {photo.read_bytes() for photo in photos[4:6]} <= set(sent_bytes(server.requests[-1]))
    await say(chat, way, ChatMessage(content="帽子？"))
    assert chat.chat_history[-2].content == "帽子？"
    await llm.aclose()


def test_other_blocks_are_refused_by_name(chat: BaseChatEngine, server: MockGLMServer) -> None:
    with pytest.raises(ValueError, match="a question takes text and images, not a AudioBlock"):
        chat.chat(ChatMessage(blocks=[AudioBlock(audio=b"RIFF")]))
    assert server.requests == []


def test_a_message_whose_image_is_missing_stays_out_of_the_history(chat: BaseChatEngine, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg"):
        chat.chat(QueryBundle("这是什么？", image_path=str(tmp_path / "none.jpg")))
    assert chat.chat_history == []


def test_a_message_that_no_context_holds_is_refused(chat: BaseChatEngine, server: MockGLMServer) -> None:
    said = r"the question has 300000 characters, at least 150000 tokens, and glm-4.6v takes 131072, 16384 of them"
    with pytest.raises(ValueError, match=said):
        chat.chat("啊" * 300_000)
    assert (server.requests, chat.chat_history) == ([], [])


@pytest.mark.parametrize("mode", ["context", "simple"])
def test_a_long_message_that_the_model_takes_is_not_refused(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, mode: str
) -> None:
    index.as_chat_engine(mode, llm=llm).chat("轮胎气压是多少？" * 12_500)
    assert len(server.requests) == 1
