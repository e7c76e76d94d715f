"""Moving between stores: everything arrives once, interrupted runs continue, and damaged shards are refused."""

from __future__ import annotations

import base64
import json
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conformance import MODES, ODD_IDS
from list_store import ListStore
from listing_backend import MAX_ROW_BYTES, ListingBackend
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery
from programs import start_program
from waiting import wait_until

from llama_index_mm_zhipu import FaissMultiModalVectorStore, stores
from llama_index_mm_zhipu.images.nodes import with_page_text
from llama_index_mm_zhipu.stores import (
    ExternalVectorStore,
    TransferReport,
    export_index,
    external,
    import_index,
    nodes_to_table,
    write_manifest,
)
from llama_index_mm_zhipu.stores.transfer.manifest import read_manifest
from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError

SETTINGS = {"caption_weight": 0.5, "precision": "bf16", "texts_apart": True, "own": {"a": [1, "二"]}}
DIMENSION = 6
SHARDS = ["nodes-00000.parquet", "nodes-00001.parquet", "nodes-00002.parquet"]


def vector(number: int) -> list[float]:
    return np.float32(np.cos(np.arange(1, DIMENSION + 1) * (number + 1))).tolist()


def texts(count: int, start: int = 0) -> list[BaseNode]:
    return [
        TextNode(id_=f"n{i}", text=f"第{i}页 飞机", embedding=vector(i), metadata={"page": i})
        for i in range(start, start + count)
    ]


