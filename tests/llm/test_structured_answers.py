"""Objects are parsed from JSON in the text of an answer; ambiguous or broken JSON is an error that quotes the text."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, RootModel

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import UnreadableAnswerError
from llama_index_mm_zhipu.llm.structured_answers import AnswerParser, decode_json, json_values_in
from llama_index_mm_zhipu.testing import MockGLMServer, Says


class Product(BaseModel):
    """A product that an image shows."""

    name: str
    colours: list[str] = []
    seen: datetime.date | None = None
    part_of: Product | None = None


PLAIN = '{"name": "裙子", "colours": ["红", "白"], "seen": "2024-05-01"}'
EXPECTED = Product(name="裙子", colours=["红", "白"], seen=datetime.date(2024, 5, 1))
PROMPT = PromptTemplate("{question}")


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN,
        f"```json\n{PLAIN}\n```",
        f"好的，[图1]里的商品：\n{PLAIN}\n希望有帮助。",
        f'按 {{格式}} 回答，5" 屏幕：{PLAIN}',
        PLAIN.replace('"白"]', '"白",]'),
        PLAIN.replace("}", ",\n}"),
        f"[{PLAIN},]",
        f"{PLAIN}\n{PLAIN}",
        f"[1] {PLAIN}",
        PLAIN.replace(", ", ",\n"),
    ],
    ids=["plain", "fenced", "talkative", "braces", "comma", "last comma", "array", "twice", "number", "lines"],
)
def test_json_is_found_in_different_forms_of_answers(answer: str) -> None:
    assert AnswerParser(Product).parse(answer) == EXPECTED


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "it holds no JSON object"),
        ("这是一条裙子。", "it holds no JSON object"),
        ("[]", "its JSON: Input should be an object"),
        ('{"colours": []}', "name: Field required"),
        ('{"name": "裙子"} {"name": "裤子"}', "it holds 2 that differ"),
        ('[{"name": "裙子"}, {"name": "裤子"}]', "it holds 2 that differ"),
        ('{"name": "裙子", "part_of": {"name": "套装"}, "col', "it holds JSON that is cut or broken; raise max_tokens"),
        ('{"name": "裙子"}\n{"name": ', "it holds JSON that is cut or broken"),
        ('{"name": "写着"裙子"二字"}', "it holds JSON that is cut or broken"),
        ('{"name": "\\ud83d"}', "its JSON: Invalid JSON"),
        ('{"name":' * 5000, "it holds JSON that is cut or broken"),
    ],
)
def test_errors_quote_answers_that_cannot_be_parsed(answer: str, reason: str) -> None:
    with pytest.raises(UnreadableAnswerError) as caught:
        AnswerParser(Product).parse(answer)
    said = str(caught.value)
    assert said.startswith(f"the model's answer cannot be read as Product: {reason}")
    assert answer.split("\n")[0][:20].replace("\\", "\\\\") in said
    assert len(said) < 500


def test_root_models_may_be_arrays() -> None:
    class Names(RootModel[list[str]]):
        """A list of names."""

    assert AnswerParser(Names).parse('名称：["裙子", "裤子",]').root == ["裙子", "裤子"]


def test_commas_in_strings_are_kept_and_positions_refer_to_the_text() -> None:
    text = 'x {"a": "1,}", "b": [1,],} y {"c": ",]"}'
    value, end = decode_json(text, 2)
    assert value == {"a": "1,}", "b": [1]}
    assert text[end:] == ' y {"c": ",]"}'
    assert json_values_in(text) == [{"a": "1,}", "b": [1]}, {"c": ",]"}]
    assert json_values_in('5" {"a": "x,}"} [1,]') == [{"a": "x,}"}, [1]]


async def test_every_kind_of_call_parses_the_answer(
    connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    llm = connect()
    said = Says(f"好的：\n```json\n{PLAIN[:-1]},}}\n```")
    server.script(*[said] * 5)
    streamed = list(llm.stream_structured_predict(Product, PROMPT, question="这是什么？"))
    answers = [
        llm.structured_predict(Product, PROMPT, question="这是什么？"),
        await llm.astructured_predict(Product, PROMPT, question="这是什么？"),
        llm.as_structured_llm(Product).complete("这是什么？").raw,
        streamed[-1],
        [each async for each in await llm.astream_structured_predict(Product, PROMPT, question="这是什么？")][-1],
    ]
    assert answers == [EXPECTED] * 5
    assert len(streamed) > 1
    assert getattr(streamed[-2], "name", None) == "裙子"
    await llm.aclose()


async def test_every_kind_of_call_quotes_an_answer_that_cannot_be_parsed(
    connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    llm = connect()
    server.script(*[Says("这是一条裙子。")] * 4)
    for ask in (llm.structured_predict, lambda *given, **values: list(llm.stream_structured_predict(*given, **values))):
        with pytest.raises(UnreadableAnswerError, match="这是一条裙子"):
            ask(Product, PROMPT, question="这是什么？")
    with pytest.raises(UnreadableAnswerError, match="这是一条裙子"):
        await llm.astructured_predict(Product, PROMPT, question="这是什么？")
    with pytest.raises(UnreadableAnswerError, match="这是一条裙子"):
        [each async for each in await llm.astream_structured_predict(Product, PROMPT, question="这是什么？")]
    await llm.aclose()
