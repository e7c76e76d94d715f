"""Everything arrives in another store, and what cannot be moved is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from list_store import ListStore
from listing_backend import ListingBackend
from llama_index.core.schema import (
    BaseNode,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery
from store_calls import MODES
from transfers import SETTINGS, SHARDS, content_of, edit_manifest, export, files_of, import_, texts, vector

from llama_index_mm_zhipu import FaissMultiModalVectorStore, stores
from llama_index_mm_zhipu.stores import (
    ExternalVectorStore,
    external,
)
from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError

pytestmark = pytest.mark.integration


# Everything arrives


def test_nodes_vectors_images_and_settings_arrive_unchanged(
    nodes: list[BaseNode], open_store: Callable[..., Any], target: FaissMultiModalVectorStore, folder: Path
) -> None:
    source = open_store("source", model="clip:1")
    source.add(nodes, settings=SETTINGS)

    written = export(source, folder, nodes_per_shard=8)
    assert (written.nodes, written.kept, written.shards) == (len(nodes), 0, 3)
    assert written.bytes == sum((folder / name).stat().st_size for name in SHARDS)
    assert files_of(folder) == {"manifest.json", *SHARDS}
    assert folder.stat().st_mode & 0o777 == 0o700

    read = import_(folder, target)
    assert (read.nodes, read.kept, read.shards, read.bytes) == (len(nodes), 0, 3, written.bytes)
    assert not read.skipped
    assert content_of(target) == content_of(source)
    assert target.settings() == source.settings() == {"model": "clip:1", **SETTINGS}
    for mode in MODES:
        query = VectorStoreQuery(query_embedding=vector(3), query_str="飞机 发动机", similarity_top_k=9, mode=mode)
        found, expected = target.query(query), source.query(query)
        assert found.ids == expected.ids
        assert found.similarities == expected.similarities


def test_inline_images_are_bytes_in_the_shards(nodes: list[BaseNode], photos: list[Path], folder: Path) -> None:
    with closing(FaissMultiModalVectorStore()) as source:
        source.add(nodes)
        export(source, folder, nodes_per_shard=100)
    table = pq.read_table(folder / SHARDS[0]).to_pylist()
    rows = {row["node_id"]: row for row in table}
    assert rows["inline"]["image"] == rows["same image"]["image"] == photos[0].read_bytes()
    assert rows["part"]["ref_doc_id"] == "whole"
    assert rows["index"]["class_name"] == "IndexNode"
    assert json.loads(rows["inline"]["content"])["metadata"] == {"颜色": "红"}
    assert rows["document"]["vector"] == nodes[7].embedding
    assert "not base64" in rows


def test_an_empty_store_can_be_moved(target: FaissMultiModalVectorStore, folder: Path) -> None:
    with closing(FaissMultiModalVectorStore()) as source:
        assert export(source, folder).nodes == 0
    assert import_(folder, target).nodes == 0
    assert target.is_empty()


def test_half_precision_takes_half_the_space_and_keeps_three_digits(
    target: FaissMultiModalVectorStore, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    rows = [TextNode(id_=f"n{i}", embedding=rng.normal(size=512).tolist()) for i in range(40)]
    with closing(FaissMultiModalVectorStore()) as source:
        source.add(rows)
        whole = export(source, tmp_path / "whole", nodes_per_shard=100)
        half = export(source, tmp_path / "half", nodes_per_shard=100, vectors="float16")
    assert half.bytes < 0.6 * whole.bytes
    import_(tmp_path / "half", target)
    assert import_(tmp_path / "half", target).kept == 40
    for node in target.get_nodes(include_embeddings=True):
        expected = rows[int(node.node_id[1:])].embedding
        np.testing.assert_allclose(node.embedding, expected, rtol=1e-3, atol=1e-6)


def test_numbers_that_half_precision_cannot_hold_are_refused(folder: Path) -> None:
    with closing(FaissMultiModalVectorStore()) as source:
        source.add([TextNode(id_="a", embedding=[1.0, 70_000.0])])
        with pytest.raises(ValueError, match=r"vector of node a is too large for float16; export float32"):
            export(source, folder, vectors="float16")


def test_other_stores_are_exported_and_imported(
    source: FaissMultiModalVectorStore, other: ExternalVectorStore, target: FaissMultiModalVectorStore, tmp_path: Path
) -> None:
    export(source, tmp_path / "one")
    assert import_(tmp_path / "one", other).nodes == 25
    assert other.settings() == {key: source.settings()[key] for key in source.settings() if key != "own"}
    assert content_of(other) == content_of(source)
    export(other, tmp_path / "two")
    import_(tmp_path / "two", target)
    assert content_of(target) == content_of(source)


def test_a_store_of_llama_index_is_wrapped(
    shards: Path, source: FaissMultiModalVectorStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backend = ListingBackend()
    monkeypatch.setattr(external, "backend_of", lambda _: backend)
    plain = SimpleVectorStore()
    assert import_(shards, plain).nodes == 25
    assert export(plain, tmp_path / "again").nodes == len(backend.records) == 25


def test_a_store_that_only_answers_queries_is_imported_into_and_not_exported(shards: Path, tmp_path: Path) -> None:
    plain = ListStore()
    assert import_(shards, plain).nodes == 25
    wrapped = ExternalVectorStore(plain)
    result = wrapped.query(VectorStoreQuery(query_embedding=vector(3), similarity_top_k=30))
    assert result.ids is not None
    assert result.ids[0] == "n3"
    assert len(set(result.ids)) == 25
    assert wrapped.get_setting("caption_weight") == 0.5
    assert import_(shards, plain).kept == 25
    with pytest.raises(ModelMismatchError, match=r"clip:1.*clip:2"):
        wrapped.require_model("clip:2")
    with pytest.raises(ValueError, match="does not list its nodes, so that it cannot be exported"):
        export(plain, tmp_path / "again")
    assert not (tmp_path / "again").exists()


# Imports that are repeated, or into a store with nodes


def test_a_second_import_writes_nothing(shards: Path, target: FaissMultiModalVectorStore) -> None:
    import_(shards, target)
    before = target.state_id()
    again = import_(shards, target)
    assert (again.nodes, again.kept) == (25, 25)
    assert target.state_id() == before


def test_nodes_replace_themselves_and_others_stay(
    shards: Path, source: FaissMultiModalVectorStore, target: FaissMultiModalVectorStore
) -> None:
    target.add([TextNode(id_="own", text="自己", embedding=vector(99))])
    target.add(texts(2, start=3))
    target.add([TextNode(id_="n1", text="旧", embedding=vector(1)), TextNode(id_="n2", embedding=vector(77))])
    report = import_(shards, target)
    assert report.nodes == 25
    assert target.count() == 26
    assert target.get_setting("caption_weight") == 0.5
    by_id = {node.node_id: node for node in target.get_nodes(include_embeddings=True)}
    assert by_id.pop("own").get_content() == "自己"
    assert by_id == {node.node_id: node for node in source.get_nodes(include_embeddings=True)}


def test_settings_of_the_target_stay(shards: Path, target: FaissMultiModalVectorStore) -> None:
    target.add(texts(1, start=100), settings={"caption_weight": 0.5, "own": 3})
    import_(shards, target)
    assert target.settings() == {**SETTINGS, "own": 3, "model": "clip:1"}


def test_nodes_are_not_kept_without_their_settings(shards: Path, target: FaissMultiModalVectorStore) -> None:
    target.add(texts(25))
    import_(shards, target)
    assert target.settings() == {**SETTINGS, "model": "clip:1"}


# Refusals


@pytest.mark.parametrize("is_empty", [True, False])
def test_vectors_of_another_model_are_refused(
    shards: Path, open_store: Callable[..., FaissMultiModalVectorStore], is_empty: bool
) -> None:
    target = open_store("target", model="clip:2")
    target.add([] if is_empty else texts(1))
    before = content_of(target)
    with pytest.raises(ModelMismatchError, match=r"clip:1.*clip:2.*another store"):
        import_(shards, target, on_error="skip")
    assert content_of(target) == before
    assert target.get_setting("model") == "clip:2"


def test_vectors_of_another_dimension_are_refused(shards: Path, target: FaissMultiModalVectorStore) -> None:
    target.add([TextNode(id_="a", embedding=[1.0, 0.0])])
    with pytest.raises(ModelMismatchError, match=r"dimension 6, the store's 2"):
        import_(shards, target, on_error="skip")
    assert target.count() == 1
    assert target.get_setting("model") is None


def test_another_caption_weight_is_refused(shards: Path, target: FaissMultiModalVectorStore) -> None:
    target.add(texts(1), settings={"caption_weight": 0.0})
    with pytest.raises(ValueError, match=r"caption_weight 0.5, those in the store 0.0"):
        import_(shards, target)
    assert target.settings() == {"caption_weight": 0.0}


def test_another_precision_and_a_missing_model_are_warned_of(
    shards: Path, open_store: Callable[..., FaissMultiModalVectorStore], caplog: pytest.LogCaptureFixture
) -> None:
    edit_manifest(shards, settings={"precision": "int8"})
    target = open_store("target", model="clip:1")
    target.add(texts(1), settings={"precision": "fp32"})
    import_(shards, target)
    assert "does not say which model" in caplog.text
    assert "in int8, the store's first in fp32" in caplog.text
    assert target.settings() == {"model": "clip:1", "precision": "fp32"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no manifest"),
        ("[]", "is no manifest"),
        ('{"format": "other", "version": 1}', "is no manifest of an export of llama-index-mm-zhipu"),
        ('{"format": "llama-index-mm-zhipu nodes", "version": 2}', "has version 2, this package reads 1"),
        ('{"format": "llama-index-mm-zhipu nodes", "version": 1}', "is no manifest"),
    ],
)
def test_other_manifests_are_refused(folder: Path, target: Any, content: str, message: str) -> None:
    folder.mkdir()
    (folder / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(StoreError, match=rf"manifest.json {message}"):
        import_(folder, target)
    with pytest.raises(StoreError, match=rf"manifest.json {message}"):
        export(target, folder)


def test_a_manifest_cannot_name_files_elsewhere(shards: Path, target: Any) -> None:
    fields = json.loads((shards / "manifest.json").read_text(encoding="utf-8"))
    edit_manifest(shards, shards=[{**fields["shards"][0], "file": "../nodes-00000.parquet"}])
    with pytest.raises(StoreError, match="is not the name of a file in this folder"):
        import_(shards, target)


def test_a_folder_without_manifest_is_refused(folder: Path, target: Any) -> None:
    with pytest.raises(FileNotFoundError, match=r"no manifest.json in .*shards: export_index writes one"):
        import_(folder, target)


def test_a_folder_with_something_else_is_refused(source: Any, folder: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds other files"):
        export(source, tmp_path)
    source.delete_nodes(["n0"])
    before = {path: path.read_bytes() for path in shards.iterdir()}
    with pytest.raises(ValueError, match="a finished export, and the store has changed since; choose another"):
        export(source, shards)
    assert {path: path.read_bytes() for path in shards.iterdir()} == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda store, folder: export(store, folder, 0), "nodes_per_shard is 0; it must be a whole number above 0"),
        (lambda store, folder: export(store, folder, vectors="int8"), "vectors is 'int8'; it must be 'float32' or"),
        (lambda store, folder: import_(folder, store, 0), "batch_size is 0"),
        (lambda store, folder: import_(folder, store, on_error="stop"), "on_error is 'stop'; it must be 'raise' or"),
    ],
)
def test_wrong_arguments_are_refused(source: Any, folder: Path, call: Callable[[Any, Path], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(source, folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["export_index", "import_index", "nodes_to_table"])
def test_a_missing_pyarrow_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for module in ("moving", "exporter", "importer", "shards"):
        monkeypatch.delitem(sys.modules, f"llama_index_mm_zhipu.stores.transfer.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r'need pyarrow: pip install "llama-index-mm-zhipu\[parquet\]"'):
        getattr(stores, name)
