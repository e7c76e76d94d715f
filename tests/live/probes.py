"""Probes of assumptions about Zhipu's GLM vision API that cannot be verified without a key.

If a live run shows another outcome than the expected one, put it there. If the mock server is not changed accordingly,
put its outcome into ``mock``.
"""

from __future__ import annotations

import base64
import json
import random
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jwt
from layout_probes import LAYOUT_PROBES
from live_api import Api, NoAnswer, answer_in, media_type
from live_images import encoded, encoded_file_of, image, images
from probe import ANSWERED, GREETING, Ask, Probe, answered_or_empty, asking, body, text, user

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMError
from llama_index_mm_zhipu.llm.requests import limits_at

TOOL_MODEL = "glm-4.6v-flash"
THINKING_MODEL = "glm-4.1v-thinking-flash"
# Not free, so only sent requests that it refuses.
ALWAYS_THINKING_MODEL = "glm-5.3-flash"

# From the quick start of Zhipu's documentation.
IMAGE_URL = "https://cdn.bigmodel.cn/static/logo/register.png"
VIDEO = "https://cdn.bigmodel.cn/agent-demos/lark/113123.mov"
FILE = "https://cdn.bigmodel.cn/static/demo/demo2.txt"
DEAD_URL = "https://cdn.bigmodel.cn/static/logo/no-such-image.png"

QUESTION = text("这张图片是什么颜色？")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "查询一个城市的天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
WEATHER = "北京今天天气怎么样？请用工具查询。"
MARK = "丙"

PARAMETER = "400 1210 API 调用参数有误，请检查文档。"
TOO_MANY_IMAGES = "400 1210 输入图片数量超过限制"
BAD_IMAGE = "400 1210 图片输入格式/解析错误"
BAD_PART = "400 1210 messages.content.type 参数非法，取值范围 ['image_url', 'text']"
ALWAYS_THINKS = "400 1210 This model always engages in thinking and cannot be disabled; please use low, high, or max"
BAD_TOKEN = "401 1002 Authorization Token非法，请确认Authorization Token正确传递。"


def range_of_max_tokens(limit: int) -> str:
    """Return the refusal of a ``max_tokens`` that is out of range."""
    return f"400 1210 max_tokens参数非法：限制数值范围[1,{limit}]"


# Requests with more than one line of code


def _image_file_of(length: int) -> Ask:
    return lambda api: answered_or_empty(api.post(body([image(encoded_file_of(length)), QUESTION])))


def _tokens_for_an_image(api: Api) -> str:
    without, with_one = (
        api.post(body(content))["usage"]["prompt_tokens"] for content in ([QUESTION], [*images(1), QUESTION])
    )
    return "more prompt_tokens than without" if with_one > without else f"prompt_tokens {without} and {with_one}"


def _stopped(api: Api) -> str:
    choice = api.post(body("请原样输出这四个字：甲乙丙丁", max_tokens=64, stop=[MARK]))["choices"][0]
    place = "after" if MARK in choice["message"]["content"] else "before"
    return f"ends {place} the text, finish_reason {choice['finish_reason']}"


def _finish_reason(api: Api) -> str:
    answer = api.post(body("请从一数到一百。", max_tokens=1))
    return f"finish_reason {answer['choices'][0]['finish_reason']}"


def _request_id_of(length: int) -> Ask:
    return lambda api: answered_or_empty(api.post(body(request_id=(uuid.uuid4().hex * 3)[:length])))


def _request_id_in_answer(api: Api) -> str:
    name = uuid.uuid4().hex
    return "as sent" if api.post(body(request_id=name)).get("request_id") == name else "another"


def _same_request_id_twice(api: Api) -> str:
    name = uuid.uuid4().hex
    api.post(body(request_id=name))
    try:
        api.post(body(request_id=name))
    except NoAnswer as refused:
        return str(refused).replace(name, "<id>")
    return "answered both times"


def _too_long(api: Api) -> str:
    characters = random.Random(0).choices([chr(code) for code in range(0x4E00, 0x9000)], k=40_000)
    return answered_or_empty(api.post(body("".join(characters))))


def _in_english(content: Any, **fields: Any) -> Ask:
    return lambda api: answered_or_empty(
        api.post(body(content, **fields), {**Api.bearer(api.key), "Accept-Language": "en-US,en"})
    )


