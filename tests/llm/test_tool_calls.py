"""Tool calls are assembled without guessing: calls are distinguished, and incomplete arguments are errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMProtocolError, GLMToolCallError
from llama_index_mm_zhipu.llm.tools import ToolCalls, functions_without_parameters
from llama_index_mm_zhipu.testing import Ending, MockGLMServer, NoFinishReason, RawAnswer
from llama_index_mm_zhipu.testing import ToolCalls as Calls

Connect = Callable[..., ZhipuMultiModal]

TWO = [("count", '{"folder": "甲"}'), ("count", '{"folder": "乙"}')]
STYLES = ["index", "one index", "no index", "new ids", "no ids"]

# Name, arguments, finish reason, and part of the error message.
BROKEN = [
    ("glued", '{"folder": "甲"}{"folder": "乙"}', "tool_calls", "that are not one JSON object"),
    ("cut", '{"folder": "甲', "length", "that max_tokens cut off"),
    ("cut before the value", '{"folder": ', "length", "that max_tokens cut off"),
    ("cut without notice", '{"folder": "甲', "tool_calls", "that are not one JSON object"),
    ("no JSON", "folder=甲", "tool_calls", "that are not one JSON object"),
    ("a list", '["甲"]', "tool_calls", "that are not one JSON object"),
    ("text", '"甲"', "stop", "that are not one JSON object"),
    ("a number", "1", "tool_calls", "that are not one JSON object"),
    ("null", "null", "tool_calls", "that are not one JSON object"),
    ("nothing", "", "tool_calls", "that are not one JSON object"),
    ("blanks", "  ", "tool_calls", "that are not one JSON object"),
    ("nothing, cut", "", "length", "that max_tokens cut off"),
]


class Folder(BaseModel):
    """A folder to count."""

    folder: str = "全部"


class Counter:
    """A tool that records the folders that it ran with."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def count(self, folder: str = "全部") -> str:
        """Count the images of a folder."""
        self.ran.append(folder)
        return f"{folder}: 3"

    @property
    def tool(self) -> FunctionTool:
        return FunctionTool.from_defaults(self.count)


def now() -> str:
    """Return the time."""
    return "12:00"


@pytest.fixture
def counter() -> Counter:
    return Counter()


@pytest.fixture
def llm(connect: Connect) -> ZhipuMultiModal:
    """A client of a model that calls tools."""
    return connect(model="glm-4.6v-flash")


async def selected(way: Way, llm: ZhipuMultiModal, *tools: FunctionTool) -> list[tuple[str, dict[str, Any]]]:
    """Ask with tools, and return the names and arguments of the model's calls."""
    fields = llm._prepare_chat_with_tools(tools)
    answer = await way.ask(llm, CHAT, tools=fields["tools"])
    return [(call.tool_name, call.tool_kwargs) for call in llm.get_tool_calls_from_response(answer)]


@pytest.mark.parametrize("style", STYLES)
async def test_two_calls_are_distinguished_in_every_style_of_streams(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, counter: Counter, style: Any
) -> None:
    server.script(Calls(TWO, style))
    expected = [("count", {"folder": "甲"}), ("count", {"folder": "乙"})]
    assert await selected(way, llm, counter.tool) == expected


async def test_calls_of_two_functions_with_one_index_are_distinguished(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, counter: Counter
) -> None:
    for style in ("one index", "no ids"):
        server.script(Calls([("now", ""), ("count", '{"folder": "甲"}')], style))
        tools = (counter.tool, FunctionTool.from_defaults(now))
        assert await selected(way, llm, *tools) == [("now", {}), ("count", {"folder": "甲"})]


@pytest.mark.parametrize(("name", "arguments", "reason", "said"), BROKEN, ids=[case[0] for case in BROKEN])
async def test_incomplete_arguments_are_an_error(
    way: Way,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    counter: Counter,
    name: str,
    arguments: str,
    reason: str,
    said: str,
) -> None:
    server.script(Calls([("count", arguments)], finish_reason=reason))
    with pytest.raises(GLMToolCallError) as caught:
        await selected(way, llm, counter.tool)
    assert f"the model called 'count' with arguments {said}: {arguments!r}" in str(caught.value)
    assert caught.value.request_id == server.requests[-1]["request_id"]
    assert len(server.requests) == 1


async def test_the_beginning_of_long_arguments_is_quoted(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, counter: Counter
) -> None:
    server.script(Calls([("count", '{"folder": "' + "很" * 1000)]))
    with pytest.raises(GLMToolCallError, match=r"\{\"folder\": \"很{68}'…; ask again"):
        await selected(way, llm, counter.tool)


