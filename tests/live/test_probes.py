"""The probes themselves work: each has its stated outcome with the mock server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_api import Api
from live_table import HEADER, markdown_table, terminal_table, width_of, wrap
from probe import ANSWERED, Probe, asking
from probes import PROBES

from llama_index_mm_zhipu.testing import (
    ErrorAnswer,
    Fault,
    MissingDone,
    MockGLMServer,
    NullContent,
    RawAnswer,
    Reasoning,
    Wrapped,
)

KEY = "0123456789abcdef.s3cr3tpart"
RATE = "您的账户已达到速率限制，请您控制请求频率"


@pytest.fixture(scope="module")
def server() -> Iterator[MockGLMServer]:
    """A mock server for all probes."""
    with MockGLMServer() as running:
        yield running


@pytest.fixture(scope="module")
def api(server: MockGLMServer) -> Iterator[Api]:
    """The mock server and a key."""
    mocked = Api(server.url, KEY)
    yield mocked
    mocked.close()


@pytest.fixture
def greeting() -> Probe:
    """A probe that says hello."""
    return Probe("greeting", "D: answered", ANSWERED, asking())


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_a_probe_has_the_stated_outcome_with_the_mock_server(probe: Probe, api: Api) -> None:
    assert probe.outcome(api) == probe.on_mock


def test_names_are_unique_and_stated_differences_differ() -> None:
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    assert all(probe.mock != probe.expected for probe in PROBES)


# Outcomes


def test_the_key_is_hidden_if_the_api_quotes_it(greeting: Probe, server: MockGLMServer, api: Api) -> None:
    server.fail_next(401, "1000", f"{KEY} and s3cr3tpart")
    outcome = greeting.outcome(api)
    assert outcome == "401 1000 *** and ***"
    assert "s3cr3tpart" not in f"{api!r} {terminal_table([greeting.row(outcome)])}"


def test_malformed_answers_are_outcomes(greeting: Probe, server: MockGLMServer, api: Api) -> None:
    server.script(RawAnswer("<html>", status=502), RawAnswer("[]"), RawAnswer('{"choices": []}'))
    assert [greeting.outcome(api) for _ in range(3)] == [
        "502 text/html, no JSON",
        "200, JSON of another form",
        "an answer of another form, IndexError('list index out of range')",
    ]


def test_a_busy_service_is_retried(greeting: Probe, server: MockGLMServer, api: Api) -> None:
    server.fail_next(429, "1305", "busy", times=3)
    assert greeting.outcome_when_not_busy(api, 0) == ANSWERED
    server.fail_next(429, "1305", "busy", times=5)
    assert greeting.outcome_when_not_busy(api, 0) == "429 1305 busy"
    assert greeting.outcome(api) == "429 1305 busy"


@pytest.mark.parametrize(
    ("name", "faults", "outcome"),
    [
        (
            "12 requests at a time",
            [ErrorAnswer(429, "1302", RATE)] * 2,
            f"10 × answered; 2 × 429 1302 {RATE}, without Retry-After",
        ),
        ("marks, glm-4.1v", [Reasoning("想")], "reasoning_content"),
        ("marks, glm-4.1v", [Wrapped("<think>想</think><|begin_of_box|>")], "<think>, <|begin_of_box|>"),
        ("thinking enabled, glm-4.6v-flash", [Reasoning("想")], "with reasoning_content"),
        ("stream: end", [MissingDone()], "no [DONE] at the end"),
        ("text only", [NullContent()], "answered with nothing"),
        ("this package, text only", [ErrorAnswer(401, "401", "no")], "GLMAuthenticationError"),
    ],
)
def test_a_probe_recognises_scripted_faults(
    name: str, faults: list[Fault], outcome: str, server: MockGLMServer, api: Api
) -> None:
    probe = next(probe for probe in PROBES if probe.name == name)
    server.script(*faults)
    assert probe.outcome(api).startswith(outcome)


def test_an_unreachable_service_is_an_outcome(greeting: Probe) -> None:
    with MockGLMServer() as gone:
        unreachable = Api(gone.url, KEY)
    assert greeting.outcome(unreachable) == "no answer, ConnectError"
    unreachable.close()


def test_a_whole_answer_is_not_a_stream(server: MockGLMServer, api: Api) -> None:
    server.script(RawAnswer("{}", content_type="application/json"))
    probe = Probe("stream", "D: a stream", "", lambda api: str(api.stream({})))
    assert probe.outcome(api) == "a whole answer instead of a stream"


# Table


def test_the_lines_of_the_table_have_equal_width() -> None:
    lines = terminal_table([probe.row(probe.on_mock) for probe in PROBES])
    assert len({width_of(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("ab cd", ["ab cd"]),
        ("abc def", ["abc", "def"]),
        ("abcdefgh", ["abcdef", "gh"]),
        ("速率限制", ["速率限", "制"]),
        ("a 速率限制", ["a 速率", "限制"]),
        ("a 速率限", ["a", "速率限"]),
    ],
)
def test_cells_are_wrapped_by_their_width_in_columns(text: str, lines: list[str]) -> None:
    assert wrap(text, 6) == lines


def test_differences_are_marked(greeting: Probe) -> None:
    assert greeting.row(ANSWERED)[-1] == "="
    assert greeting.row("400 1210")[-2:] == ("400 1210", "≠")


def test_markdown_is_escaped() -> None:
    table = markdown_table([["a|b", "<think>", "", "", "", "="]])
    assert table.startswith(f"| {' | '.join(HEADER)} |\n| --- |")
    assert "| a\\|b | &lt;think> |  |  |  | = |" in table


# The live run


def run_live(**variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ZHIPUAI_", "LIVE_"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(Path(__file__).parent),
        "-m",
        "live",
        "-rs",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**inherited, "PYTHONUTF8": "1", **variables}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)


@pytest.mark.slow
def test_a_live_run_prints_the_table_and_not_the_key(tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    with MockGLMServer() as server:
        run = run_live(ZHIPUAI_API_KEY=KEY, ZHIPUAI_BASE_URL=server.url, LIVE_PAUSE="0", LIVE_TABLE=str(table))

    differing = [probe for probe in PROBES if probe.mock]
    assert run.returncode == 1
    assert f"{len(PROBES)} probes, {len(differing)} differ" in run.stdout
    assert f"{len(differing)} failed, {len(PROBES) - len(differing)} passed" in run.stdout
    assert all(f"assumed: {probe.expected}\nservice: {probe.mock}\n" in run.stdout for probe in differing)
    written = table.read_text(encoding="utf-8")
    assert all(f"\n| {probe.name} |" in written for probe in PROBES)
    assert not any(part in text for part in KEY.split(".") for text in (run.stdout, run.stderr, written))


@pytest.mark.slow
def test_a_live_run_without_a_key_is_skipped() -> None:
    run = run_live()
    assert run.returncode == 0
    assert f"SKIPPED [{len(PROBES)}]" in run.stdout
    assert "no key for Zhipu's API in ZHIPUAI_API_KEY" in run.stdout
