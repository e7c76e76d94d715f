"""Actors, readers and drivers are killed at random moments: afterwards each image is stored exactly once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedding_driver import IMAGES_PER_PART
from stored_parts import stored_parts, wait_for_parts

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, read_jsonl
from llama_index_mm_zhipu.embedding import embed_nodes
from llama_index_mm_zhipu.stores import import_index

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes of Ray in /proc")

DRIVER = Path(__file__).with_name("embedding_driver.py")
ACTOR, READER, NONE = "ray::MapWorker", "ray::ReadImages", ""
PARTS = 30
QUICK_SEED = 2
"""A seed with which one driver and two processes of Ray are killed."""

RUNS = [
    pytest.param(seed, marks=pytest.mark.integration if seed == QUICK_SEED else pytest.mark.slow) for seed in range(20)
]


@pytest.fixture(scope="module")
def source(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first images of the demo, as many as it takes for kills at many moments."""
    with (demo_folder / "test.jsonl").open(encoding="utf-8") as records:
        first = list(islice(records, PARTS * IMAGES_PER_PART))
    file = tmp_path_factory.mktemp("source") / "images.jsonl"
    file.write_text("".join(first), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def expected(source: Path, demo_folder: Path) -> dict[str, np.ndarray]:
    """The vectors of all images by id, embedded in this process."""
    nodes = embed_nodes(
        read_jsonl(source),
        ChineseClipEmbedding(demo_folder / "model", backend="torch"),
        caption_weight=0.0,
    )
    return {node.node_id: np.asarray(node.embedding, dtype=np.float32) for node in nodes}


def processes_of(session: int, title: str) -> list[int]:
    """Return the ids of the processes of a session whose title begins like this."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name in parentheses may contain anything; the session is the fourth field after it.
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                command = (stat.parent / "cmdline").read_bytes().decode(errors="replace")
                if command.startswith(title):
                    found.append(int(stat.parent.name))
    return found


@contextmanager
def driver(source: Path, model: Path, kind: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a driver in a session of its own, and end all processes of the session with the block."""
    command = [sys.executable, str(DRIVER), str(source), str(model), kind, str(folder)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 60
        while (left := processes_of(process.pid, "")) and time.monotonic() < deadline:
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            time.sleep(0.2)


def is_running(process: subprocess.Popen[str]) -> bool:
    """Return whether a process has not ended."""
    return process.poll() is None


def kill_one(process: subprocess.Popen[str], title: str, chance: random.Random) -> None:
    """Kill a process of Ray with this title, if there is one."""
    if found := processes_of(process.pid, title):
        with suppress(ProcessLookupError):
            os.kill(chance.choice(found), signal.SIGKILL)


@pytest.mark.parametrize("seed", RUNS)
def test_each_image_is_stored_once_whatever_is_killed(
    seed: int, tmp_path: Path, source: Path, demo_folder: Path, expected: dict[str, np.ndarray]
) -> None:
    chance = random.Random(seed)
    kind = ("shards", "index")[seed % 2]
    given = (source, demo_folder / "model", kind, tmp_path / kind)
    folder = tmp_path / kind
    # A driver that dies, with or without an actor or a reader before it, twice or once.
    for _ in range(chance.choice((1, 2))):
        with driver(*given) as process:
            running = partial(is_running, process)
            if wait_for_parts(folder, chance.randrange(PARTS), running):
                kill_one(process, chance.choice((ACTOR, READER, NONE)), chance)
            wait_for_parts(folder, chance.randrange(PARTS), running)
    # Actors die, and the run ends by itself.
    with driver(*given) as process:
        running = partial(is_running, process)
        left = range(stored_parts(folder) + 1, PARTS)
        for count in sorted(chance.sample(left, min(2, len(left)))):
            if wait_for_parts(folder, count, running):
                kill_one(process, chance.choice((ACTOR, ACTOR, READER)), chance)
        output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    # Ray writes messages about dead processes to stdout, too.
    assert output.splitlines()[-1].split()[0] == str(len(expected)), output
    check = check_shards if kind == "shards" else check_index
    check(folder, expected)


def check_shards(folder: Path, expected: dict[str, np.ndarray]) -> None:
    """Check the rows of all shards, and that they can be imported."""
    files = sorted(folder.glob("nodes-*.parquet"))
    ids = [node_id for file in files for node_id in pq.read_table(file, columns=["node_id"])["node_id"].to_pylist()]
    assert len(ids) == len(expected)
    store = FaissMultiModalVectorStore()
    assert import_index(folder, store, show_progress=False).nodes == len(expected)
    check_store(store, expected)


def check_index(folder: Path, expected: dict[str, np.ndarray]) -> None:
    """Check the store of the images."""
    store = FaissMultiModalVectorStore(folder / "index", namespace="image")
    check_store(store, expected)
    store.close()


def check_store(store: FaissMultiModalVectorStore, expected: dict[str, np.ndarray]) -> None:
    """Check that a store has each image once, with its own vector."""
    assert store.count() == len(expected)
    ids, vectors = store.get_vectors(list(expected))
    assert sorted(ids) == sorted(expected)
    for node_id, vector in zip(ids, vectors, strict=True):
        np.testing.assert_allclose(vector, expected[node_id], atol=1e-4)
