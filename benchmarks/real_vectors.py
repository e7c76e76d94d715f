"""Make vectors of real images, to measure approximate indexes on something other than Gaussians.

    python benchmarks/real_vectors.py
    python benchmarks/real_vectors.py --only imagenet --photographs FOLDER
    python benchmarks/real_vectors.py --quick

``emoji``: variants of the emoji of the demo set, with the demo model, 256 dimensions. Queries are other variants, and
the names of the emoji, whose vectors come from the other encoder. Nearly all of the variance is in 16 dimensions.

``imagenet``: parts of photographs and, one in five, variants of emoji, with EfficientNet-Lite0, trained on ImageNet, in
512 dimensions, whose variances fall slowly. Queries are other such images. It needs requirements-real-vectors.txt.

ViT-B-16 with random weights would not do: of parts of photographs, four dimensions have 95 % of the variance.

Vectors are kept in files of 10,000 in ``--folder``. A later run makes only those that are missing, and the first
vectors of a large set are those of a smaller one.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from imagenet_features import SIDE, ImageNetFeatures
from measuring import machine, markdown_table, write_figures
from PIL import Image
from real_images import DEMO, Emoji, Photographs

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.backends import Precision
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import core, has_openvino

Vectors = npt.NDArray[np.float32]
Figures = dict[str, Any]

IMAGES, WORDS = "images", "words"
"""The kinds of queries."""

_FOLDER = Path(__file__).parent / "results" / "real_vectors"
_PHOTOGRAPHS = Path(__file__).parents[1] / "tests" / "data" / "photos"
_PART = 10_000
# Side of the images that the demo model takes, in pixels.
_DEMO_SIDE = 96
_COMPONENTS = (16, 32, 64, 128)
# Rows from which the variances are computed.
_SAMPLE = 50_000
# Queries whose cosines with all vectors are in memory at a time.
_BLOCK = 256


@dataclass(frozen=True)
class Amounts:
    """Numbers of inputs.

    Attributes:
        emoji: Number of emoji of the demo set; None for all.
        stored: Number of vectors of each set.
        queries: Number of images in the queries of each set.
    """

    emoji: int | None
    stored: Mapping[str, int]
    queries: int


FULL = Amounts(None, {"emoji": 200_000, "imagenet": 50_000}, 2_000)
QUICK = Amounts(40, {"emoji": 300, "imagenet": 100}, 20)


@dataclass(frozen=True)
class RealVectors:
    """Unit vectors of a set.

    Attributes:
        stored: Vectors of images, one row for each.
        queries: Vectors of each kind of query, none of which is stored.
    """

    stored: Vectors
    queries: Mapping[str, Vectors]


class ImageVectors:
    """Vectors of an endless sequence of images, kept in files.

    Args:
        folder: Folder of the files; created if missing.
        embed: Yields the unit vector of each image.
        side: Side of the images in pixels, that of the model.
        variant: Makes an image of this side from random numbers.
        seed: Seed of the images.
    """

    def __init__(
        self,
        folder: Path,
        embed: Callable[[Iterable[Image.Image]], Iterable[Any]],
        side: int,
        variant: Callable[[random.Random, int], Image.Image],
        seed: int,
    ) -> None:
        self._folder = folder
        self._embed = embed
        self._side = side
        self._variant = variant
        self._seed = seed
        folder.mkdir(parents=True, exist_ok=True)

    def first(self, count: int, purpose: str) -> Vectors:
        """Return the vectors of the first ``count`` images for a purpose; each purpose has other images."""
        starts = range(0, count, _PART)
        return np.concatenate([self._part(purpose, start, min(start + _PART, count)) for start in starts])

    def _part(self, purpose: str, start: int, stop: int) -> Vectors:
        file = self._folder / f"{purpose}-{start}-{stop}.npy"
        if not file.exists():
            images = (
                self._variant(random.Random(f"{self._seed} {purpose} {n}"), self._side) for n in range(start, stop)
            )
            vectors = np.stack(list(self._embed(images)))
            unfinished = file.with_suffix(".unfinished.npy")
            np.save(unfinished, vectors)
            unfinished.replace(file)
        vectors: Vectors = np.load(file)
        return vectors


def emoji_vectors(amounts: Amounts, folder: Path, seed: int) -> RealVectors:
    """Return vectors of the demo model; those that are in no file are made.

    Args:
        amounts: Numbers of inputs.
        folder: Folder of the files.
        seed: Seed of the images.
    """
    emoji = Emoji(amounts.emoji)
    of_set = folder / f"emoji-{len(emoji.names)}-{seed}"
    model = ChineseClipEmbedding(str(DEMO / "model"), device="cpu", precision=_precision(), cache_dir=str(of_set))
    images = ImageVectors(of_set, model.stream_image_embeddings, _DEMO_SIDE, emoji.variant, seed)
    queries = {
        IMAGES: images.first(amounts.queries, "queries"),
        WORDS: np.array(model.get_text_embedding_batch(emoji.names), np.float32),
    }
    return RealVectors(images.first(amounts.stored["emoji"], "stored"), queries)


def imagenet_vectors(amounts: Amounts, folder: Path, photographs: Path, seed: int) -> RealVectors:
    """Return vectors of a network that was trained on ImageNet; those that are in no file are made.

    Args:
        amounts: Numbers of inputs.
        folder: Folder of the files.
        photographs: Folder of photographs. Files of vectors do not record it.
        seed: Seed of the images.

    Raises:
        SystemExit: A package is not installed.
    """
    emoji, parts = Emoji(amounts.emoji), Photographs(photographs)

    def variant(numbers: random.Random, side: int) -> Image.Image:
        return (emoji if numbers.random() < 0.2 else parts).variant(numbers, side)

    of_set = folder / f"imagenet-{len(emoji.names)}-{seed}"
    images = ImageVectors(of_set, ImageNetFeatures(seed).stream, SIDE, variant, seed)
    queries = {IMAGES: images.first(amounts.queries, "queries")}
    return RealVectors(images.first(amounts.stored["imagenet"], "stored"), queries)


def described(found: RealVectors) -> Figures:
    """Return how vectors are distributed: their common direction, their spectrum, and how near queries are.

    Returns:
        ``mean_cosine`` of two stored vectors; ``variance``, the share of the first principal components in the variance
        of the stored vectors, by number; ``queries``, the median cosines with the nearest and the tenth nearest vector
        for each kind.
    """
    sample = found.stored[:: -(-len(found.stored) // _SAMPLE)]
    mean = sample.mean(axis=0)
    variances = np.linalg.eigvalsh(np.cov(sample, rowvar=False))[::-1]
    shares = np.cumsum(variances) / variances.sum()
    return {
        "vectors": len(found.stored),
        "dimension": found.stored.shape[1],
        "mean_cosine": float(mean @ mean),
        "variance": {count: float(shares[count - 1]) for count in _COMPONENTS if count <= len(shares)},
        "queries": {kind: _nearness(found.stored, queries) for kind, queries in found.queries.items()},
    }


def _nearness(stored: Vectors, queries: Vectors) -> Figures:
    blocks = [queries[start : start + _BLOCK] @ stored.T for start in range(0, len(queries), _BLOCK)]
    best = np.concatenate([-np.sort(-np.partition(block, -10, axis=1)[:, -10:], axis=1) for block in blocks])
    nearest, tenth = np.median(best[:, [0, 9]], axis=0).tolist()
    return {"count": len(queries), "nearest": nearest, "tenth": tenth}


def _precision() -> Precision:
    return "bf16" if has_openvino() and "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"


def main() -> None:
    """Make the chosen sets and print how their vectors are distributed."""
    settings = _parser().parse_args()
    amounts = _amounts(settings)
    makers = {
        "emoji": lambda: emoji_vectors(amounts, settings.folder, settings.seed),
        "imagenet": lambda: imagenet_vectors(amounts, settings.folder, settings.photographs, settings.seed),
    }
    sets: dict[str, Figures] = {}
    for name in settings.only:
        start = time.perf_counter()
        found = makers[name]()
        sets[name] = {"seconds": time.perf_counter() - start, **described(found)}
        print(f"{name}, {sets[name]['seconds']:.0f} s\n\n{_table(sets[name])}\n", flush=True)
    if settings.json is not None:
        write_figures(settings.json, {"machine": machine(), "precision": _precision(), "sets": sets})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images: does it run?")
    parser.add_argument("--only", nargs="+", choices=tuple(FULL.stored), default=list(FULL.stored), help="sets to make")
    parser.add_argument("--count", type=int, help="number of stored vectors of each set")
    parser.add_argument("--photographs", type=Path, default=_PHOTOGRAPHS, help="folder of photographs")
    parser.add_argument("--folder", type=Path, default=_FOLDER, help="folder for the vectors")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the figures")
    parser.add_argument("--seed", type=int, default=0, help="seed of the images and the weights")
    return parser


def _amounts(settings: argparse.Namespace) -> Amounts:
    amounts = QUICK if settings.quick else FULL
    return amounts if settings.count is None else replace(amounts, stored=dict.fromkeys(amounts.stored, settings.count))


def _table(figures: Figures) -> str:
    header = ["vectors", "dimension", "mean cosine of two"]
    header += [f"variance of the first {count}" for count in figures["variance"]]
    header += [f"{kind}: cosine with the nearest (tenth)" for kind in figures["queries"]]
    row = [f"{figures['vectors']:,}", str(figures["dimension"]), f"{figures['mean_cosine']:.3f}"]
    row += [f"{share:.1%}" for share in figures["variance"].values()]
    row += [f"{near['nearest']:.3f} ({near['tenth']:.3f})" for near in figures["queries"].values()]
    return markdown_table(header, [row])


if __name__ == "__main__":
    main()
