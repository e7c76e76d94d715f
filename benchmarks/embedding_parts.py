"""The parts of ``embedding.py``: each function measures one thing and returns its figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import embedding_inputs as inputs
import numpy as np
from embedding_contenders import (
    ARTICLE,
    ARTICLE_CUDA,
    BF16,
    FP32,
    HUGGING_FACE,
    INT8,
    TORCH,
    Pair,
    Turn,
    Weights,
    accelerated,
)
from embedding_fresh import WAYS, Figures, fresh, import_seconds
from embedding_peak import image_operations
from embedding_peak import makers as products
from workers import Team, in_turns

MODEL_ALONE = "the model alone"
IMAGE_PATH = "640×480 JPEGs to vectors"
# Memory is measured in two processes at a time, because their times do not matter.
_MEMORY_AT_ONCE = 2

CORE = "llama_index.core"
IMPORTED = ("the package", "its embedding")
IMPORTS = {
    CORE: "import llama_index.core",
    "the package": "import llama_index_mm_zhipu",
    "its embedding": "from llama_index_mm_zhipu import ChineseClipEmbedding",
    "all its names": "from llama_index_mm_zhipu import *",
}


@dataclass(frozen=True)
class Amounts:
    """Numbers of inputs and rounds.

    Attributes:
        tiny: Whether to use a tiny model instead of ViT-B-16.
        at_once: Number of fresh processes that load a model at a time.
        pairs: Images of 640 × 480 in a round.
        large: Slides or large photographs in a round.
        rounds: Rounds of images.
        queries: Queries in a round.
        query_rounds: Rounds of queries, and of matrix products.
        memory: The two numbers of images whose peak memory is compared.
        imports: Number of fresh interpreters for each import.
        starts: Number of fresh processes that load each model.
        accelerated: Images in a round on a GPU.
    """

    tiny: bool
    at_once: int
    pairs: int
    large: int
    rounds: int
    queries: int
    query_rounds: int
    memory: tuple[int, int]
    imports: int
    starts: int
    accelerated: int


FULL = Amounts(False, 1, 32, 8, 5, 20, 9, (1000, 10_000), 7, 3, 1024)
QUICK = Amounts(True, 2, 4, 2, 1, 4, 2, (100, 1000), 1, 1, 16)


@dataclass(frozen=True)
class Bench:
    """Settings that the parts share.

    Attributes:
        amounts: Numbers of inputs and rounds.
        weights: The model.
        team: The contenders.
        folder: Folder for generated images.
        photos: Folder of real photographs.
        order: Random numbers for the order of contenders and for texts.
        seed: Seed of generated images.
        bf16: Whether this CPU has bf16.
        first_starts: Figures of the first start of each model for OpenVINO, with its conversion.
    """

    amounts: Amounts
    weights: Weights
    team: Team
    folder: Path
    photos: Path
    order: random.Random
    seed: int
    bf16: bool
    first_starts: Figures = field(default_factory=dict)

    @property
    def ours(self) -> list[str]:
        """Names of the contenders that are this package on the CPU."""
        return [TORCH, *self.on_openvino.values()]

    @property
    def on_openvino(self) -> dict[str, str]:
        """Names of the contenders that are this package on OpenVINO, by precision."""
        return {"fp32": FP32, **({"bf16": BF16} if self.bf16 else {}), "int8": INT8}


def convert(bench: Bench) -> Figures:
    """Start every contender that runs on OpenVINO for the first time, which converts the model."""
    return _fresh({name: _start(bench, name) for name in bench.ours if name != TORCH}, bench.amounts.at_once)


def starts(bench: Bench) -> Figures:
    """Start every contender in fresh processes."""
    names = [ARTICLE, HUGGING_FACE, *bench.ours]
    later: dict[str, list[Figures]] = {name: [] for name in names}
    for _ in range(bench.amounts.starts):
        calls = {name: _start(bench, name) for name in bench.order.sample(names, len(names))}
        for name, found in _fresh(calls, bench.amounts.at_once).items():
            later[name].append(found)
    return {"first": {name: [found] for name, found in bench.first_starts.items()}, "later": later}


def pairs(bench: Bench) -> Figures:
    """Embed captioned images of 640 × 480."""
    files = inputs.write_photos(bench.folder / "pairs", inputs.SMALL, bench.amounts.pairs, bench.seed)
    bench.team.start([ARTICLE, HUGGING_FACE, *bench.ours])
    batch = bench.team.ask(HUGGING_FACE, "choose_batch", list(_captioned(bench, files)))
    return {"batch": batch, **_measure_pairs(bench, files, [ARTICLE, HUGGING_FACE, *bench.ours])}


def slides(bench: Bench) -> Figures:
    """Embed captioned slides."""
    files = inputs.write_slides(bench.folder / "slides", bench.amounts.large, bench.seed)
    return _measure_pairs(bench, files, [ARTICLE, *bench.ours])


def photos(bench: Bench) -> Figures:
    """Embed captioned photographs of 12 megapixels."""
    files = inputs.write_photos(bench.folder / "photos", inputs.LARGE, bench.amounts.large, bench.seed)
    return _measure_pairs(bench, files, [ARTICLE, *bench.ours])


def queries(bench: Bench) -> Figures:
    """Embed one new query after the other."""
    count = bench.amounts.queries
    texts = inputs.queries(count * (1 + bench.amounts.query_rounds), bench.order)
    rounds = [(texts[first : first + count],) for first in range(0, len(texts), count)]
    names = [ARTICLE, HUGGING_FACE, *bench.ours]
    bench.team.start(names)
    turns = in_turns({name: partial(bench.team.ask, name, "queries") for name in names}, rounds, bench.order)
    return {"items": count, **_figures(turns, ARTICLE)}


def peak(bench: Bench) -> Figures:
    """Compare the operations per second of the image encoder with those of large matrix products in its precision."""
    files = inputs.write_photos(bench.folder / "peak", inputs.SMALL, bench.amounts.pairs, bench.seed)
    operations = image_operations(bench.weights.checkpoint.config)
    return {
        "operations": operations,
        "per_second": {
            precision: _rates(bench, list(of_one), bench.on_openvino[precision], files, operations)
            for precision, of_one in products(bf16=bench.bf16).items()
        },
    }


def _rates(
    bench: Bench, multiplying: Sequence[str], name: str, files: Sequence[Path], operations: int
) -> dict[str, list[float]]:
    """Return the operations per second of matrix products and of one contender with images."""
    calls: dict[str, Callable[..., Any]] = {each: partial(bench.team.ask, each, "rate") for each in multiplying}
    calls[IMAGE_PATH] = partial(bench.team.ask, name, "images", files)
    calls[MODEL_ALONE] = partial(bench.team.ask, name, "model_alone", len(files))
    bench.team.start([*multiplying, name])
    found = in_turns(calls, [()] * (1 + bench.amounts.query_rounds), bench.order)
    images = {work: [len(files) * operations / each for each in found[work]] for work in (IMAGE_PATH, MODEL_ALONE)}
    return {**found, **images}


def memory(bench: Bench) -> Figures:
    """Embed many images, and ten times as many."""
    folder = bench.folder / "memory"
    inputs.write_thumbnails(folder, max(bench.amounts.memory), bench.seed)
    fill = partial(fresh, "memory", images=str(folder))
    # The first start may convert the model, which takes more memory than the measured ones.
    fill(way="stream_image_embeddings", count=1)
    calls = {f"{way} {count}": partial(fill, way=way, count=count) for way in WAYS for count in bench.amounts.memory}
    found = _fresh(calls, _MEMORY_AT_ONCE)
    return {way: {str(count): found[f"{way} {count}"] for count in bench.amounts.memory} for way in WAYS}


def imports(bench: Bench) -> Figures:
    """Import LlamaIndex's core and this package in fresh interpreters."""
    calls = {name: partial(import_seconds, statement) for name, statement in IMPORTS.items()}
    return {"seconds": in_turns(calls, [()] * bench.amounts.imports, bench.order, warm_up=0)}


