"""Parameters go out as given; what is out of range is an error that names it."""

from __future__ import annotations

from typing import Any

import pytest

from llama_index_mm_zhipu.llm.models import UNKNOWN_GLM, limits_of
from llama_index_mm_zhipu.llm.requests import GLMParameters, chosen_parameters, fit_to_model


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", 1),
        ("temperature", 0.333),
        ("top_p", 0.01),
        ("top_p", 1.0),
        ("do_sample", False),
        ("max_tokens", 1),
        ("stop", ["一", "二", "三", "四"]),
        ("request_id", "r" * 6),
        ("user_id", "u" * 128),
        ("thinking", {"type": "disabled"}),
        ("reasoning_effort", "low"),
        ("reasoning_effort", "max"),
    ],
)
def test_values_go_out_as_given(name: str, value: Any) -> None:
    assert chosen_parameters(GLMParameters(**{name: value}), {}, {}) == {name: value}
    assert chosen_parameters(GLMParameters(), {}, {name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 1.01),
        ("top_p", 0),
        ("top_p", 1.1),
        ("max_tokens", 0),
        ("stop", []),
        ("stop", ["1", "2", "3", "4", "5"]),
        ("request_id", "short"),
        ("request_id", "r" * 65),
        ("user_id", "u" * 129),
        ("do_sample", "perhaps"),
        ("thinking", "sometimes"),
        ("thinking", 1),
        ("reasoning_effort", "medium"),
        ("reasoning_effort", "none"),
        ("reasoning_effort", True),
        ("temperature", True),
        ("temperature", "0.5"),
        ("max_tokens", True),
        ("do_sample", "no"),
    ],
)
def test_values_out_of_range_are_errors(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        GLMParameters(**{name: value})
    with pytest.raises(ValueError, match=name):
        chosen_parameters(GLMParameters(), {}, {name: value})


def test_one_stop_is_a_list_of_one() -> None:
    assert chosen_parameters(GLMParameters(), {}, {"stop": "。"}) == {"stop": ["。"]}


@pytest.mark.parametrize(
    ("thinking", "kind"), [("enabled", "enabled"), ("disabled", "disabled"), (True, "enabled"), (False, "disabled")]
)
def test_a_word_for_thinking_is_its_type(thinking: Any, kind: str) -> None:
    assert chosen_parameters(GLMParameters(thinking=thinking), {}, {}) == {"thinking": {"type": kind}}
    assert chosen_parameters(GLMParameters(), {}, {"thinking": thinking}) == {"thinking": {"type": kind}}


OFF, ON = {"thinking": {"type": "disabled"}}, {"thinking": {"type": "enabled"}}


@pytest.mark.parametrize(
    ("model", "parameters", "sent", "warning"),
    [
        ("glm-5.3-flash", OFF, {"reasoning_effort": "low"}, "glm-5.3-flash always thinks; reasoning_effort='low'"),
        ("glm-5.3-flash", {**OFF, "reasoning_effort": "max"}, {"reasoning_effort": "low"}, "always thinks"),
        ("glm-5.3-flash", ON, ON, ""),
        ("glm-5.3-flash", {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, ""),
        ("glm-4.6v", OFF, OFF, ""),
        ("glm-4.6v", {**ON, "reasoning_effort": "high"}, ON, "reasoning_effort 'high' is left out: glm-4.6v does not"),
        ("glm-4v-flash", {**ON, "reasoning_effort": "high"}, {}, "glm-4v-flash cannot think"),
        ("glm-9v", {**OFF, "reasoning_effort": "high"}, {**OFF, "reasoning_effort": "high"}, ""),
        ("some-model", {**OFF, "reasoning_effort": "high"}, {**OFF, "reasoning_effort": "high"}, ""),
    ],
)
def test_thinking_is_fitted_to_the_model(
    model: str, parameters: dict[str, Any], sent: dict[str, Any], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    limits = limits_of(model)
    caplog.clear()
    body = dict(parameters)
    fit_to_model(body, limits, model)
    assert body == sent
    assert warning in caplog.text
    assert bool(caplog.records) == bool(warning)


def test_max_tokens_are_lowered_only_to_a_known_limit() -> None:
    for limits, model, sent in [(limits_of("glm-4.6v"), "glm-4.6v", 32_768), (UNKNOWN_GLM, "glm-9v", 99_999)]:
        body = {"max_tokens": 99_999}
        fit_to_model(body, limits, model)
        assert body == {"max_tokens": sent}


def test_later_values_win_and_none_takes_out() -> None:
    settings = GLMParameters(temperature=0.1, top_p=0.2, max_tokens=3, user_id="user-1")
    additional = {"top_p": 0.3, "seed": 1}
    overrides = {"temperature": 0.4, "seed": 2, "max_tokens": None, "additional_kwargs": {"temperature": 0.5}}
    assert chosen_parameters(settings, additional, overrides) == {
        "temperature": 0.5,
        "top_p": 0.3,
        "user_id": "user-1",
        "seed": 2,
    }


def test_additional_fields_are_not_checked() -> None:
    assert chosen_parameters(GLMParameters(), {"temperature": 2}, {}) == {"temperature": 2}
