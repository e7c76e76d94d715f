"""Parameters go out as given; what is out of range is an error that names it."""

from __future__ import annotations

from typing import Any

import pytest

from llama_index_mm_zhipu.llm.parameters import GLMParameters, chosen_parameters


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
        ("thinking", "enabled"),
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
