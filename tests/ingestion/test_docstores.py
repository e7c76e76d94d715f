"""Repeated runs of a pipeline embed changed images, and delete those that were removed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, load_index, read_folder, read_jsonl
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.ingestion import forget_missing


class EmbeddedImages(BaseCallbackHandler):
    """Callback handler that collects the names of embedded images."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.names: list[str] = []

    def on_event_start(self, event_type: CBEventType, *args: Any, **kwargs: Any) -> str:
        return ""

    def on_event_end(self, event_type: CBEventType, payload: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if event_type == CBEventType.EMBEDDING and payload:
            self.names += [chunk.removeprefix("the image of node ") for chunk in payload[EventPayload.CHUNKS]]

    def start_trace(self, trace_id: str | None = None) -> None: ...

    def end_trace(self, trace_id: str | None = None, trace_map: dict[str, list[str]] | None = None) -> None: ...


def draw(path: Path, seed: int) -> None:
    """Write a small photograph of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


@pytest.fixture
def embedded() -> EmbeddedImages:
    return EmbeddedImages()


@pytest.fixture
def embedding(tiny_model: Path, embedded: EmbeddedImages) -> ChineseClipEmbedding:
    return ChineseClipEmbedding(tiny_model, device="cpu", callback_manager=CallbackManager([embedded]))


def pipeline_into(
    store: FaissMultiModalVectorStore, docstore: SimpleDocumentStore, embedding: ChineseClipEmbedding
) -> IngestionPipeline:
    return IngestionPipeline(
        transformations=[embedding],
        vector_store=store,
        docstore=docstore,
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )


def ingest(folder: Path, persist_dir: Path, embedding: ChineseClipEmbedding) -> None:
    """Run the pipeline once, like a script that is started each time."""
    path = persist_dir / "docstore.json"
    docstore = SimpleDocumentStore.from_persist_path(str(path)) if path.exists() else SimpleDocumentStore()
    with FaissMultiModalVectorStore(persist_dir, namespace="image", model=embedding.fingerprint) as store:
        forget_missing(docstore, store)
        pipeline = pipeline_into(store, docstore, embedding)
        pipeline.run(nodes=read_folder(folder, id_prefix=""))
    docstore.persist(str(path))


def test_only_changed_images_of_a_thousand_are_embedded_again(
    tmp_path: Path, embedding: ChineseClipEmbedding, embedded: EmbeddedImages
) -> None:
    folder, persist_dir = tmp_path / "slides", tmp_path / "store"
    folder.mkdir()
    for number in range(1000):
        draw(folder / f"{number:04}.jpg", number)

    ingest(folder, persist_dir, embedding)
    assert len(embedded.names) == 1000

    embedded.names.clear()
    for number in range(10):
        draw(folder / f"{number:04}.jpg", 5000 + number)
    for number in range(10, 15):
        (folder / f"{number:04}.jpg").unlink()
    for number in range(1000, 1003):
        draw(folder / f"{number:04}.jpg", number)
    ingest(folder, persist_dir, embedding)

    changed = [f"{number:04}.jpg" for number in [*range(10), *range(1000, 1003)]]
    assert sorted(embedded.names) == changed
    index = load_index(persist_dir, embed_model=embedding)
    nodes = {node.node_id: node for node in index.image_store.get_nodes()}
    assert sorted(nodes) == sorted(file.name for file in folder.iterdir())
    for name in ("0000.jpg", "0500.jpg", "1002.jpg"):
        (best,) = index.as_retriever(image_similarity_top_k=1).image_to_image_retrieve(str(folder / name))
        assert best.node.node_id == name
        assert best.score == pytest.approx(1, abs=1e-4)

    embedded.names.clear()
    ingest(folder, persist_dir, embedding)
    assert embedded.names == []


def test_an_image_that_changes_repeatedly_is_embedded_each_time(
    tmp_path: Path, embedding: ChineseClipEmbedding, embedded: EmbeddedImages
) -> None:
    store = FaissMultiModalVectorStore()
    pipeline = pipeline_into(store, SimpleDocumentStore(), embedding)
    for seed in (1, 2, 3):
        draw(tmp_path / "a.jpg", seed)
        pipeline.run(nodes=read_folder(tmp_path, id_prefix=""))
    # The cache of a pipeline compares only text and metadata of nodes.
    assert embedded.names == ["a.jpg"] * 3
    assert store.count() == 1


def test_an_image_that_was_unreadable_once_is_ingested_again(
    tmp_path: Path, embedding: ChineseClipEmbedding, embedded: EmbeddedImages
) -> None:
    folder, persist_dir = tmp_path / "slides", tmp_path / "store"
    folder.mkdir()
    for number in range(3):
        draw(folder / f"{number}.jpg", number)
    ingest(folder, persist_dir, embedding)

    whole = (folder / "1.jpg").read_bytes()
    (folder / "1.jpg").write_bytes(b"half a copy")
    with pytest.raises(ImageError, match=r"1\.jpg"):
        ingest(folder, persist_dir, embedding)
    (folder / "1.jpg").write_bytes(whole)
    embedded.names.clear()
    ingest(folder, persist_dir, embedding)

    assert embedded.names == ["1.jpg"]
    with FaissMultiModalVectorStore(persist_dir, namespace="image") as store:
        assert store.count() == 3


def test_missing_documents_are_deleted_from_the_docstore() -> None:
    docstore, store = SimpleDocumentStore(), FaissMultiModalVectorStore()
    nodes = [TextNode(id_=name, text=name, embedding=[1.0, 0.0]) for name in ("a", "b")]
    nodes[1].relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="document")
    store.add(nodes)
    docstore.set_document_hashes({name: name for name in ("a", "document", "gone")})
    assert sorted(store.document_ids()) == ["a", "document"]
    assert forget_missing(docstore, store) == ["gone"]
    assert sorted(docstore.get_all_document_hashes().values()) == ["a", "document"]


def test_one_of_two_equal_images_can_be_removed(
    tmp_path: Path, embedding: ChineseClipEmbedding, photos: list[Path]
) -> None:
    image = base64.b64encode(photos[0].read_bytes()).decode()
    lines = [json.dumps({"image_id": number, "image_base64": image, "caption": "帽子"}) for number in (1, 2)]
    store, docstore, file = FaissMultiModalVectorStore(), SimpleDocumentStore(), tmp_path / "test.jsonl"
    pipeline = pipeline_into(store, docstore, embedding)
    for kept in (lines, lines[1:]):
        file.write_text("\n".join(kept), encoding="utf-8")
        pipeline.run(nodes=read_jsonl(file, id_prefix=""))
    assert [node.node_id for node in store.get_nodes()] == ["2"]
