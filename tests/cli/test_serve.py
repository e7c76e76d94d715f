"""``mmzhipu serve``: what is refused before anything is served, what is printed, and how a server ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from programs import start_program
from runs import Command, Run
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.index.build import create_index
from llama_index_mm_zhipu.store_file import read_store_file
from llama_index_mm_zhipu.testing import MockGLMServer, Stall

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="interrupts are others there")

Visitor = Callable[[httpx.Client, str], Any]
Visit = Callable[..., tuple[Run, Any]]


@pytest.fixture
def visited(mmzhipu: Command, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visit]:
    """A function that serves the index to a visitor, who comes as the browser that the command opens.

    The visitor gets a client and the URL, and presses Ctrl-C. Options of the command follow. The function returns the
    run, and what the visitor returned.
    """
    # Shells without job control start programs with SIGINT ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def visit(visitor: Visitor, *options: object) -> tuple[Run, Any]:
        seen: Future[Any] = Future()

        def browse(url: str) -> bool:
            base = url.partition("/?")[0]
            try:
                with httpx.Client(base_url=base, trust_env=False, timeout=PATIENCE, follow_redirects=True) as client:
                    assert wait_until(lambda: client.get("/healthz").text != "loading\n")
                    seen.set_result(visitor(client, url))
            except BaseException as error:
                seen.set_exception(error)
                press_ctrl_c()
            return True

        monkeypatch.setattr("webbrowser.open", browse)
        run = mmzhipu("serve", "--open", "--port", 0, "--store", store, *options)
        return run, seen.result(PATIENCE)

    yield visit
    signal.signal(signal.SIGINT, handler)
    # sse-starlette, which MCP uses, would end all streams of other servers in this process.
    if sse := sys.modules.get("sse_starlette.sse"):
        sse.AppStatus.should_exit = False


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_server_says_where_the_page_is_and_ends_with_ctrl_c(visited: Visit) -> None:
    def visitor(client: httpx.Client, url: str) -> Any:
        try:
            return url, client.get("/").text, client.get("/api/search?words=红苹果").json()
        finally:
            press_ctrl_c()

    run, (url, page, found) = visited(visitor)
    assert "<!doctype html>" in page.lower()
    assert found["results"]
    assert (run.status, run.out) == (130, "")
    assert [line for line in run.err.splitlines() if line] == [
        "The answer comes from the local mock server, which describes what it was sent. It is not a model.",
        f"Page at {url}",
        "Ctrl-C stops the server. The model is being loaded ...",
        "Ready: 10 images.",
        "interrupted",
    ]


def test_ctrl_c_does_not_wait_for_an_answer_that_does_not_come(visited: Visit, glm: MockGLMServer) -> None:
    glm.script(Stall(after=3))

    def visitor(client: httpx.Client, url: str) -> str:
        with client.stream("POST", "/api/ask", json={"question": "什么"}) as response:
            chunks = response.iter_text()
            first = "".join(islice(chunks, 2))
            press_ctrl_c()
            return first + "".join(chunks)

    run, text = visited(visitor)
    assert (run.status, "Traceback" in run.err) == (130, False)
    # The page tells the user that the answer is not whole.
    assert text.startswith("event: sources\n")
    assert "event: answer\n" not in text
    assert "event: error\n" not in text


def test_ctrl_c_keeps_what_was_added(visited: Visit, store: Path, surroundings: Path) -> None:
    own = Path(shutil.copytree(store, surroundings / "own"))

    def visitor(client: httpx.Client, url: str) -> None:
        files = [("files", (f"{number}.png", png_of(number))) for number in range(64)]
        with client.stream("POST", "/api/index", files=files) as response:
            chunks = response.iter_text()
            next(chunks)
            press_ctrl_c()
            assert "event: error" not in "".join(chunks)

    run, _ = visited(visitor, "--store", own)
    assert (run.status, "Traceback" in run.err) == (130, False)
    saved = [each for each in (own / "uploads").rglob("*") if each.is_file()]
    assert read_store_file(own / "image.sqlite3").nodes == 10 + len(saved)


def png_of(number: int) -> bytes:
    data = BytesIO()
    Image.new("RGB", (64, 64), (number, 0, 0)).save(data, "PNG")
    return data.getvalue()


@pytest.mark.integration
def test_ctrl_c_does_not_wait_for_uploads(visited: Visit) -> None:
    def visitor(client: httpx.Client, url: str) -> str:
        host, port = client.base_url.host, client.base_url.port or 80
        with socket.create_connection((host, port)) as connection:
            head = f"POST /api/search HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n--x\r\n".encode())
            press_ctrl_c()
            return connection.makefile("r").read()

    run, answer = visited(visitor)
    assert (run.status, "Traceback" in run.err, "Traceback" in answer) == (130, False, False)


def test_a_token_with_any_characters_is_in_the_address(visited: Visit) -> None:
    def visitor(client: httpx.Client, url: str) -> list[int]:
        try:
            return [client.get(each).status_code for each in ("/api/status", url, "/api/status")]
        finally:
            press_ctrl_c()

    run, statuses = visited(visitor, "--token", "密 码&=/?#+%")
    assert statuses == [401, 200, 200]
    assert "?token=%E5%AF%86+%E7%A0%81%26%3D%2F%3F%23%2B%25\n" in run.err


def test_a_token_of_the_environment_is_not_printed(visited: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMZHIPU_TOKEN", "s3cret")

    def visitor(client: httpx.Client, url: str) -> list[int]:
        try:
            headers = [{"Authorization": f"Bearer {token}"} for token in ("wrong", "s3cret")]
            return [client.get("/api/status", headers=each).status_code for each in headers]
        finally:
            press_ctrl_c()

    run, statuses = visited(visitor)
    assert statuses == [401, 200]
    assert "/?token=$MMZHIPU_TOKEN\n" in run.err
    assert "s3cret" not in run.out + run.err


@pytest.mark.parametrize("host", ["::", "0.0.0.0"])
def test_all_addresses_that_are_printed_are_served(visited: Visit, host: str) -> None:
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")

    def visitor(client: httpx.Client, url: str) -> int:
        try:
            return client.get(url).status_code
        finally:
            press_ctrl_c()

    run, status = visited(visitor, "--host", host)
    assert status == 200
    assert "Page at http://127.0.0.1:" in run.err
    assert "/?token=" in run.err


LOADING = """
import sys, threading
from llama_index_mm_zhipu.cli.main import main