# Streams


def _events(api: Api) -> list[dict[str, Any]]:
    return [json.loads(data) for data in api.stream(body("请从一数到五。", max_tokens=64)) if data != "[DONE]"]


def _place_of_usage(api: Api) -> str:
    events = _events(api)
    places = [place for place, event in enumerate(events, start=1) if event.get("usage")]
    return "in the last event" if places == [len(events)] else f"in events {places} of {len(events)}"


def _end_mark(api: Api) -> str:
    return "[DONE] at the end" if api.stream(body())[-1:] == ["[DONE]"] else "no [DONE] at the end"


def _roles(api: Api) -> str:
    deltas = [event["choices"][0]["delta"] for event in _events(api)]
    return ", ".join(sorted({str(delta.get("role")) for delta in deltas}))


def _last_event(api: Api) -> str:
    choice = _events(api)[-1]["choices"][0]
    return f"finish_reason {choice['finish_reason']}, content {choice['delta'].get('content')!r}"


def _refused_stream(api: Api) -> str:
    response = api.send(body(max_tokens=0, stream=True))
    return f"{response.status_code} {media_type(response)}"


# Keys


def _with_headers(headers: dict[str, str]) -> Ask:
    return lambda api: answered_or_empty(api.post(body(), headers))


def _with_token(seconds: int) -> Ask:
    """Send a JWT that expires in so many seconds."""

    def ask(api: Api) -> str:
        name, _, secret = api.key.partition(".")
        now = int(time.time() * 1000)
        claims = {"api_key": name, "exp": now + seconds * 1000, "timestamp": now}
        with warnings.catch_warnings():
            # PyJWT warns about secrets as short as Zhipu's.
            warnings.simplefilter("ignore")
            token = jwt.encode(claims, secret, algorithm="HS256", headers={"sign_type": "SIGN"})
        return answered_or_empty(api.post(body(), Api.bearer(token)))

    return ask


# Tools and reasoning


def _calls(model: str, **fields: Any) -> Ask:
    def ask(api: Api) -> str:
        request = body(WEATHER, model, tools=[TOOL], thinking={"type": "disabled"}, max_tokens=256)
        choice = api.post({**request, **fields})["choices"][0]
        names = [call["function"]["name"] for call in choice["message"].get("tool_calls") or []]
        return f"finish_reason {choice['finish_reason']}, calls {', '.join(names) or 'nothing'}"

    return ask


def _tool_result(content: Any) -> Ask:
    return lambda api: _answer_to_tool_result(api, content)


def _answer_to_tool_result(api: Api, content: Any) -> str:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "北京"}'}}
    history = [
        user(WEATHER),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": content, "tool_call_id": "call_1"},
    ]
    return answered_or_empty(
        api.post(body(model=TOOL_MODEL, messages=history, tools=[TOOL], thinking={"type": "disabled"}))
    )


def _reasons(**fields: Any) -> Ask:
    def ask(api: Api) -> str:
        message = api.post(body(model=TOOL_MODEL, max_tokens=64, **fields))["choices"][0]["message"]
        return f"{'with' if message.get('reasoning_content') else 'without'} reasoning_content"

    return ask


def _marks(model: str) -> Ask:
    def ask(api: Api) -> str:
        content = [*images(1), text("这张图片是什么颜色？只回答一个词。")]
        message = api.post(body(content, model, max_tokens=1_024))["choices"][0]["message"]
        marks = [mark for mark in ("<think>", "<|begin_of_box|>") if mark in (message.get("content") or "")]
        found = [*(["reasoning_content"] if message.get("reasoning_content") else []), *marks]
        return ", ".join(found) or "none"

    return ask


# The service


def _simultaneous(api: Api) -> str:
    def ask(_: int) -> str:
        response = api.send(body())
        try:
            return answered_or_empty(answer_in(response))
        except NoAnswer as refused:
            return f"{refused}, {'with' if 'retry-after' in response.headers else 'without'} Retry-After"

    with ThreadPoolExecutor(12) as pool:
        counts = Counter(pool.map(ask, range(12)))
    return "; ".join(f"{count} × {outcome}" for outcome, count in counts.most_common())


def _header_names(api: Api) -> str:
    names = {name.lower() for name in api.send(body()).headers}
    return ", ".join(sorted(name for name in names if name.startswith("x-") or "rate" in name)) or "none"


