"""Measure the overhead of ``ZhipuMultiModal`` over bare HTTP and bare Pillow, and what abandoned streams leave behind.

    python benchmarks/llm.py
    python benchmarks/llm.py --quick --json llm.json

A mock of the API in another process answers on loopback. Contenders take turns in random order.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import llm_asking
from llama_index.core.base.llms.types import ImageBlock
from llm_asking import ACHAT, ASTREAM_CHAT, LEAVES, WAYS, Ask, Clients, Leave, MockServer, Question, Way
from measuring import markdown_table, shuffled_rounds, write_figures
from PIL import Image

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMError, images
from llama_index_mm_zhipu.llm.images import clear_encodings

T = TypeVar("T")
Item = TypeVar("Item")
Figures = dict[str, Any]

_CALLS = 200
_LATENCY = 0.05
_DEFAULT_CONCURRENCY = 10
_LARGE = (3840, 2880)
_WARM_UP_STREAMS = 100
# Streams in reference cycles keep their slots until they are collected: fewer than ``max_concurrency`` at a time.
_COLLECT_EVERY = 20
_DEADLINE = 60.0
_CLOSING_SECONDS = 5.0
_LINES = (1_000_000, 5_000_000, 20_000_000)


@dataclass(frozen=True)
class Amounts:
    """Numbers of repetitions."""

    calls: int
    crowds: int
    images: int
    streams: int
    lines: int


_FULL = Amounts(calls=200, crowds=15, images=25, streams=1000, lines=10)
_QUICK = Amounts(calls=20, crowds=3, images=3, streams=100, lines=3)


def main() -> None:
    """Measure all parts and print a table for each."""
    settings = _parser().parse_args()
    amounts = _QUICK if settings.quick else _FULL
    order = random.Random(settings.seed)
    figures: Figures = {}

    # First, because the other parts leave free memory, which would hide what streams keep.
    with llm_asking.mock_server() as server:
        figures["streams"] = asyncio.run(_measure_streams(server, amounts.streams))
        _print("Streams abandoned after their first piece", _streams_table(figures["streams"]))
    with llm_asking.mock_server() as server:
        figures["calls"] = asyncio.run(_measure_calls(server.url, amounts.calls, order))
        _print("Calls with a JPEG of 200 kB, ms: median (p95)", _calls_table(figures["calls"]))
    with llm_asking.mock_server(_LATENCY) as server:
        figures["crowds"] = asyncio.run(_measure_crowds(server.url, amounts.crowds, order))
        _print(f"{_CALLS} calls at once that take {_LATENCY:g} s each", _crowds_table(figures["crowds"]))
    with llm_asking.mock_server() as server:
        figures["lines"] = asyncio.run(_measure_lines(server, amounts.lines, order))
        _print("A stream with a long line, s: median (worst)", _lines_table(figures["lines"]))
    figures["image"] = asyncio.run(_measure_image(amounts.images, order))
    _print("A PNG of {} × {} made ready to send".format(*_LARGE), _image_table(figures["image"]))
    if settings.json is not None:
        write_figures(settings.json, figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure a tenth of everything")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the raw figures")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of turns")
    return parser


async def _in_turn(
    contenders: Mapping[str, Callable[[Item], Awaitable[T]]], items: Iterable[Item], order: random.Random
) -> dict[str, list[T]]:
    """Return the results of each contender for all items but the first, which is a warm-up, in random order."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for name, item in shuffled_rounds(contenders, items, order):
        results[name].append(await contenders[name](item))
    return {name: of_one[1:] for name, of_one in results.items()}


