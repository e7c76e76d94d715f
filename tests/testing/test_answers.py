"""Answers call tools, fill schemas, take ReAct steps, select, score and write captions, or describe the request."""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, Literal

import pytest
from llama_index.core.agent.react import ReActChatFormatter, ReActOutputParser
from llama_index.core.agent.react.types import ActionReasoningStep, ObservationReasoningStep, ResponseReasoningStep
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field
from raw_client import TOOL_MODEL, Client, choices_of, image, text, tool, user

from llama_index_mm_zhipu.prompts.templates import REWRITE_PROMPTS
from llama_index_mm_zhipu.prompts.wording import WORDING
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.answers import caption, scores, search_words, selected_choice, selection
from llama_index_mm_zhipu.types import Language


class Colour(Enum):
    RED = "红"
    BLUE = "蓝"


class Size(BaseModel):
    width: float
    unit: Literal["cm"]


class Tree(BaseModel):
    name: str
    children: list[Tree]
    parent: Tree | None = None


class Product(BaseModel):
    """A model with all types of fields that a schema can have."""

    name: str
    code: str = Field(max_length=2)
    colour: Colour
    count: int = Field(ge=1, le=10)
    is_new: bool
    size: Size
    tags: list[str]
    corners: tuple[int, int]
    price: float | None
    note: str = "nothing"


class Options(BaseModel):
    colour: Colour = Colour.BLUE
    limit: int | None = None


def arguments_of(message: dict[str, Any]) -> dict[str, Any]:
    return json.loads(message["tool_calls"][0]["function"]["arguments"])


def asked_for(output: type[BaseModel], question: str, *, escaped: bool = False) -> str:
    parser = PydanticOutputParser(output)
    return f"{question}\n\n{parser.get_format_string(escape_json=escaped)}"


# Descriptions


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("你好", "你好"),
        ("资料\n问题：什么颜色？\n", "什么颜色？"),
        ("Context\nQuery: 什么颜色？\nAnswer: ", "什么颜色？"),
        ("Question: 什么颜色？\n回答：", "什么颜色？"),
    ],
)
def test_the_question_is_found_in_the_prompt(shared: Client, prompt: str, question: str) -> None:
    assert shared.message(prompt)["content"] == f"（本地模拟服务，不是模型）问题：{question}\n收到 0 张图片。"


def test_images_of_the_whole_history_are_described(shared: Client, red: str) -> None:
    messages = [
        {"role": "system", "content": "你是助手"},
        user([text("图1：旧"), image(red), text("旧问")]),
        {"role": "assistant", "content": "旧答"},
        user([image(red), text("新问")]),
    ]
    assert shared.message(messages=messages)["content"].splitlines() == [
        "（本地模拟服务，不是模型）问题：新问",
        "收到 2 张图片。",
        "第1张图片：PNG 30×20，平均颜色 #ff0000；说明：图1：旧",
        "第2张图片：PNG 30×20，平均颜色 #ff0000",
    ]


# Lengths


@pytest.mark.parametrize("stream", [False, True])
def test_answers_end_at_max_tokens(shared: Client, stream: bool) -> None:
    response = shared.post(max_tokens=10, stream=stream)
    if stream:
        choices = choices_of(response)
        content, choice = "".join(choice["delta"]["content"] for choice in choices), choices[-1]
    else:
        (choice,) = response.json()["choices"]
        content = choice["message"]["content"]
        assert response.json()["usage"]["completion_tokens"] == 10
    assert (content, choice["finish_reason"]) == ("（本地模拟服务，不是", "length")


def test_a_limit_above_the_length_changes_nothing(shared: Client) -> None:
    assert shared.post(max_tokens=1000).json()["choices"] == shared.post().json()["choices"]


def test_answers_end_before_the_first_stop_string(shared: Client) -> None:
    (choice,) = shared.post("你好", stop=["没有", "收到", "问题"]).json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "（本地模拟服务，不是模型）"


# Tools


