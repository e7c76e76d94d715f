"""Measure ``ChineseClipEmbedding`` beside the article's loop and Hugging Face's Chinese-CLIP, on random weights.

    python benchmarks/embedding.py
    python benchmarks/embedding.py --quick --json embedding.json
    python benchmarks/embedding.py --only pairs queries

Each contender runs in its own process. In each round all contenders embed the same inputs, in random order, and the
times of a round are compared. ``--quick`` uses a tiny model: its figures only show that the benchmark runs.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import embedding_report as report
from embedding_contenders import OFFICIAL, Weights, accelerated, makers
from embedding_fresh import Figures, fresh
from embedding_parts import FULL, PARTS, QUICK, Bench, convert
from embedding_peak import makers as products
from measuring import write_figures
from workers import team

_PHOTOS = Path(__file__).parents[1] / "tests" / "data" / "photos"

_SHOWN: dict[str, tuple[str, Callable[[Figures], str]]] = {
    "starts": ("From nothing to the first query, in a fresh process", report.starts_table),
    "pairs": ("{items} JPEGs of 640 × 480 ({files}) with captions", report.pairs_table),
    "slides": ("{items} RGBA PNGs of 3840 × 2880 ({files}) with captions", report.pairs_table),
    "photos": ("{items} JPEGs of 4000 × 3000 ({files}) with captions", report.pairs_table),
    "queries": ("{items} queries of at most 6 characters, one by one, all new", report.pairs_table),
    "peak": ("Shares of the fastest matrix products", report.peak_table),
    "memory": ("Memory for many images, with the demo model", report.memory_table),
    "import": ("Importing", report.imports_table),
    "preprocess": ("Fast against exact preprocessing, with the demo model", report.preprocess_table),
    "accelerator": ("{items} JPEGs of 640 × 480 ({files}) with captions, on a GPU", report.accelerator_table),
}

# The model is converted before these parts, so that contenders only load it.
_ON_OPENVINO = {"starts", "pairs", "slides", "photos", "queries", "peak"}


def main() -> None:
    """Measure the chosen parts, print a table for each, and one for the targets."""
    settings = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="embedding-") as folder:
        figures = _measure(settings, Path(folder))
    if settings.json is not None:
        write_figures(settings.json, figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="fewer inputs and rounds, with a tiny model and without bf16"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--photos", type=Path, default=_PHOTOS, help="folder of real photographs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the raw figures")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, images, texts and the order of contenders"
    )
    return parser


def _measure(settings: argparse.Namespace, folder: Path) -> Figures:
    model = (
        "A tiny model: the figures only show that the benchmark runs"
        if settings.quick
        else f"{OFFICIAL} with random weights"
    )
    figures: Figures = {"machine": report.machine(model)}
    print(figures["machine"] + "\n", flush=True)
    able = fresh("prepare", folder=str(folder / "weights"), tiny=settings.quick, seed=settings.seed)
    weights = Weights(str(folder / "weights") if settings.quick else OFFICIAL, str(folder / "weights"))
    bf16 = able["bf16"] and not settings.quick
    multiplying = {name: make for of_one in products(bf16=bf16).values() for name, make in of_one.items()}
    with team({**makers(weights, bf16=bf16), **accelerated(weights), **multiplying}) as members:
        amounts, order = QUICK if settings.quick else FULL, random.Random(settings.seed)
        bench = Bench(amounts, weights, members, folder, settings.photos, order, settings.seed, bf16)
        parts = _possible(settings.only, able)
        if set(parts) & _ON_OPENVINO:
            bench = replace(bench, first_starts=convert(bench))
        for part in parts:
            figures[part] = PARTS[part](bench)
            title, show = _SHOWN[part]
            _print(title.format(**figures[part]), show(figures[part]))
    figures["targets"] = [target.check(figures) for target in report.TARGETS if target.part in figures]
    _print("Targets", report.targets_table(figures["targets"]))
    return figures


def _possible(parts: Sequence[str], able: Figures) -> list[str]:
    """Return the parts that this machine can measure; print what it cannot do."""
    if not able["bf16"]:
        print("This CPU has no bf16: there are no rows of OpenVINO bf16.\n", flush=True)
    if able["cuda"]:
        return list(parts)
    print("There is no GPU: nothing is measured on one.\n", flush=True)
    return [part for part in parts if part != "accelerator"]


def _print(title: str, table: str) -> None:
    print(f"{title}\n\n{table}\n", flush=True)


if __name__ == "__main__":
    main()