# Through this package


def _through_package(api: Api, documents: Sequence[bytes]) -> str:
    llm = ZhipuMultiModal(api_key=api.key, api_base=api.base, max_tokens=8)
    try:
        pieces = list(llm.stream_complete("这些图片是什么颜色？", documents))
    except GLMError as error:
        return f"{type(error).__name__}, {error}"
    finally:
        llm.close()
    usage = "usage" if pieces[-1].additional_kwargs.get("total_tokens") else "no usage"
    return f"{ANSWERED}, {usage}, up to {limits_at(api.base, llm.model).images} images in a request"


def _package_with_images(count: int) -> Ask:
    documents = [base64.b64decode(part["image_url"]["url"]) for part in images(count)]
    return lambda api: _through_package(api, documents)


_COUNTS = [
    Probe("1 image", "D: one image is taken", ANSWERED, asking([*images(1), QUESTION])),
    Probe("2 images", "D: one, L: up to five are taken", ANSWERED, asking([*images(2), QUESTION])),
    Probe("5 images", "D: one, L: up to five are taken", ANSWERED, asking([*images(5), QUESTION])),
    Probe("6 images", "L: six are refused", TOO_MANY_IMAGES, asking([*images(6), QUESTION])),
    Probe(
        "3 + 3 images",
        "L: images are counted over the whole history",
        TOO_MANY_IMAGES,
        asking(
            messages=[
                user([*images(3), QUESTION]),
                {"role": "assistant", "content": "红色"},
                user([*images(3), QUESTION]),
            ]
        ),
    ),
    Probe(
        "6 images, glm-4.6v-flash",
        "D: fifty are taken",
        ANSWERED,
        asking([*images(6), QUESTION], model=TOOL_MODEL),
    ),
    Probe(
        "51 images, glm-4.6v-flash",
        "D: fifty are taken",
        TOO_MANY_IMAGES,
        asking([*images(51), QUESTION], model=TOOL_MODEL),
    ),
    Probe(
        "6 images, glm-4.1v",
        "?: fifty are assumed to be taken",
        ANSWERED,
        asking([*images(6), QUESTION], model=THINKING_MODEL),
    ),
    Probe(
        "6 images, asked in English",
        "?: messages are Chinese whatever is asked for; limits are read from them",
        TOO_MANY_IMAGES,
        _in_english([*images(6), QUESTION]),
    ),
]

_FORMS = [
    Probe("base64", "D: refused, L: taken", ANSWERED, asking([image(encoded()), QUESTION])),
    Probe(
        "base64 is looked at",
        "?: an image in base64 costs tokens",
        "more prompt_tokens than without",
        _tokens_for_an_image,
    ),
    Probe(
        "base64 with data: prefix",
        "L: taken by the service, refused by some deployments",
        ANSWERED,
        asking([image(f"data:image/jpeg;base64,{encoded()}"), QUESTION]),
        mock=BAD_IMAGE,
    ),
    Probe(
        "PNG named as JPEG",
        "?: the bytes count, not the name in the data: prefix",
        ANSWERED,
        asking([image(f"data:image/jpeg;base64,{encoded('PNG')}"), QUESTION]),
        mock=BAD_IMAGE,
    ),
    Probe("URL", "D: URLs are fetched", ANSWERED, asking([image(IMAGE_URL), QUESTION])),
    Probe(
        "URL of nothing",
        "L: refused like a broken image",
        BAD_IMAGE,
        asking([image(DEAD_URL), QUESTION]),
        mock=ANSWERED,
    ),
    Probe("PNG", "D: taken", ANSWERED, asking([image(encoded("PNG")), QUESTION])),
    Probe("WebP", "D: only JPEG and PNG", BAD_IMAGE, asking([image(encoded("WEBP")), QUESTION])),
    Probe("GIF", "D: only JPEG and PNG", BAD_IMAGE, asking([image(encoded("GIF")), QUESTION])),
    Probe("no image", "L: base64 of something else is refused", BAD_IMAGE, asking([image("AAAA"), QUESTION])),
    Probe("6000 pixels", "D: up to 6000 on a side", ANSWERED, asking([image(encoded(size=(6000, 1000))), QUESTION])),
    Probe("6001 pixels", "D: up to 6000 on a side", BAD_IMAGE, asking([image(encoded(size=(6001, 1000))), QUESTION])),
    Probe("base64 of 4,999,996", "D: under 5 MB, of the file or the text", ANSWERED, _image_file_of(3_749_997)),
    Probe(
        "base64 of 5,120,000",
        "?: 5 MB are 5,000,000 and not 5,242,880, of the text",
        BAD_IMAGE,
        _image_file_of(3_840_000),
    ),
    Probe(
        "file of 4,900,000",
        "?: the 5 MB hold for the base64 text, not for the file",
        BAD_IMAGE,
        _image_file_of(4_900_000),
    ),
    Probe("file of 5,300,000", "D: a file of more than 5 MB is refused", BAD_IMAGE, _image_file_of(5_300_000)),
]

