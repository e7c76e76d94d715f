"""Measure ``ImageOcr``: time, memory and wrong characters a page, several processes, and memory over many pages.

    python benchmarks/ocr.py --json benchmarks/results/ocr.json   # everything, some 15 minutes
    python benchmarks/ocr.py --only pages processes               # parts of it
    python benchmarks/ocr.py --quick                              # few pages: does it run?

The pages are those of ``examples/cases``, drawn as RGBA PNG files of 3840 × 2880 pixels; their text layers tell what is
written there. Each contender has its own process, which reads one page before it is measured. Parts:

- ``pages``: ``ImageOcr`` by ``longest_side``; RapidOCR called by hand on the files, which shrinks them to 2000 pixels
  itself, with OpenVINO, and with ONNX Runtime and tesseract if they are installed. Seconds are processor time of all
  threads. Wrong: characters of the text layer that were not read, and read ones that are not in it, whatever their
  order, as a share of the text layer.
- ``processes``: pages per second of wall time with one process of one thread, one of all threads, and several of one
  thread each, from the second page on; and the seconds until the first pages, in which the processes start.
- ``memory``: memory of one process while it reads 200 pages of different sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from statistics import mean, median
from typing import Any

from llama_index.core.schema import ImageNode
from measuring import markdown_table, peak_bytes, write_figures
from PIL import Image

from llama_index_mm_zhipu.images import load_image, page_text_of
from llama_index_mm_zhipu.ingestion import ImageOcr, RapidOcrEngine
from llama_index_mm_zhipu.readers import PageReader

CASES = Path(__file__).parents[1] / "examples" / "cases"
NAMES = ("lecture.pdf", "car_maintenance.pdf")
SIDES = (3840, 1600, 1280, 960)
PARTS = ("pages", "processes", "memory")
_PAGES = "pages.json"


@dataclass(frozen=True)
class Amounts:
    """How much is measured.

    Attributes:
        pages: Pages of each contender in ``pages``.
        for_processes: Pages in ``processes``.
        in_memory: Pages in ``memory``.
    """

    pages: int = 22
    for_processes: int = 44
    in_memory: int = 200


QUICK = Amounts(pages=2, for_processes=4, in_memory=4)


def main() -> None:
    """Measure, print tables, and write the figures."""
    settings = _parser().parse_args()
    if settings.measure is not None:
        print(json.dumps(_MEASURES[settings.measure[0]](*settings.measure[1:])))
        return
    amounts = QUICK if settings.quick else Amounts()
    figures: dict[str, Any] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _draw_pages(folder, max(amounts.pages, 2))
        if "pages" in settings.only:
            figures["pages"] = {each: _measured("page", folder, each, amounts.pages) for each in _contenders()}
            print(_pages_table(figures["pages"]), end="\n\n")
        if "processes" in settings.only:
            kinds = ["1 1", f"1 {os.cpu_count()}", f"{os.cpu_count()} 1"]
            counts = (os.cpu_count() or 1, amounts.for_processes)
            figures["processes"] = {
                kind: [_measured("processes", folder, *kind.split(), count) for count in counts] for kind in kinds
            }
            print(_processes_table(figures["processes"], counts), end="\n\n")
        if "memory" in settings.only:
            figures["memory"] = _measured("memory", folder, amounts.in_memory)
            print(_memory_table(figures["memory"]), end="\n\n")
    if settings.json is not None:
        write_figures(settings.json, figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--quick", action="store_true", help="few pages: does it run?")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    return parser


def _measured(*arguments: object) -> Any:
    """Return what a measurement finds in a process of its own."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


# Pages


def _draw_pages(folder: Path, count: int) -> None:
    """Write the first pages of the cases as RGBA PNG files, and their texts."""
    texts = {}
    reader = PageReader(longest_side=3840, id_prefix="")
    for node in islice(chain(*(reader.lazy_load_data(CASES / name) for name in NAMES)), count):
        file = folder / f"{node.node_id.replace('/', '-')}.png"
        load_image(node).convert("RGBA").save(file, compress_level=1)
        texts[file.name] = page_text_of(node) or node.text
    (folder / _PAGES).write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")


def _pages_of(folder: str, count: int) -> list[tuple[Path, str]]:
    """Return files and texts of so many pages; beyond the last, they are repeated."""
    texts: dict[str, str] = json.loads((Path(folder) / _PAGES).read_text(encoding="utf-8"))
    pages = [(Path(folder) / name, text) for name, text in texts.items()]
    random.Random(0).shuffle(pages)
    return [pages[number % len(pages)] for number in range(count)]


def _wrong_characters(read: str, expected: str) -> int:
    """Return how many characters are missing or wrong, whatever their order; bullets and spaces do not count."""
    ignored = set(" \n\t•●·。.")
    found, wanted = (Counter(each for each in text if each not in ignored) for text in (read, expected))
    return max((wanted - found).total(), (found - wanted).total())


# Contenders


def _contenders() -> list[str]:
    names = [f"ImageOcr {side}" for side in SIDES] + ["RapidOCR openvino"]
    if find_spec("onnxruntime") is not None:
        names.append("RapidOCR onnxruntime")
    if shutil.which("tesseract") is not None:
        names.append("tesseract chi_sim")
    else:
        print("tesseract is not installed: it is left out", file=sys.stderr)
    return names