async def _measure_calls(url: str, rounds: int, order: random.Random) -> list[Figures]:
    """Time questions about an image in every way, with the same image and with a new image each time."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            for image in ("same", "new"):
                files = llm_asking.jpegs(Path(folder) / "image.jpg", new=image == "new")
                questions = (llm_asking.question(file, streams=way.streams) for file in islice(files, 1 + rounds))
                times = await _measure_way(url, way, questions, order)
                for number, until in enumerate(("first piece", "end") if way.streams else ("answer",)):
                    of_each = {name: [time[number] for time in timed] for name, timed in times.items()}
                    figures.append({"call": way.name, "image": image, "until": until, **of_each})
    return figures


async def _measure_way(
    url: str, way: Way, questions: Iterable[Question], order: random.Random
) -> dict[str, list[tuple[float, float]]]:
    async with llm_asking.clients(url) as clients:
        contenders = {"bare": partial(_time, way.bare, clients), "ours": partial(_time, way.ours, clients)}
        return await _in_turn(contenders, questions, order)


async def _time(ask: Ask, clients: Clients, question: Question) -> tuple[float, float]:
    """Return the milliseconds until the first piece of an answer, and until its end."""
    start = time.perf_counter()
    pieces = ask(clients, question)
    await anext(pieces)
    first = time.perf_counter()
    async for _ in pieces:
        pass
    return (first - start) * 1000, (time.perf_counter() - start) * 1000


async def _measure_crowds(url: str, rounds: int, order: random.Random) -> list[Figures]:
    """Time many concurrent calls. The ideal is the latency times the number of rounds that the limit requires."""
    figures = []
    for at_a_time in (_DEFAULT_CONCURRENCY, 50):
        async with llm_asking.clients(url, max_concurrency=at_a_time) as clients:
            contenders = {
                "bare": partial(_time_crowd, ACHAT.bare, clients, asyncio.Semaphore(at_a_time)),
                # It limits its calls by itself.
                "ours": partial(_time_crowd, ACHAT.ours, clients, asyncio.Semaphore(_CALLS)),
            }
            crowds = ([llm_asking.question() for _ in range(_CALLS)] for _ in range(1 + rounds))
            times = await _in_turn(contenders, crowds, order)
        ideal = math.ceil(_CALLS / at_a_time) * _LATENCY
        figures.append({"max_concurrency": at_a_time, "ideal": ideal, **times})
    return figures


async def _time_crowd(ask: Ask, clients: Clients, limit: asyncio.Semaphore, questions: Sequence[Question]) -> float:
    """Return the seconds until all questions are answered."""

    async def call(question: Question) -> None:
        async with limit:
            async for _ in ask(clients, question):
                pass

    start = time.perf_counter()
    await asyncio.gather(*map(call, questions))
    return time.perf_counter() - start


async def _measure_lines(server: MockServer, rounds: int, order: random.Random) -> list[Figures]:
    """Time streams with a long line, and other calls of this package during such a stream."""
    figures = []
    for length in _LINES:
        async with llm_asking.clients(server.url) as clients:
            contenders = {
                "bare": partial(_time_line, ASTREAM_CHAT.bare, clients, server),
                "ours": partial(_time_line, ASTREAM_CHAT.ours, clients, server),
            }
            times = await _in_turn(contenders, [length] * (1 + rounds), order)
            alone = await _time_calls(clients, asyncio.sleep(1.0))
            beside = await _time_calls(clients, await _begin_line(clients, server, length))
        figures.append({"length": length, **times, "calls_alone": alone, "calls_beside": beside})
    return figures


async def _time_line(ask: Ask, clients: Clients, server: MockServer, length: int) -> float:
    """Return the seconds until the end of the stream."""
    server.send_long_line(length)
    _, milliseconds = await _time(ask, clients, llm_asking.question(streams=True))
    return milliseconds / 1000


async def _begin_line(clients: Clients, server: MockServer, length: int) -> Awaitable[None]:
    """Read a stream up to its long line, and return an awaitable that reads the rest."""
    server.send_long_line(length)
    pieces = ASTREAM_CHAT.ours(clients, llm_asking.question(streams=True))
    await anext(pieces)

    async def read() -> None:
        async for _ in pieces:
            pass

    return read()


async def _time_calls(clients: Clients, work: Awaitable[object]) -> list[float]:
    """Return the milliseconds of consecutive calls until some work ends."""
    working = asyncio.ensure_future(work)
    times: list[float] = []
    while not working.done() or not times:
        times.append((await _time(ACHAT.ours, clients, llm_asking.question()))[1])
    await working
    return times


async def _measure_image(rounds: int, order: random.Random) -> Figures:
    """Time the encoding of an image that is too large to send, by this package and by Pillow alone."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.png"
        llm_asking.enlarged_photo(_LARGE, noise=2).save(file)
        times = await _in_turn({"bare": _time_pillow, "ours": _time_image}, [file] * (1 + rounds), order)
        return {"png_bytes": file.stat().st_size, "jpeg_bytes": len(_reencoded(file)), **times}


async def _time_pillow(file: Path) -> float:
    start = time.perf_counter()
    _reencoded(file)
    return (time.perf_counter() - start) * 1000


async def _time_image(file: Path) -> float:
    clear_encodings()
    block = ImageBlock(path=file)
    start = time.perf_counter()
    images.image_url(block)
    return (time.perf_counter() - start) * 1000


def _reencoded(file: Path) -> bytes:
    with Image.open(file) as image:
        image.load()
        return llm_asking.jpeg(image.convert("RGB"), 90)


