"""Measure what OCR makes of printed and scanned pages: the pages of examples/cases, degraded by script.

    python benchmarks/scans.py
    python benchmarks/scans.py --only mild hard --pages 4 --json benchmarks/results/scans.json

For every degree: wrong or missing characters, whether the text is in the right order, processor time a page, and at
which rank full text search finds the page of each question. A page is degraded in the same way in every run.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import tempfile
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llama_index.core.schema import BaseNode, ImageNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from PIL import Image

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.images import encode_image, load_image, page_text_of
from llama_index_mm_zhipu.ingestion import ImageOcr, RapidOcrEngine
from llama_index_mm_zhipu.readers import PageReader

CASES = Path(__file__).parents[1] / "examples" / "cases"
sys.path.insert(0, str(CASES))

import ask  # noqa: E402

NAMES = ask.CASES
RANK = 3

# The printed page, from which a scan takes its pixels. A page is 10 inches wide.
_PRINT_WIDTH = 3000
_INCHES = 10
_PAPER = (250, 249, 246)
_DESK = (96, 84, 72)


class Scan(NamedTuple):
    """How a page is degraded, in the order in which a scanner or a phone does it.

    Attributes:
        dpi: Pixels per inch of the page.
        skew: Degrees clockwise by which the page lies askew.
        perspective: Share of the sides by which the corners of a photographed page are moved at most.
        light: Share of the light that is lost in the darkest corner.
        noise: Standard deviation of the noise, in steps of 0 to 255.
        jpeg: JPEG quality; the default loses nearly nothing.
        turn: Degrees clockwise by which the page was put in wrongly: 0, 90, 180 or 270.
    """

    dpi: int = 150
    skew: float = 0.0
    perspective: float = 0.0
    light: float = 0.0
    noise: float = 0.0
    jpeg: int = 95
    turn: int = 0


_MILD = Scan(skew=1, noise=6, jpeg=60)
_MEDIUM = Scan(dpi=110, skew=2, light=0.4, noise=12, jpeg=50)
_HARD = Scan(dpi=75, skew=3, perspective=0.06, light=0.6, noise=20, jpeg=30)

SCANS = {
    "150 dpi": Scan(),
    "100 dpi": Scan(dpi=100),
    "75 dpi": Scan(dpi=75),
    "JPEG 60": Scan(jpeg=60),
    "noise 20": Scan(noise=20),
    "skew 1°": Scan(skew=1),
    "skew 2°": Scan(skew=2),
    "skew 3°": Scan(skew=3),
    "uneven light 60 %": Scan(light=0.6),
    "perspective 6 %": Scan(perspective=0.06),
    "mild": _MILD,
    "medium": _MEDIUM,
    "hard": _HARD,
    **{f"mild, turned {turn}°": _MILD._replace(turn=turn) for turn in (90, 180, 270)},
}
"""All degrees by name."""


# Degrading


def scan(page: Image.Image, settings: Scan, seed: str) -> Image.Image:
    """Return a page as if it had been printed and scanned, or photographed.

    Args:
        page: The page in a high resolution.
        settings: The degradation.
        seed: Name of the page; noise, corners and the direction of the light depend on it.
    """
    random = np.random.default_rng(zlib.crc32(seed.encode()))
    width = settings.dpi * _INCHES
    height = round(width * page.height / page.width)
    scanned = _photographed(page, (width, height), settings, random)
    scanned = _lit_with_noise(scanned, settings, random)
    return scanned.rotate(-settings.turn, expand=True) if settings.turn else scanned


def _photographed(page: Image.Image, size: tuple[int, int], settings: Scan, random: np.random.Generator) -> Image.Image:
    """Return the page askew and in perspective, on a desk if the perspective shows it, at the size of the scan."""
    width, height = size
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float64)
    inwards = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)])
    moved = corners + inwards * random.uniform(0, settings.perspective, (4, 2)) * size
    angle = np.radians(settings.skew)
    centre = np.array(size) / 2
    moved = (moved - centre) @ np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))]) + centre
    # Averaged first, as by the lens: the transformation takes single pixels.
    small = page.resize(size, Image.Resampling.LANCZOS)
    return small.transform(
        size,
        Image.Transform.PERSPECTIVE,
        _perspective(moved, corners),
        Image.Resampling.BICUBIC,
        fillcolor=_DESK if settings.perspective else _PAPER,
    )


def _perspective(points: npt.NDArray[np.float64], targets: npt.NDArray[np.float64]) -> list[float]:
    """Return the eight coefficients of the perspective that takes four points to four targets."""
    rows: list[list[float]] = []
    for (x, y), (u, v) in zip(points, targets, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    return [float(each) for each in np.linalg.solve(np.array(rows), targets.reshape(8))]


def _lit_with_noise(page: Image.Image, settings: Scan, random: np.random.Generator) -> Image.Image:
    """Return the page in light that falls off towards one corner, with noise that differs by pixel and colour."""
    direction = random.choice([-1.0, 1.0], 2)
    pixels = np.asarray(page, dtype=np.float32)
    height, width, _ = pixels.shape
    across = np.linspace(-1, 1, width, dtype=np.float32) * direction[0]
    down = np.linspace(-1, 1, height, dtype=np.float32) * direction[1]
    # 0 in the lit corner, 1 in the dark one
    distance = (across[None, :] + down[:, None] + 2) / 4
    pixels = pixels * (1 - settings.light * distance**1.5)[:, :, None]
    if settings.noise:
        pixels = pixels + random.standard_normal(pixels.shape, dtype=np.float32) * settings.noise
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


# Measuring


def load_questions() -> list[ask.Question]:
    """Return the questions of both cases."""
    return [question for name in NAMES for question in ask.load_questions(name)]


def read_pages() -> list[ImageNode]:
    """Return the pages of both cases in a high resolution, with their text layers as page text."""
    reader = PageReader(longest_side=_PRINT_WIDTH, id_prefix="")
    return [node for name in NAMES for node in reader.load_data(CASES / f"{name}.pdf")]


def scanned_node(page: ImageNode, settings: Scan) -> ImageNode:
    """Return a node with the scan of a page as a JPEG, without text."""
    content = encode_image(scan(load_image(page), settings, page.node_id), quality=settings.jpeg)
    return ImageNode(id_=page.node_id, image=base64.b64encode(content).decode("ascii"))


def normalized(text: str) -> str:
    """Return a text without spaces and without full-width forms of letters, digits and punctuation."""
    return "".join(unicodedata.normalize("NFKC", text).split())


def character_errors(truth: str, read: str) -> int:
    """Return the number of wrong or missing characters, whatever their order, in normalized texts."""
    expected, found = Counter(truth), Counter(read)
    return max((expected - found).total(), (found - expected).total())


def similarity(truth: str, read: str) -> float:
    """Return how much of two texts is equal and in the same order, 0 to 1."""
    return SequenceMatcher(None, truth, read, autojunk=False).ratio()


def ranks_of(nodes: Sequence[BaseNode], questions: Sequence[ask.Question]) -> list[int]:
    """Return for each question the rank, from 1, of its page by full text; one more than there are pages for none."""
    store = FaissMultiModalVectorStore()
    # Full text search looks at no vector.
    store.add([node.model_copy(update={"embedding": [1.0, 0.0]}) for node in nodes])
    ranks = []
    for question in questions:
        query = VectorStoreQuery(
            query_str=question.text, similarity_top_k=len(nodes), mode=VectorStoreQueryMode.TEXT_SEARCH
        )
        ids = store.query(query).ids or []
        ranks.append(ids.index(question.page) + 1 if question.page in ids else len(nodes) + 1)
    return ranks


def measure(pages: Sequence[ImageNode], settings: Scan, ocr: ImageOcr) -> dict[str, Any]:
    """Scan pages and read them.

    Args:
        pages: Pages with their text layers.
        settings: The degradation.
        ocr: Reads the scans; its cache must not know them.

    Returns:
        Characters and errors of each page, their similarity, processor seconds a page, and ranks of all questions
        about these pages.
    """
    scans = [scanned_node(page, settings) for page in pages]
    start = time.process_time()
    read = ocr(scans)
    seconds = (time.process_time() - start) / len(pages)
    texts = [
        (normalized(page.get_content()), normalized(page_text_of(node))) for page, node in zip(pages, read, strict=True)
    ]
    ids = {page.node_id for page in pages}
    return {
        "characters": [len(truth) for truth, _ in texts],
        "errors": [character_errors(truth, found) for truth, found in texts],
        "similarity": [similarity(truth, found) for truth, found in texts],
        "cpu_seconds": seconds,
        "ranks": ranks_of(read, [question for question in load_questions() if question.page in ids]),
    }


def main() -> None:
    """Measure every degree, and print a table."""
    settings = _parser().parse_args()
    pages = read_pages()[: settings.pages]
    engine = RapidOcrEngine(threads=settings.threads)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        ocr = ImageOcr(engine=engine, cache_path=Path(folder) / "ocr.sqlite3")
        # The models are loaded and compiled outside of the measured time.
        measure(pages[:1], Scan(), ocr)
        print(f"| {' | '.join(_COLUMNS)} |\n|{'---|' * len(_COLUMNS)}", flush=True)
        for number, name in enumerate(settings.only or SCANS):
            fresh = ocr.model_copy(update={"cache_path": str(Path(folder) / f"{number}.sqlite3")})
            results[name] = measure(pages, SCANS[name], fresh)
            print(_row(name, results[name]), flush=True)
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SCANS), metavar="NAME", help="some of the degrees")
    parser.add_argument("--pages", type=int, help="number of pages, from the first on")
    parser.add_argument("--threads", type=int, default=1, help="threads of the engine")
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser


_COLUMNS = ("scan", "errors, %", "worst page, %", "similarity", "CPU s a page", "rank 1", "rank ≤ 3")


def _row(name: str, found: dict[str, Any]) -> str:
    worst = max(errors / count for errors, count in zip(found["errors"], found["characters"], strict=True))
    ranks = found["ranks"]
    cells = [
        name,
        f"{100 * sum(found['errors']) / sum(found['characters']):.1f}",
        f"{100 * worst:.1f}",
        f"{sum(found['similarity']) / len(found['similarity']):.3f}",
        f"{found['cpu_seconds']:.2f}",
        f"{sum(rank == 1 for rank in ranks)} of {len(ranks)}",
        f"{sum(rank <= RANK for rank in ranks)} of {len(ranks)}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
