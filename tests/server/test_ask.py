"""``/api/ask``: events of an answer, conversations, and models that do not answer."""

from __future__ import annotations

import base64
import re
import threading
from concurrent.futures import Future
from io import BytesIO
from typing import Any

import pytest
from api import Api, Serve, error_of, events_of, opened
from gates import Held
from PIL import Image
from waiting import wait_until

from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.faults import Cut, ErrorAnswer, Says, Stall


def test_sources_come_first_then_pieces_then_the_answer_with_its_citations(api: Api, server: MockGLMServer) -> None:
    server.script(Says("是红色的[图1]，不是[图99]。"))
    first, *pieces, last = api.answer("红苹果", similarity_top_k=2)
    assert first.name == "sources"
    numbers = {source["node_id"]: source["number"] for source in first.data["sources"]}
    assert numbers["红苹果"] == 1
    assert {piece.name for piece in pieces} == {"text"}
    assert "".join(piece.data["text"] for piece in pieces) == last.data["text"] == "是红色的[图1]，不是[图99]。"
    assert (last.name, last.data["citations"]) == ("answer", {"图1": "红苹果"})
    assert last.data["unknown_citations"] == ["图99"]
    assert last.data["sources"] == first.data["sources"]


def test_a_question_goes_on_with_the_conversation_whose_id_it_has(api: Api, server: MockGLMServer) -> None:
    first = api.answer("哪个是红苹果？")[0].data["chat"]
    assert api.answer("它多少钱？", chat=first)[0].data["chat"] == first
    assert "哪个是红苹果？" in str(server.requests[-1])
    other = api.answer("你好")[0].data["chat"]
    assert other != first
    assert "哪个是红苹果？" not in str(server.requests[-1])


def test_each_question_has_its_own_filters(api: Api) -> None:
    first = api.answer("有什么？", filter="颜色=黄")[0].data
    assert {source["metadata"].get("颜色") for source in first["sources"]} <= {"黄", None}
    second = api.answer("还有什么？", filter="颜色=绿", chat=first["chat"])[0].data
    assert [source["metadata"]["颜色"] for source in second["sources"] if source["type"] == "image"] == ["绿"]


def test_the_questions_own_image_reaches_the_model_and_so_does_one_of_the_index(
    api: Api, server: MockGLMServer, images: dict[str, bytes]
) -> None:
    api.answer("这是什么？", similarity_top_k=1)
    without = str(server.requests[-1]).count("image_url")
    api.answer("这是什么？", images["闹钟"], similarity_top_k=1)
    assert str(server.requests[-1]).count("image_url") > without
    first = api.answer("这是什么？", like="闹钟", similarity_top_k=1)[0]
    assert str(server.requests[-1]).count("image_url") > without
    assert first.data["sources"][-1]["node_id"] == "闹钟"


def test_line_breaks_of_browsers_reach_the_model_as_line_feeds(api: Api, server: MockGLMServer) -> None:
    api.answer("第一行\r\n第二行")
    assert "第一行\\n第二行" in str(server.requests[-1])


def test_a_conversation_that_is_being_answered_takes_no_other_question(api: Api, server: MockGLMServer) -> None:
    chat = api.answer("你好")[0].data["chat"]
    released = threading.Event()
    server.script(Held(released))
    asked: Future[Any] = Future()
    thread = threading.Thread(target=lambda: asked.set_result(api.answer("慢的", chat=chat)))
    thread.start()
    assert wait_until(lambda: any("慢的" in str(request) for request in server.requests))
    assert error_of(api.ask("快的", chat=chat))[:2] == (409, "conflict")
    released.set()
    assert asked.result(60)[-1].name == "answer"
    thread.join()
    # It goes on.
    assert api.answer("快的", chat=chat)[-1].name == "answer"


def test_a_reader_that_leaves_does_not_hold_the_conversation(api: Api, server: MockGLMServer) -> None:
    server.script(Says("很长的答案。" * 200))
    with api.asking("说来话长") as events:
        chat = next(events).data["chat"]
    assert wait_until(lambda: api.ask("然后呢？", chat=chat).status_code == 200)


def test_a_reader_that_leaves_a_silent_model_does_not_hold_the_conversation(api: Api, server: MockGLMServer) -> None:
    server.script(Stall(after=3))
    with api.asking("没有回答的") as events:
        chat = next(events).data["chat"]
    assert wait_until(lambda: api.ask("然后呢？", chat=chat).status_code == 200)


def test_a_conversation_keeps_images_reduced(api: Api, server: MockGLMServer) -> None:
    data = BytesIO()
    Image.new("RGB", (4000, 100), "red").save(data, "PNG")
    chat = api.answer("这是什么？", data.getvalue(), similarity_top_k=1)[0].data["chat"]
    api.answer("什么颜色？", chat=chat, similarity_top_k=1)
    urls = re.findall(r"'url': '(?:data:[^,]*,)?([^']+)'", str(server.requests[-1]["messages"]))
    sizes = [Image.open(BytesIO(base64.b64decode(url))).size for url in urls]
    assert max(width for width, _ in sizes) == 2048


def test_a_conversation_that_is_forgotten_or_made_up_is_gone(api: Api) -> None:
    chat = api.answer("你好")[0].data["chat"]
    assert api.client.delete(f"/api/chats/{chat}").status_code == 204
    assert api.client.delete("/api/chats/nobody").status_code == 204
    for chat_id in (chat, "nobody", "../../x"):
        assert error_of(api.ask("还在吗？", chat=chat_id))[:2] == (410, "gone")


def test_an_answer_that_breaks_off_ends_with_an_error(api: Api, server: MockGLMServer) -> None:
    server.script(Cut(after=2))
    *_, last = api.answer("会断的")
    assert (last.name, last.data["error"]["code"]) == ("error", "model")


def test_a_model_that_refuses_is_an_error_without_the_key(api: Api, server: MockGLMServer, key: str) -> None:
    server.script(ErrorAnswer(401, "1000", "身份验证失败"))
    response = api.ask("你好")
    *_, last = events_of(response.text)
    assert (last.name, last.data["error"]["code"]) == ("error", "model")
    assert key not in response.text
    assert key.partition(".")[2] not in response.text


def test_without_a_key_the_error_says_where_to_get_one(
    serve: Serve, emoji_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZHIPUAI_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    status, code, message = error_of(serve(opening=opened(ImageService.open(emoji_store))).ask("你好"))
    assert (status, code) == (503, "no_key")
    assert "https://open.bigmodel.cn" in message or "bigmodel" in message


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"question": ""}, 400),
        ({"question": "?" * 4001}, 400),
        ({"question": "a", "similarity_top_k": 21}, 400),
        ({"question": "a", "filter": "颜色"}, 400),
        ({"question": "a", "like": "没有"}, 404),
        ({"question": "a", "words": "b"}, 400),
    ],
)
def test_bad_questions_are_one_line(api: Api, parameters: dict[str, Any], status: int) -> None:
    assert error_of(api.ask(**parameters))[0] == status
    assert "\nmmzhipu_chats 0.0\n" in api.client.get("/metrics").text
    assert error_of(api.client.get("/api/ask"))[0] == 405


def test_an_image_that_is_broken_leaves_the_conversation_as_it_was(api: Api) -> None:
    chat = api.answer("你好")[0].data["chat"]
    assert error_of(api.ask("这是什么？", b"broken", chat=chat))[0] == 400
    assert api.answer("你好", chat=chat)[-1].name == "answer"