@pytest.mark.parametrize("reason", ["tool_calls", "stop"])
async def test_a_function_without_parameters_needs_no_arguments(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, reason: str
) -> None:
    server.script(Calls([("now", "")], finish_reason=reason))
    assert await selected(way, llm, FunctionTool.from_defaults(now)) == [("now", {})]


async def test_a_cut_call_of_a_function_without_parameters_is_an_error(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Calls([("now", "")], finish_reason="length"))
    with pytest.raises(GLMToolCallError):
        await selected(way, llm, FunctionTool.from_defaults(now))


async def test_empty_arguments_are_an_error_without_a_finish_reason(
    connect: Connect, server: MockGLMServer, way: Way
) -> None:
    """If such streams are accepted, complete arguments are accepted, but empty ones are not."""
    llm = connect(model="glm-4.6v-flash", require_finish_reason=False)
    server.script(NoFinishReason())
    answer = await way.ask(llm, CHAT, tools=llm._prepare_chat_with_tools([Counter().tool])["tools"])
    (call,) = llm.get_tool_calls_from_response(answer)
    assert "图里的飞机" in call.tool_kwargs["folder"]
    if way.streams:
        server.script(_event('{"index": 0, "id": "c", "function": {"name": "now", "arguments": ""}}'))
        with pytest.raises(GLMToolCallError):
            await selected(way, llm, FunctionTool.from_defaults(now))


def _event(call: str) -> RawAnswer:
    body = f'data: {{"choices": [{{"delta": {{"tool_calls": [{call}]}}}}]}}\n\ndata: [DONE]\n\n'
    return RawAnswer(body, content_type="text/event-stream")


async def test_responses_in_the_middle_of_a_stream_have_no_complete_calls(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, counter: Counter
) -> None:
    server.script(Calls(TWO))
    if not way.streams:
        return
    fields = {"tools": llm._prepare_chat_with_tools([counter.tool])["tools"]}
    if way.is_async:
        pieces = [piece async for piece in await llm.astream_chat(CHAT, **fields)]
    else:
        pieces = await asyncio.to_thread(lambda: list(llm.stream_chat(CHAT, **fields)))
    *partial, last = [llm.get_tool_calls_from_response(piece, error_on_no_tool_call=False) for piece in pieces]
    assert not any(partial)
    assert len(last) == 2


# In LlamaIndex


@pytest.mark.parametrize("parallel", [False, True])
async def test_predict_and_call_runs_only_complete_calls(
    llm: ZhipuMultiModal, server: MockGLMServer, counter: Counter, parallel: bool
) -> None:
    server.script(Calls(TWO), Calls(TWO))
    llm.predict_and_call([counter.tool], "数一数", allow_parallel_tool_calls=parallel)
    await llm.apredict_and_call([counter.tool], "数一数", allow_parallel_tool_calls=parallel)
    assert counter.ran == (["甲", "乙", "甲", "乙"] if parallel else ["甲", "甲"])
    counter.ran.clear()
    for _, arguments, reason, _ in BROKEN:
        server.script(*[Calls([("count", arguments)], finish_reason=reason)] * 2)
        with pytest.raises(GLMToolCallError):
            llm.predict_and_call([counter.tool], "数一数", allow_parallel_tool_calls=parallel)
        with pytest.raises(GLMToolCallError):
            await llm.apredict_and_call([counter.tool], "数一数", allow_parallel_tool_calls=parallel)
    assert counter.ran == []


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_agent_runs_only_complete_calls(
    llm: ZhipuMultiModal, server: MockGLMServer, counter: Counter, streaming: bool
) -> None:
    agent = FunctionAgent(tools=[counter.tool], llm=llm, streaming=streaming)
    server.script(Calls(TWO, "one index"), None)
    handler = agent.run("数一数甲和乙")
    shown = [event.tool_calls async for event in handler.stream_events() if isinstance(event, AgentStream)]
    await handler
    assert sorted(counter.ran) == sorted(["甲", "乙"])
    assert all(call.tool_kwargs in ({"folder": "甲"}, {"folder": "乙"}) for calls in shown for call in calls)
    counter.ran.clear()
    for _, arguments, reason, _ in BROKEN:
        server.script(Calls([("count", arguments)], finish_reason=reason))
        with pytest.raises(GLMToolCallError):
            await agent.run("数一数")
    assert counter.ran == []


