"""``ZhipuMultiModal`` answers chats and prompts, with images in any form, sync, async and streaming."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ImageBlock,
    TextBlock,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.multi_modal_llms import MultiModalLLM
from llama_index.core.schema import ImageDocument, ImageNode, NodeWithScore
from PIL import Image

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.testing import MockGLMServer

Connect = Callable[..., ZhipuMultiModal]


def user(*blocks: str | ImageBlock) -> ChatMessage:
    return ChatMessage(
        role="user", blocks=[TextBlock(text=block) if isinstance(block, str) else block for block in blocks]
    )


def sent_parts(server: MockGLMServer) -> list[dict[str, object]]:
    """Content of the last message that the server received."""
    return server.requests[-1]["messages"][-1]["content"]


@pytest.fixture
def photo(photos: list[Path]) -> Path:
    return photos[0]


def test_core_recognises_a_multimodal_function_calling_llm(llm: ZhipuMultiModal) -> None:
    assert isinstance(llm, MultiModalLLM)
    assert isinstance(llm, FunctionCallingLLM)
    assert "multi" in llm.class_name()
    assert llm.metadata.is_chat_model
    assert (llm.metadata.model_name, llm.metadata.context_window) == ("glm-4v-flash", 16_384)


async def test_all_eight_calls_agree(llm: ZhipuMultiModal, photo: Path) -> None:
    chat = [user(ImageBlock(path=photo), "图里是什么？")]
    expected = llm.chat(chat).message.content
    assert expected is not None
    assert "JPEG 400×534" in expected
    assert "图里是什么？" in expected

    texts = [
        llm.complete("图里是什么？", image_documents=[photo]).text,
        (await llm.achat(chat)).message.content,
        (await llm.acomplete("图里是什么？", [photo])).text,
        list(llm.stream_chat(chat))[-1].message.content,
        list(llm.stream_complete("图里是什么？", [photo]))[-1].text,
        [piece async for piece in await llm.astream_chat(chat)][-1].message.content,
        [piece async for piece in await llm.astream_complete("图里是什么？", image_documents=[photo])][-1].text,
    ]
    assert texts == [expected] * 7


def test_streams_grow_piece_by_piece_and_end_with_usage(llm: ZhipuMultiModal) -> None:
    pieces = list(llm.stream_chat([user("讲一个故事")]))
    assert len(pieces) > 3
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].message.content
    assert pieces[-1].additional_kwargs["total_tokens"] > 0
    assert pieces[-1].additional_kwargs["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "form", ["path", "string", "base64", "bytes", "buffer", "PIL", "node", "node with base64", "document", "block"]
)
def test_images_of_every_form_are_sent_as_raw_base64(
    llm: ZhipuMultiModal, server: MockGLMServer, photo: Path, form: str
) -> None:
    data = photo.read_bytes()
    text = base64.b64encode(data).decode()
    document = {
        "path": photo,
        "string": str(photo),
        "base64": text,
        "bytes": data,
        "buffer": BytesIO(data),
        "PIL": Image.open(photo),
        "node": ImageNode(image_path=str(photo)),
        "node with base64": ImageNode(image=text),
        "document": ImageDocument(image_path=str(photo)),
        "block": ImageBlock(image=data),
    }[form]

    answer = llm.complete("图里是什么？", image_documents=[document])

    image, question = sent_parts(server)
    assert question == {"type": "text", "text": "图里是什么？"}
    assert "400×534" in answer.text
    if form != "PIL":
        assert image == {"type": "image_url", "image_url": {"url": text}}


@pytest.mark.parametrize("form", ["string", "node", "block"])
def test_urls_are_sent_as_they_are(llm: ZhipuMultiModal, server: MockGLMServer, form: str) -> None:
    url = "https://example.com/a.jpg"
    document = {"string": url, "node": ImageNode(image_url=url), "block": ImageBlock(url=url)}[form]
    llm.complete("图里是什么？", image_documents=[document])
    assert sent_parts(server)[0] == {"type": "image_url", "image_url": {"url": url}}


def test_urls_are_fetched_according_to_the_settings(
    connect: Callable[..., ZhipuMultiModal], server: MockGLMServer, file_server: str, photos: list[Path]
) -> None:
    document = ImageNode(image_url=f"{file_server}/{photos[0].name}")
    with pytest.raises(ImageError, match="set allow_private_urls=True"):
        connect(inline_urls=True).complete("图里是什么？", image_documents=[document])
    assert server.requests == []
    connect(inline_urls=True, allow_private_urls=True).complete("图里是什么？", image_documents=[document])
    text = base64.b64encode(photos[0].read_bytes()).decode()
    assert sent_parts(server)[0] == {"type": "image_url", "image_url": {"url": text}}


def test_captions_are_sent_before_their_images(llm: ZhipuMultiModal, photos: list[Path]) -> None:
    nodes = [ImageNode(image_path=str(photo), text=name) for photo, name in zip(photos, ["裙子", "帽子"], strict=False)]
    answer = llm.complete("哪张是帽子？", image_documents=nodes).text
    assert "第1张图片：JPEG 400×534" in answer
    assert [line.rpartition("说明：")[2] for line in answer.splitlines() if "说明" in line] == ["裙子", "帽子"]


def test_one_image_needs_no_list(llm: ZhipuMultiModal, server: MockGLMServer, photo: Path) -> None:
    node = ImageNode(image_path=str(photo), text="裙子")
    found = NodeWithScore(node=node, score=0.5)
    for image in (str(photo), photo, photo.read_bytes(), Image.open(photo), node, found, ImageBlock(path=photo)):
        llm.complete("什么颜色？", image_documents=image)
        assert [part["type"] for part in sent_parts(server)].count("image_url") == 1
    llm.complete("什么颜色？", image_documents=(image for image in (photo, found)))
    assert [part["type"] for part in sent_parts(server)].count("image_url") == 2
    with pytest.raises(ImageError, match=r"no such image: a\.jpg"):
        llm.complete("什么颜色？", image_documents="a.jpg")


def test_blocks_keep_their_order_and_history_is_sent(llm: ZhipuMultiModal, server: MockGLMServer, photo: Path) -> None:
    image = ImageBlock(path=photo)
    llm.chat(
        [
            ChatMessage(role="system", content="你是助手"),
            user("第一问"),
            ChatMessage(role="assistant", content="第一答"),
            user("图1：", image, "图2：", image, "区别？", "请详细说。"),
        ]
    )
    messages = server.requests[-1]["messages"]
    assert [(message["role"], message["content"]) for message in messages[:3]] == [
        ("system", "你是助手"),
        ("user", "第一问"),
        ("assistant", "第一答"),
    ]
    assert [part.get("text", "image") for part in messages[3]["content"]] == [
        "图1：",
        "image",
        "图2：",
        "image",
        "区别？\n请详细说。",
    ]


def test_an_empty_system_prompt_is_not_sent(llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    llm.chat([ChatMessage(role="system", content=""), user("你好")])
    assert [message["role"] for message in server.requests[-1]["messages"]] == ["user"]


def test_a_message_of_images_alone_gets_a_text(llm: ZhipuMultiModal, server: MockGLMServer, photo: Path) -> None:
    llm.chat([user(ImageBlock(path=photo))])
    assert [part["type"] for part in sent_parts(server)] == ["image_url", "text"]
    assert sent_parts(server)[1]["text"] == "请看图片。"
    llm.chat([ChatMessage(role="system", content="Answer in one sentence."), user(ImageBlock(path=photo))])
    assert sent_parts(server)[1]["text"] == "Look at the image."


def test_images_beyond_the_limit_are_replaced_by_placeholders(
    llm: ZhipuMultiModal, server: MockGLMServer, photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = ImageBlock(path=photo)
    chat = [user("旧", image, image), ChatMessage(role="assistant", content="好"), user(*[image] * 4, "新")]

    llm.chat(chat)

    old, _, new = server.requests[-1]["messages"]
    assert [part["type"] for part in old["content"]] == ["text", "image_url", "text"]
    assert old["content"][2]["text"] == "[图片略]"
    assert [part["type"] for part in new["content"]] == ["image_url"] * 4 + ["text"]
    assert "6 images, and the model takes 5 in one request" in caplog.text
    assert len(chat[0].blocks) == 3
    assert isinstance(chat[0].blocks[2], ImageBlock)


@pytest.mark.parametrize("kind", ["sideways", "too wide", "webp", "too heavy"])
def test_images_are_converted_to_a_form_that_the_api_accepts(
    llm: ZhipuMultiModal, server: MockGLMServer, kind: str
) -> None:
    buffer = BytesIO()
    if kind == "sideways":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (40, 20), "red").save(buffer, "JPEG", exif=exif)
    elif kind == "too wide":
        Image.new("RGB", (7000, 70), "red").save(buffer, "PNG")
    elif kind == "webp":
        Image.new("RGB", (40, 20), "red").save(buffer, "WEBP")
    else:
        Image.effect_noise((2600, 2600), 100).save(buffer, "PNG")

    llm.complete("什么颜色？", image_documents=[buffer.getvalue()])

    url = sent_parts(server)[0]["image_url"]["url"]  # type: ignore[index]
    assert len(url) < 5 * 1024 * 1024
    with Image.open(BytesIO(base64.b64decode(url))) as sent:
        assert sent.format == "JPEG"
        assert sent.size == {"sideways": (20, 40), "too wide": (6000, 60), "webp": (40, 20)}.get(kind, sent.size)
        assert max(sent.size) > 15


def test_only_parameters_that_were_set_are_sent(connect: Connect, server: MockGLMServer) -> None:
    connect().complete("你好")
    assert set(server.requests[-1]) == {"model", "messages", "request_id"}
    connect(temperature=0, top_p=0.5, max_tokens=100, additional_kwargs={"do_sample": False}).complete(
        "你好", temperature=0.3
    )
    sent = server.requests[-1]
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"], sent["do_sample"]) == (0.3, 0.5, 100, False)


def test_too_many_tokens_are_lowered_with_a_warning(
    connect: Connect, server: MockGLMServer, caplog: pytest.LogCaptureFixture
) -> None:
    connect(max_tokens=4096).complete("你好")
    assert server.requests[-1]["max_tokens"] == 1024
    assert "max_tokens 4096 lowered to 1024: glm-4v-flash gives no more" in caplog.text


def test_async_calls_work_in_several_event_loops(llm: ZhipuMultiModal) -> None:
    for _ in range(3):
        assert "你好" in asyncio.run(llm.acomplete("你好")).text


# Keys


def test_the_key_appears_nowhere(
    key: str, llm: ZhipuMultiModal, server: MockGLMServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fail_next(400, "1210", "API 调用参数有误，请检查文档。")
    with pytest.raises(Exception, match="1210") as caught:
        llm.complete("你好")
    shown = [
        repr(llm),
        str(llm),
        llm.to_json(),
        str(llm.to_payload()),
        str(caught.value),
        repr(caught.value),
        caplog.text,
    ]
    assert not any("s3cr3t" in text for text in shown)
    assert key.split(".", maxsplit=1)[0] not in "".join(shown)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, r"no API key: give api_key=… or set ZHIPUAI_API_KEY or .*open\.bigmodel\.cn"),
        ("", "no API key"),
        ("   ", "no API key"),
        ("s3cr3t key", "holds a blank or a character outside ASCII"),
    ],
)
def test_a_missing_or_malformed_key_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, given: str | None, message: str
) -> None:
    for name in ("ZHIPUAI_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=message) as caught:
        ZhipuMultiModal(api_key=given)
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_key_and_url_are_read_from_the_environment(
    key: str, monkeypatch: pytest.MonkeyPatch, server: MockGLMServer
) -> None:
    monkeypatch.setenv("ZHIPUAI_API_KEY", key)
    monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
    assert "你好" in ZhipuMultiModal().complete("你好").text


def test_pickles_and_copies_work(llm: ZhipuMultiModal, caplog: pytest.LogCaptureFixture) -> None:
    llm.complete("你好")
    for other in (pickle.loads(pickle.dumps(llm)), copy.deepcopy(llm)):
        assert "再见" in other.complete("再见").text
        other.close()
    assert "你好" in llm.complete("你好").text
    assert not caplog.records


def test_copies_share_no_settings(connect: Connect) -> None:
    llm = connect(additional_kwargs={"seed": 1})
    copied = copy.deepcopy(llm)
    copied.additional_kwargs["seed"] = 2
    assert llm.additional_kwargs == {"seed": 1}


# Bad input


@pytest.mark.parametrize(
    "api_base",
    ["localhost:1", "htp://x", "http://", "http://[::1", "http://a:abc", "http://a:99999", "http://xn--a", ""],
)
def test_an_invalid_url_is_refused_by_the_constructor(key: str, monkeypatch: pytest.MonkeyPatch, api_base: str) -> None:
    monkeypatch.setenv("ZHIPUAI_BASE_URL", api_base)
    if not api_base:
        assert ZhipuMultiModal(api_key=key).api_base == "https://open.bigmodel.cn/api/paas/v4"
        return
    with pytest.raises(ValueError, match="is not a URL such as"):
        ZhipuMultiModal(api_key=key)


def test_settings_are_checked_when_they_are_changed(llm: ZhipuMultiModal) -> None:
    for name, value in [("temperature", 5), ("max_concurrency", 0), ("deadline", None), ("image_policy", "best")]:
        with pytest.raises(ValueError, match=name):
            setattr(llm, name, value)
    llm.api_key = "0123456789abcdef.other"  # type: ignore[assignment]
    assert "你好" in llm.complete("你好").text


def test_values_that_json_cannot_hold_are_refused(llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    for value in ({1, 2}, float("nan")):
        with pytest.raises(ValueError, match="cannot be sent as JSON"):
            llm.complete("你好", additional_kwargs={"extra": value})
    assert server.requests == []


def test_half_a_surrogate_pair_can_be_sent(llm: ZhipuMultiModal, photo: Path) -> None:
    assert llm.complete("半个\ud83d字", image_documents=[photo]).text


def test_messages_are_copied_when_a_stream_is_created(llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    history = [user("第一问")]
    stream = llm.stream_chat(history)
    history.append(user("第二问"))
    list(stream)
    assert len(server.requests[-1]["messages"]) == 1


def test_histories_of_other_llms_are_accepted(connect: Connect, server: MockGLMServer) -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "price", "arguments": "{}"}}]
    connect(model="glm-4.6v-flash").chat(
        [
            user("多少钱？"),
            ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": calls}),
            ChatMessage(role="tool", content="1.0", additional_kwargs={"tool_call_id": "c1"}),
            ChatMessage(role="assistant", content=""),
            user("再说一遍"),
        ]
    )
    sent = server.requests[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[1]["tool_calls"] == calls


def test_a_bad_image_is_named(llm: ZhipuMultiModal, server: MockGLMServer, tmp_path: Path) -> None:
    fake = tmp_path / "fake.jpg"
    fake.write_text("no image")
    with pytest.raises(ImageError, match="is not an image that Pillow can read"):
        llm.complete("图里是什么？", image_documents=[fake])
    with pytest.raises(ImageError, match=r"no such image: .*gone\.jpg"):
        llm.complete("图里是什么？", image_documents=[tmp_path / "gone.jpg"])
    assert server.requests == []


def test_other_blocks_are_refused(llm: ZhipuMultiModal) -> None:
    with pytest.raises(ValueError, match="takes text, images, videos and files, not a AudioBlock"):
        llm.chat([ChatMessage(role="user", blocks=[AudioBlock(audio=b"UklGRg==")])])
