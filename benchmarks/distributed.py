"""Measure ``embed_dataset``: one and two actors of one thread each, memory, and the import of its shards.

    python benchmarks/distributed.py --json benchmarks/results/distributed.json   # everything, some 40 minutes
    python benchmarks/distributed.py --only memory imports                        # parts of it
    python benchmarks/distributed.py --quick                                      # few images: does it run?

It needs Linux. The file is not called ``ray.py``, which would take the place of the package. Parts:

- ``actors``: images per second of one actor with one thread, of two, and of ``build_index`` with one thread, in turns;
  random weights with the architecture of ViT-B-16, JPEGs of 640 × 480. The rates are those of the middle of a run, from
  the files of its shards, so that the start of the actors does not count.
- ``memory``: the peak of all processes together, as proportional set size, for 1,000 to 30,000 images of 240 × 180, as
  files and as base64 in a JSON Lines file, with a tiny model. The object store of Ray is part of it.
- ``imports``: nodes per second that ``import_index`` adds to the embedded store and to PostgreSQL.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from embedding_inputs import SMALL, write_photos, write_thumbnails
from measuring import machine, markdown_table, shuffled_rounds, versions, write_figures

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index
from llama_index_mm_zhipu.testing import tiny_checkpoint

PARTS = ("actors", "memory", "imports")
_PACKAGES = ("llama-index-core", "torch", "openvino", "ray", "pyarrow", "faiss-cpu", "psycopg2-binary")
_NODES_PER_SHARD = 16
_DIMENSION = 512


def main() -> None:
    """Measure, print tables, and write the figures."""
    settings = _parser().parse_args()
    if settings.measure is not None:
        print(json.dumps(_MEASURES[settings.measure[0]](*settings.measure[1:])))
        return
    figures: dict[str, Any] = {"machine": machine(), "versions": versions(_PACKAGES)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "actors" in settings.only:
            figures["actors"] = _compare_actors(folder, settings.images, settings.rounds, settings.quick)
            print(_actors_table(figures["actors"]), end="\n\n")
        if "memory" in settings.only:
            figures["memory"] = _compare_memory(folder, settings.memory_images)
            print(_memory_table(figures["memory"]), end="\n\n")
        if "imports" in settings.only:
            figures["imports"] = _measured("imports", folder, settings.nodes)
            print(_imports_table(figures["imports"]), end="\n\n")
    if settings.json is not None:
        write_figures(settings.json, figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--images", type=int, default=1_000, help="images in `actors`")
    parser.add_argument("--rounds", type=int, default=2, help="rounds in `actors`")
    parser.add_argument(
        "--memory-images", type=int, nargs="+", default=[1_000, 10_000, 30_000], help="images in `memory`"
    )
    parser.add_argument("--nodes", type=int, default=50_000, help="nodes in `imports`")
    parser.add_argument("--quick", action="store_true", help="few images and a tiny model: does it run?")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    return _with_quick_defaults(parser)


def _with_quick_defaults(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    if "--quick" in sys.argv:
        parser.set_defaults(images=256, rounds=1, memory_images=[200], nodes=2_000)
    return parser


def _measured(*arguments: object, threads: int | None = None) -> Any:
    """Return what a measurement finds in a process and session of its own."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    process = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, start_new_session=True, env=environment
    )
    return json.loads(process.stdout.splitlines()[-1])


# One and two actors


def _compare_actors(folder: Path, images: int, rounds: int, quick: bool) -> dict[str, list[float]]:
    """Return the rates of each contender, round after round."""
    photos = folder / "photos"
    write_photos(photos, SMALL, images, seed=0)
    model = tiny_checkpoint(folder / "model") if quick else tiny_checkpoint(folder / "model", "ViT-B-16")
    # Converts the model.
    ChineseClipEmbedding(model)
    rates: dict[str, list[float]] = {"build_index": [], "1 actor": [], "2 actors": []}
    for contender, number in shuffled_rounds(list(rates), range(rounds), random.Random(0)):
        if contender == "build_index":
            rate = _measured("build_index", photos, model, folder / f"store-{number}", threads=1)
        else:
            rate = _measured("actors", photos, model, folder / "shards", contender.split()[0])
        rates[contender].append(rate)
        print(f"  {contender}: {rate:.2f} images a second", file=sys.stderr)
    return rates


def _measure_build_index(photos: str, model: str, store: str) -> float:
    """Return images per second of wall time, without loading the model."""
    embed_model = ChineseClipEmbedding(model)
    embed_model.get_image_embedding(str(next(Path(photos).iterdir())))
    began = time.perf_counter()
    index = build_index(photos, embed_model, persist_dir=store)
    return index.image_store.count() / (time.perf_counter() - began)


def _measure_actors(photos: str, model: str, shards: str, actors: str) -> float:
    """Return images per second of wall time in the middle of a run."""
    from llama_index_mm_zhipu.distributed import embed_dataset

    shutil.rmtree(shards, ignore_errors=True)
    embed_dataset(
        photos,
        ChineseClipEmbedding(model),
        shards,
        num_actors=int(actors),
        nodes_per_shard=_NODES_PER_SHARD,
        show_progress=False,
    )
    times = sorted(file.stat().st_mtime_ns / 1e9 for file in Path(shards).glob("nodes-*.parquet"))
    # From when all actors work to when the first one is done.
    first, last = len(times) // 8, len(times) - len(times) // 8 - 1
    return (last - first) * _NODES_PER_SHARD / (times[last] - times[first])