async def _measure_streams(server: MockServer, count: int) -> list[Figures]:
    """Abandon streams in three ways, and measure connections and memory that remain."""
    figures = []
    for name, leaves in LEAVES.items():
        llm = llm_asking.new_llm(server.url, deadline=_DEADLINE)
        await _break_off(llm, leaves, _WARM_UP_STREAMS)
        before = _resident_bytes()
        start = time.perf_counter()
        failed = await _break_off(llm, leaves, count)
        seconds = time.perf_counter() - start
        growth = _resident_bytes() - before
        await llm.aclose()
        still_open = await _open_connections(server)
        found = {"seconds": seconds, "failed": failed, "growth_bytes": growth, "open_connections": still_open}
        figures.append({"call": name, "streams": count, **found})
    return figures


async def _break_off(llm: ZhipuMultiModal, leaves: Sequence[Leave], count: int) -> int:
    """Abandon streams, and return how many could not start because others still held their slots."""
    failed = 0
    for number in range(1, count + 1):
        try:
            await leaves[number % len(leaves)](llm)
        except GLMError:
            failed += 1
        if number % _COLLECT_EVERY == 0:
            gc.collect()
    gc.collect()
    return failed


async def _open_connections(server: MockServer) -> int:
    """Return how many connections are open after the server had time to notice closed ones."""
    end = time.monotonic() + _CLOSING_SECONDS
    while (number := server.open_connections()) and time.monotonic() < end:
        await asyncio.sleep(0.05)
    return number


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    # The highest value so far, in bytes on macOS. Not available on Windows.
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _calls_table(figures: Iterable[Figures]) -> str:
    header = ["call", "image", "until", "bare httpx", "this package", "difference in a round", "target: difference"]
    rows = []
    for found in figures:
        differences = [mine - other for mine, other in zip(found["ours"], found["bare"], strict=True)]
        shown = map(_median_and_p95, (found["bare"], found["ours"], differences))
        rows.append([found["call"], found["image"], found["until"], *shown, "≤ 5"])
    return markdown_table(header, rows)


def _crowds_table(figures: Iterable[Figures]) -> str:
    header = ["max_concurrency", "ideal, s", "bare httpx, × ideal: median (worst)", "this package, × ideal", "target"]
    rows = []
    for found in figures:
        at_a_time, ideal = found["max_concurrency"], found["ideal"]
        ratios = [[seconds / ideal for seconds in found[name]] for name in ("bare", "ours")]
        shown = [f"{statistics.median(each):.2f} ({max(each):.2f})" for each in ratios]
        target = "≤ 1.3" if at_a_time == _DEFAULT_CONCURRENCY else "–"
        rows.append([str(at_a_time), f"{ideal:g}", *shown, target])
    return markdown_table(header, rows)


def _lines_table(figures: Iterable[Figures]) -> str:
    header = ["line, MB", "bare httpx", "this package", "calls alone, ms: median (worst)", "calls beside it, ms"]
    rows = []
    for found in figures:
        seconds = [f"{statistics.median(found[name]):.2f} ({max(found[name]):.2f})" for name in ("bare", "ours")]
        calls = [f"{statistics.median(found[n]):.1f} ({max(found[n]):.1f})" for n in ("calls_alone", "calls_beside")]
        rows.append([f"{found['length'] / 1e6:g}", *seconds, *calls])
    return markdown_table(header, rows)


def _image_table(found: Figures) -> str:
    header = ["PNG, MB", "JPEG, MB", "bare Pillow, ms: median (p95)", "this package, ms"]
    header += ["ratio of medians", "median of the ratios in a round", "target: ratio"]
    bare, ours = found["bare"], found["ours"]
    of_medians = statistics.median(ours) / statistics.median(bare)
    of_rounds = statistics.median(mine / other for mine, other in zip(ours, bare, strict=True))
    sizes = [f"{found[name] / 1e6:.1f}" for name in ("png_bytes", "jpeg_bytes")]
    times = map(_median_and_p95, (bare, ours))
    return markdown_table(header, [[*sizes, *times, f"{of_medians:.2f}", f"{of_rounds:.2f}", "≤ 1.2"]])


def _streams_table(figures: Iterable[Figures]) -> str:
    header = ["call", "streams", "s", "failed", "open connections", "memory grew, MB", "target"]
    rows = []
    for found in figures:
        took, grew = f"{found['seconds']:.1f}", f"{found['growth_bytes'] / 1e6:.2f}"
        counts = [str(found[name]) for name in ("failed", "open_connections")]
        rows.append([found["call"], f"{found['streams']:,}", took, *counts, grew, "0 failed, 0 open, < 5 MB"])
    return markdown_table(header, rows)


def _median_and_p95(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({statistics.quantiles(values, n=20, method='inclusive')[-1]:.2f})"


def _print(title: str, table: str) -> None:
    print(f"{title}\n\n{table}\n", flush=True)


if __name__ == "__main__":
    main()
