"""Streams are split into lines in linear time, events are parsed, errors raised and incomplete streams detected."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.llm import (
    GLMAuthenticationError,
    GLMConnectionError,
    GLMError,
    GLMProtocolError,
    GLMRateLimitError,
)
from llama_index_mm_zhipu.llm import sse as sse_module
from llama_index_mm_zhipu.llm.sse import EventReader, LineSplitter
from llama_index_mm_zhipu.testing.gateway_faults import ODD_EVENTS

EVENT = {"choices": [{"delta": {}}]}
DATA = '{"choices": [{"delta": {}}]}'


@pytest.fixture
def reader() -> EventReader:
    return EventReader(200)


def read_all(reader: EventReader, *lines: str) -> None:
    for line in lines:
        reader.read(line)


@pytest.mark.parametrize("line", ["", ":", ": keep-alive", "event: message", "id: 1", "retry: 3", "data:", "data: "])
def test_other_lines_are_not_events(reader: EventReader, line: str) -> None:
    assert reader.read(line) is None
    assert not reader.done


@pytest.mark.parametrize("line", [f"data: {DATA}", f"data:{DATA}", f"data:  {DATA} "])
def test_events_are_parsed(reader: EventReader, line: str) -> None:
    assert reader.read(line) == EVENT


@pytest.mark.parametrize("lines", ODD_EVENTS)
def test_events_without_choices_are_skipped(reader: EventReader, lines: str) -> None:
    events = [reader.read(line) for line in (*lines.split("\n"), "")]
    assert [event for event in events if event] == [event for event in events if event and event["usage"]]
    with pytest.raises(GLMConnectionError, match="ended before the answer did"):
        reader.check_complete()


def test_a_finish_reason_completes_an_answer(reader: EventReader) -> None:
    reader.read(f"data: {DATA}")
    with pytest.raises(GLMConnectionError, match="ended before the answer did"):
        reader.check_complete()
    reader.read('data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}')
    reader.check_complete()


@pytest.mark.parametrize("reason", ["", ', "finish_reason": null', ', "finish_reason": ""'])
def test_done_alone_completes_an_answer_only_if_allowed(reason: str) -> None:
    lines = ['data: {"choices": [{"delta": {}' + reason + "}]}", "data: [DONE]"]
    read_all(strict := EventReader(200), *lines)
    with pytest.raises(GLMConnectionError, match=r"without a finish_reason.*set require_finish_reason=False"):
        strict.check_complete()
    read_all(lenient := EventReader(200, require_finish_reason=False), *lines)
    lenient.check_complete()


def test_an_empty_stream_is_an_error(reader: EventReader) -> None:
    reader.read("data: [DONE]")
    with pytest.raises(GLMProtocolError, match="without an answer"):
        reader.check_complete()


@pytest.mark.parametrize(
    ("line", "error_type"),
    [
        ('data: {"error": {"code": "1305", "message": "x"}}', GLMRateLimitError),
        ('data: {"error": {"code": 1305, "message": "x"}}', GLMRateLimitError),
        ('data: {"code": 401, "msg": "令牌已过期或验证不正确", "success": false}', GLMAuthenticationError),
        ("data: {broken", GLMProtocolError),
        ("data: [1]", GLMProtocolError),
        ("data: " + "[" * 100_000, GLMProtocolError),
    ],
)
def test_error_events_are_raised(reader: EventReader, line: str, error_type: type[GLMError]) -> None:
    with pytest.raises(error_type):
        read_all(reader, line, "")


def test_errors_that_are_not_events_are_raised_at_the_end(reader: EventReader) -> None:
    for line in [": ping", "{", '  "error": {"code": "1302", "message": "x"}', "}", ""]:
        assert reader.read(line) is None
    with pytest.raises(GLMRateLimitError):
        reader.check_complete()


def test_events_may_have_several_lines(reader: EventReader) -> None:
    first, second = DATA[:12], DATA[12:]
    assert reader.read(f"data: {first}") is None
    assert reader.read(f"data: {second}") is None
    assert reader.read("") == EVENT
    assert reader.read("") is None


def test_an_event_of_many_lines_is_parsed_once(reader: EventReader) -> None:
    # Every line but the first might end an object. Parsing each time would take hours.
    read_all(reader, 'data: {"choices": [{"delta": {', *["data: }"] * 300_000)
    with pytest.raises(GLMProtocolError):
        reader.read("")


def test_a_null_error_is_ignored(reader: EventReader) -> None:
    assert reader.read('data: {"error": null, "choices": [{"delta": {}}]}') == {"error": None, **EVENT}


def test_lines_that_are_not_events_take_limited_memory(reader: EventReader) -> None:
    read_all(reader, *[": " + "x" * 1000] * 1000)
    assert sum(map(len, reader._other)) <= 100_000


# Lines


def split(*pieces: bytes) -> list[bytes]:
    splitter = LineSplitter()
    return [*(line for piece in pieces for line in splitter.split(piece)), splitter.last()]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\nb\rc\n", [b"a", b"b", b"c", b""]),
        (b"\r\n\r\n", [b"", b"", b""]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [b"a", b"\xef\xbb\xbfb"]),
        ("一\u2028二\x85\n三".encode(), ["一\u2028二\x85".encode(), "三".encode()]),
        (b"", [b""]),
    ],
)
def test_lines_are_the_same_wherever_the_stream_is_cut(text: bytes, lines: list[bytes]) -> None:
    assert split(text) == lines
    for size in (1, 2, 3):
        assert split(*(text[start : start + size] for start in range(0, len(text), size))) == lines


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    # Splitting the rest again with each piece would take days.
    (line, rest) = split(*[b"0123456789" * 10] * 200_000, b"\n")
    assert (len(line), rest) == (20_000_000, b"")


def test_a_line_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse_module, "MAX_BYTES", 100)
    with pytest.raises(GLMProtocolError, match="a line of more than"):
        split(*[b"x" * 10] * 11)
    assert split(*[b"x" * 50, b"\n"] * 10)
    reader = EventReader(200)
    with pytest.raises(GLMProtocolError, match="an event of more than"):
        read_all(reader, *["data: " + "x" * 50] * 3)