_MESSAGES = [
    Probe("images only", "L: images without text are refused", PARAMETER, asking(images(1))),
    Probe("image after text", "?: in any order", ANSWERED, asking([QUESTION, *images(1)])),
    Probe(
        "text between images",
        "?: in any order",
        ANSWERED,
        asking([*images(1), text("图一"), *images(1), QUESTION]),
    ),
    Probe("text only", "L: refused by some vision models", ANSWERED, asking()),
    Probe("text only, glm-4.1v", "L: refused by some vision models", ANSWERED, asking(model=THINKING_MODEL)),
    Probe("text only, glm-4.6v-flash", "L: refused by some vision models", ANSWERED, asking(model=TOOL_MODEL)),
    Probe("text only, as parts", "D: content may be a list", ANSWERED, asking([text(GREETING)])),
    Probe(
        "part with detail",
        "D: parts have no further fields",
        BAD_PART,
        asking([image(encoded(), detail="low"), QUESTION]),
    ),
    Probe(
        "system message",
        "D: taken",
        ANSWERED,
        asking(messages=[{"role": "system", "content": "回答要简短。"}, user(GREETING)]),
    ),
    Probe(
        "empty system message",
        "?: empty content is refused",
        "400 1214 messages.content 参数非法。请检查文档。",
        asking(messages=[{"role": "system", "content": ""}, user(GREETING)]),
    ),
    Probe(
        "empty message",
        "L: refused with 1213, naming prompt",
        "400 1213 未正常接收到prompt参数。",
        asking(""),
        mock="400 1214 messages.content 参数非法。请检查文档。",
    ),
    Probe("no messages", "L: refused with 1214", "400 1214 messages 参数非法。请检查文档。", asking(messages=[])),
    Probe(
        "unknown role",
        "L: refused with 1214",
        "400 1214 角色信息不正确",
        asking(messages=[{"role": "developer", "content": GREETING}, user(GREETING)]),
        mock="400 1214 messages.role 参数非法，取值范围 ['system', 'user', 'assistant', 'tool']",
    ),
    Probe(
        "history",
        "D: answers of the assistant are taken",
        ANSWERED,
        asking(messages=[user(GREETING), {"role": "assistant", "content": "你好！"}, user("再见")]),
    ),
    Probe(
        "too long a prompt",
        "D: 1261, L: in these words",
        "400 1261 Prompt exceeds max length",
        _too_long,
        mock="400 1261 Prompt 超长",
    ),
]

_MEDIA = [
    Probe(
        "video, glm-4.6v-flash",
        "D: taken, first in the message",
        ANSWERED,
        asking([{"type": "video_url", "video_url": {"url": VIDEO}}, QUESTION], model=TOOL_MODEL),
    ),
    Probe(
        "file, glm-4.6v-flash",
        "D: taken",
        ANSWERED,
        asking([{"type": "file_url", "file_url": {"url": FILE}}, QUESTION], model=TOOL_MODEL),
    ),
    Probe(
        "video and image",
        "D: not together",
        PARAMETER,
        asking([{"type": "video_url", "video_url": {"url": VIDEO}}, *images(1), QUESTION], model=TOOL_MODEL),
    ),
    Probe(
        "video, glm-4v-flash",
        "D: not taken",
        BAD_PART,
        asking([{"type": "video_url", "video_url": {"url": VIDEO}}, QUESTION]),
    ),
]

