"""What ``ExternalVectorStore`` does itself, whichever store it is given."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from list_store import ListStore
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryResult
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index, load_index
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("postgresql://user:secret@127.0.0.1/slides", "store is of type str; give a vector store of LlamaIndex"),
        (None, "store is of type NoneType; give a vector store"),
        (ListStore, "store is the class ListStore; give a vector store"),
        (FaissMultiModalVectorStore(), "an index can use FaissMultiModalVectorStore as it is"),
        (ExternalVectorStore(ListStore()), "an index can use ExternalVectorStore as it is"),
    ],
    ids=str,
)
def test_only_stores_of_llama_index_are_wrapped_and_only_once(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ExternalVectorStore(given)


def test_no_form_of_a_store_holds_the_password_of_its_image_storage() -> None:
    store = ExternalVectorStore(ListStore(), image_storage="memory://user:geheim@bucket/folder")
    for form in (repr(store), str(store), store.to_json(), store.model_dump_json(), str(store.model_dump())):
        assert "geheim" not in form
    with pytest.raises(TypeError, match=r"ExternalVectorStore\(ListStore\) cannot be pickled.*in each process"):
        pickle.dumps(store)


def test_a_folder_without_the_texts_of_an_index_is_not_made(
    tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    build_index([TextNode(text="红色的帽子")], tiny_embedding, persist_dir=tmp_path / "texts", image_store=ListStore())
    load_index(tmp_path / "texts", tiny_embedding, image_store=ListStore()).close()
    with pytest.raises(FileNotFoundError, match=r"no texts of an index in .*/text; give the persist_dir"):
        load_index(tmp_path / "text", tiny_embedding, image_store=ListStore())
    assert not (tmp_path / "text").exists()


def test_an_index_is_saved_without_the_nodes_of_given_stores(
    tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    stores = {"text_store": ListStore(), "image_store": ListStore()}
    index = build_index([TextNode(id_="hat", text="红色的帽子")], tiny_embedding, **stores)
    index.storage_context.persist(str(tmp_path))
    with pytest.raises(ValueError, match=r"for stores on a server: load_index\(embed_model=…, image_store=…"):
        load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)), embed_model=tiny_embedding)
    context = StorageContext.from_defaults(
        persist_dir=str(tmp_path), vector_store=stores["text_store"], image_store=stores["image_store"]
    )
    again = load_index_from_storage(context, embed_model=tiny_embedding)
    assert isinstance(again, ImageIndex)
    assert [found.node.node_id for found in again.as_retriever().retrieve("红色的帽子")] == ["hat"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_embedded_store_is_closed_if_the_other_one_cannot_be_used(
    tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    class BrokenStore(ListStore):
        def query(self, query: VectorStoreQuery, **kwargs: object) -> VectorStoreQueryResult:
            raise ConnectionError("no route to host")

    # The error refers to the store, as the last error of a notebook does.
    with pytest.raises(StoreError, match="no route to host") as raised:
        build_index([TextNode(text="帽子")], tiny_embedding, persist_dir=tmp_path, text_store=BrokenStore())
    assert raised.traceback
    opened = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
    assert (tmp_path / "image.sqlite3").is_file()
    assert not [each for each in opened if each.startswith(str(tmp_path))]


@pytest.mark.parametrize("use_async", [False, True])
def test_engines_of_llama_index_take_it(tiny_embedding: ChineseClipEmbedding, use_async: bool) -> None:
    texts = [TextNode(id_=text, text=text) for text in ("红色的帽子", "蓝色的汽车", "厨房")]
    store = ExternalVectorStore(ListStore())
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(texts, storage_context=context, embed_model=tiny_embedding)
    retriever = VectorStoreIndex.from_vector_store(store, embed_model=tiny_embedding).as_retriever(similarity_top_k=2)
    found = asyncio.run(retriever.aretrieve("红色的帽子")) if use_async else retriever.retrieve("红色的帽子")
    assert found[0].node.node_id == "红色的帽子"
    assert found[0].score == pytest.approx(1, abs=1e-4)
    index.delete_nodes(["红色的帽子"])
    assert "红色的帽子" not in [each.node.node_id for each in retriever.retrieve("红色的帽子")]


def test_a_path_named_like_the_default_is_a_folder(
    tiny_embedding: ChineseClipEmbedding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image = Image.new("RGB", (40, 30), "red")
    build_index([image], tiny_embedding, image_store=ListStore(), image_storage="node")
    assert not Path("node").exists()
    build_index([image], tiny_embedding, image_store=ListStore(), image_storage=Path("node"))
    assert [path.suffix for path in Path("node").rglob("*") if path.is_file()] == [".png"]