# Memory


def _compare_memory(folder: Path, counts: Sequence[int]) -> dict[str, dict[str, Any]]:
    model = tiny_checkpoint(folder / "tiny")
    found = {}
    for count in counts:
        files = write_thumbnails(folder / f"thumbnails-{count}", count, seed=1)
        inline = folder / f"inline-{count}.jsonl"
        with inline.open("w", encoding="utf-8") as opened:
            for number, file in enumerate(files):
                encoded = base64.b64encode(file.read_bytes()).decode()
                opened.write(json.dumps({"image_id": number, "image_base64": encoded, "caption": ""}) + "\n")
        for name, source in (("files", files[0].parent), ("base64", inline)):
            found[f"{count} {name}"] = _measured("memory", source, model, folder / f"memory-{count}-{name}")
    return found


def _measure_memory(source: str, model: str, shards: str) -> dict[str, int]:
    """Return the peak of all processes of the session, and that of this one, in bytes."""
    from llama_index_mm_zhipu.distributed import embed_dataset

    embed_model = ChineseClipEmbedding(model, backend="torch")
    peaks = {"all": 0, "driver": 0}
    stopped = threading.Event()
    watching = threading.Thread(target=_watch, args=(peaks, stopped))
    watching.start()
    embed_dataset(source, embed_model, shards, num_actors=2, show_progress=False)
    stopped.set()
    watching.join()
    return peaks


def _watch(peaks: dict[str, int], stopped: threading.Event) -> None:
    session, driver = os.getsid(0), os.getpid()
    while not stopped.wait(0.5):
        sizes = {process: _memory_of(process) for process in _processes_of(session)}
        peaks["all"] = max(peaks["all"], sum(sizes.values()))
        peaks["driver"] = max(peaks["driver"], sizes.get(driver, 0))


def _processes_of(session: int) -> Iterable[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    yield int(entry.name)


def _memory_of(process: int) -> int:
    """Return the proportional set size of a process in bytes; shared pages count once among those that share them."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


# Imports


def _measure_imports(folder: str, count: str) -> dict[str, float]:
    """Return nodes per second of wall time by store."""
    from llama_index_mm_zhipu.stores import ExternalVectorStore, import_index

    shards = Path(folder) / "made"
    _write_shards(shards, int(count))
    rates = {}
    store = FaissMultiModalVectorStore(Path(folder) / "imported", namespace="image")
    rates["embedded"] = _import_rate(import_index, shards, store)
    store.close()
    tests = Path(__file__).parents[1] / "tests"
    sys.path += [str(tests), str(tests / "stores")]
    from llama_index.vector_stores.postgres import PGVectorStore
    from postgres_server import PostgresServer

    with PostgresServer() as server:
        table = PGVectorStore.from_params(
            connection_string=server.url(),
            async_connection_string=server.url().replace("psycopg2", "asyncpg"),
            table_name="imported",
            embed_dim=_DIMENSION,
        )
        external = ExternalVectorStore(table)
        rates["Postgres"] = _import_rate(import_index, shards, external)
        external.close()
    return rates


def _import_rate(import_index: Callable[..., Any], shards: Path, store: Any) -> float:
    began = time.perf_counter()
    report = import_index(shards, store, show_progress=False)
    return report.nodes / (time.perf_counter() - began)


def _write_shards(folder: Path, count: int) -> None:
    """Write shards as ``embed_dataset`` does by default, with random vectors."""
    import numpy as np
    import pyarrow.parquet as pq
    from llama_index.core.schema import ImageNode

    from llama_index_mm_zhipu.stores import nodes_to_table, write_manifest

    folder.mkdir()
    noise = np.random.default_rng(0)
    for start in range(0, count, 256):
        nodes = [
            ImageNode(
                id_=f"photos-1a2b3c/{number:08}.jpg",
                image_path=f"/mnt/share/photos/{number:08}.jpg",
                text=f"第{number}张照片：一只猫在沙发上",
                metadata={"file_name": f"{number:08}.jpg", "content_hash": f"{number:064x}"},
                embedding=noise.standard_normal(_DIMENSION).tolist(),
            )
            for number in range(start, min(start + 256, count))
        ]
        pq.write_table(nodes_to_table(nodes), folder / f"nodes-{start:09}.parquet", compression="zstd")
    write_manifest(folder, settings={"model": "random:1", "caption_weight": 0.0})


_MEASURES: dict[str, Callable[..., Any]] = {
    "build_index": _measure_build_index,
    "actors": _measure_actors,
    "memory": _measure_memory,
    "imports": _measure_imports,
}


# Tables


def _actors_table(found: dict[str, list[float]]) -> str:
    rows = [
        [name, _range(rates), _range([rate / one for rate, one in zip(rates, found["1 actor"], strict=True)])]
        for name, rates in found.items()
    ]
    return markdown_table(["contender", "images a second", "× 1 actor, same round"], rows)


def _memory_table(found: dict[str, dict[str, int]]) -> str:
    rows = [[name, *(f"{peaks[key] / 2**20:,.0f}" for key in ("all", "driver"))] for name, peaks in found.items()]
    return markdown_table(["images", "peak of all processes, MiB", "of the driver, MiB"], rows)


def _imports_table(found: dict[str, float]) -> str:
    return markdown_table(["store", "nodes a second"], [[name, f"{rate:,.0f}"] for name, rate in found.items()])


def _range(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    main()
