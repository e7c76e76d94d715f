"""Token usage of calls as counted by the service, its cost, and a budget for both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from llama_index_mm_zhipu.concurrency import fork_safe_lock
from llama_index_mm_zhipu.llm.errors import GLMBudgetError, new_error
from llama_index_mm_zhipu.llm.models import MODELS, table_name

_TOKENS_PER_PRICE_UNIT = 1_000_000

# One lock for all meters, held for additions only, because fork-safe locks are never freed.
_meter_lock = fork_safe_lock()


@dataclass(frozen=True)
class Price:
    """Price of a model.

    Attributes:
        input: Yuan per million tokens of prompts, including images.
        output: Yuan per million tokens of answers, including reasoning.

    Raises:
        ValueError: A price is negative or not a finite number.

    Examples:
        >>> from llama_index_mm_zhipu.llm import Price
        >>> llm = ZhipuMultiModal("glm-4.6v", prices={"glm-4.6v": Price(input=1, output=3)})
        >>> _ = llm.complete("你好")
        >>> llm.usage.cost == (llm.usage.prompt_tokens * 1 + llm.usage.completion_tokens * 3) / 1_000_000
        True
    """

    input: float
    output: float

    def __post_init__(self) -> None:
        for name, value in (("input", self.input), ("output", self.output)):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} is {value!r}; give yuan for a million tokens")


@dataclass(frozen=True)
class ModelUsage:
    """Usage of one model.

    Attributes:
        calls: Number of answers, complete or not. Answers without token counts, such as streams that were closed
            early, add no tokens.
        prompt_tokens: Tokens of questions and images, as counted by the service.
        completion_tokens: Tokens of answers and reasoning.
        total_tokens: Sum of both.
        cost: Cost in yuan; None if no price is known.

    Examples:
        >>> _ = llm.complete("你好")
        >>> usage = llm.usage.models["glm-4v-flash"]
        >>> usage.calls, usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage.cost
        (1, True, 0.0)
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True)
class Usage:
    """Usage of one ``ZhipuMultiModal`` at the time when it was read.

    Attributes:
        models: Usage by name of the model that was asked.

    Examples:
        >>> _ = llm.complete("你好"), llm.complete("再见")
        >>> llm.usage.calls, llm.usage.total_tokens, llm.usage.cost
        (2, 126, 0.0)
        >>> llm.usage.reset()
        >>> llm.usage.calls
        0
    """

    models: Mapping[str, ModelUsage]
    _meter: UsageMeter = field(repr=False, compare=False)

    @property
    def calls(self) -> int:
        """Number of answers of all models."""
        return sum(used.calls for used in self.models.values())

    @property
    def prompt_tokens(self) -> int:
        """Tokens of questions and images."""
        return sum(used.prompt_tokens for used in self.models.values())

    @property
    def completion_tokens(self) -> int:
        """Tokens of answers and reasoning."""
        return sum(used.completion_tokens for used in self.models.values())

    @property
    def total_tokens(self) -> int:
        """Tokens of questions and answers."""
        return sum(used.total_tokens for used in self.models.values())

    @property
    def cost(self) -> float | None:
        """Cost in yuan; None if the price of a model that was asked is unknown."""
        costs = [used.cost for used in self.models.values()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    def reset(self) -> None:
        """Count from zero again. This object does not change."""
        self._meter.reset()


class UsageMeter:
    """Adds up the usage of calls. Thread-safe."""

    def __init__(self) -> None:
        self._used: dict[str, ModelUsage] = {}

    def add(self, model: str, usage: Mapping[str, Any]) -> None:
        """Count an answer.

        Args:
            model: The model that was asked.
            usage: Token counts of the service, or empty if it sent none.
        """
        prompt, completion = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        total = _count(usage.get("total_tokens")) or prompt + completion
        with _meter_lock:
            used = self._used.get(model, ModelUsage())
            self._used[model] = ModelUsage(
                calls=used.calls + 1,
                prompt_tokens=used.prompt_tokens + prompt,
                completion_tokens=used.completion_tokens + completion,
                total_tokens=used.total_tokens + total,
            )

    def read(self, prices: Mapping[str, Price]) -> Usage:
        """Return the usage since the last reset, at these prices."""
        with _meter_lock:
            used = dict(self._used)
        models = {model: replace(each, cost=_cost(each, price_of(model, prices))) for model, each in used.items()}
        return Usage(MappingProxyType(models), self)

    def reset(self) -> None:
        """Count from zero again."""
        with _meter_lock:
            self._used.clear()


@dataclass(frozen=True)
class Account:
    """A usage meter and its budget.

    Attributes:
        meter: Meter of the calls.
        prices: Prices by name of the model.
        max_cost: Budget in yuan; None for no limit.
        max_total_tokens: Budget in tokens; None for no limit.
    """

    meter: UsageMeter
    prices: Mapping[str, Price]
    max_cost: float | None
    max_total_tokens: int | None

    def check(self, model: str) -> None:
        """Refuse a call of a model if the budget is used up.

        Raises:
            GLMBudgetError: The budget is used up, or ``max_cost`` is set and the price of a model is unknown.
        """
        used = self.meter.read(self.prices)
        if self.max_total_tokens is not None and used.total_tokens >= self.max_total_tokens:
            raise new_error(
                GLMBudgetError, f"{used.total_tokens} tokens are used of max_total_tokens={self.max_total_tokens}"
            )
        if self.max_cost is None:
            return
        unknown = next((name for name in (model, *used.models) if price_of(name, self.prices) is None), None)
        if unknown is not None:
            advice = f'give prices={{"{unknown}": Price(input=…, output=…)}}'
            raise new_error(GLMBudgetError, f"max_cost is set, and the price of {unknown} is not known", advice=advice)
        if (cost := used.cost or 0.0) >= self.max_cost:
            raise new_error(GLMBudgetError, f"{cost:g} yuan are spent of max_cost={self.max_cost:g}")


def price_of(model: str, prices: Mapping[str, Price]) -> Price | None:
    """Return the price of a model by its name or another name of the same model; 0 for free models, else None."""
    if (price := prices.get(model)) is not None:
        return price
    name = table_name(model)
    if name is None:
        return None
    same = (price for other, price in prices.items() if table_name(other) == name)
    return next(same, Price(0.0, 0.0) if MODELS[name].free else None)


def _cost(used: ModelUsage, price: Price | None) -> float | None:
    if price is None:
        return None
    return (used.prompt_tokens * price.input + used.completion_tokens * price.output) / _TOKENS_PER_PRICE_UNIT


def _count(value: Any) -> int:
    """Return a token count. Gateways send null or text for unknown counts, which are 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