def _reader_of(contender: str) -> Callable[[Path], str]:
    name, _, setting = contender.partition(" ")
    return {"ImageOcr": _image_ocr, "RapidOCR": _rapidocr, "tesseract": _tesseract}[name](setting)


def _image_ocr(side: str) -> Callable[[Path], str]:
    engine = RapidOcrEngine()

    def read(file: Path) -> str:
        with tempfile.TemporaryDirectory() as folder:
            ocr = ImageOcr(engine=engine, longest_side=int(side), cache_path=f"{folder}/ocr.sqlite3", on_error="raise")
            return page_text_of(ocr([ImageNode(image_path=str(file))])[0])

    return read


def _rapidocr(engine: str) -> Callable[[Path], str]:
    from rapidocr import EngineType, RapidOCR

    kind = EngineType(engine)
    params = {f"{model}.engine_type": kind for model in ("Det", "Cls", "Rec")}
    model = RapidOCR(params={"Global.log_level": "critical", **params})
    return lambda file: "\n".join(model(str(file)).txts or ())


def _tesseract(language: str) -> Callable[[Path], str]:
    def read(file: Path) -> str:
        command = ["tesseract", str(file), "-", "-l", language]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return read


# Measurements, each in its own process


def _measure_pages(folder: str, contender: str, count: str) -> dict[str, Any]:
    pages = _pages_of(folder, int(count))
    read = _reader_of(contender)
    began = _cpu_seconds()
    read(pages[-1][0])
    first = _cpu_seconds() - began
    seconds, wall, wrong = [], [], 0
    for file, text in pages:
        began, began_wall = _cpu_seconds(), time.perf_counter()
        found = read(file)
        seconds.append(_cpu_seconds() - began)
        wall.append(time.perf_counter() - began_wall)
        wrong += _wrong_characters(found, text)
    share = wrong / sum(len(text) for _, text in pages)
    return {"first": first, "seconds": seconds, "wall": wall, "wrong": share, "peak": _peak_bytes()}


def _measure_processes(folder: str, processes: str, threads: str, count: str) -> float:
    """Return the seconds of wall time of a run."""
    pages = _pages_of(folder, int(count))
    # Another size of each repeated page, which is not in the cache then.
    files = [_shrunk(Path(folder), file, 1600 - number // 22) for number, (file, _) in enumerate(pages)]
    with tempfile.TemporaryDirectory() as cache:
        ocr = ImageOcr(
            engine=RapidOcrEngine(threads=int(threads)),
            num_workers=int(processes),
            cache_path=f"{cache}/ocr.sqlite3",
            on_error="raise",
        )
        began = time.perf_counter()
        ocr([ImageNode(image_path=str(file)) for file in files])
        return time.perf_counter() - began


def _shrunk(folder: Path, file: Path, side: int) -> Path:
    shrunk = folder / f"{file.stem}-{side}.png"
    if not shrunk.exists():
        with Image.open(file) as image:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
            image.save(shrunk)
    return shrunk


def _measure_memory(folder: str, count: str) -> list[tuple[int, int]]:
    """Return the memory in bytes after some pages, and then after ten times as many, and so on."""
    noise = random.Random(0)
    engine = RapidOcrEngine()
    measured = []
    for number, (file, _) in enumerate(_pages_of(folder, int(count)), 1):
        image = load_image(file)
        image.thumbnail((1600, 1600), Image.Resampling.LANCZOS)
        margins = [noise.randrange(0, 150) for _ in range(4)]
        engine(image.crop((margins[0], margins[1], image.width - margins[2], image.height - margins[3])))
        if number % 20 == 0 or number == int(count):
            measured.append((number, _resident_bytes()))
    return measured


_MEASURES: dict[str, Callable[..., Any]] = {
    "page": _measure_pages,
    "processes": _measure_processes,
    "memory": _measure_memory,
}


def _cpu_seconds() -> float:
    """Return the processor time of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_bytes() -> int | None:
    """Return the peak memory of this process or of its largest ended child."""
    own = peak_bytes()
    with suppress(ImportError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return max(own or 0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit)
    return own


def _resident_bytes() -> int:
    """Return the memory that this process has now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


# Tables


def _pages_table(found: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{mean(each['seconds']):.2f} ({min(each['seconds']):.2f}–{max(each['seconds']):.2f})",
            f"{median(each['wall']):.2f}",
            f"{100 * each['wrong']:.2f} %",
            f"{(each['peak'] or 0) / 2**20:,.0f}",
        ]
        for name, each in found.items()
    ]
    return markdown_table(
        ["contender", "CPU s a page", "wall s (median)", "wrong characters", "peak memory, MiB"], rows
    )


def _processes_table(found: dict[str, list[float]], counts: Sequence[int]) -> str:
    rates = {name: (counts[1] - counts[0]) / (long - short) for name, (short, long) in found.items()}
    slowest = next(iter(rates.values()))
    rows = [
        [*name.split(), f"{rate:.2f}", f"{rate / slowest:.2f}", f"{found[name][0]:.1f}"] for name, rate in rates.items()
    ]
    return markdown_table(["processes", "threads of each", "pages a second", "×", f"s for the first {counts[0]}"], rows)


def _memory_table(found: Iterable[Sequence[int]]) -> str:
    return markdown_table(["pages", "memory, MiB"], [[str(pages), f"{size / 2**20:,.0f}"] for pages, size in found])


if __name__ == "__main__":
    main()