def preprocess(bench: Bench) -> Figures:
    """Compare fast with exact preprocessing."""
    return fresh("preprocess", photos=str(bench.photos))


def accelerator(bench: Bench) -> Figures:
    """Embed captioned images of 640 × 480 on a GPU."""
    files = inputs.write_photos(bench.folder / "accelerator", inputs.SMALL, bench.amounts.accelerated, bench.seed)
    return _measure_pairs(bench, files, list(accelerated(bench.weights)), ARTICLE_CUDA)


PARTS: dict[str, Callable[[Bench], Figures]] = {
    "starts": starts,
    "pairs": pairs,
    "slides": slides,
    "photos": photos,
    "queries": queries,
    "peak": peak,
    "memory": memory,
    "import": imports,
    "preprocess": preprocess,
    "accelerator": accelerator,
}


def _start(bench: Bench, name: str) -> Callable[[], Figures]:
    return partial(fresh, "start", contender=name, name=bench.weights.name, folder=bench.weights.folder)


def _fresh(calls: Mapping[str, Callable[[], Figures]], at_once: int) -> Figures:
    """Run calls that start fresh processes, ``at_once`` of them at a time."""
    with ThreadPoolExecutor(at_once) as pool:
        futures = {name: pool.submit(call) for name, call in calls.items()}
        return {name: future.result() for name, future in futures.items()}


def _captioned(bench: Bench, files: Sequence[Path]) -> Iterator[Pair]:
    """Return the images with new captions."""
    return zip(files, inputs.captions(len(files), bench.order), strict=True)


def _measure_pairs(bench: Bench, files: Sequence[Path], names: Sequence[str], base: str = ARTICLE) -> Figures:
    rounds = ([list(_captioned(bench, files))] for _ in range(1 + bench.amounts.rounds))
    bench.team.start(names)
    calls = {name: partial(bench.team.ask, name, "pairs") for name in names}
    turns = in_turns(calls, rounds, bench.order)
    peaks = {name: bench.team.ask(name, "peak_bytes") for name in names}
    return {"items": len(files), "files": inputs.sizes(files), "peak_bytes": peaks, **_figures(turns, base)}


def _figures(turns: dict[str, list[Turn]], base: str) -> Figures:
    return {
        "seconds": {name: [turn.seconds for turn in of_one] for name, of_one in turns.items()},
        "waited": {name: [turn.waited for turn in of_one] for name, of_one in turns.items()},
        "min_cosine": {name: _min_cosine(of_one, turns[base]) for name, of_one in turns.items()},
    }


def _min_cosine(ours: Sequence[Turn], theirs: Sequence[Turn]) -> float:
    """Return the minimum cosine between the vectors of two contenders in all rounds."""
    left, right = (np.concatenate([turn.vectors for turn in turns]) for turns in (ours, theirs))
    cosines = (left * right).sum(axis=1) / np.linalg.norm(left, axis=1) / np.linalg.norm(right, axis=1)
    return float(cosines.min())
