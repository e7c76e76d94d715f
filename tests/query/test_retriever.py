"""Retrieval by words, image or both, in every mode, with filters and a cut-off, through keyword arguments."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.embeddings import MockMultiModalEmbedding
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, NodeWithScore, QueryBundle
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from outline import images_of, outline
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.vector_store import schema


def ids(results: list[NodeWithScore]) -> list[str]:
    return [result.node.node_id for result in results]


def equal(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilter:
    return MetadataFilter(key=key, value=value, operator=operator)


@pytest.fixture
def plain_index(demo_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> ImageIndex:
    """Half of the photographs have captions, which are found by full text; all have a page."""
    nodes = [
        node.model_copy(update={"metadata": {"page": page}, "text": node.text if page % 2 else ""})
        for page, node in enumerate(photo_nodes)
    ]
    return build_index(nodes, embed_model=demo_embedding)


def scores_of(result: NodeWithScore) -> list[float]:
    return [score for score in result.node.metadata["retrieval_scores"].values() if score is not None]


# By what of the question


def test_words_image_or_both(
    index: ImageIndex, demo_embedding: ChineseClipEmbedding, photos: list[Path], photo_nodes: list[ImageNode]
) -> None:
    query = QueryBundle("帽子", image_path=str(photos[4]))
    words, image = demo_embedding.get_query_embedding("帽子"), demo_embedding.get_image_embedding(photos[4])
    stored = {
        node.node_id: 0.5 * np.asarray(demo_embedding.get_image_embedding(node.image_path))
        + 0.5 * np.asarray(demo_embedding.get_text_embedding(node.text))
        for node in photo_nodes
    }
    for mode, vector in [("text", words), ("image", image), ("fused", (np.asarray(words) + image) / 2)]:
        found = index.as_retriever(query_mode=mode, image_similarity_top_k=10).retrieve(query)
        scores = {node_id: float(np.dot(vector, stored[node_id])) for node_id in stored}
        assert ids(found) == sorted(scores, key=lambda node_id: -scores[node_id])
        np.testing.assert_allclose([result.score for result in found], sorted(scores.values(), reverse=True), atol=1e-5)


async def test_image_to_image_through_the_standard_calls(plain_index: ImageIndex, photos: list[Path]) -> None:
    retriever = plain_index.as_retriever(image_similarity_top_k=2)
    query = QueryBundle("", image_path=str(photos[4]))
    expected = ids(retriever.image_to_image_retrieve(str(photos[4])))
    assert expected[0] == photos[4].name
    assert ids(await retriever.aimage_to_image_retrieve(str(photos[4]))) == expected
    assert ids(retriever.retrieve(query)) == ids(await retriever.aretrieve(query)) == expected
    assert ids(plain_index.as_retriever(query_mode="image", image_similarity_top_k=2).retrieve(query)) == expected


def test_texts_are_not_looked_for_by_a_image(
    demo_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], photos: list[Path]
) -> None:
    index = build_index([*photo_nodes, Document(text="帽子的说明")], embed_model=demo_embedding)
    query = QueryBundle("帽子", image_path=str(photos[0]))
    kinds = {
        mode: {type(result.node).__name__ for result in index.as_retriever(query_mode=mode).retrieve(query)}
        for mode in ("text", "image", "fused")
    }
    assert kinds == {"text": {"TextNode", "ImageNode"}, "image": {"ImageNode"}, "fused": {"TextNode", "ImageNode"}}


def test_what_is_asked_by_must_be_there(index: ImageIndex, photos: list[Path]) -> None:
    with pytest.raises(ValueError, match="query_mode is 'image' and the question has no image"):
        index.as_retriever(query_mode="image").retrieve("帽子")
    with pytest.raises(ValueError, match="query_mode is 'text' and the question has no words"):
        index.as_retriever(query_mode="text").retrieve(QueryBundle("", image_path=str(photos[0])))
    with pytest.raises(ValueError, match="it must be 'text', 'image' or 'fused'"):
        index.as_retriever(query_mode="both")
    assert index.as_retriever().retrieve("") == []


async def test_async_finds_the_same(index: ImageIndex, photos: list[Path]) -> None:
    retriever = index.as_retriever(image_similarity_top_k=4)
    for query in ("帽子", QueryBundle("", image_path=str(photos[0])), QueryBundle("帽子", image_path=str(photos[0]))):
        assert ids(await retriever.aretrieve(query)) == ids(retriever.retrieve(query))
    assert ids(await retriever.atext_to_image_retrieve("帽子")) == ids(retriever.text_to_image_retrieve("帽子"))
    assert await retriever.atext_retrieve("帽子") == retriever.text_retrieve("帽子") == []


BLANKS = ["", "  ", "\u3000\n", "\t\r\n", "\u200b\ufeff"]


@pytest.mark.parametrize("blank", BLANKS)
async def test_blanks_are_no_words(
    demo_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], photos: list[Path], blank: str
) -> None:
    index = build_index([*photo_nodes, Document(text="帽子的说明")], embed_model=demo_embedding)
    for retriever in (index.as_retriever(), index.as_retriever(vector_store_query_mode="hybrid")):
        for question in (blank, QueryBundle(blank), QueryBundle("帽子", custom_embedding_strs=[blank])):
            assert retriever.retrieve(question) == await retriever.aretrieve(question) == []
            assert retriever.text_retrieve(question) == await retriever.atext_retrieve(question) == []
            assert retriever.text_to_image_retrieve(question) == []
            assert await retriever.atext_to_image_retrieve(question) == []
        by_image = ids(retriever.image_to_image_retrieve(photos[4]))
        query = QueryBundle(blank, image_path=str(photos[4]))
        assert ids(retriever.retrieve(query)) == ids(await retriever.aretrieve(query)) == by_image
        assert ids(retriever.image_to_image_retrieve(query)) == by_image
        assert ids(await retriever.aimage_to_image_retrieve(query)) == by_image
    with pytest.raises(ValueError, match="query_mode is 'text' and the question has no words"):
        index.as_retriever(query_mode="text").retrieve(query)
    some = QueryBundle("", custom_embedding_strs=[blank, "帽子"])
    assert ids(index.as_retriever().retrieve(some)) == ids(index.as_retriever().retrieve("帽子"))


@pytest.mark.parametrize("blank", BLANKS)
def test_engines_find_nothing_by_blanks(index: ImageIndex, llm: ZhipuMultiModal, blank: str) -> None:
    assert index.as_query_engine(llm).query(blank).source_nodes == []
    for mode in ("context", "condense_plus_context", "condense_question"):
        assert index.as_chat_engine(mode, llm).chat(blank).source_nodes == []


# Modes of the store


def test_full_text_of_captions(plain_index: ImageIndex, photo_nodes: list[ImageNode]) -> None:
    found = plain_index.as_retriever(vector_store_query_mode="text_search").retrieve(photo_nodes[1].text)
    assert ids(found)[0] == photo_nodes[1].node_id
    assert plain_index.as_retriever(vector_store_query_mode="text_search").retrieve("航天飞机") == []


def test_sparse_is_full_text(plain_index: ImageIndex, photo_nodes: list[ImageNode], photos: list[Path]) -> None:
    for question in (photo_nodes[1].text, QueryBundle(photo_nodes[1].text, image_path=str(photos[2]))):
        text, sparse = (
            plain_index.as_retriever(vector_store_query_mode=mode).retrieve(question)
            for mode in ("text_search", "sparse")
        )
        assert [(result.node_id, result.score) for result in sparse] == [(each.node_id, each.score) for each in text]
    image = QueryBundle("", image_path=str(photos[2]))
    assert plain_index.as_retriever(vector_store_query_mode="sparse").retrieve(image)[0].node_id == photos[2].name


def test_hybrid_is_the_default_where_captions_are_found_by_full_text(
    plain_index: ImageIndex, index: ImageIndex, photo_nodes: list[ImageNode]
) -> None:
    words = photo_nodes[1].text
    hybrid = plain_index.as_retriever(vector_store_query_mode="hybrid", image_similarity_top_k=3).retrieve(words)
    assert ids(plain_index.as_retriever(image_similarity_top_k=3).retrieve(words)) == ids(hybrid)
    assert "（得分 " in hybrid[0].node.metadata["检索到的图片"]
    assert "（相似度 0." in index.as_retriever().retrieve(words)[0].node.metadata["检索到的图片"]


def test_a_image_alone_has_one_ranking_and_cosines(plain_index: ImageIndex, photos: list[Path]) -> None:
    (best,) = plain_index.as_retriever(vector_store_query_mode="hybrid", image_similarity_top_k=1).retrieve(
        QueryBundle("", image_path=str(photos[2]))
    )
    assert best.score == pytest.approx(1, abs=1e-4)
    assert best.node.metadata["检索到的图片"].startswith("图1（相似度 1")


def test_full_text_of_a_image_alone_is_its_vector_s_ranking(plain_index: ImageIndex, photos: list[Path]) -> None:
    query = QueryBundle("", image_path=str(photos[2]))
    (best,) = plain_index.as_retriever(vector_store_query_mode="text_search", image_similarity_top_k=1).retrieve(query)
    assert best.node.node_id == photos[2].name
    assert best.score == pytest.approx(1, abs=1e-4)


def test_marginal_relevance(index: ImageIndex) -> None:
    by_threshold = {
        threshold: ids(
            index.as_retriever(
                vector_store_query_mode="mmr", mmr_threshold=threshold, image_similarity_top_k=4
            ).retrieve("帽子")
        )
        for threshold in (1.0, 0.0)
    }
    assert set(by_threshold[0.0]) != set(by_threshold[1.0])


def test_a_similarity_cut_off(index: ImageIndex) -> None:
    every = index.as_retriever(image_similarity_top_k=10).retrieve("帽子")
    found = index.as_retriever(similarity_cutoff=every[4].score, image_similarity_top_k=10).retrieve("帽子")
    assert ids(found) == ids(every[:5])


@pytest.mark.parametrize("mode", [None, "hybrid", "text_search", "mmr", "default"])
def test_a_cut_off_looks_at_cosines_and_shares_of_words_in_every_mode(
    plain_index: ImageIndex, mode: str | None
) -> None:
    words = "帽子和裙子的照片"
    every = plain_index.as_retriever(vector_store_query_mode=mode, image_similarity_top_k=10).retrieve(words)
    best = {result.node_id: max(scores_of(result)) for result in every}
    cutoff = sorted(best.values())[len(best) // 2]
    retriever = plain_index.as_retriever(
        vector_store_query_mode=mode, similarity_cutoff=cutoff, image_similarity_top_k=10
    )
    assert ids(retriever.retrieve(words)) == [node_id for node_id in ids(every) if best[node_id] >= cutoff]


def test_results_carry_their_cosine_and_their_share_of_the_words(plain_index: ImageIndex) -> None:
    by_vector = plain_index.as_retriever(vector_store_query_mode="default", image_similarity_top_k=10).retrieve("帽子")
    cosines = {result.node_id: result.score for result in by_vector}
    for result in plain_index.as_retriever(image_similarity_top_k=10).retrieve("帽子"):
        scores = result.node.metadata["retrieval_scores"]
        assert scores["cosine"] == pytest.approx(cosines[result.node_id])
        assert scores["words_found"] == ("帽子" in result.node.get_content())
        assert "retrieval_scores" in result.node.excluded_llm_metadata_keys
        assert "retrieval_scores" in result.node.excluded_embed_metadata_keys
    assert [result.node.metadata["retrieval_scores"]["words_found"] for result in by_vector] == [None] * 10


def test_metadata_filters(plain_index: ImageIndex, photos: list[Path]) -> None:
    filters = MetadataFilters(
        filters=[equal("page", 2), MetadataFilters(filters=[equal("page", 7, FilterOperator.GT)])],
        condition=FilterCondition.OR,
    )
    for mode in ("default", "hybrid", "mmr"):
        retriever = plain_index.as_retriever(filters=filters, vector_store_query_mode=mode, image_similarity_top_k=10)
        assert sorted(ids(retriever.retrieve("帽子"))) == [photos[page].name for page in (2, 8, 9)]


def test_a_filter_by_a_key_that_nothing_has_is_an_error(plain_index: ImageIndex) -> None:
    filters = MetadataFilters(filters=[MetadataFilters(filters=[equal("Page", 2)])])
    with pytest.raises(ValueError, match=r"has the metadata 'Page' that the filters ask for; there is 'page'$"):
        plain_index.as_retriever(filters=filters).retrieve("帽子")
    empty = MetadataFilters(filters=[equal("Page", None, FilterOperator.IS_EMPTY)])
    assert len(plain_index.as_retriever(filters=empty, image_similarity_top_k=10).retrieve("帽子")) == 10


def test_nothing_is_unknown_to_an_index_without_nodes(plain_index: ImageIndex, photos: list[Path]) -> None:
    plain_index.delete_nodes([photo.name for photo in photos])
    assert plain_index.as_retriever(filters=MetadataFilters(filters=[equal("Page", 2)])).retrieve("帽子") == []


def test_the_engine_passes_all_on(
    plain_index: ImageIndex, photos: list[Path], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    engine = plain_index.as_query_engine(
        llm=llm,
        query_mode="image",
        filters=MetadataFilters(filters=[equal("page", 3, FilterOperator.NE)]),
        similarity_cutoff=-1,
        image_similarity_top_k=9,
        vector_store_query_mode="default",
    )
    response = engine.query(QueryBundle("这是什么？", image_path=str(photos[3])))
    assert photos[3].name not in ids(response.source_nodes)
    assert len(response.source_nodes) == 9
    assert len(images_of(server.requests[0])) == 5


@pytest.mark.parametrize("restriction", ["node_ids", "doc_ids"])
async def test_an_empty_list_of_ids_lets_nothing_through(
    demo_embedding: ChineseClipEmbedding,
    photo_nodes: list[ImageNode],
    photos: list[Path],
    llm: ZhipuMultiModal,
    restriction: str,
) -> None:
    index = build_index([*photo_nodes, Document(text="帽子的说明")], embed_model=demo_embedding)
    nothing: dict[str, Any] = {restriction: []}
    for mode in ("default", "mmr", "text_search", "hybrid"):
        retriever = index.as_retriever(vector_store_query_mode=mode, **nothing)
        for question in ("帽子", QueryBundle("帽子", image_path=str(photos[4]))):
            assert retriever.retrieve(question) == await retriever.aretrieve(question) == []
    retriever = index.as_retriever(**nothing)
    assert retriever.text_retrieve("帽子") == retriever.image_to_image_retrieve(photos[4]) == []
    assert index.as_query_engine(llm, **nothing).query("帽子").source_nodes == []
    assert index.as_chat_engine("context", llm, **nothing).chat("帽子").source_nodes == []
    assert ids(index.as_retriever(**{restriction: None}).retrieve("帽子"))


def test_images_of_any_node_class_are_images(
    demo_embedding: ChineseClipEmbedding, photos: list[Path], llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    index = build_index([ImageNode(image_path=str(photos[0]), text="裙子")], embed_model=demo_embedding)
    document = ImageDocument(
        image_resource=MediaResource(path=photos[1]), text_resource=MediaResource(text="帽子"), id_="document"
    )
    document.embedding = demo_embedding.get_image_embedding(photos[1])
    index.image_store.add([document])
    response = index.as_query_engine(llm=llm).query("帽子")
    assert {type(source.node) for source in response.source_nodes} == {ImageNode}
    assert sum(line.startswith("图") and line.endswith("：「帽子」") for line in outline(server.requests[0])) == 1


# Words that the model does not know

UNKNOWN = ["🐼", "🐼🎋", "🎋！", "𠮷", "iphone🐼", "🐼\n🎋"]


@pytest.fixture(params=[0.0, 0.5], ids=["hybrid by default", "cosines by default"])
def with_symbols(
    request: pytest.FixtureRequest, demo_embedding: ChineseClipEmbedding, photos: list[Path]
) -> ImageIndex:
    """Photographs and a text, of which one each has a caption with characters that the model does not know."""
    captions = ["帽子", "🐼🎋𠮷 iPhone15", "裙子"]
    nodes = [
        ImageNode(id_=caption, image_path=str(photo), text=caption)
        for caption, photo in zip(captions, photos, strict=False)
    ]
    documents = [Document(id_="说明", text="裙子的说明"), Document(id_="熊猫", text="竹子🎋和🐼，𠮷，iPhone")]
    return build_index([*nodes, *documents], embed_model=demo_embedding, caption_weight=request.param)


@pytest.mark.parametrize("words", UNKNOWN)
async def test_what_the_model_does_not_know_is_found_by_full_text(
    with_symbols: ImageIndex, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = with_symbols.as_retriever(vector_store_query_mode="text_search", similarity_top_k=5).retrieve(words)
    assert len(expected) == 2
    assert expected[1].node.get_content().startswith("🐼🎋𠮷")
    assert caplog.text == ""
    for mode in (None, "default", "hybrid", "mmr"):
        retriever = with_symbols.as_retriever(vector_store_query_mode=mode, similarity_top_k=5)
        caplog.clear()
        assert retriever.retrieve(words) == expected
        (record,) = caplog.records
        assert record.getMessage().startswith("the embedding model knows no part of the query '" + words[0])
        assert "\n" not in record.getMessage()
        assert await retriever.aretrieve(words) == expected
        assert retriever.text_retrieve(words) == await retriever.atext_retrieve(words) == expected[:1]
        assert retriever.text_to_image_retrieve(words) == expected[1:]
        assert await retriever.atext_to_image_retrieve(words) == expected[1:]


def test_known_words_are_searched_by_vector_without_a_warning(
    with_symbols: ImageIndex, caplog: pytest.LogCaptureFixture
) -> None:
    for words in ("帽子", "帽子🐼", "？", "hat", QueryBundle("🐼", custom_embedding_strs=["🐼", "帽子"])):
        assert len(with_symbols.as_retriever(similarity_top_k=3).retrieve(words)) == 5
    assert caplog.text == ""


def test_unknown_words_leave_an_image_to_be_searched_by_alone(
    with_symbols: ImageIndex, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    query = QueryBundle("🐼", image_path=str(photos[0]))
    for mode in ("default", "mmr"):
        retriever = with_symbols.as_retriever(vector_store_query_mode=mode, similarity_top_k=3)
        text, *images = retriever.retrieve(query)
        assert text.node.get_content() == "竹子🎋和🐼，𠮷，iPhone"
        assert ids(images) == ids(retriever.image_to_image_retrieve(photos[0]))
    assert len(caplog.records) == 2
    # Hybrid search fuses the ranking by the image with that by the words.
    fused = with_symbols.as_retriever(vector_store_query_mode="hybrid", similarity_top_k=3).retrieve(query)
    assert set(ids(fused[1:3])) == {"帽子", "🐼🎋𠮷 iPhone15"}


def test_a_cut_off_of_unknown_words_looks_at_the_words_found(
    with_symbols: ImageIndex, caplog: pytest.LogCaptureFixture
) -> None:
    found = with_symbols.as_retriever(similarity_cutoff=1, similarity_top_k=5).retrieve("🐼")
    assert len(found) == 2
    assert all(result.node.metadata["retrieval_scores"] == {"cosine": None, "words_found": 1} for result in found)
    assert len(caplog.records) == 1


def test_unknown_words_find_nothing_where_there_is_no_full_text(
    demo_embedding: ChineseClipEmbedding,
    plain_nodes: list[ImageNode],
    photo_nodes: list[ImageNode],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert build_index(plain_nodes, embed_model=demo_embedding).as_retriever().retrieve("🐼") == []
    monkeypatch.setattr(schema, "_has_fts5", lambda connection: False)
    assert build_index(photo_nodes, embed_model=demo_embedding).as_retriever().retrieve("🐼") == []


def test_models_that_cannot_tell_are_not_asked(photos: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    nodes = [ImageNode(image_path=str(photo)) for photo in photos[:2]]
    index = build_index(nodes, embed_model=MockMultiModalEmbedding(embed_dim=8))
    assert len(index.as_retriever().retrieve("🐼")) == 2
    assert caplog.text == ""


# An image in any form


def forms_of(photo: Path) -> list[Any]:
    """The same photograph as a path, bytes, PIL image, binary file and node."""
    return [
        photo,
        photo.read_bytes(),
        Image.open(photo),
        BytesIO(photo.read_bytes()),
        ImageNode(image_path=str(photo)),
        NodeWithScore(node=ImageNode(image_path=str(photo))),
    ]


async def test_an_image_is_taken_in_any_form(index: ImageIndex, photos: list[Path]) -> None:
    retriever = index.as_retriever(image_similarity_top_k=3)
    expected = ids(retriever.image_to_image_retrieve(str(photos[4])))
    for image in forms_of(photos[4]):
        assert ids(retriever.image_to_image_retrieve(image)) == expected
        assert ids(await retriever.aimage_to_image_retrieve(image)) == expected
        assert ids(retriever.retrieve(image)) == expected
        assert ids(await retriever.aretrieve(image)) == expected
        assert ids(retriever.retrieve(QueryBundle("", image_path=image))) == expected


async def test_engines_are_asked_with_an_image_in_any_form(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, photos: list[Path]
) -> None:
    engine = index.as_query_engine(llm, query_mode="image")
    expected = ids(engine.query(QueryBundle("这是什么？", image_path=str(photos[4]))).source_nodes)
    for image in forms_of(photos[4]):
        assert ids(engine.query(QueryBundle("这是什么？", image_path=image)).source_nodes) == expected
        # Two sources, and the image that was asked about.
        assert len(images_of(server.requests[-1])) == 3
    assert ids((await engine.aquery(photos[4])).source_nodes) == expected
    assert ids(index.as_chat_engine("context", llm).chat(photos[4]).source_nodes) == expected


def test_what_is_no_image_is_refused(index: ImageIndex, tmp_path: Path) -> None:
    retriever = index.as_retriever()
    with pytest.raises(ImageError, match="not an image: an object of type int"):
        retriever.image_to_image_retrieve(3)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match=r"no such image: .*gone\.jpg"):
        retriever.retrieve(tmp_path / "gone.jpg")
