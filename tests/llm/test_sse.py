"""Events are read line by line, errors among them are raised, and only ``[DONE]`` is an end."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.llm import GLMConnectionError, GLMError, GLMProtocolError, GLMRateLimitError
from llama_index_mm_zhipu.llm.sse import EventReader


@pytest.fixture
def reader() -> EventReader:
    return EventReader(200)


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
        ('{"error": {"code": "1305", "message": "x"}}', GLMRateLimitError),
        ("data: {broken", GLMProtocolError),
        ("data: [1]", GLMProtocolError),
    ],
)
def test_errors_among_events_are_raised(reader: EventReader, line: str, kind: type[GLMError]) -> None:
    with pytest.raises(kind):
        reader.read(line)