def load_for_ever(event, values):
    if event == "open" and str(values[0]).endswith("config.json") and "model" in str(values[0]):
        threading.Event().wait()

sys.addaudithook(load_for_ever)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.integration
def test_ctrl_c_does_not_wait_for_a_model_that_is_being_loaded(surroundings: Path, store: Path) -> None:
    program = start_program(LOADING, "serve", "--port", 0, "--store", store, stderr=subprocess.PIPE)
    assert program.stderr is not None
    lines: list[str] = []
    while not lines or not lines[-1].startswith("Ctrl-C stops"):
        lines.append(program.stderr.readline())
    program.send_signal(signal.SIGINT)
    _, rest = program.communicate(timeout=PATIENCE)
    assert (program.returncode, rest) == (130, "\ninterrupted\n")


def test_a_port_that_is_taken_is_an_error_before_the_model_is_loaded(mmzhipu: Command, store: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = mmzhipu("serve", "--port", listener.getsockname()[1], "--store", store)
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith("error: port ")
    assert run.err.count("\n") == 1


def test_an_address_of_another_machine_is_an_error(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("serve", "--host", "192.0.2.1", "--port", 0, "--store", store)
    assert run.status == 2
    assert "192.0.2.1" in run.err


def test_a_folder_without_an_index_is_an_error_that_names_create(mmzhipu: Command, surroundings: Path) -> None:
    run = mmzhipu("serve", "--store", "nothing")
    assert (run.status, "--create" in run.err) == (2, True)
    assert not (surroundings / "nothing").exists()
    (surroundings / "file").write_bytes(b"")
    assert "--create" in mmzhipu("serve", "--store", "file").err


def test_an_empty_index_is_an_error_that_names_create(
    mmzhipu: Command, surroundings: Path, demo_embedding: ChineseClipEmbedding
) -> None:
    create_index(surroundings / "empty", demo_embedding).close()
    run = mmzhipu("serve", "--store", "empty")
    assert run.status == 2
    assert run.err.startswith("error: the index in empty has no images yet; ")
    assert "--create" in run.err


def test_a_file_that_is_no_store_is_an_error(mmzhipu: Command, surroundings: Path) -> None:
    folder = surroundings / "broken"
    folder.mkdir()
    (folder / "image.sqlite3").write_bytes(b"no database" * 1000)
    run = mmzhipu("serve", "--store", folder)
    assert run.status == 2
    assert "image.sqlite3" in run.err
    assert (folder / "image.sqlite3").read_bytes() == b"no database" * 1000
