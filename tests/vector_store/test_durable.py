"""A store is copied under the name that LlamaIndex gives it, and never over another store's nodes."""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from llama_index.core import StorageContext
from llama_index.core.schema import TextNode

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError

MakeNode = Callable[..., TextNode]


def ids_in(folder: Path, namespace: str = "default") -> list[str]:
    with FaissMultiModalVectorStore.from_persist_dir(folder, namespace) as store:
        return [node.node_id for node in store.get_nodes()]


@pytest.mark.parametrize("namespaces", [("default", "default"), ("goods", "image"), ("image", "default")])
@pytest.mark.parametrize("durable", [False, True])
def test_a_storage_context_names_the_copies(
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


def test_another_path_keeps_the_namespace(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(namespace="goods")
    store.add([make_node("a")])
    store.persist(str(tmp_path / "backup.db"))
    assert ids_in(tmp_path, "goods") == ["a"]


def test_nodes_of_another_store_are_not_replaced(tmp_path: Path, make_node: MakeNode) -> None:
    with FaissMultiModalVectorStore(tmp_path) as other:
        other.add([make_node("other")])
    store = FaissMultiModalVectorStore()
    store.add([make_node("a")])
    with pytest.raises(StoreError, match=r"default\.sqlite3 holds another vector store; choose another folder"):
        store.persist(str(tmp_path / "default__vector_store.json"))
    assert ids_in(tmp_path) == ["other"]
    # Without nodes there is nothing to lose.
    with FaissMultiModalVectorStore(tmp_path) as other:
        other.clear()
    store.persist(str(tmp_path / "default__vector_store.json"))
    assert ids_in(tmp_path) == ["a"]


def test_an_earlier_copy_is_replaced_unless_it_was_written_to(tmp_path: Path, make_node: MakeNode) -> None:
    store = FaissMultiModalVectorStore(tmp_path / "store")
    path = str(tmp_path / "copy" / "default__vector_store.json")
    for node_id in ("a", "b"):
        store.add([make_node(node_id)])
        store.persist(path)
    assert ids_in(tmp_path / "copy") == ["a", "b"]
    # A copy is a store of its own: its copies are not those of the first one.
    with FaissMultiModalVectorStore(tmp_path / "copy") as copied:
        copied.persist(str(tmp_path / "second" / "default__vector_store.json"))
        copied.delete_nodes(["a"])
    with pytest.raises(StoreError, match="is a copy of this vector store that was written to since"):
        store.persist(path)
    with pytest.raises(StoreError, match="holds another vector store"):
        store.persist(str(tmp_path / "second" / "default__vector_store.json"))
    assert ids_in(tmp_path / "copy") == ["b"]
    assert ids_in(tmp_path / "second") == ["a", "b"]


def test_another_program_s_file_is_not_replaced(tmp_path: Path, make_node: MakeNode) -> None:
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
def test_a_deep_copy_is_a_handle_of_the_same_files(
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
