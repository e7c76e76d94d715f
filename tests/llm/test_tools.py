"""Tools are sent in the form of the API, and its calls are returned as LlamaIndex's tool selections."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.tools import FunctionTool
from ways import CHAT

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMInvalidRequestError, GLMToolCallError
from llama_index_mm_zhipu.llm.tools import keep_first_tool_call, tool_calls
from llama_index_mm_zhipu.testing import MockGLMServer

Connect = Callable[..., ZhipuMultiModal]


def price(name: str) -> float:
    """Price of a product."""
    return len(name) / 2


PRICE = FunctionTool.from_defaults(price)


def call(arguments: str, call_id: str = "c1") -> ToolCallBlock:
    return ToolCallBlock(tool_call_id=call_id, tool_name="price", tool_kwargs=arguments)


def response(*calls: ToolCallBlock) -> ChatResponse:
    blocks = [TextBlock(text="好"), *calls]
    listed = {"tool_calls": [{"id": call.tool_call_id} for call in calls]}
    return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks, additional_kwargs=listed))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"name": "苹果"}', {"name": "苹果"}), ("{}", {}), ('{"text": "a\nb"}', {"text": "a\nb"})],
)
def test_complete_arguments_are_read(arguments: str, expected: dict[str, object]) -> None:
    (selection,) = tool_calls(response(call(arguments)))
    assert (selection.tool_id, selection.tool_name, selection.tool_kwargs) == ("c1", "price", expected)


@pytest.mark.parametrize(
    "arguments",
    ['{"name": "苹', '{"name": "苹果", "count": ', "", "nonsense", "[1]", "null", '{"a":1}{"a":2}', '{"a": NaN}'],
)
def test_other_arguments_are_an_error(llm: ZhipuMultiModal, arguments: str) -> None:
    with pytest.raises(GLMToolCallError) as caught:
        llm.get_tool_calls_from_response(response(call(arguments)), error_on_no_tool_call=False)
    assert f"'price' with arguments that are not one JSON object: {arguments!r}" in str(caught.value)


def test_only_the_first_call_is_kept() -> None:
    several = response(call("{}", "c1"), call("{}", "c1"), call("{}", "c3"))
    keep_first_tool_call(several)
    assert several.message.blocks == [TextBlock(text="好"), call("{}", "c1")]
    assert several.message.additional_kwargs == {"tool_calls": [{"id": "c1"}]}


def test_a_model_calls_the_tool(connect: Connect, server: MockGLMServer) -> None:
    llm = connect(model="glm-4.6v-flash")
    answer = llm.chat_with_tools([PRICE], "苹果多少钱？", tool_choice="price", tool_required=True)
    assert server.requests[-1]["tool_choice"] == "auto"
    assert server.requests[-1]["tools"][0]["function"]["name"] == "price"
    (selection,) = llm.get_tool_calls_from_response(answer)
    assert (selection.tool_name, selection.tool_kwargs) == ("price", {"name": "苹果多少钱？"})
    assert answer.additional_kwargs["finish_reason"] == "tool_calls"


def test_streams_select_a_tool_only_at_their_end(connect: Connect) -> None:
    llm = connect(model="glm-4.6v-flash")
    *pieces, last = llm.stream_chat_with_tools([PRICE], "苹果多少钱？")
    assert len(pieces) > 1
    texts = []
    for piece in pieces:
        assert llm.get_tool_calls_from_response(piece, error_on_no_tool_call=False) == []
        assert "tool_calls" not in piece.message.additional_kwargs
        (partial,) = piece.additional_kwargs["partial_tool_calls"]
        assert partial["function"]["name"] == "price"
        texts.append(partial["function"]["arguments"])
    assert texts == sorted(texts, key=len)
    assert "partial_tool_calls" not in last.additional_kwargs
    (selection,) = llm.get_tool_calls_from_response(last)
    assert selection.tool_kwargs == {"name": "苹果多少钱？"}


def test_calls_and_results_go_back_to_the_model(connect: Connect, server: MockGLMServer) -> None:
    llm = connect(model="glm-4.6v-flash")
    answer = llm.chat_with_tools([PRICE], "苹果多少钱？")
    (selection,) = llm.get_tool_calls_from_response(answer)
    result = ChatMessage(role=MessageRole.TOOL, content="1.0", additional_kwargs={"tool_call_id": selection.tool_id})

    final = llm.chat_with_tools(
        [PRICE], chat_history=[ChatMessage(role="user", content="苹果多少钱？"), answer.message, result]
    )

    sent = server.requests[-1]["messages"]
    assert sent[1]["tool_calls"][0]["function"] == {"name": "price", "arguments": '{"name": "苹果多少钱？"}'}
    assert (sent[2]["role"], sent[2]["tool_call_id"]) == ("tool", selection.tool_id)
    assert "1.0" in (final.message.content or "")


def test_no_tool_call_is_an_error_where_one_is_needed(llm: ZhipuMultiModal) -> None:
    answer = llm.chat(CHAT)
    with pytest.raises(ValueError, match="glm-4v-flash called no tool; it answered: "):
        llm.get_tool_calls_from_response(answer)
    assert llm.get_tool_calls_from_response(answer, error_on_no_tool_call=False) == []


async def test_errors_for_models_without_functions_name_models_with_functions(
    llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    assert not llm.metadata.is_function_calling_model
    reason = r"glm-4v-flash calls no functions; take a model that does \(.*glm-4\.6v-flash,.*glm-5\.3-flash.*ReActAgent"
    with pytest.raises(GLMInvalidRequestError, match=reason):
        llm.chat_with_tools([PRICE], "苹果多少钱？")
    with pytest.raises(GLMInvalidRequestError, match=reason):
        await llm.achat_with_tools([PRICE], "苹果多少钱？")
    with pytest.raises(GLMInvalidRequestError, match=reason):
        llm.stream_chat_with_tools([PRICE], "苹果多少钱？")
    with pytest.raises(GLMInvalidRequestError, match=reason):
        await llm.astream_chat_with_tools([PRICE], "苹果多少钱？")
    assert server.requests == []
    assert llm.chat_with_tools([PRICE], "苹果多少钱？", model="glm-4.6v-flash").message.blocks


def test_tools_of_a_plain_chat_are_not_checked(llm: ZhipuMultiModal) -> None:
    with pytest.raises(GLMInvalidRequestError, match="code 1210"):
        llm.chat(CHAT, tools=[PRICE.metadata.to_openai_tool()])


def test_a_chat_without_tools_needs_no_functions(llm: ZhipuMultiModal) -> None:
    assert llm.chat_with_tools([], "苹果多少钱？").message.content


@pytest.mark.parametrize("model", ["glm-9v", "some-other-model"])
def test_tools_are_sent_to_unknown_models(connect: Connect, server: MockGLMServer, model: str) -> None:
    with pytest.raises(GLMInvalidRequestError, match="code 1211"):
        connect(model=model).chat_with_tools([PRICE], "苹果多少钱？")
    assert server.requests[-1]["tools"]
