"""Opening, reopening, closing and copying a store, and the embedding model that it records."""

from __future__ import annotations

import copy
import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from llama_index.core import StorageContext
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError

MakeNode = Callable[..., TextNode]


def ask(x: float, y: float) -> VectorStoreQuery:
    return VectorStoreQuery(query_embedding=[x, y], similarity_top_k=10)


def reopened(folder: Path) -> FaissMultiModalVectorStore:
    return FaissMultiModalVectorStore.from_persist_dir(folder)


def test_a_store_can_be_reopened_with_and_without_closing_it(tmp_path: Path, make_node: MakeNode) -> None:
    crashed = FaissMultiModalVectorStore(tmp_path)
    crashed.add([make_node("a", 1, 0), make_node("b", 0, 1)])
    with reopened(tmp_path) as store:
        assert store.query(ask(1, 0)).ids == ["a", "b"]
        store.delete_nodes(["a"])
        store.add([make_node("c", 2, 0)])
    with reopened(tmp_path) as store:
        assert store.query(ask(1, 0)).ids == ["c", "b"]


def test_changes_after_the_faiss_file_was_written_are_found(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    store.add([make_node("a"), make_node("b", 0.9), make_node("c", 0.8)])
    store.persist()
    store.delete_nodes(["a"])
    store.add([make_node("d", 0.7), make_node("b", 0.1)])
    store.delete_nodes(["d"])

    assert reopened(tmp_path).query(ask(1, 0)).ids == ["c", "b"]


def test_nodes_that_a_killed_process_added_are_stored(tmp_path: Path) -> None:
    program = f"""
import os
from llama_index.core.schema import TextNode
from llama_index_mm_zhipu import FaissMultiModalVectorStore
store = FaissMultiModalVectorStore({str(tmp_path)!r})
store.add([TextNode(id_="kept", text="x", embedding=[1, 0])])
print("added", flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (-9, "added")
    assert reopened(tmp_path).query(ask(1, 0)).ids == ["kept"]


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
def test_a_damaged_faiss_file_is_rebuilt_with_a_warning(
    tmp_path: Path, make_node: MakeNode, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([make_node("a")])
        store.reindex("hnsw")
    (file,) = tmp_path.glob("*.faiss")
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:20] if damage == "cut" else b"garbage")

    assert reopened(tmp_path).query(ask(1, 0)).ids == ["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert file.name in caplog.text


def test_a_damaged_database_is_an_error_and_is_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "default.sqlite3"
    file.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=r"cannot open the vector store .*default\.sqlite3"):
        FaissMultiModalVectorStore(tmp_path)
    assert file.read_bytes().startswith(b"this is not a database")


def test_opening_a_missing_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no vector store at"):
        reopened(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_database_of_0_bytes_that_held_nodes_is_an_error(tmp_path: Path, make_node: MakeNode) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([make_node("a")])
    (tmp_path / "default.sqlite3").write_bytes(b"")
    with pytest.raises(StoreError, match=r"default\.sqlite3 has no bytes, but default.+vectors lies beside it"):
        FaissMultiModalVectorStore(tmp_path)


def test_a_closed_store_cannot_be_used(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    store.close()
    store.close()
    for call in (lambda: store.add([make_node("a")]), lambda: store.query(ask(1, 0)), store.count, store.persist):
        with pytest.raises(StoreError, match=r"default\.sqlite3 is closed; open it again"):
            call()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_store_cannot_be_used_across_a_fork(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    store.add([make_node("a")])
    child = os.fork()
    if not child:
        try:
            store.add([make_node("b")])
        except StoreError as error:
            os._exit(0 if "was opened before this process was forked" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert store.count() == 1


def test_a_folder_name_may_look_like_a_uri(
    tmp_path: Path, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("file:store", "file:store?mode=memory"):
        with FaissMultiModalVectorStore(folder) as store:
            store.add([make_node("a")])
            store.persist(f"{folder} copy/default.json")
        for written in (folder, f"{folder} copy"):
            assert (tmp_path / written / "default.sqlite3").is_file()
            with FaissMultiModalVectorStore.from_persist_dir(written) as opened:
                assert opened.count() == 1


def test_several_namespaces_share_a_folder(tmp_path: Path, make_node: MakeNode) -> None:
    with (
        FaissMultiModalVectorStore(tmp_path, namespace="image") as images,
        FaissMultiModalVectorStore(tmp_path) as texts,
    ):
        images.add([make_node("image")])
        texts.add([make_node("text")])
    assert [node.node_id for node in FaissMultiModalVectorStore.from_persist_dir(tmp_path, "image").get_nodes()] == [
        "image"
    ]
    assert [node.node_id for node in reopened(tmp_path).get_nodes()] == ["text"]


def test_persist_never_writes_json_that_llama_index_would_read(tmp_path: Path, make_node: MakeNode) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    with FaissMultiModalVectorStore(own) as store:
        store.add([make_node("a")])
        store.persist(str(own / "default__vector_store.json"))
        store.persist(str(other / "default__vector_store.json"))
    assert sorted(path.suffix for path in own.iterdir() if not path.name.endswith(("-wal", "-shm"))) == [
        ".sqlite3",
        ".vectors",
    ]
    assert sorted(path.suffix for path in other.iterdir()) == [".sqlite3", ".vectors"]
    assert reopened(other).query(ask(1, 0)).ids == ["a"]


def test_a_store_in_memory_can_be_persisted_to_a_path_only(make_node: MakeNode, tmp_path: Path) -> None:
    store = FaissMultiModalVectorStore()
    store.add([make_node("a")])
    with pytest.raises(ValueError, match="the store is in memory"):
        store.persist()
    store.persist(str(tmp_path / "x.json"))
    assert reopened(tmp_path).count() == 1
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(store)


def test_another_store_object_sees_committed_changes(tmp_path: Path, make_node: MakeNode) -> None:
    writer, reader = FaissMultiModalVectorStore(tmp_path), FaissMultiModalVectorStore(tmp_path)
    writer.add([make_node("a"), make_node("b", 0.5)])
    assert reader.query(ask(1, 0)).ids == ["a", "b"]
    writer.delete_nodes(["a"])
    assert reader.query(ask(1, 0)).ids == ["b"]
    writer.clear()
    writer.add([TextNode(id_="c", text="x", embedding=[1, 0, 0])])
    assert reader.query(VectorStoreQuery(query_embedding=[1, 0, 0], similarity_top_k=5)).ids == ["c"]


def test_unpickling_opens_the_same_files(tmp_path: Path, make_node: MakeNode, caplog: pytest.LogCaptureFixture) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    store.add([make_node("a")])
    assert pickle.loads(pickle.dumps(store)).query(ask(1, 0)).ids == ["a"]
    assert not caplog.records


# The embedding model


def test_another_model_is_an_error_that_names_both(store: FaissMultiModalVectorStore, make_node: MakeNode) -> None:
    store.require_model("ViT-B-16 sha256:1")
    store.require_model("RN50 sha256:2")  # The store is still empty.
    store.add([make_node("a")])
    store.require_model("RN50 sha256:2")
    with pytest.raises(ModelMismatchError, match="filled with the model RN50 sha256:2, not with ViT-B-16 sha256:1"):
        store.require_model("ViT-B-16 sha256:1")


def test_the_model_is_checked_when_opening_and_when_adding(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path, model="ViT-B-16 sha256:1")
    store.add([make_node("a")])
    with pytest.raises(ModelMismatchError, match="filled with the model ViT-B-16 sha256:1, not with RN50 sha256:2"):
        FaissMultiModalVectorStore(tmp_path, model="RN50 sha256:2")

    with FaissMultiModalVectorStore(tmp_path) as other:
        other.clear()
        other.require_model("RN50 sha256:2")
        other.add([make_node("b")])
    with pytest.raises(ModelMismatchError):
        store.add([make_node("c")])
    assert [node.node_id for node in store.get_nodes()] == ["b"]


# Copies


def ids_in(folder: Path, namespace: str = "default") -> list[str]:
    with FaissMultiModalVectorStore.from_persist_dir(folder, namespace) as store:
        return [node.node_id for node in store.get_nodes()]


@pytest.mark.parametrize("namespaces", [("default", "default"), ("goods", "image"), ("image", "default")])
@pytest.mark.parametrize("durable", [False, True])
def test_a_storage_context_names_copies_by_namespace(
    tmp_path: Path, make_node: MakeNode, namespaces: tuple[str, str], durable: bool
) -> None:
    texts, images = (
        FaissMultiModalVectorStore(tmp_path / str(number) if durable else None, namespace=namespace)
        for number, namespace in enumerate(namespaces)
    )
    texts.add([make_node("text")])
    images.add([make_node("image")])
    storage = StorageContext.from_defaults(vector_store=texts, image_store=images)
    for _ in range(2):
        storage.persist(tmp_path / "copy")
        texts.add([make_node("text")])
    assert ids_in(tmp_path / "copy") == ["text"]
    assert ids_in(tmp_path / "copy", "image") == ["image"]
    assert sorted(path.name for path in (tmp_path / "copy").glob("*.sqlite3")) == ["default.sqlite3", "image.sqlite3"]


def test_copies_to_other_paths_keep_the_namespace(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(namespace="goods")
    store.add([make_node("a")])
    store.persist(str(tmp_path / "backup.db"))
    assert ids_in(tmp_path, "goods") == ["a"]


def test_a_copy_does_not_replace_another_store(tmp_path: Path, make_node: MakeNode) -> None:
    with FaissMultiModalVectorStore(tmp_path) as other:
        other.add([make_node("other")])
    store = FaissMultiModalVectorStore()
    store.add([make_node("a")])
    with pytest.raises(StoreError, match=r"default\.sqlite3 holds another vector store; choose another folder"):
        store.persist(str(tmp_path / "default__vector_store.json"))
    assert ids_in(tmp_path) == ["other"]
    # An empty store may be replaced.
    with FaissMultiModalVectorStore(tmp_path) as other:
        other.clear()
    store.persist(str(tmp_path / "default__vector_store.json"))
    assert ids_in(tmp_path) == ["a"]


def test_an_earlier_copy_is_replaced_unless_it_was_changed(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path / "store")
    path = str(tmp_path / "copy" / "default__vector_store.json")
    for node_id in ("a", "b"):
        store.add([make_node(node_id)])
        store.persist(path)
    assert ids_in(tmp_path / "copy") == ["a", "b"]
    # A copy is a store of its own: its copies are not copies of the first store.
    with FaissMultiModalVectorStore(tmp_path / "copy") as copied:
        copied.persist(str(tmp_path / "second" / "default__vector_store.json"))
        copied.delete_nodes(["a"])
    with pytest.raises(StoreError, match="is a copy of this vector store that was written to since"):
        store.persist(path)
    with pytest.raises(StoreError, match="holds another vector store"):
        store.persist(str(tmp_path / "second" / "default__vector_store.json"))
    assert ids_in(tmp_path / "copy") == ["b"]
    assert ids_in(tmp_path / "second") == ["a", "b"]


def test_a_copy_does_not_replace_a_file_of_another_program(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore()
    store.add([make_node("a")])
    (tmp_path / "image.sqlite3").write_text("no database")
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.execute("create table theirs (x)")
    for name in ("image", "default"):
        before = (tmp_path / f"{name}.sqlite3").read_bytes()
        with pytest.raises(StoreError, match=rf"{name}\.sqlite3 is no vector store that this one may replace"):
            store.persist(str(tmp_path / f"{name}__vector_store.json"))
        assert (tmp_path / f"{name}.sqlite3").read_bytes() == before


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda store: store.model_copy(deep=True)])
def test_a_deep_copy_opens_the_same_files(
    tmp_path: Path, make_node: MakeNode, duplicate: Callable[[FaissMultiModalVectorStore], FaissMultiModalVectorStore]
) -> None:
    store = FaissMultiModalVectorStore(tmp_path, namespace="goods", model="m")
    copied = duplicate(store)
    store.add([make_node("a")])
    store.close()
    assert [node.node_id for node in copied.get_nodes()] == ["a"]
    assert (copied.namespace, copied.model) == ("goods", "m")
    copied.close()
    with pytest.raises(TypeError, match="a store in memory cannot be copied"):
        duplicate(FaissMultiModalVectorStore())