_PARAMETERS = [
    Probe("stop, 1 item", "D: ends the answer", "ends before the text, finish_reason stop", _stopped),
    Probe("stop, 2 items", "D: one item, later four", ANSWERED, asking(stop=["甲", "乙"])),
    Probe("stop, 4 items", "D: one item, later four", ANSWERED, asking(stop=["甲", "乙", "丙", "丁"])),
    Probe("stop, 5 items", "D: one item, later four", PARAMETER, asking(stop=["甲", "乙", "丙", "丁", "戊"])),
    Probe("max_tokens 1024", "D: at most 1024", ANSWERED, asking(max_tokens=1_024)),
    Probe("max_tokens 1025", "L: refused, naming the range", range_of_max_tokens(1_024), asking(max_tokens=1_025)),
    Probe("max_tokens 0", "?: refused, naming the range", range_of_max_tokens(1_024), asking(max_tokens=0)),
    Probe(
        "max_tokens 1025, asked in English",
        "?: messages are Chinese whatever is asked for; limits are read from them",
        range_of_max_tokens(1_024),
        _in_english(GREETING, max_tokens=1_025),
    ),
    Probe(
        "max_tokens 16385, glm-4.1v",
        "D: at most 16384",
        range_of_max_tokens(16_384),
        asking(model=THINKING_MODEL, max_tokens=16_385),
    ),
    Probe(
        "max_tokens 32769, glm-4.6v-flash",
        "D: at most 32768",
        range_of_max_tokens(32_768),
        asking(model=TOOL_MODEL, max_tokens=32_769),
    ),
    Probe("max_tokens 1", "D: the answer ends with finish_reason length", "finish_reason length", _finish_reason),
    Probe("temperature 0", "D: from 0", ANSWERED, asking(temperature=0)),
    Probe("temperature 1", "D: to 1", ANSWERED, asking(temperature=1)),
    Probe(
        "temperature 1.5",
        "L: refused, naming the range",
        "400 1210 temperature参数非法：限制数值范围[0,1]",
        asking(temperature=1.5),
        mock=PARAMETER,
    ),
    Probe(
        "temperature 0.333",
        "D: two decimals, L: some models refuse more",
        ANSWERED,
        asking(temperature=0.333),
    ),
    Probe("top_p 0", "D: from 0.01, L: from 0", PARAMETER, asking(top_p=0)),
    Probe(
        "top_p 0.333",
        "D: two decimals, L: some models refuse more",
        ANSWERED,
        asking(top_p=0.333),
    ),
    Probe("do_sample false", "D: taken", ANSWERED, asking(do_sample=False)),
    Probe("request_id of 5", "D: 6 to 64 characters", PARAMETER, _request_id_of(5)),
    Probe("request_id of 6", "D: 6 to 64 characters", ANSWERED, _request_id_of(6)),
    Probe("request_id of 64", "D: 6 to 64 characters", ANSWERED, _request_id_of(64)),
    Probe("request_id of 65", "D: 6 to 64 characters", PARAMETER, _request_id_of(65)),
    Probe("request_id in the answer", "D: as sent", "as sent", _request_id_in_answer),
    Probe("request_id twice", "D: 1231", "400 1231 您已有请求：<id>", _same_request_id_twice),
    Probe("user_id of 5", "D: 6 to 128 characters", PARAMETER, asking(user_id="user1")),
    Probe("unknown field", "L: let through", ANSWERED, asking(no_such_field=1)),
    Probe("response_format null", "R: sent by the SDK with every request", ANSWERED, asking(response_format=None)),
    Probe("thinking null", "R: sent by the SDK with every request", ANSWERED, asking(thinking=None)),
    Probe(
        "unknown model",
        "L: 1211",
        "400 1211 模型不存在，请检查模型代码。",
        asking(model="glm-no-such-model"),
    ),
]

_STREAMS = [
    Probe("stream: usage", "D: in the last event", "in the last event", _place_of_usage),
    Probe("stream: end", "D: [DONE]", "[DONE] at the end", _end_mark),
    Probe("stream: role", "D: assistant in every delta", "assistant", _roles),
    Probe("stream: last event", "D: finish_reason with empty content", "finish_reason stop, content ''", _last_event),
    Probe("stream: refused", "L: as plain JSON", "400 application/json", _refused_stream),
]

