"""``mmzhipu mcp`` as agents start it: over standard input and output, and over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from programs import start_program
from published_forms import Example
from waiting import PATIENCE

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "llama_index_mm_zhipu", "mcp", "--lang", "en"]


@pytest.fixture
def store(tiny_embedding: ChineseClipEmbedding, examples: list[Example], tmp_path: Path) -> Path:
    """Folder of an index of two images."""
    folder = tmp_path / "store"
    (tmp_path / "emoji").mkdir()
    for example in examples[:2]:
        (tmp_path / "emoji" / f"{example.caption}.jpg").write_bytes(example.image)
    build_index(tmp_path / "emoji", tiny_embedding, persist_dir=folder).close()
    return folder


def kinds_of(result: Any) -> list[str]:
    assert not result.is_error, result.content
    return [content.type for content in result.content]


async def test_a_client_over_standard_input_and_output_sees_the_images(store: Path, tmp_path: Path) -> None:
    command, *arguments = COMMAND
    parameters = StdioServerParameters(command=command, args=[*arguments, "--store", str(store)], env=dict(os.environ))
    with (tmp_path / "errors").open("w+") as errors:
        async with Client(stdio_client(parameters, errlog=errors)) as client:
            assert len((await client.list_tools()).tools) == 4
            photo = str(next((tmp_path / "emoji").glob("*.jpg")))
            result = await client.call_tool("search_images", {"image": photo, "limit": 2})
            assert kinds_of(result) == ["text", *["text", "image"] * 2]
            status = await client.call_tool("index_status", {})
        errors.seek(0)
        assert errors.read() == ""
    assert json.loads(status.content[0].text)["images"] == 2  # type: ignore[union-attr]


def test_a_client_that_leaves_before_the_model_is_loaded_ends_the_server(store: Path) -> None:
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "index_status", "arguments": {}}}
    lines = [json.dumps(request), "no JSON", json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"})]
    ended = subprocess.run(
        [*COMMAND, "--store", str(store)],
        input="\n".join([*lines, json.dumps(call), ""]),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert answers[0]["result"]["serverInfo"]["name"] == "mmzhipu"
    assert "Traceback" not in ended.stderr


@contextmanager
def running(store: Path, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server over HTTP; yield the process and the URL."""
    program = "import sys; from llama_index_mm_zhipu.cli.main import main; sys.exit(main())"
    options = ("mcp", "--lang", "en", "--store", store, "--http", "--port", "0")
    process = start_program(program, *options, stderr=subprocess.PIPE, env={**os.environ, **variables})
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("MCP server at http://127.0.0.1:"), line + process.stderr.read()
        yield process, line.rpartition(" ")[2].strip()
    finally:
        process.kill()
        process.communicate()


async def test_a_client_over_http_needs_the_token_and_sees_the_images(store: Path) -> None:
    with running(store, MMZHIPU_TOKEN="s3cr3t") as (process, url):
        async with (
            create_mcp_http_client(headers={"Authorization": "Bearer s3cr3t"}) as http_client,
            Client(streamable_http_client(url, http_client=http_client)) as client,
        ):
            result = await client.call_tool("search_images", {"words": "苹果", "limit": 2})
            assert kinds_of(result) == ["text", *["text", "image"] * 2]
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "s3cr3t" not in errors
