"""The mock server refuses what the API refuses, with the codes and messages of the API, and accepts the rest."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from PIL import Image
from raw_client import TOOL_MODEL, Client, body_of, encoded, image, text, tool, user

from llama_index_mm_zhipu.llm.images import MAX_ENCODED_BYTES, MAX_SIDE
from llama_index_mm_zhipu.llm.models import MODELS

PARAMETER = (400, "1210", "API 调用参数有误，请检查文档。")
IMAGE = (400, "1210", "图片输入格式/解析错误")
CONTENT_TYPE = (400, "1210", "messages.content.type 参数非法，取值范围 ['image_url', 'text']")


def invalid(field: str) -> tuple[int, str, str]:
    return (400, "1214", f"{field} 参数非法。请检查文档。")


def call(call_id: str = "c1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "price", "arguments": "{}"}}


# Keys


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "1001"),
        ("", "1002"),
        ("Bearer", "1002"),
        ("Bearer nodot", "1002"),
        ("Bearer .", "1002"),
        ("Bearer id.", "1002"),
        ("Bearer a.b.c.d", "1002"),
        ("Basic id.secret", "1002"),
        ("id.secret", "1002"),
    ],
)
def test_bad_keys_are_refused(shared: Client, authorization: str | None, code: str) -> None:
    request = shared.http.build_request("POST", "/chat/completions", json=body_of())
    del request.headers["Authorization"]
    if authorization is not None:
        request.headers["Authorization"] = authorization
    response = shared.http.send(request)
    assert (response.status_code, response.json()["error"]["code"]) == (401, code)


@pytest.mark.parametrize("token", ["id.secret", "header.claims.signature"])
def test_keys_and_tokens_are_accepted(shared: Client, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    assert shared.http.post("/chat/completions", json=body_of(), headers=headers).status_code == 200


# Models


@pytest.mark.parametrize("model", ["gpt", "", None, 7, ["glm-4v-flash"]])
def test_unknown_models_are_refused(shared: Client, model: Any) -> None:
    assert shared.error(model=model) == (400, "1211", "模型不存在，请检查模型代码。")


@pytest.mark.parametrize("model", MODELS)
def test_every_known_model_is_served(shared: Client, model: str) -> None:
    assert shared.post(model=model).json()["model"] == model


# Parameters


@pytest.mark.parametrize(
    ("model", "maximum"), [("glm-4v-flash", 1024), ("glm-4v-plus-0111", 8192), ("glm-4.6v", 32_768), ("glm-4v", 2_048)]
)
def test_max_tokens_has_a_limit_for_each_model(shared: Client, model: str, maximum: int) -> None:
    assert shared.post(model=model, max_tokens=maximum).status_code == 200
    for value in (maximum + 1, 0, -1, 1.5, "1", True):
        message = f"max_tokens参数非法：限制数值范围[1,{maximum}]"
        assert shared.error(model=model, max_tokens=value) == (400, "1210", message)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", [0, 0.5, 1], [-0.1, 1.1, "0.5", True]),
        ("top_p", [0.01, 1], [0, 1.1, "0.5"]),
        ("stop", [[], ["a"], ["a", "b", "c", "d"]], ["a", ["a"] * 5, [1], [""]]),
        ("request_id", ["sixsix", "x" * 64], ["short", "x" * 65, 123456]),
        ("user_id", ["sixsix", "x" * 128], ["short", "x" * 129, 123456]),
        ("do_sample", [True, False], [0, "false"]),
        ("stream", [False], [0, "true"]),
    ],
)
def test_parameters_have_ranges(shared: Client, name: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert shared.post(**{name: value}).status_code == 200, value
    for value in bad:
        assert shared.error(**{name: value}) == PARAMETER, value


def test_null_counts_as_not_set(shared: Client) -> None:
    nulls = dict.fromkeys(["temperature", "top_p", "max_tokens", "stop", "stream", "tools", "thinking", "request_id"])
    assert shared.http.post("/chat/completions", json={**body_of(), **nulls}).status_code == 200


def test_unknown_fields_are_accepted(shared: Client) -> None:
    assert shared.post(seed=7, response_format={"type": "json_object"}).status_code == 200


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["enabled", "disabled"])
def test_only_thinking_models_accept_thinking(shared: Client, model: str, mode: str) -> None:
    status = shared.post(model=model, thinking={"type": mode}).status_code
    always = MODELS[model].always_thinks and mode == "disabled"
    assert status == (200 if MODELS[model].thinking and not always else 400)


def test_models_that_always_think_refuse_to_disable_it(shared: Client) -> None:
    refusal = (
        400,
        "1210",
        "This model always engages in thinking and cannot be disabled; please use low, high, or max",
    )
    for effort in ("low", "high", "max"):
        assert shared.post(model="glm-5.3-flash", reasoning_effort=effort).status_code == 200
    for fields in ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}, {"reasoning_effort": 1}):
        assert shared.error(model="glm-5.3-flash", **fields) == refusal


@pytest.mark.parametrize("thinking", ["enabled", {}, {"type": "auto"}, {"type": True}])
def test_thinking_must_be_enabled_or_disabled(shared: Client, thinking: Any) -> None:
    assert shared.error(model="glm-4.5v", thinking=thinking) == PARAMETER


@pytest.mark.parametrize("model", MODELS)
def test_only_tool_models_accept_tools(shared: Client, model: str) -> None:
    assert shared.post(model=model, tools=[tool()]).status_code == (200 if MODELS[model].tools else 400)


@pytest.mark.parametrize(
    "tools",
    [
        tool(),
        ["price"],
        [{"type": "web_search", "web_search": {}}],
        [{"type": "function"}],
        [{"function": {"name": "price"}}],
        [{"type": "function", "function": {"parameters": {}}}],
        [{"type": "function", "function": {"name": "price", "parameters": "{}"}}],
        [{"type": "function", "function": {"name": "price", "strict": True}}],
    ],
)
def test_malformed_tools_are_refused(shared: Client, tools: Any) -> None:
    assert shared.error(model=TOOL_MODEL, tools=tools) == PARAMETER


def test_the_only_tool_choice_is_auto(shared: Client) -> None:
    assert shared.post(model=TOOL_MODEL, tools=[tool()], tool_choice="auto").status_code == 200
    for choice in ("none", "required", {"type": "function", "function": {"name": "price"}}):
        assert shared.error(model=TOOL_MODEL, tools=[tool()], tool_choice=choice) == PARAMETER


# Messages


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (None, (400, "1213", "未正常接收到messages参数。")),
        ([], invalid("messages")),
        ("你好", invalid("messages")),
        (["你好"], invalid("messages")),
        ([{"content": "x"}], (400, "1214", "messages.role 参数非法，取值范围 ['system', 'user', 'assistant', 'tool']")),
        (
            [{"role": "bot", "content": "x"}],
            (400, "1214", "messages.role 参数非法，取值范围 ['system', 'user', 'assistant', 'tool']"),
        ),
        ([{"role": "user"}], (400, "1213", "未正常接收到messages.content参数。")),
        ([user(None)], (400, "1213", "未正常接收到messages.content参数。")),
        ([user("")], invalid("messages.content")),
        ([user([])], invalid("messages.content")),
        ([user(7)], invalid("messages.content")),
        ([{"role": "system", "content": ""}, user("x")], invalid("messages.content")),
        ([user("x"), {"role": "assistant", "content": ""}, user("y")], invalid("messages.content")),
        ([user([text("")])], PARAMETER),
    ],
)
def test_malformed_messages_are_refused(shared: Client, messages: Any, expected: tuple[int, str, str]) -> None:
    assert shared.error(messages=messages) == expected


@pytest.mark.parametrize(
    "part",
    [
        {"type": "audio"},
        {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
        {"type": "text"},
        {"type": "text", "text": 7},
        {"type": "text", "text": "x", "detail": "high"},
        {"type": ["text"], "text": "x"},
        {"text": "x"},
        {"type": "image_url", "image_url": "https://example.com/a.jpg"},
        {"type": "image_url", "image_url": {}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg", "detail": "high"}},
        "x",
    ],
)
def test_malformed_parts_are_refused(shared: Client, part: Any) -> None:
    assert shared.error([text("x"), part]) == CONTENT_TYPE


def test_a_prompt_that_is_too_long_is_refused(shared: Client) -> None:
    longest = 2 * MODELS["glm-4v"].context_window
    assert shared.post("长" * longest, model="glm-4v").status_code == 200
    assert shared.error("长" * (longest + 1), model="glm-4v") == (400, "1261", "Prompt 超长")
    assert shared.error([text("长" * longest), text("长")], model="glm-4v") == (400, "1261", "Prompt 超长")


def test_the_result_of_a_tool_needs_an_earlier_call(shared: Client) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [call("c1"), call("c2")]}
    result = {"role": "tool", "content": "1.0", "tool_call_id": "c2"}
    assert shared.post(messages=[user("x"), called, result]).status_code == 200
    assert shared.post(messages=[user("x"), called, {**result, "content": ""}]).status_code == 200
    for messages in (
        [user("x"), result],
        [user("x"), result, called],
        [user("x"), called, {**result, "tool_call_id": "c3"}],
        [user("x"), called, {"role": "tool", "content": "1.0"}],
        [{**user("x"), "tool_calls": [call("c2")]}, result],
    ):
        assert shared.error(messages=messages) == invalid("messages.tool_call_id")


def test_tools_return_only_text(shared: Client, red: str) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [call()]}
    result = {"role": "tool", "content": [text("1.0")], "tool_call_id": "c1"}
    assert shared.post(messages=[user("x"), called, result], model=TOOL_MODEL).status_code == 200
    for part in (image(red), VIDEO, FILE):
        with_part = {**result, "content": [text("1.0"), part]}
        refused = shared.error(messages=[user("x"), called, with_part], model=TOOL_MODEL)
        assert refused == (400, "1210", "messages.content.type 参数非法，取值范围 ['text']")


@pytest.mark.parametrize(
    "calls", ["c1", ["c1"], [{"id": "c1"}], [{**call(), "id": 1}], [{**call(), "function": {"name": "price"}}]]
)
def test_malformed_calls_are_refused(shared: Client, calls: Any) -> None:
    messages = [user("x"), {"role": "assistant", "content": "x", "tool_calls": calls}]
    assert shared.error(messages=messages) == invalid("messages.tool_calls")


# Images


def test_images_need_text_in_their_message(shared: Client, red: str) -> None:
    assert shared.error([image(red)]) == PARAMETER
    assert shared.error([image(red), text("")]) == PARAMETER
    assert shared.error(messages=[user("看图"), user([image(red)])]) == PARAMETER


@pytest.mark.parametrize(
    "url",
    [
        "",
        "not base64!",
        base64.b64encode(b"no image").decode(),
        encoded(Image.new("RGB", (9, 9)), "GIF"),
        encoded(Image.new("RGB", (9, 9)), "WEBP"),
        encoded(Image.new("1", (MAX_SIDE + 1, 1))),
        encoded(Image.new("1", (1, MAX_SIDE + 1))),
        encoded(Image.effect_noise((99, 99), 50))[:4000],
        encoded(Image.effect_noise((99, 99), 50), "JPEG")[:1000],
        "A" * (MAX_ENCODED_BYTES + 4),
        "data:image/png;base64," + encoded(Image.new("RGB", (9, 9))),
        "file:///tmp/a.png",
    ],
    ids=lambda url: url[:12],
)
def test_images_must_be_complete_jpeg_or_png_in_plain_base64(shared: Client, url: str) -> None:
    assert shared.error([image(url), text("?")]) == IMAGE


@pytest.mark.parametrize(
    ("image_format", "mode"),
    [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "1")],
)
def test_images_of_every_mode_are_accepted(shared: Client, image_format: str, mode: str) -> None:
    url = encoded(Image.new(mode, (9, 8)), image_format)
    assert f"{image_format} 9×8" in shared.message([image(url), text("?")])["content"]


def test_the_largest_image_is_accepted(shared: Client) -> None:
    url = encoded(Image.new("1", (MAX_SIDE, 1)))
    assert f"PNG {MAX_SIDE}×1" in shared.message([image(url), text("?")])["content"]


@pytest.mark.parametrize("model", ["glm-4v-flash", "glm-4.6v"])
def test_images_are_counted_in_the_whole_history(shared: Client, red: str, model: str) -> None:
    maximum = MODELS[model].images
    old, new = user([*[image(red)] * 2, text("?")]), [*[image(red)] * (maximum - 2), text("?")]
    answered = {"role": "assistant", "content": "好"}
    assert shared.post(messages=[old, answered, user(new)], model=model).status_code == 200
    refused = shared.error(messages=[old, answered, user([image(red), *new])], model=model)
    assert refused == (400, "1210", "输入图片数量超过限制")


# Videos and files


VIDEO = {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}}
FILE = {"type": "file_url", "file_url": {"url": "https://example.org/a.pdf"}}
IMAGE_URL = image("https://example.org/a.jpg")


def test_videos_and_files_are_accepted_by_models_for_them(shared: Client) -> None:
    for part in (VIDEO, FILE):
        assert shared.post([part, text("?")], model=TOOL_MODEL).status_code == 200
        assert shared.error([part, text("?")]) == CONTENT_TYPE
    assert shared.post([VIDEO, text("?")], model="glm-4v-plus").status_code == 200
    assert shared.error([FILE, text("?")], model="glm-4v-plus")[1] == "1210"


@pytest.mark.parametrize("parts", [[text("?"), VIDEO], [VIDEO, IMAGE_URL], [FILE, IMAGE_URL], [VIDEO, FILE]])
def test_a_video_must_come_first_and_media_must_not_be_mixed(shared: Client, parts: list[dict[str, Any]]) -> None:
    assert shared.error([*parts, text("?")], model=TOOL_MODEL) == PARAMETER
