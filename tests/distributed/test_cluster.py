"""A cluster of three simulated machines: all of them work, and what one of them lacks is an error that names it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from stored_parts import wait_for_parts

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.distributed import EmbedReport, embed_dataset
from llama_index_mm_zhipu.embedding.backends import CheckpointError

pytestmark = pytest.mark.slow

IMAGES = 1_389
"""How many images the demo's file has."""


@contextmanager
def three_machines(cpus: int = 1, **last_machine: Any) -> Iterator[Cluster]:
    """A cluster of a head and two more machines, to which this process is not connected."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=cpus)
        cluster.add_node(num_cpus=cpus, **last_machine)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def embed(demo_folder: Path, tmp_path: Path) -> Callable[..., EmbedReport]:
    """A function that embeds the demo's images into shards."""

    def run(cluster: Cluster, model: str | Path = demo_folder / "model", **options: Any) -> EmbedReport:
        embed_model = ChineseClipEmbedding(model, backend="torch")
        settings = {"nodes_per_shard": 16, "show_progress": False, "address": cluster.address, **options}
        return embed_dataset(demo_folder / "test.jsonl", embed_model, tmp_path / "shards", **settings)

    return run


def remove_when_stored(cluster: Cluster, folder: Path, parts: int) -> threading.Thread:
    """Remove a machine, suddenly, as soon as so many parts are stored."""

    def remove() -> None:
        wait_for_parts(folder, parts)
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    return thread


def test_all_machines_embed(embed: Callable[..., EmbedReport]) -> None:
    with three_machines() as cluster:
        assert embed(cluster).nodes == IMAGES


def test_a_lost_machine_without_room_elsewhere_is_named_and_the_next_run_finishes(
    embed: Callable[..., EmbedReport], tmp_path: Path
) -> None:
    with three_machines() as cluster:
        removal = remove_when_stored(cluster, tmp_path / "shards", 3)
        with pytest.raises(ConnectionError, match=r"lost .* \(node [0-9a-f]{8}\), and the actors need 3 CPUs"):
            embed(cluster, num_actors=3)
        removal.join()
        report = embed(cluster, num_actors=2)
    assert report.nodes == IMAGES
    assert report.kept > 0


def test_a_lost_machine_with_room_elsewhere_is_replaced(embed: Callable[..., EmbedReport], tmp_path: Path) -> None:
    with three_machines(cpus=2) as cluster:
        removal = remove_when_stored(cluster, tmp_path / "shards", 3)
        assert embed(cluster, num_actors=3).nodes == IMAGES
        removal.join()


def test_a_model_that_one_machine_lacks_is_named_and_the_next_run_finishes(
    embed: Callable[..., EmbedReport], demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copytree(demo_folder / "model", here / "model")
    token = Path.home() / ".ray"
    if token.is_dir():
        for home in (here, elsewhere):
            shutil.copytree(token, home / ".ray")
    monkeypatch.setenv("HOME", str(here))
    with three_machines(env_vars={**os.environ, "HOME": str(elsewhere)}) as cluster:
        with pytest.raises(CheckpointError, match=r"model.*\(on .+\)"):
            embed(cluster, "~/model", num_actors=3)
        shutil.copytree(demo_folder / "model", elsewhere / "model")
        assert embed(cluster, "~/model", num_actors=3).nodes == IMAGES