def test_the_first_tool_is_called(shared: Client) -> None:
    parameters = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    response = shared.post("苹果多少钱？", model=TOOL_MODEL, tools=[tool("price", parameters), tool("other")]).json()
    (choice,) = response["choices"]
    (called,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert called["id"].startswith("call_")
    assert (called["type"], called["function"]["name"]) == ("function", "price")
    assert arguments_of(choice["message"]) == {"name": "苹果多少钱？"}
    assert response["usage"]["completion_tokens"] == len(called["function"]["arguments"])


@pytest.mark.parametrize("parameters", [None, {"type": "object", "properties": {"name": {"type": "string"}}}])
def test_calls_are_streamed_in_fragments(shared: Client, parameters: dict[str, Any] | None) -> None:
    fields = {"model": TOOL_MODEL, "tools": [tool("price", parameters)]}
    choices = choices_of(shared.post("苹果多少钱？", stream=True, **fields))
    pieces = [choice["delta"]["tool_calls"][0] for choice in choices[:-1]]

    assert len(pieces) >= 2
    assert choices[-1]["finish_reason"] == "tool_calls"
    assert {piece["index"] for piece in pieces} == {0}
    assert pieces[0]["id"].startswith("call_")
    assert pieces[0]["function"]["name"] == "price"
    assert all(set(piece) == {"index", "function"} and set(piece["function"]) == {"arguments"} for piece in pieces[1:])
    whole = shared.message("苹果多少钱？", **fields)["tool_calls"][0]["function"]["arguments"]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == whole


def test_results_of_tools_are_repeated_after_the_question(shared: Client) -> None:
    called = shared.message("苹果多少钱？", model=TOOL_MODEL, tools=[tool()])
    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"]}
    messages = [user("苹果多少钱？"), called, {**result, "content": "5元"}, {**result, "content": "每斤"}]

    message = shared.message(messages=messages, model=TOOL_MODEL, tools=[tool()])
    assert message["content"].splitlines() == [
        "（本地模拟服务，不是模型）问题：苹果多少钱？",
        "工具结果：5元",
        "工具结果：每斤",
    ]
    assert "tool_calls" not in message
    assert "tool_calls" in shared.message(messages=[*messages, user("梨呢？")], model=TOOL_MODEL, tools=[tool()])


@pytest.mark.parametrize("language", ["zh", "en"])
def test_images_after_results_are_described_and_no_tool_is_called_again(
    shared: Client, red: str, language: Language
) -> None:
    called = shared.message("有苹果吗？", model=TOOL_MODEL, tools=[tool()])
    result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "图1：红苹果"}
    images = user([text(f"{WORDING[language].images_of_tools}\n图1：红苹果"), image(red)])
    history = [user("有苹果吗？"), called, result, images]

    message = shared.message(messages=history, model=TOOL_MODEL, tools=[tool()])
    assert "tool_calls" not in message
    assert message["content"].splitlines() == [
        "（本地模拟服务，不是模型）问题：有苹果吗？",
        "工具结果：图1：红苹果",
        "收到 1 张图片。",
        "第1张图片：PNG 30×20，平均颜色 #ff0000；说明：图1：红苹果",
    ]
    assert "tool_calls" in shared.message(messages=[*history, user("梨呢？")], model=TOOL_MODEL, tools=[tool()])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "第3件，共-2.5元"),
        ({"type": "string", "enum": ["a", "b"]}, "a"),
        ({"type": "string", "maxLength": 3}, "第3件"),
        ({"const": "x"}, "x"),
        ({"type": "integer"}, 3),
        ({"type": "number"}, 3),
        ({"type": "number", "minimum": 3.5}, 3.5),
        ({"type": "integer", "exclusiveMaximum": 3}, 2),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "boolean"]}, True),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 3),
        ({"oneOf": [{"type": "null"}]}, None),
        ({"allOf": [{"$ref": "#/$defs/Named"}, {"required": ["name"]}]}, {"name": True}),
        ({"$ref": "#/$defs/Named"}, {"name": True, "other": 3}),
        ({"type": "array", "items": {"$ref": "#/$defs/Named"}}, [{"name": True, "other": 3}]),
        ({"type": "array", "minItems": 2, "items": {"type": "integer"}}, [3, 3]),
        ({"type": "array", "prefixItems": [{"type": "boolean"}, {"type": "integer"}]}, [True, 3]),
        ({"type": "array"}, ["第3件，共-2.5元"]),
        ({"type": "object"}, {}),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {}),
        ({}, "第3件，共-2.5元"),
    ],
    ids=json.dumps,
)
def test_arguments_conform_to_the_schema(shared: Client, schema: dict[str, Any], value: Any) -> None:
    named = {"type": "object", "properties": {"name": {"type": "boolean"}, "other": {"type": "integer"}}}
    parameters = {"type": "object", "properties": {"x": schema}, "required": ["x"], "$defs": {"Named": named}}
    message = shared.message("第3件，共-2.5元", model=TOOL_MODEL, tools=[tool("f", parameters)])
    assert arguments_of(message) == {"x": value}


