"""``mmzhipu mcp``: what is refused before anything is served. The server itself has its own tests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from runs import Command


def test_an_address_that_others_reach_needs_a_token(
    mmzhipu: Command, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("mcp", "--http", "--host", "0.0.0.0", "--store", store)
    run = mmzhipu(*arguments)
    expected = "error: an address other than 127.0.0.1 needs a token: give --token, or set MMZHIPU_TOKEN\n"
    assert run == (2, "", expected)
    monkeypatch.setenv("MMZHIPU_TOKEN", "")
    assert mmzhipu(*arguments, "--lang", "zh").err.startswith("错误：监听 127.0.0.1 以外的地址时必须设置令牌：--token")


def test_a_port_that_is_taken_is_an_error(mmzhipu: Command, store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = mmzhipu("mcp", "--http", "--port", listener.getsockname()[1], "--store", store)
    assert (run.status, run.out) == (2, "")
    assert "in use" in run.err