_KEYS = [
    Probe("key as it is", "D: taken as a bearer token", ANSWERED, asking()),
    Probe("JWT", "D: HS256, exp in milliseconds", ANSWERED, _with_token(210)),
    Probe(
        "JWT that has ended",
        "L: 1003",
        "401 1003 Authorization Token已过期，请重新生成/获取。",
        _with_token(-210),
        mock=ANSWERED,
    ),
    Probe(
        "wrong key",
        "D: one of 1000 to 1004, L: 401 as the code",
        "401 401 令牌已过期或验证不正确",
        _with_headers(Api.bearer(f"{'0' * 32}.wrong")),
        mock=ANSWERED,
    ),
    Probe("malformed key", "D: 1002", BAD_TOKEN, _with_headers(Api.bearer("malformed"))),
    Probe(
        "no key",
        "D: 1001",
        "401 1001 Header中未收到Authorization参数，无法进行身份验证。",
        _with_headers({}),
    ),
]

_TOOLS = [
    Probe("tools", "D: not on glm-4v-flash", PARAMETER, asking(WEATHER, tools=[TOOL])),
    Probe("tools, glm-4.6v-flash", "D: called", "finish_reason tool_calls, calls get_weather", _calls(TOOL_MODEL)),
    Probe(
        "tool_choice required",
        "D: only auto is taken, L: others do not always refuse",
        PARAMETER,
        _calls(TOOL_MODEL, tool_choice="required"),
    ),
    Probe("tool result", "D: taken", ANSWERED, _tool_result("晴，25度")),
    Probe("empty tool result", "?: taken", ANSWERED, _tool_result("")),
    Probe(
        "image in a tool result",
        "?: refused, tools return text",
        "400 1210 messages.content.type 参数非法，取值范围 ['text']",
        _tool_result([text("晴"), *images(1)]),
    ),
    Probe(
        "thinking disabled, glm-5.3-flash",
        "L: refused",
        ALWAYS_THINKS,
        asking(model=ALWAYS_THINKING_MODEL, thinking={"type": "disabled"}),
    ),
    Probe(
        "reasoning_effort medium, glm-5.3-flash",
        "D: only low, high, max",
        ALWAYS_THINKS,
        asking(model=ALWAYS_THINKING_MODEL, reasoning_effort="medium"),
    ),
    Probe("thinking", "D: not on glm-4v-flash", PARAMETER, asking(thinking={"type": "enabled"})),
    Probe(
        "thinking enabled, glm-4.6v-flash",
        "D: reasoning_content",
        "with reasoning_content",
        _reasons(thinking={"type": "enabled"}),
        mock="without reasoning_content",
    ),
    Probe(
        "thinking disabled, glm-4.6v-flash",
        "D: no reasoning_content",
        "without reasoning_content",
        _reasons(thinking={"type": "disabled"}),
    ),
    Probe(
        "thinking by default, glm-4.6v-flash",
        "L: enabled on GLM-4.6 and 4.7",
        "with reasoning_content",
        _reasons(),
        mock="without reasoning_content",
    ),
    Probe(
        "marks, glm-4.1v",
        "D: reasoning_content, L: marks in the text of GLM-4.5V",
        "reasoning_content",
        _marks(THINKING_MODEL),
        mock="none",
    ),
    Probe(
        "marks, glm-4.6v-flash",
        "D: reasoning_content, L: marks in the text of GLM-4.5V",
        "reasoning_content",
        _marks(TOOL_MODEL),
        mock="none",
    ),
]

_SERVICE = [
    Probe(
        "12 requests at a time",
        "D: ten, later as the account allows, L: others get 1302",
        "10 × answered; 2 × 429 1302 您的账户已达到速率限制，请您控制请求频率, without Retry-After",
        _simultaneous,
        mock="12 × answered",
    ),
    Probe("headers of an answer", "?: none that could be of use", "none", _header_names),
    Probe(
        "this package, 6 images",
        "L: two share a contact sheet",
        "answered, usage, up to 5 images in a request",
        _package_with_images(6),
    ),
    Probe(
        "this package, text only",
        "L: refused by some vision models",
        "answered, usage, up to 5 images in a request",
        _package_with_images(0),
    ),
]

PROBES = [*_COUNTS, *_FORMS, *_MESSAGES, *_MEDIA, *_PARAMETERS, *_STREAMS, *_KEYS, *_TOOLS, *_SERVICE, *LAYOUT_PROBES]
