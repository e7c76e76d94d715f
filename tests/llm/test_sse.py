"""Events are read line by line, errors among them are raised, and only ``[DONE]`` is an end."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.llm import GLMConnectionError, GLMError, GLMProtocolError, GLMRateLimitError
from llama_index_mm_zhipu.llm.sse import EventReader


@pytest.fixture
def reader() -> EventReader:
    return EventReader(200)


def read_all(reader: EventReader, *lines: str) -> None:
    for line in lines:
        reader.read(line)


@pytest.mark.parametrize("line", ["", ":", ": keep-alive", "event: message", "id: 1", "retry: 3", "data:", "data: "])
def test_other_lines_are_no_events(reader: EventReader, line: str) -> None:
    assert reader.read(line) is None
    assert not reader.done


@pytest.mark.parametrize("line", ['data: {"a": 1}', 'data:{"a": 1}', 'data:  {"a": 1} '])
def test_events_are_parsed(reader: EventReader, line: str) -> None:
    assert reader.read(line) == {"a": 1}


def test_done_is_the_end(reader: EventReader) -> None:
    reader.read('data: {"a": 1}')
    with pytest.raises(GLMConnectionError, match="ended before the answer did"):
        reader.check_complete()
    assert reader.read("data: [DONE]") is None
    reader.check_complete()


def test_a_stream_of_nothing_is_an_error(reader: EventReader) -> None:
    reader.read("data: [DONE]")
    with pytest.raises(GLMProtocolError, match="without an answer"):
        reader.check_complete()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ('data: {"error": {"code": "1305", "message": "x"}}', GLMRateLimitError),
        ("data: {broken", GLMProtocolError),
        ("data: [1]", GLMProtocolError),
        ("data: " + "[" * 100_000, GLMProtocolError),
    ],
)
def test_errors_among_events_are_raised(reader: EventReader, line: str, kind: type[GLMError]) -> None:
    with pytest.raises(kind):
        read_all(reader, line, "")


def test_errors_without_an_event_are_raised_at_the_end(reader: EventReader) -> None:
    for line in ["{", '  "error": {"code": "1302", "message": "x"}', "}", ""]:
        assert reader.read(line) is None
    with pytest.raises(GLMRateLimitError):
        reader.check_complete()


def test_events_may_have_several_lines(reader: EventReader) -> None:
    assert reader.read('data: {"a":') is None
    assert reader.read("data: 1}") == {"a": 1}
    assert reader.read("") is None


def test_no_error_is_none(reader: EventReader) -> None:
    assert reader.read('data: {"a": 1, "error": null}') == {"a": 1, "error": None}
