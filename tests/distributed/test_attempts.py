"""The actor that counts attempts."""

from __future__ import annotations

import sys

import pytest
from ray import cloudpickle

from llama_index_mm_zhipu.distributed.attempts import Attempts


def test_attempts_are_counted_by_name() -> None:
    attempts = Attempts()
    assert [attempts.begin("a"), attempts.begin("b"), attempts.begin("a")] == [1, 1, 2]


def test_the_process_that_counts_imports_nothing_of_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = cloudpickle.dumps(Attempts)
    monkeypatch.setitem(sys.modules, Attempts.__module__, None)
    assert cloudpickle.loads(pickled) is Attempts