def test_numbers_are_zero_if_the_question_has_none(shared: Client) -> None:
    parameters = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "integer"}}}
    message = shared.message("多少？", model=TOOL_MODEL, tools=[tool("f", parameters)])
    assert arguments_of(message) == {"a": 0, "b": 0}


@pytest.mark.parametrize("output", [Product, Tree, Options])
def test_arguments_conform_to_schemas_of_pydantic(shared: Client, output: type[BaseModel]) -> None:
    message = shared.message("要99个红苹果", model=TOOL_MODEL, tools=[tool("f", output.model_json_schema())])
    assert output.model_validate(arguments_of(message))


# Schemas in prompts


@pytest.mark.parametrize("output", [Product, Tree, Options])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_schema_in_the_prompt_is_filled(shared: Client, output: type[BaseModel], escaped: bool) -> None:
    content = shared.message(asked_for(output, "要99个红苹果", escaped=escaped))["content"]
    parsed = PydanticOutputParser(output).parse(content)
    if isinstance(parsed, Product):
        assert (parsed.name, parsed.count, parsed.size.width) == ("要99个红苹果", 10, 99)


def test_a_schema_in_a_prompt_of_llama_index_is_filled(shared: Client) -> None:
    prompt = PromptTemplate("描述：{thing}", output_parser=PydanticOutputParser(Size))
    (message,) = prompt.format_messages(thing="宽30厘米")
    assert Size.model_validate_json(shared.message(message.content)["content"]) == Size(width=30, unit="cm")


def test_a_schema_in_the_system_prompt_is_filled_from_the_user_s_question(shared: Client) -> None:
    messages = [{"role": "system", "content": asked_for(Tree, "你是助手")}, user("这是什么树？")]
    assert json.loads(shared.message(messages=messages)["content"])["name"] == "这是什么树？"


def test_a_schema_of_an_earlier_question_is_ignored(shared: Client) -> None:
    messages = [user(asked_for(Tree, "什么树？")), {"role": "assistant", "content": "{}"}, user("谢谢")]
    assert shared.message(messages=messages)["content"].startswith("（本地模拟服务，不是模型）问题：谢谢")


@pytest.mark.parametrize("schema", ["", "none", "{broken", "[1]"])
def test_an_invalid_schema_is_not_filled(shared: Client, schema: str) -> None:
    content = shared.message(f"什么树？\nHere's a JSON schema to follow:\n{schema}")["content"]
    assert content.startswith("（本地模拟服务，不是模型）")


# ReAct


def price(name: str, count: int) -> float:
    """Price of a product."""
    return 0.0


def other() -> None:
    """Another tool."""


REACT_TOOLS = [FunctionTool.from_defaults(price), FunctionTool.from_defaults(other)]