async def test_structured_output_is_not_made_from_incomplete_arguments(
    llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    prompt = PromptTemplate("哪个文件夹？")
    for _, arguments, reason, _ in BROKEN:
        server.script(*[Calls([("Folder", arguments)], finish_reason=reason)] * 4)
        with pytest.raises(GLMToolCallError):
            llm.structured_predict(Folder, prompt)
        with pytest.raises(GLMToolCallError):
            await llm.astructured_predict(Folder, prompt)
        with pytest.raises(GLMToolCallError):
            list(llm.stream_structured_predict(Folder, prompt))
        with pytest.raises(GLMToolCallError):
            [piece async for piece in await llm.astream_structured_predict(Folder, prompt)]
    server.script(Calls([("Folder", '{"folder": "甲"}')]))
    assert llm.structured_predict(Folder, prompt) == Folder(folder="甲")
    server.script(Calls([("Folder", '{"folder": "甲"}')]))
    *_, last = llm.stream_structured_predict(Folder, prompt)
    assert last == Folder(folder="甲")


async def test_a_call_in_an_answer_that_the_api_cut_is_an_error(
    way: Way, llm: ZhipuMultiModal, server: MockGLMServer, counter: Counter
) -> None:
    server.script(Ending("length", after=2))
    with pytest.raises(GLMToolCallError, match="that max_tokens cut off"):
        await selected(way, llm, counter.tool)


# Forms of calls


def fragment(arguments: Any = None, *, index: Any = 0, call_id: str | None = None, name: str | None = None) -> Any:
    return {"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}


def joined(*fragments: Any, whole: bool = False) -> list[tuple[str | None, str, Any]]:
    calls = ToolCalls({"now"})
    for part in fragments:
        calls.add([part], whole=whole)
    return [(call.tool_call_id, call.tool_name, call.tool_kwargs) for call in calls.complete("tool_calls")]


def test_fragments_with_new_ids_and_no_name_continue_the_call() -> None:
    parts = [fragment('{"a"', call_id="1", name="f"), fragment(": 1", call_id="2"), fragment("}", call_id="3")]
    assert joined(*parts) == [("1", "f", '{"a": 1}')]
    assert joined(*({**part, "index": None} for part in parts)) == [("1", "f", '{"a": 1}')]


def test_a_name_may_come_after_the_id() -> None:
    assert joined(fragment(call_id="1"), fragment("{}", name="f")) == [("1", "f", "{}")]


def test_a_name_may_be_repeated_in_every_fragment() -> None:
    parts = [fragment(part, call_id="1", name="f") for part in ('{"a"', ": 1", "}")]
    assert joined(*parts) == [("1", "f", '{"a": 1}')]
    assert joined(*({**part, "id": None} for part in parts)) == [("", "f", '{"a": 1}')]


def test_fragments_of_two_calls_may_be_mixed() -> None:
    parts = [fragment(call_id=str(index), name="f", index=index) for index in (0, 1)]
    parts += [fragment(part, index=index) for part in ('{"a": ', "1}") for index in (0, 1)]
    assert joined(*parts) == [("0", "f", '{"a": 1}'), ("1", "f", '{"a": 1}')]


def test_whole_calls_are_never_joined() -> None:
    same = fragment('{"a": 1}', call_id="1", name="f")
    assert joined(same, same, whole=True) == [("1", "f", '{"a": 1}')] * 2


def test_arguments_may_be_sent_as_an_object() -> None:
    assert joined(fragment({"a": "甲"}, name="f"), whole=True) == [("", "f", '{"a": "甲"}')]
    with pytest.raises(GLMToolCallError):
        joined(fragment(["甲"], name="f"), whole=True)


@pytest.mark.parametrize(
    "parts",
    [
        # The same id for two functions, ids that change with the name repeated, no name at all
        [fragment('{"a": ', call_id="1", name="f"), fragment("1}", call_id="1", name="g")],
        [fragment('{"a": ', call_id="1", name="f"), fragment("1}", call_id="2", name="f")],
        [fragment('{"a": 1}', call_id="1")],
        [fragment('{"a": 1}', call_id="1", name="f"), fragment('{"a": 2}')],
    ],
)
def test_ambiguous_fragments_are_an_error(parts: list[Any]) -> None:
    with pytest.raises(GLMToolCallError):
        joined(*parts)


async def test_calls_of_another_form_are_an_error(way: Way, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    if way.streams:
        server.script(_event('"text"'))
        with pytest.raises(GLMProtocolError):
            await way.ask(llm)


def test_functions_without_parameters_are_recognised_by_their_schema() -> None:
    schemas: dict[str, Any] = {
        "a": {"type": "object", "properties": {}},
        "b": None,
        "c": {"properties": {"x": {}}},
        "d": {"$ref": "#/x"},
        "e": {"type": "object", "additionalProperties": True},
    }
    tools = [{"type": "function", "function": {"name": name, "parameters": schemas[name]}} for name in schemas]
    assert functions_without_parameters([*tools, "text", {}]) == {"a", "b"}
    assert functions_without_parameters(None) == functions_without_parameters("text") == frozenset()