@pytest.fixture
def nodes(photos: list[Path]) -> list[BaseNode]:
    """Nodes of every class, with odd ids, captions, page texts, and images."""
    inline = base64.b64encode(photos[0].read_bytes()).decode()
    page = ImageNode(id_="page", image_path=str(photos[1]), text="一页", metadata={"page": 3, "tags": ["红", None]})
    every: list[BaseNode] = [
        ImageNode(id_="inline", image=inline, text="连衣裙", metadata={"颜色": "红"}),
        ImageNode(id_="same image", image=inline),
        ImageNode(id_="not base64", image="data:,飞机"),
        ImageNode(id_="url", image_url="https://example.com/a.jpg"),
        with_page_text(page, "发动机舱盖", "ocr", [{"text": "发动机舱盖", "box": [0, 0, 1, 1], "score": 0.9}]),
        IndexNode(id_="index", text="飞机", index_id="other"),
        Node(id_="resource", text_resource=MediaResource(text="猫")),
        Document(id_="document", text="文件"),
        TextNode(id_="part", text="飞机场", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="whole")}),
        *(TextNode(id_=node_id, text="轮船 a\0b\N{GRINNING FACE}") for node_id in ODD_IDS),
    ]
    return [node.model_copy(update={"embedding": vector(i)}) for i, node in enumerate(every)]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., FaissMultiModalVectorStore]]:
    """A function that opens the store with a name."""
    opened: list[FaissMultiModalVectorStore] = []

    def open_(name: str, **options: Any) -> FaissMultiModalVectorStore:
        opened.append(FaissMultiModalVectorStore(tmp_path / name, **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def source(open_store: Callable[..., FaissMultiModalVectorStore]) -> FaissMultiModalVectorStore:
    """A store with 25 texts."""
    store = open_store("source", model="clip:1")
    store.add(texts(25), settings=SETTINGS)
    return store


@pytest.fixture
def target(open_store: Callable[..., FaissMultiModalVectorStore]) -> FaissMultiModalVectorStore:
    """An empty store."""
    return open_store("target")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Path of a folder that is not there yet."""
    return tmp_path / "shards"


@pytest.fixture
def shards(source: FaissMultiModalVectorStore, folder: Path) -> Path:
    """Folder with three shards of the texts."""
    export(source, folder)
    return folder


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> ExternalVectorStore:
    """An empty store of another type, which does not take large nodes."""
    monkeypatch.setattr(external, "backend_of", lambda _: ListingBackend())
    return ExternalVectorStore(SimpleVectorStore())


def export(store: Any, folder: Path, nodes_per_shard: int = 10, **options: Any) -> TransferReport:
    return export_index(store, folder, nodes_per_shard=nodes_per_shard, show_progress=False, **options)


def import_(folder: Path, store: Any, batch_size: int = 4, **options: Any) -> TransferReport:
    return import_index(folder, store, batch_size=batch_size, show_progress=False, **options)


def content_of(store: Any) -> list[tuple[type[BaseNode], dict[str, Any]]]:
    """Return class and fields of all nodes, with their vectors, in the order of addition."""
    return [(type(node), node.model_dump()) for batch in store.iter_nodes() for node in batch]


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def edit_manifest(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


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


# Damaged shards


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def take_other(path: Path) -> None:
    path.write_bytes(path.with_name(SHARDS[0]).read_bytes())


@pytest.mark.parametrize("damage", [cut, change_byte, take_other, Path.unlink])
def test_a_damaged_shard_is_named_and_a_second_import_continues(
    shards: Path, source: Any, target: FaissMultiModalVectorStore, damage: Callable[[Path], None]
) -> None:
    shard = shards / SHARDS[1]
    intact = shard.read_bytes()
    damage(shard)
    with pytest.raises(StoreError, match=r"shard .*nodes-00001.parquet is (cut short|missing).*continues here"):
        import_(shards, target, on_error="skip")
    assert content_of(target) == content_of(source)[:10]

    shard.write_bytes(intact)
    report = import_(shards, target)
    assert (report.nodes, report.kept) == (25, 10)
    assert content_of(target) == content_of(source)


@pytest.mark.parametrize("damage", [cut, change_byte, Path.unlink])
def test_exporting_again_repairs_a_damaged_shard(
    shards: Path, source: Any, target: Any, damage: Callable[[Path], None]
) -> None:
    damage(shards / SHARDS[1])
    report = export(source, shards)
    assert (report.nodes, report.kept, report.shards) == (25, 10, 3)
    import_(shards, target)
    assert content_of(target) == content_of(source)


def test_a_second_export_writes_nothing(shards: Path, source: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    report = export(source, shards)
    assert (report.nodes, report.kept) == (25, 25)
    assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == before


# Interrupted


class Interruption:
    """Raises an error at the n-th time that a file would take its name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
        self.calls = 0
        replace = Path.replace

        def interrupted(path: Path, target: Path) -> Path:
            self.calls += 1
            if self.calls == at:
                raise error
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", interrupted)


# The first manifest, three shards with a manifest after each, and the finished manifest.
@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_an_export_continues_where_it_was_interrupted(
    source: Any, target: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException
) -> None:
    with monkeypatch.context() as patched:
        Interruption(patched, at, error)
        with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
            export(source, folder)
    assert at > 1 or files_of(folder) == set()
    if isinstance(error, OSError):
        assert "cannot write the export" in str(raised.value)
        assert "No space left" in str(raised.value)
    with pytest.raises((StoreError, FileNotFoundError), match=r"unfinished export|no manifest.json"):
        import_(folder, target)

    shards_before = max(0, at - 2) // 2
    assert export(source, folder).kept == min(10 * shards_before, 25)
    assert files_of(folder) == {"manifest.json", *SHARDS}
    import_(folder, target)
    assert content_of(target) == content_of(source)


def test_an_export_of_a_store_that_changed_since_starts_again(
    source: Any, target: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        Interruption(patched, 8, OSError("full"))
        with pytest.raises(StoreError):
            export(source, folder)
    (folder / f".{'0' * 32}.tmp").write_bytes(b"left by a killed process")
    source.delete_nodes(["n3"])
    report = export(source, folder, nodes_per_shard=20)
    assert (report.nodes, report.kept, report.shards) == (24, 0, 2)
    assert "Starting again" in capsys.readouterr().err
    assert files_of(folder) == {"manifest.json", *SHARDS[:2]}
    import_(folder, target)
    assert content_of(target) == content_of(source)


def test_an_export_of_another_store_starts_again(
    other: ExternalVectorStore, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other.add(texts(25))
    with monkeypatch.context() as patched:
        Interruption(patched, 6, OSError("full"))
        with pytest.raises(StoreError):
            export(other, folder)
    report = export(other, folder)
    assert (report.nodes, report.kept) == (25, 0)
    assert "the store cannot tell whether it has changed since" in capsys.readouterr().err


class Changing(FaissMultiModalVectorStore):
    """A store to which something writes while it is listed."""

    def iter_nodes(self, *args: Any, **options: Any) -> Iterator[list[BaseNode]]:
        for batch in super().iter_nodes(*args, **options):
            self.add(texts(1))
            yield batch


def test_a_store_that_changes_during_an_export_is_an_error(folder: Path, target: Any) -> None:
    with closing(Changing()) as source:
        source.add(texts(5))
        with pytest.raises(StoreError, match=r"changed while it was exported.*export a copy"):
            export(source, folder)
    with pytest.raises(StoreError, match="unfinished export"):
        import_(folder, target)


def test_another_store_that_changes_its_count_during_an_export_is_an_error(
    other: ExternalVectorStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.add(texts(25))
    count = other.count
    monkeypatch.setattr(ExternalVectorStore, "count", lambda _: count() + 1)
    with pytest.raises(StoreError, match="it had 26 nodes, and listed 25"):
        export(other, folder)


def test_a_store_that_keeps_its_vectors_to_itself_cannot_be_exported(
    other: ExternalVectorStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.add(texts(3))
    select = ListingBackend.select
    monkeypatch.setattr(ListingBackend, "select", lambda backend, predicate, with_vectors: select(backend, predicate))
    with pytest.raises(StoreError, match="lists its nodes without vectors"):
        export(other, folder)


class Failing(FaissMultiModalVectorStore):
    """A store whose n-th call of ``add`` fails before or after its transaction."""

    def fail(self, at: int, after: bool, error: BaseException) -> None:
        self._calls = self._at = at
        self._after, self._error = after, error

    def add(self, nodes: Any, **options: Any) -> list[str]:
        self._calls -= 1
        if self._calls == 0 and not self._after:
            raise self._error
        added = super().add(nodes, **options)
        if self._calls == 0:
            raise self._error
        return added

    _calls: int = 0
    _after: bool = False
    _error: BaseException = OSError()


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_import_continues_where_it_was_interrupted(
    shards: Path, source: Any, tmp_path: Path, at: int, after: bool
) -> None:
    # Batches of 4, 4 and 2 nodes of each of the first two shards, and of 4 and 1 of the last one.
    ends = [0, 4, 8, 10, 14, 18, 20, 24, 25]
    with closing(Failing(tmp_path / "target")) as target:
        target.fail(at, after, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            import_(shards, target)
        there = ends[at if after else at - 1]
        assert target.count() == there
        assert import_(shards, target).kept == there
        assert content_of(target) == content_of(source)
        assert target.settings() == source.settings()


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


# Killed processes

_EXPORT = """
import sys
from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import export_index
export_index(FaissMultiModalVectorStore(sys.argv[1]), sys.argv[2], nodes_per_shard=50, show_progress=False)
"""
_IMPORT = """
import sys
from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import import_index
import_index(sys.argv[2], FaissMultiModalVectorStore(sys.argv[1]), batch_size=10, show_progress=False)
"""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("shards_before", [0, 1, 5, 20])
def test_a_killed_export_continues(
    open_store: Callable[..., Any], target: Any, folder: Path, tmp_path: Path, shards_before: int
) -> None:
    source = open_store("source")
    source.add(texts(5000), settings=SETTINGS)

    def has_shards() -> bool:
        manifest = read_manifest(folder)
        return manifest is not None and len(manifest.shards) >= shards_before

    with start_program(_EXPORT, tmp_path / "source", folder) as process:
        assert wait_until(has_shards)
        process.send_signal(signal.SIGKILL)
    manifest = read_manifest(folder)
    assert manifest is not None
    report = export(source, folder, nodes_per_shard=50)
    assert (report.nodes, report.kept, report.shards) == (5000, manifest.nodes, 100)
    assert len(files_of(folder)) == 101
    import_(folder, target, batch_size=1000)
    assert content_of(target) == content_of(source)


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("nodes_before", [1, 300, 2000])
def test_a_killed_import_continues(
    open_store: Callable[..., Any], target: Any, folder: Path, tmp_path: Path, nodes_before: int
) -> None:
    source = open_store("source")
    source.add(texts(5000), settings=SETTINGS)
    export(source, folder, nodes_per_shard=500)
    with start_program(_IMPORT, tmp_path / "target", folder) as process:
        assert wait_until(lambda: target.count() >= nodes_before)
        process.send_signal(signal.SIGKILL)
    there = target.count()
    report = import_(folder, target, batch_size=1000)
    assert (report.nodes, report.kept) == (5000, there)
    assert content_of(target) == content_of(source)
    assert target.settings() == source.settings()
