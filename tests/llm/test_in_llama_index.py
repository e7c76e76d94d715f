"""``ZhipuMultiModal`` works in LlamaIndex: structured output, agents, settings, chat engines, events, token counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.llm import LLMChatEndEvent, LLMChatInProgressEvent, LLMChatStartEvent
from llama_index.core.llms import LLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMQuotaError
from llama_index_mm_zhipu.testing import MockGLMServer, Reasoning

Connect = Callable[..., ZhipuMultiModal]


class Product(BaseModel):
    """A product that an image shows."""

    name: str
    price: float = Field(description="in yuan")
    colours: list[str]


def colour_of(part: str) -> str:
    """Return the colour of a part of the car."""
    return f"{part}是红色的"


COLOUR_OF = FunctionTool.from_defaults(colour_of)


def test_predict_and_stream_work(llm: ZhipuMultiModal) -> None:
    assert isinstance(llm, LLM)
    assert "你好" in llm.predict(PromptTemplate("{greeting}"), greeting="你好")
    assert "你好" in "".join(llm.stream(PromptTemplate("{greeting}"), greeting="你好"))


# Structured output, by function call if the model has them, else in text


@pytest.mark.parametrize("model", ["glm-4v-flash", "glm-4.6v-flash"])
async def test_structured_output(connect: Connect, server: MockGLMServer, model: str) -> None:
    structured = connect(model=model).as_structured_llm(Product)

    products = [
        structured.complete("苹果 3 元").raw,
        structured.chat([ChatMessage(role="user", content="苹果 3 元")]).raw,
        (await structured.acomplete("苹果 3 元")).raw,
    ]

    assert all(isinstance(product, Product) and product.price == 3 for product in products)
    assert ("tools" in server.requests[-1]) == (model == "glm-4.6v-flash")


async def test_structured_output_streams(connect: Connect) -> None:
    structured = connect(model="glm-4.6v-flash").as_structured_llm(Product)
    *_, last = structured.stream_chat([ChatMessage(role="user", content="苹果 3 元")])
    assert isinstance(last.raw, BaseModel)
    assert last.raw.model_dump()["price"] == 3


# Agents


@pytest.mark.parametrize("model", ["glm-4.6v-flash", "glm-5v-turbo", "glm-5.3-flash", "glm-5.3-flashx"])
async def test_a_function_calling_agent_uses_its_tool(connect: Connect, server: MockGLMServer, model: str) -> None:
    llm = connect(model=model)
    server.script(Reasoning("要查颜色"), None)
    agent = FunctionAgent(tools=[COLOUR_OF], llm=llm, system_prompt="你是汽车助手")

    handler = agent.run("车门是什么颜色？")
    thoughts = [
        event.thinking_delta
        async for event in handler.stream_events()
        if isinstance(event, AgentStream) and event.thinking_delta
    ]

    assert "车门是什么颜色？是红色的" in str(await handler)
    assert "".join(thoughts) == "要查颜色"
    assert [message["role"] for message in server.requests[-1]["messages"]] == ["system", "user", "assistant", "tool"]


@pytest.mark.parametrize(("model", "kind"), [("glm-4v-flash", ReActAgent), ("glm-4.6v-flash", FunctionAgent)])
async def test_a_workflow_chooses_the_agent_by_the_model(
    connect: Connect, server: MockGLMServer, model: str, kind: type
) -> None:
    workflow = AgentWorkflow.from_tools_or_functions([COLOUR_OF], llm=connect(model=model))
    assert [type(agent) for agent in workflow.agents.values()] == [kind]
    assert "是红色的" in str(await workflow.run("车门是什么颜色？"))
    assert len(server.requests) == 2


async def test_a_react_agent_uses_its_tool(connect: Connect, server: MockGLMServer) -> None:
    llm = connect(model="glm-4v-flash")
    agent = ReActAgent(tools=[COLOUR_OF], llm=llm)
    answer = str(await agent.run("车门是什么颜色？"))
    assert "是红色的" in answer
    assert len(server.requests) == 2
    assert all("tools" not in request for request in server.requests)


async def test_agents_accept_images(connect: Connect, server: MockGLMServer, photos: list[Any]) -> None:
    agent = FunctionAgent(tools=[COLOUR_OF], llm=connect(model="glm-4.6v-flash"))
    blocks = [ImageBlock(path=photos[0]), TextBlock(text="这是什么？")]
    await agent.run(ChatMessage(role="user", blocks=blocks))
    assert [part["type"] for part in server.requests[0]["messages"][-1]["content"]] == ["image_url", "text"]


# Settings, chat engines


@pytest.fixture
def settings() -> Iterator[Any]:
    """LlamaIndex's settings, which are restored afterwards."""
    before = Settings._llm
    yield Settings
    Settings._llm = before


async def test_it_can_be_the_llm_of_settings(settings: Any, llm: ZhipuMultiModal) -> None:
    settings.llm = llm
    engine = SimpleChatEngine.from_defaults()
    assert "你好" in str(engine.chat("你好"))
    assert "再见" in "".join(engine.stream_chat("再见").response_gen)
    assert len(engine.chat_history) == 4


# Events, token counts


@pytest.mark.parametrize("call", ["chat", "complete"])
def test_a_call_is_one_event(connect: Connect, call: str) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = connect(callback_manager=CallbackManager([debug]))
    if call == "chat":
        llm.chat(CHAT)
    else:
        llm.complete("你好")
    assert len(debug.get_event_pairs(CBEventType.LLM)) == 1


async def test_a_failed_call_ends_its_event(way: Way, connect: Connect, server: MockGLMServer) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = connect(callback_manager=CallbackManager([debug]))
    server.fail_next(429, "1113", "您的账户已欠费，请充值后重试。")
    with pytest.raises(GLMQuotaError):
        await way.ask(llm)
    ((_, end),) = debug.get_event_pairs(CBEventType.LLM)
    assert end.payload is not None
    assert isinstance(end.payload["exception"], GLMQuotaError)


async def test_token_counters_get_the_counts_of_the_api(way: Way, connect: Connect, server: MockGLMServer) -> None:
    counter = TokenCountingHandler(tokenizer=list)
    response = await way.ask(connect(callback_manager=CallbackManager([counter])))
    usage = response.additional_kwargs
    assert counter.prompt_llm_token_count == usage["prompt_tokens"] > 0
    assert counter.completion_llm_token_count == usage["completion_tokens"] > 0
    assert counter.total_llm_token_count == usage["total_tokens"]


class _Recorder(BaseEventHandler):
    events: list[BaseEvent] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)


@pytest.fixture
def recorder() -> Iterator[_Recorder]:
    """Records the events of LlamaIndex's instrumentation."""
    dispatcher = get_dispatcher()
    recording = _Recorder()
    dispatcher.add_event_handler(recording)
    yield recording
    dispatcher.event_handlers.remove(recording)


async def test_instrumentation_gets_events_without_the_key(
    way: Way, llm: ZhipuMultiModal, recorder: _Recorder, key: str
) -> None:
    await way.ask(llm)
    kinds = [type(event) for event in recorder.events]
    assert kinds[0] is LLMChatStartEvent
    assert kinds[-1] is LLMChatEndEvent
    assert (LLMChatInProgressEvent in kinds) == way.streams
    assert not any(part in event.model_dump_json() for event in recorder.events for part in key.split("."))
