"""Measure the server of ``mmzhipu serve``: start, first search, overhead over the bare retriever, and many users.

    python benchmarks/serve.py
    python benchmarks/serve.py --quick --json serve.json

The server runs in a process of its own, over the demo images; the clients share its machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from measuring import machine, shuffled_rounds, write_figures
from PIL import Image

from llama_index_mm_zhipu import load_index

DEMO = Path(__file__).parents[1] / "examples" / "demo"
_COMMAND = [sys.executable, "-m", "llama_index_mm_zhipu"]
_WORDS = ("红苹果", "蓝色的汽车", "一只猫", "笑脸", "飞机起飞", "下雨", "圣诞树", "篮球", "生日蛋糕", "医生")
_TOP_K = 20
_USERS = 50
_PAUSE = 3.0


@dataclass
class Server:
    """A server that runs.

    Attributes:
        port: Its port on this machine.
        start_seconds: From the start of the process until searches can be answered.
    """

    port: int
    start_seconds: float

    def connection(self) -> http.client.HTTPConnection:
        """Return a new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)


def main() -> None:
    """Measure all, and print the figures."""
    settings = _parser().parse_args()
    rounds, seconds, images = (10, 3.0, 40) if settings.quick else (200, 30.0, 600)
    images = settings.images or images
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        _run("index", DEMO / "test.jsonl", "--model", settings.model, "--store", store)
        with _serving(store) as server:
            figures: dict[str, Any] = {"machine": machine(), "start_seconds": server.start_seconds}
            figures["first_search_ms"] = _server_ms(server)
            figures["overhead"] = _overhead(server, store, rounds, random.Random(settings.seed))
            figures["alone"] = _summary(_alone(server, rounds))
            figures["users"] = _summary(_users(server, seconds, random.Random(settings.seed)))
            figures["at_once"] = _at_once(server)
            figures["beside_indexing"] = _beside_indexing(server, images)
    _print(figures)
    if settings.json is not None:
        write_figures(settings.json, figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, to check that everything runs")
    parser.add_argument("--model", default=DEMO / "model", help="name or path of a Chinese-CLIP model")
    parser.add_argument("--images", type=int, help="number of images that are added beside searches")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of contenders, and of the users")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser


# The server


@contextmanager
def _serving(store: Path) -> Iterator[Server]:
    started = time.perf_counter()
    command = [*_COMMAND, "serve", "--store", str(store), "--mock", "--port", "0", "--lang", "en"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            port = next(int(found[1]) for line in process.stderr if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            # Nobody reads the rest, which must not fill the pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            server = Server(port, 0.0)
            while _status(server) != 200:
                time.sleep(0.02)
            server.start_seconds = time.perf_counter() - started
            yield server
        finally:
            process.terminate()


def _status(server: Server) -> int:
    connection = server.connection()
    connection.request("GET", "/healthz")
    return connection.getresponse().status


def _run(*arguments: object) -> None:
    subprocess.run([*_COMMAND, *map(str, arguments)], check=True, capture_output=True)


def _search(connection: http.client.HTTPConnection, words: str) -> http.client.HTTPResponse:
    connection.request("GET", f"/api/search?words={quote(words)}&similarity_top_k={_TOP_K}")
    response = connection.getresponse()
    assert response.status == 200, response.read()
    response.read()
    return response


def _timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


# What is measured


def _server_ms(server: Server) -> float:
    """Return the time that the server itself needs for its first search, in milliseconds."""
    timing = _search(server.connection(), "向日葵").headers["server-timing"]
    return float(timing.partition("dur=")[2])


def _overhead(server: Server, store: Path, rounds: int, order: random.Random) -> dict[str, float]:
    """Return medians over HTTP and of the bare retriever in this process, and their difference, in milliseconds."""
    index = load_index(store)
    retriever = index.as_retriever(similarity_top_k=_TOP_K, image_similarity_top_k=_TOP_K)
    connection = server.connection()
    contenders: dict[str, Callable[[str], object]] = {
        "server": lambda words: _search(connection, words),
        "retriever": retriever.retrieve,
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for name, call in contenders.items():
        times[name].append(_timed(lambda call=call: call("热身")))
    # The order of words would favour the contender that comes second, if texts were cached.
    for name, number in shuffled_rounds(contenders, range(rounds), order):
        words = f"{_WORDS[number % len(_WORDS)]}{name}{number}"
        times[name].append(_timed(lambda name=name, words=words: contenders[name](words)))
    index.close()
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {**medians, "overhead": medians["server"] - medians["retriever"]}


def _alone(server: Server, rounds: int) -> list[float]:
    connection = server.connection()
    times = []
    for number in range(rounds):
        times.append(_timed(lambda number=number: _search(connection, f"{_WORDS[number % len(_WORDS)]}{number}")))
        # A user reads; without a pause, the processor would run faster than beside others.
        time.sleep(0.02)
    return times


def _users(server: Server, seconds: float, rng: random.Random) -> list[float]:
    """Return the times of searches by users who each search once in three seconds."""
    end = time.monotonic() + seconds
    delays = [rng.uniform(0, _PAUSE) for _ in range(_USERS)]

    def user(number: int) -> list[float]:
        connection, times = server.connection(), []
        due = time.monotonic() + delays[number]
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            times.append(_timed(lambda: _search(connection, f"{_WORDS[len(times) % len(_WORDS)]}{number}")))
            due += _PAUSE
        return times

    with ThreadPoolExecutor(_USERS) as pool:
        return [each for times in pool.map(user, range(_USERS)) for each in times]


def _at_once(server: Server) -> dict[str, float]:
    """Return the time of as many searches at the same instant, and of as many one after the other."""
    barrier = threading.Barrier(_USERS + 1)
    connections = [server.connection() for _ in range(_USERS)]
    for connection in connections:
        connection.connect()

    def user(number: int) -> None:
        barrier.wait()
        _search(connections[number], f"{_WORDS[number % len(_WORDS)]}同时{number}")

    with ThreadPoolExecutor(_USERS) as pool:
        users = [pool.submit(user, number) for number in range(_USERS)]
        barrier.wait()
        together = _timed(lambda: [each.result() for each in users])
    words = [f"{_WORDS[number % len(_WORDS)]}轮流{number}" for number in range(_USERS)]
    in_turn = _timed(lambda: [_search(connections[0], each) for each in words])
    return {"together_ms": together, "in_turn_ms": in_turn, "ratio": together / in_turn}


def _beside_indexing(server: Server, images: int) -> dict[str, float]:
    """Return how long searches take while images are added, in milliseconds."""
    times: list[float] = []
    is_done = threading.Event()

    def search() -> None:
        connection = server.connection()
        while not is_done.is_set():
            times.append(_timed(lambda: _search(connection, f"{_WORDS[len(times) % len(_WORDS)]}{len(times)}")))
            time.sleep(0.05)

    searching = threading.Thread(target=search)
    searching.start()
    started = time.perf_counter()
    for first in range(0, images, 40):
        _add(server, [_jpeg(number) for number in range(first, min(first + 40, images))])
    seconds = time.perf_counter() - started
    is_done.set()
    searching.join()
    return {**_summary(times), "images": images, "images_per_second": images / seconds}


def _add(server: Server, images: Sequence[bytes]) -> None:
    boundary = "----images"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{number}.jpg"\r\n\r\n'.encode()
        + image
        + b"\r\n"
        for number, image in enumerate(images)
    ]
    connection = server.connection()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    connection.request("POST", "/api/index", b"".join([*parts, f"--{boundary}--\r\n".encode()]), headers)
    response = connection.getresponse()
    events = response.read().decode()
    assert response.status == 200, events
    assert "event: report" in events, events


def _jpeg(number: int) -> bytes:
    """Return a photograph's size of noise, different for each number."""
    noise = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    data = BytesIO()
    Image.fromarray(noise).resize((1600, 1200)).save(data, "JPEG", quality=85)
    return data.getvalue()


def _summary(times: Sequence[float]) -> dict[str, float]:
    """Return median, 95th percentile and maximum of milliseconds."""
    ordered = sorted(times)
    return {
        "searches": len(ordered),
        "median_ms": statistics.median(ordered),
        "p95_ms": ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        "max_ms": ordered[-1],
    }


def _print(figures: dict[str, Any]) -> None:
    overhead, users, alone = figures["overhead"], figures["users"], figures["alone"]
    at_once, beside = figures["at_once"], figures["beside_indexing"]
    print(f"start: {figures['start_seconds']:.1f} s; first search: {figures['first_search_ms']:.1f} ms")
    print(
        f"a search: {overhead['server']:.1f} ms over HTTP, {overhead['retriever']:.1f} ms by the retriever, "
        f"{overhead['overhead']:.1f} ms more"
    )
    print(
        f"{_USERS} users: p95 {users['p95_ms']:.1f} ms of {users['searches']}, alone {alone['p95_ms']:.1f} ms: "
        f"{users['p95_ms'] / alone['p95_ms']:.2f} times"
    )
    print(
        f"{_USERS} at once: {at_once['together_ms']:.0f} ms, one after the other {at_once['in_turn_ms']:.0f} ms: "
        f"{at_once['ratio']:.2f} times"
    )
    print(
        f"beside indexing ({beside['images_per_second']:.0f} images a second): median {beside['median_ms']:.0f} ms, "
        f"at most {beside['max_ms']:.0f} ms"
    )
    print(json.dumps(figures["machine"], ensure_ascii=False))


if __name__ == "__main__":
    main()