def react_messages(*observations: str) -> list[dict[str, Any]]:
    """Return the messages that LlamaIndex's agent sends after these observations."""
    steps = []
    for observation in observations:
        steps += [
            ActionReasoningStep(thought="想", action="price", action_input={}),
            ObservationReasoningStep(observation=observation),
        ]
    messages = ReActChatFormatter().format(REACT_TOOLS, [ChatMessage(role="user", content="3个苹果多少钱？")], steps)
    return [{"role": message.role.value, "content": message.content} for message in messages]


def test_react_calls_the_first_tool(shared: Client) -> None:
    step = ReActOutputParser().parse(shared.message(messages=react_messages())["content"])
    assert isinstance(step, ActionReasoningStep)
    assert (step.action, step.action_input) == ("price", {"name": "3个苹果多少钱？", "count": 3})


def test_react_answers_with_the_last_observation(shared: Client) -> None:
    step = ReActOutputParser().parse(shared.message(messages=react_messages("5元", "15元"))["content"])
    assert isinstance(step, ResponseReasoningStep)
    assert step.response == "15元\n（本地模拟服务，不是模型）问题：3个苹果多少钱？"


def test_react_calls_the_tool_again_for_another_question(shared: Client) -> None:
    messages = [*react_messages("5元"), {"role": "assistant", "content": "5元"}, user("7个呢？")]
    step = ReActOutputParser().parse(shared.message(messages=messages)["content"])
    assert isinstance(step, ActionReasoningStep)
    assert step.action_input == {"name": "7个呢？", "count": 7}


def test_a_react_prompt_without_tools_is_described(shared: Client) -> None:
    (system,) = ReActChatFormatter().format([], [])
    messages = [{"role": "system", "content": system.content}, user("你好")]
    assert shared.message(messages=messages)["content"].startswith("（本地模拟服务，不是模型）问题：你好")


# Selectors, reranking, search words, captions


SELECTOR = (
    "Some choices are given below. It is provided in a numbered list (1 to 2), where each item in the list corresponds "
    "to a summary.\n---\n(1) 轮胎的气压\n\n(2) 帽子的照片\n---\nUsing only the choices above and not prior knowledge, "
    "return the choice that is most relevant to the question: '哪张是帽子？'\n"
)
SCORING = '编号1：红色的帽子\n编号2：轮胎\n问题：帽子\n格式：[{"number": 1, "score": 8, "reason": "理由"}]'


def test_a_selector_gets_the_choice_that_shares_most_characters_with_the_question() -> None:
    assert selected_choice([user(SELECTOR)]) == 2
    assert json.loads(selection([user(SELECTOR)]) or "")[0]["choice"] == 2


def test_scores_are_the_share_of_the_question_s_characters() -> None:
    judged = json.loads(scores([user(SCORING)]) or "")
    assert [(item["number"], item["score"]) for item in judged] == [(1, 10.0), (2, 0.0)]


@pytest.mark.parametrize("prompt", REWRITE_PROMPTS.values())
def test_search_words_are_the_synonyms_of_all_words_in_the_question(prompt: str) -> None:
    synonyms = {"没气": ["胎压", "充气"], "车胎": ["轮胎", "胎压"], "电瓶": ["蓄电池"]}
    asked = [user(prompt.replace("{question}", "「车胎没气了？」"))]
    assert search_words(asked, synonyms) == "胎压、充气、轮胎"
    assert search_words(asked, {}) == "车胎没气了？"


@pytest.mark.parametrize("api_style", ["glm", "openai"])
def test_the_server_takes_synonyms(api_style: Literal["glm", "openai"]) -> None:
    with MockGLMServer(api_style=api_style, synonyms={"没气": ["胎压"]}) as server:
        answer = Client(server).message(messages=[user(REWRITE_PROMPTS["zh"].replace("{question}", "「没气了？」"))])
    assert answer["content"] == "胎压"


def test_other_prompts_match_none_of_these_rules() -> None:
    for rule in (selected_choice, selection, scores, caption):
        assert rule([user("问题：帽子是什么颜色？")]) is None
    assert search_words([user("问题：「帽子」\n检索词")], {"帽子": ["凉帽"]}) is None
