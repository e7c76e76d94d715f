"""The conformance suite of indexes: an index answers the same over every store as over the embedded one.

A test module for a store subclasses ``IndexConformance`` and provides the fixture ``open_store``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from llama_index.core import Document, QueryBundle, StorageContext
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.schema import BaseNode, ImageDocument, ImageNode, MediaResource, Node, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import VectorStoreQueryMode
from PIL import Image
from store_calls import MODES, OpenStore

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, load_index
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError

TEXTS = ["红色的帽子", "蓝色的汽车停在路边", "厨房里有一张木头桌子"]


def results(index: ImageIndex, question: Any, **options: Any) -> list[tuple[str, float]]:
    found = index.as_retriever(similarity_top_k=9, **options).retrieve(question)
    return [(each.node.node_id, each.score or 0.0) for each in found]


class IndexConformance:
    """The tests.

    Attributes:
        modes: Query modes that the store has.
    """

    modes: ClassVar[tuple[VectorStoreQueryMode, ...]] = MODES

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """A function that opens a collection, always the same one for the same name."""
        raise NotImplementedError

    @pytest.fixture
    def stores(self, open_store: OpenStore, tiny_embedding: ChineseClipEmbedding) -> Callable[[], dict[str, Any]]:
        """A function that opens the two collections of an index."""
        dimension = len(tiny_embedding.get_query_embedding("图"))

        def open_both() -> dict[str, Any]:
            return {
                "image_store": open_store("images", dimension=dimension),
                "text_store": open_store("texts", dimension=dimension),
            }

        return open_both

    @pytest.fixture
    def texts(self) -> list[TextNode]:
        return [TextNode(id_=f"text {number}", text=text) for number, text in enumerate(TEXTS)]

    @pytest.mark.parametrize("caption_weight", [0.5, 0.0])
    def test_an_index_finds_the_same_with_the_same_scores(
        self,
        stores: Callable[[], dict[str, Any]],
        tiny_embedding: ChineseClipEmbedding,
        photo_nodes: list[ImageNode],
        texts: list[TextNode],
        caption_weight: float,
    ) -> None:
        options: dict[str, Any] = {"caption_weight": caption_weight}
        nodes = [*photo_nodes, *texts]
        here = build_index(nodes, tiny_embedding, **options)
        there = build_index(nodes, tiny_embedding, **stores(), **options)
        photo, words = str(photo_nodes[3].image_path), photo_nodes[4].text
        for question in (words, Path(photo), QueryBundle(words, image_path=photo), "红色的帽子"):
            for mode in MODES if question == words else [VectorStoreQueryMode.DEFAULT]:
                if mode not in self.modes:
                    continue
                expected = results(here, question, vector_store_query_mode=mode)
                found = results(there, question, vector_store_query_mode=mode)
                assert dict(found) == pytest.approx(dict(expected), abs=self.score_tolerance(mode)), (question, mode)
                assert [each for each, _ in found][:3] == [each for each, _ in expected][:3]
        both = VectorStoreQueryMode.TEXT_SEARCH in self.modes and caption_weight == 0
        assert there._query_mode() == (VectorStoreQueryMode.HYBRID if both else VectorStoreQueryMode.DEFAULT)

    def score_tolerance(self, mode: VectorStoreQueryMode) -> float:
        """How far scores may be from those of the embedded store."""
        return 1e-4

    def test_building_again_keeps_what_is_stored(
        self,
        stores: Callable[[], dict[str, Any]],
        tiny_embedding: ChineseClipEmbedding,
        photos: list[Path],
        tmp_path: Path,
    ) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        for photo in photos[:4]:
            (folder / photo.name).write_bytes(photo.read_bytes())
        build_index(folder, tiny_embedding, **stores())
        again = build_index(folder, tiny_embedding, **stores())
        assert len(results(again, photos[0])) == 4
        if not again.image_store.lists_nodes:
            return
        assert again.kept == 4
        moved = folder.rename(tmp_path / "moved")
        again = build_index(moved, tiny_embedding, **stores())
        assert again.kept == 4
        (moved / photos[0].name).unlink()
        again = build_index(moved, tiny_embedding, remove_missing=True, **stores())
        assert again.kept == 3
        assert len(results(again, photos[0])) == 3

    def test_what_an_index_records_is_followed_after_opening_it_again(
        self,
        stores: Callable[[], dict[str, Any]],
        tiny_embedding: ChineseClipEmbedding,
        demo_embedding: ChineseClipEmbedding,
        photo_nodes: list[ImageNode],
        texts: list[TextNode],
    ) -> None:
        build_index([*photo_nodes, *texts], tiny_embedding, **stores())
        index = load_index(embed_model=tiny_embedding, **stores())
        assert index.caption_weight == 0.5
        assert results(index, "红色的帽子")[0] == ("text 0", pytest.approx(1, abs=1e-4))
        # A store that only answers queries refuses vectors of another dimension before it can tell the model.
        with pytest.raises((ModelMismatchError, StoreError), match=r"was filled with the model|cannot be searched"):
            load_index(embed_model=demo_embedding, **stores())

    def test_an_index_that_is_made_by_hand_records_its_model_too(
        self,
        stores: Callable[[], dict[str, Any]],
        tiny_embedding: ChineseClipEmbedding,
        demo_embedding: ChineseClipEmbedding,
        photo_nodes: list[ImageNode],
        texts: list[TextNode],
    ) -> None:
        def index_of(model: ChineseClipEmbedding, nodes: list[BaseNode]) -> ImageIndex:
            both = stores()
            context = StorageContext.from_defaults(vector_store=both["text_store"])
            return ImageIndex(nodes, None, model, context, image_vector_store=both["image_store"])

        index_of(tiny_embedding, [*photo_nodes, *texts])
        again = index_of(tiny_embedding, [])
        assert results(again, "红色的帽子")[0] == ("text 0", pytest.approx(1, abs=1e-4))
        assert again.caption_weight == 0.5
        with pytest.raises((ModelMismatchError, StoreError), match=r"was filled with the model|cannot be searched"):
            index_of(demo_embedding, [])

    def test_an_empty_store_of_another_dimension_is_refused_before_anything_is_embedded(
        self, open_store: OpenStore, tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
    ) -> None:
        store = open_store("other", dimension=3)
        if store.dimension() is None:
            pytest.skip("the first node decides on the dimension")
        with pytest.raises(ValueError, match="is made for vectors of dimension 3, and those of the embedding model"):
            build_index(photo_nodes, tiny_embedding, image_store=store)
        assert store.is_empty()

    def test_an_empty_index_finds_nothing(
        self, stores: Callable[[], dict[str, Any]], tiny_embedding: ChineseClipEmbedding
    ) -> None:
        index = load_index(embed_model=tiny_embedding, **stores())
        assert results(index, "红色的帽子") == []
        index.delete_ref_doc("gone")
        index.delete_nodes(["gone"])

    def test_images_in_any_class_come_back_as_images(
        self, stores: Callable[[], dict[str, Any]], tiny_embedding: ChineseClipEmbedding, photos: list[Path]
    ) -> None:
        index = build_index(
            [
                ImageDocument(id_="document", image_path=str(photos[0])),
                Node(id_="resource", image_resource=MediaResource(path=photos[1])),
                ImageNode(id_="node", image_path=str(photos[2])),
            ],
            tiny_embedding,
            **stores(),
        )
        found = index.as_retriever().retrieve(photos[1])
        assert found[0].node.node_id == "resource"
        assert all(type(each.node) is ImageNode for each in found)

    def test_documents_are_updated_refreshed_and_deleted(
        self, stores: Callable[[], dict[str, Any]], tiny_embedding: ChineseClipEmbedding, photos: list[Path]
    ) -> None:
        index = build_index([Document(id_="d", text=TEXTS[0]), photos[0]], tiny_embedding, **stores())
        index.update_ref_doc(Document(id_="d", text=TEXTS[1]))
        assert [each.node.get_content() for each in index.as_retriever().text_retrieve(TEXTS[1])] == [TEXTS[1]]
        changed = index.refresh_ref_docs([Document(id_="d", text=TEXTS[1]), Document(id_="e", text=TEXTS[2])])
        assert changed == [not index.text_store.lists_nodes, True]
        index.delete_ref_doc("d")
        found = index.as_retriever().text_retrieve(TEXTS[1])
        assert [each.node.get_content() for each in found] == [TEXTS[2]]
        (image,) = index.as_retriever().image_to_image_retrieve(photos[0])
        index.delete_nodes([image.node.node_id])
        assert index.as_retriever().image_to_image_retrieve(photos[0]) == []

    def test_pipelines_upsert_and_delete(self, open_store: OpenStore, tiny_embedding: ChineseClipEmbedding) -> None:
        store = open_store("texts", dimension=len(tiny_embedding.get_query_embedding("图")))
        pipeline = IngestionPipeline(
            transformations=[tiny_embedding],
            docstore=SimpleDocumentStore(),
            vector_store=store,
            docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
        )

        def ids_after(**documents: str) -> list[tuple[str, str]]:
            pipeline.run(documents=[Document(id_=name, text=text) for name, text in documents.items()])
            index = load_index(embed_model=tiny_embedding, text_store=store)
            found = index.as_retriever(similarity_top_k=9).text_retrieve("图")
            return sorted((each.node.node_id, each.node.get_content()) for each in found)

        assert ids_after(a=TEXTS[0], b=TEXTS[1]) == [("a", TEXTS[0]), ("b", TEXTS[1])]
        assert ids_after(a=TEXTS[0], b=TEXTS[2]) == [("a", TEXTS[0]), ("b", TEXTS[2])]
        assert ids_after(b=TEXTS[2]) == [("b", TEXTS[2])]

    def test_engines_answer_from_the_images_and_cite_them(
        self,
        stores: Callable[[], dict[str, Any]],
        tiny_embedding: ChineseClipEmbedding,
        photo_nodes: list[ImageNode],
        llm: ZhipuMultiModal,
    ) -> None:
        index = build_index(photo_nodes, tiny_embedding, **stores())
        question = f"{photo_nodes[2].text}是什么样子的？"
        response = index.as_query_engine(llm=llm, similarity_top_k=2).query(question)
        assert "图1" in str(response)
        assert response.metadata is not None
        assert response.metadata["citations"]
        assert len(response.source_nodes) == 2
        answer = index.as_chat_engine(llm=llm, similarity_top_k=1).chat(question)
        assert "图1" in str(answer)

    def test_inline_images_are_answered_from(
        self,
        stores: Callable[[], dict[str, Any]],
        tiny_embedding: ChineseClipEmbedding,
        llm: ZhipuMultiModal,
    ) -> None:
        index = build_index([Image.new("RGB", (40, 30), "red")], tiny_embedding, **stores())
        response = index.as_query_engine(llm=llm).query("图里是什么颜色？")
        assert "图1" in str(response)

    def test_nodes_without_a_store_are_refused(
        self,
        stores: Callable[[], dict[str, Any]],
        tiny_embedding: ChineseClipEmbedding,
        photo_nodes: list[ImageNode],
        texts: list[TextNode],
    ) -> None:
        both = stores()
        with pytest.raises(ValueError, match="no store for texts, such as node text 0: give text_store=…"):
            build_index([*photo_nodes, *texts], tiny_embedding, image_store=both["image_store"])
        with pytest.raises(ValueError, match=r"no store for images, such as node .*: give image_store=…"):
            build_index([*photo_nodes, *texts], tiny_embedding, text_store=both["text_store"])
        assert both["image_store"].is_empty()
        assert both["text_store"].is_empty()
        index = build_index(photo_nodes, tiny_embedding, image_store=both["image_store"])
        assert len(results(index, "帽子")) == 9
