"""Nodes that cannot be moved, shards of other programs, and memory."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listing_backend import MAX_ROW_BYTES
from llama_index.core.schema import (
    ImageNode,
    TextNode,
)
from transfers import DIMENSION, SHARDS, content_of, export, import_, texts, vector

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import (
    ExternalVectorStore,
    nodes_to_table,
    write_manifest,
)
from llama_index_mm_zhipu.stores.transfer.manifest import read_manifest
from llama_index_mm_zhipu.vector_store import StoreError

pytestmark = pytest.mark.integration


# Nodes that the target refuses, or that cannot be read


def test_nodes_that_the_store_refuses_are_skipped_and_listed(
    source: Any, other: ExternalVectorStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (3, 17, 18):
        long = TextNode(id_=f"long{number}", text="长" * MAX_ROW_BYTES, embedding=vector(number))
        source.add([long, *texts(5, start=100 + 10 * number)])
    export(source, folder)

    refusal = r"node long3 takes .*memory takes at most 2,000.*split long texts \(in shard nodes-00002.parquet"
    with pytest.raises(ValueError, match=refusal):
        import_(folder, other)
    report = import_(folder, other, on_error="skip")
    assert list(report.skipped) == ["long3", "long17", "long18"]
    assert report.nodes == other.count() == 40
    assert "skipped 3 of 43 nodes: long3: node long3 takes" in caplog.text
    assert "nothing was added" not in caplog.text
    again = import_(folder, other, on_error="skip")
    assert (again.nodes, again.kept, again.skipped.count) == (40, 40, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"content": "{"}, "node a cannot be read: its content is not the JSON of a TextNode"),
        ({"content": '{"id_": 3}'}, "node a cannot be read"),
        ({"class_name": "Other"}, "node a cannot be read: its content is not the JSON of a Other"),
        ({"content": TextNode(id_="b").to_json()}, "node a has the content of node b"),
        ({"vector": [float("nan"), 1.0]}, "the vector of node a holds NaN"),
    ],
)
def test_a_bad_row_is_named_and_can_be_skipped(folder: Path, target: Any, fields: dict[str, Any], message: str) -> None:
    rows = nodes_to_table([TextNode(id_=each, embedding=[1.0, 2.0]) for each in ("a", "c")])
    write_table(folder, pa.Table.from_pylist([rows.to_pylist()[0] | fields, rows.to_pylist()[1]], schema=rows.schema))
    write_manifest(folder, settings={})
    with pytest.raises(ValueError, match=rf"{message}.*in shard a.parquet"):
        import_(folder, target)
    report = import_(folder, target, on_error="skip")
    assert list(report.skipped) == ["a"]
    assert [node.node_id for node in target.get_nodes()] == ["c"]


# Shards of other programs


def write_table(folder: Path, table: pa.Table, name: str = "a.parquet") -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / name)


def test_shards_of_pandas_are_imported(folder: Path, target: FaissMultiModalVectorStore) -> None:
    pandas = pytest.importorskip("pandas")
    folder.mkdir()
    for number in range(2):
        rows = texts(3, start=3 * number)
        columns = {
            "node_id": [node.node_id for node in rows],
            "class_name": [node.class_name() for node in rows],
            "content": [node.model_dump_json(exclude={"embedding", "image"}) for node in rows],
            "vector": [np.array(node.embedding) for node in rows],
            "of our own": [1, 2, 3],
        }
        pandas.DataFrame(columns).to_parquet(folder / f"part-{number}.parquet")
    manifest = write_manifest(folder, settings={"model": "clip:1", "caption_weight": 0.0})
    assert (manifest.nodes, manifest.dimension, manifest.vectors) == (6, DIMENSION, "float32")
    assert read_manifest(folder) == manifest
    assert import_(folder, target).nodes == 6
    assert [fields for _, fields in content_of(target)] == [node.model_dump() for node in texts(6)]
    assert target.settings() == {"model": "clip:1", "caption_weight": 0.0}
    with pytest.raises(ValueError, match="has a manifest already"):
        write_manifest(folder, settings={})


def test_images_of_other_programs_are_imported(folder: Path, target: Any, photos: list[Path]) -> None:
    image = ImageNode(id_="a", image=base64.b64encode(photos[0].read_bytes()).decode(), embedding=[1.0, 0.0])
    write_table(folder, nodes_to_table([image], "float16"))
    assert write_manifest(folder, settings={}).vectors == "float16"
    import_(folder, target)
    assert target.get_nodes(["a"])[0].image == image.image


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("content"), "it has no column 'content', only"),
        (lambda table: table.set_column(5, "vector", pa.array([1.0, 2.0])), "'vector' holds double, not lists"),
        (lambda table: table.slice(0, 0).set_column(5, "vector", pa.array([], pa.list_(pa.float32()))), "has no rows"),
    ],
)
def test_files_with_other_columns_get_no_manifest(
    folder: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    write_table(folder, change(nodes_to_table(texts(2))))
    with pytest.raises(StoreError, match=rf"a.parquet is not a shard.*{message}"):
        write_manifest(folder, settings={})


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("vector", pa.array([[1.0, 2.0], [1.0]]), "a.parquet is not in the format.*ListType"),
        ("vector", pa.array([[1.0, None], [1.0, 2.0]]), "its vectors have missing numbers"),
        ("vector", pa.array([[1.0, 2.0], None]), "its column 'vector' has rows without a value"),
        ("node_id", pa.array(["a", None]), "its column 'node_id' has rows without a value"),
    ],
)
def test_rows_with_missing_values_are_refused(
    folder: Path, target: Any, column: str, values: pa.Array, message: str
) -> None:
    table = nodes_to_table([TextNode(id_=each, embedding=[1.0, 2.0]) for each in ("a", "b")])
    write_table(folder, table.set_column(table.column_names.index(column), column, values))
    write_manifest(folder, settings={})
    with pytest.raises(StoreError, match=message):
        import_(folder, target)


def test_shards_of_different_dimensions_get_no_manifest(folder: Path) -> None:
    write_table(folder, nodes_to_table([TextNode(id_="a", embedding=[1.0, 2.0])]), "a.parquet")
    write_table(folder, nodes_to_table([TextNode(id_="b", embedding=[1.0, 2.0, 3.0])]), "b.parquet")
    with pytest.raises(StoreError, match=r"b.parquet has float32 vectors of dimension 3, a.parquet has float32 of 2"):
        write_manifest(folder, settings={})
    with pytest.raises(ValueError, match="has no files named"):
        write_manifest(folder.parent / "nothing", settings={})


def test_an_id_in_two_shards_is_an_error(folder: Path, target: Any) -> None:
    for name in ("a.parquet", "b.parquet"):
        write_table(folder, nodes_to_table(texts(2)), name)
    write_manifest(folder, settings={})
    with pytest.raises(StoreError, match="has 2 nodes after the import, 4 were expected: an id is in the shards twice"):
        import_(folder, target)


# Memory


def peak_of(call: Callable[[], Any]) -> int:
    """Return the peak of the memory of Python and numpy during a call, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_nodes(open_store: Callable[..., Any], tmp_path: Path) -> None:
    peaks = []
    for count in (400, 1600):
        source, target = open_store(f"source{count}"), open_store(f"target{count}")
        for start in range(0, count, 400):
            source.add([TextNode(id_=f"n{i}", embedding=[float(i), *[1.0] * 63]) for i in range(start, start + 400)])
        folder = tmp_path / f"shards{count}"
        # Searching holds all vectors: they are in the index before the measurement begins.
        target.add(source.get_nodes(include_embeddings=True))
        target.delete_nodes([f"n{i}" for i in range(count)])
        peaks.append(
            (
                peak_of(lambda source=source, folder=folder: export(source, folder, nodes_per_shard=10_000)),
                peak_of(lambda target=target, folder=folder: import_(folder, target, batch_size=100)),
            )
        )
    (small_export, small_import), (large_export, large_import) = peaks
    assert large_export < 1.3 * small_export
    assert large_import < 1.5 * small_import


def test_few_large_images_are_held_in_memory(target: FaissMultiModalVectorStore, folder: Path) -> None:
    rng = np.random.default_rng(0)
    with closing(FaissMultiModalVectorStore()) as source:
        for number in range(40):
            image = base64.b64encode(rng.bytes(1_000_000)).decode()
            source.add([ImageNode(id_=f"n{number}", image=image, embedding=vector(number))])
        source.add(texts(300, start=40))
        export_peak = peak_of(lambda: export(source, folder, nodes_per_shard=1000))
        metadata = pq.read_metadata(folder / SHARDS[0])
        assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [13, 13, 13, 256, 45]
        import_peak = peak_of(lambda: import_(folder, target, batch_size=256))
        assert content_of(target) == content_of(source)
    assert max(export_peak, import_peak) < 200_000_000
