"""Token usage as counted by the service, its cost, and budgets."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from waiting import wait_until
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMBudgetError, GLMContentFilteredError, GLMError, GLMQuotaError, ModelUsage, Price
from llama_index_mm_zhipu.llm.usage import UsageMeter, price_of
from llama_index_mm_zhipu.testing import Ending, ErrorAnswer, MockGLMServer, RawAnswer

Connect = Callable[..., ZhipuMultiModal]

PRICE = Price(input=1.0, output=3.0)


# Tokens


async def test_usage_is_the_sum_of_the_counts_of_the_service(way: Way, connect: Connect) -> None:
    llm = connect()
    answers = [(await way.ask(llm)).additional_kwargs for _ in range(2)]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(llm.usage, name) == sum(answer[name] for answer in answers) > 0
    assert llm.usage.calls == 2


async def test_models_are_counted_separately(way: Way, connect: Connect) -> None:
    llm = connect()
    for model in ("glm-4v-flash", "glm-4.6v", "glm-4.6v"):
        await way.ask(llm, model=model)
    assert {model: used.calls for model, used in llm.usage.models.items()} == {"glm-4v-flash": 1, "glm-4.6v": 2}


async def test_a_fallback_model_is_counted_under_its_own_name(
    way: Way, connect: Connect, server: MockGLMServer
) -> None:
    llm = connect(model="glm-4.6v", fallback_models=("glm-4.6v-flash",))
    server.script(ErrorAnswer(429, "1113", "您的账户已欠费，请充值后重试。"))
    await way.ask(llm)
    assert [*llm.usage.models] == ["glm-4.6v-flash"]


async def test_images_are_counted_as_tokens(way: Way, connect: Connect, photos: list[Path]) -> None:
    llm = connect()
    await way.ask(llm, [ChatMessage(role="user", blocks=[ImageBlock(path=photos[0]), TextBlock(text="？")])])
    assert 1_000 <= llm.usage.prompt_tokens < 1_700


async def test_calls_without_an_answer_are_not_counted(way: Way, connect: Connect, server: MockGLMServer) -> None:
    llm = connect()
    server.script(ErrorAnswer(429, "1113", "您的账户已欠费，请充值后重试。"))
    with pytest.raises(GLMQuotaError):
        await way.ask(llm)
    assert (llm.usage.calls, llm.usage.total_tokens) == (0, 0)


async def test_an_answer_that_was_filtered_is_counted(way: Way, connect: Connect, server: MockGLMServer) -> None:
    llm = connect()
    server.script(Ending("sensitive"))
    with pytest.raises(GLMContentFilteredError):
        await way.ask(llm)
    assert llm.usage.calls == 1
    assert llm.usage.total_tokens > 0


@pytest.mark.parametrize("usage", ["null", "{}", '{"prompt_tokens": "12", "completion_tokens": null}'])
def test_an_answer_without_counts_is_a_call_without_tokens(connect: Connect, server: MockGLMServer, usage: str) -> None:
    llm = connect()
    body = f'{{"choices": [{{"index": 0, "finish_reason": "stop", "message": {{"content": "好"}}}}], "usage": {usage}}}'
    server.script(RawAnswer(body, content_type="application/json"))
    llm.chat(CHAT)
    assert llm.usage.models == {"glm-4v-flash": ModelUsage(calls=1, cost=0.0)}


def test_a_stream_that_is_closed_early_counts_as_a_call(connect: Connect) -> None:
    llm = connect()
    stream = llm.stream_chat(CHAT)
    next(stream)
    stream.close()
    assert wait_until(lambda: llm.usage.calls == 1)


# Reset, copies and threads


def test_usage_is_read_only_and_starts_at_zero_after_a_reset(llm: ZhipuMultiModal) -> None:
    llm.complete("你好")
    before = llm.usage
    with pytest.raises(AttributeError):
        before.models = {}  # type: ignore[misc]
    with pytest.raises(TypeError):
        before.models["glm-4v-flash"] = ModelUsage()  # type: ignore[index]
    before.reset()
    assert (before.calls, llm.usage.calls, llm.usage.total_tokens) == (1, 0, 0)
    llm.complete("你好")
    assert llm.usage == before


def test_copies_have_their_own_usage(connect: Connect) -> None:
    llm = connect(prices={"glm-4.6v": PRICE}, max_cost=5, fallback_models=("glm-4.6v",))
    llm.complete("你好")
    for other in (copy.copy(llm), copy.deepcopy(llm), pickle.loads(pickle.dumps(llm))):
        assert other.usage.calls == 0
        assert (other.prices, other.max_cost, other.fallback_models) == ({"glm-4.6v": PRICE}, 5, ("glm-4.6v",))
    assert llm.usage.calls == 1


def test_counting_is_thread_safe() -> None:
    meter = UsageMeter()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: meter.add("glm-4.6v", {"prompt_tokens": 1, "completion_tokens": 2}), range(2000)))
    assert meter.read({}).models == {"glm-4.6v": ModelUsage(2000, 2000, 4000, 6000, None)}


async def test_concurrent_calls_are_all_counted(connect: Connect) -> None:
    llm = connect()
    await asyncio.gather(*(llm.achat(CHAT) for _ in range(20)), asyncio.to_thread(llm.chat, CHAT))
    assert llm.usage.calls == 21


# Cost


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("glm-4.6v", PRICE),
        ("zai-org/GLM-4.6V", PRICE),
        ("glm-4.6v-250801", Price(2, 2)),
        ("my-model", Price(5, 5)),
        ("glm-4.6v-flash", Price(0, 0)),
        ("glm-4.5v", None),
        ("other-model", None),
    ],
)
def test_prices_are_found_by_any_spelling_of_a_name(model: str, price: Price | None) -> None:
    prices = {"my-model": Price(5, 5), "glm-4.6v": PRICE, "glm-4.6v-250801": Price(2, 2)}
    assert price_of(model, prices) == price


async def test_cost_is_the_sum_over_models_and_none_if_a_price_is_unknown(way: Way, connect: Connect) -> None:
    llm = connect(model="glm-4.6v", prices={"glm-4.6v": PRICE})
    assert llm.usage.cost == 0
    await way.ask(llm)
    await way.ask(llm, model="glm-4.6v-flash")
    used = llm.usage.models["glm-4.6v"]
    assert llm.usage.cost == used.cost == pytest.approx((used.prompt_tokens + 3 * used.completion_tokens) / 1e6)
    await way.ask(llm, model="glm-4.5v")
    assert llm.usage.cost is None


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_invalid_prices_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="give yuan for a million tokens"):
        Price(input=value, output=1)


def test_prices_and_budgets_are_restored_from_a_dict(connect: Connect, key: str) -> None:
    llm = connect(prices={"glm-4.6v": PRICE}, max_total_tokens=9)
    again = ZhipuMultiModal.from_dict({**llm.to_dict(), "api_key": key})
    assert again.prices == {"glm-4.6v": PRICE}
    assert again.max_total_tokens == 9


# Budgets


@pytest.mark.parametrize(
    "budget", [{"max_total_tokens": 1}, {"max_cost": 1e-9, "prices": {"glm-4.6v": PRICE}}], ids=["tokens", "cost"]
)
async def test_a_budget_that_is_used_up_refuses_further_calls(
    way: Way, connect: Connect, server: MockGLMServer, budget: dict[str, Any]
) -> None:
    llm = connect(model="glm-4.6v", fallback_models=("glm-4.6v-flash",), **budget)
    await way.ask(llm)
    with pytest.raises(GLMBudgetError, match=r"of max_\w+=.*llm\.usage\.reset") as caught:
        await way.ask(llm)
    assert isinstance(caught.value, GLMError)
    assert not caught.value.retryable
    assert len(server.requests) == 1
    llm.usage.reset()
    await way.ask(llm)


async def test_a_cost_budget_refuses_models_without_a_price(way: Way, connect: Connect, server: MockGLMServer) -> None:
    llm = connect(model="glm-4.6v", max_cost=1)
    with pytest.raises(GLMBudgetError, match=r'price of glm-4\.6v is not known; give prices=\{"glm-4\.6v": Price'):
        await way.ask(llm)
    assert server.requests == []
    await way.ask(llm, model="glm-4.6v-flash")


@pytest.mark.parametrize("budget", [{"max_cost": -1}, {"max_cost": float("nan")}, {"max_total_tokens": -1}])
def test_invalid_budgets_are_refused(connect: Connect, budget: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(budget))):
        connect(**budget)
