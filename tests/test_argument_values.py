"""Invalid values of arguments raise an error of one line that names the argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from llama_index.core.bridge.pydantic import Field
from llama_index.core.schema import Document, ImageNode
from llama_index.core.vector_stores.types import MetadataFilter, VectorStoreQueryMode

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    FaissMultiModalVectorStore,
    ImageCaptioner,
    ImageReranker,
    ZhipuMultiModal,
    build_index,
    load_index,
    read_folder,
    read_jsonl,
)
from llama_index_mm_zhipu.arguments import (
    KnownFields,
    member_of,
)
from llama_index_mm_zhipu.index.engines import RetrieverOptions
from llama_index_mm_zhipu.index.multimodal import ImageIndex

KEY = "0123456789abcdef.0123456789abcdef"


@pytest.fixture
def image_index(tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]) -> ImageIndex:
    return build_index(plain_nodes, embed_model=tiny_embedding)


@pytest.fixture(scope="module")
def llm() -> ZhipuMultiModal:
    return ZhipuMultiModal(api_key=KEY, api_base="http://127.0.0.1:9")


def test_an_unknown_mode_lists_the_modes(image_index: ImageIndex, llm: ZhipuMultiModal) -> None:
    with pytest.raises(ValueError, match=r"chat_mode is 'contxt'; it must be one of .*'context'"):
        image_index.as_chat_engine("contxt", llm)
    with pytest.raises(ValueError, match=r"response_mode is 'compct'; it must be one of .*'compact'"):
        image_index.as_query_engine(llm, response_mode="compct")
    with pytest.raises(ValueError, match=r"vector_store_query_mode is 'dense'; it must be one of .*'default'"):
        image_index.as_retriever(vector_store_query_mode="dense")


@pytest.mark.parametrize("bad", [-1, 1.5, "5", True])
def test_similarity_top_k_must_be_a_whole_number(image_index: ImageIndex, bad: Any) -> None:
    with pytest.raises(ValueError, match=r"similarity_top_k is .*; it must be a whole number from 0"):
        image_index.as_retriever(similarity_top_k=bad)
    retriever = image_index.as_retriever()
    with pytest.raises(ValueError, match="it must be a whole number from 0"):
        retriever.image_similarity_top_k = bad


def test_similarity_top_k_applies_to_images_unless_they_have_their_own(image_index: ImageIndex) -> None:
    assert len(image_index.as_retriever(similarity_top_k=5).retrieve("帽子")) == 5
    assert len(image_index.as_retriever(similarity_top_k=5, image_similarity_top_k=3).retrieve("帽子")) == 3
    assert len(image_index.as_retriever(image_similarity_top_k=4).retrieve("帽子")) == 4
    assert len(image_index.as_retriever().retrieve("帽子")) == 2
    assert image_index.as_retriever(similarity_top_k=5, image_similarity_top_k=0).retrieve("帽子") == []
    retriever = image_index.as_retriever()
    retriever.similarity_top_k = 6
    assert len(retriever.retrieve("帽子")) == 6
    retriever.image_similarity_top_k = 1
    retriever.similarity_top_k = 4
    assert len(retriever.retrieve("帽子")) == 1


def test_similarity_top_k_of_an_engine_applies_to_its_retriever(image_index: ImageIndex, llm: ZhipuMultiModal) -> None:
    engine = image_index.as_query_engine(llm, similarity_top_k=5)
    assert len(engine.retriever.retrieve("帽子")) == 5
    for mode in ("context", "condense_plus_context"):
        chat = image_index.as_chat_engine(mode, llm, similarity_top_k=5)
        assert len(chat._begin("帽子", None, None)[1].sent) == 5


def test_members_of_an_enum_are_found_by_value_or_returned() -> None:
    assert member_of(VectorStoreQueryMode, "mmr", "mode") is VectorStoreQueryMode.MMR
    assert member_of(VectorStoreQueryMode, VectorStoreQueryMode.MMR, "mode") is VectorStoreQueryMode.MMR


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"filters": {"price": 10}}, TypeError, r"filters is of type dict; give MetadataFilters\(filters="),
        ({"filters": MetadataFilter(key="a", value=1)}, TypeError, "filters is of type MetadataFilter; give Metadata"),
        ({"node_ids": "12"}, TypeError, "node_ids is the string '12'; give a list of ids"),
        ({"doc_ids": "12"}, TypeError, "doc_ids is the string '12'; give a list of ids"),
        ({"node_ids": [1]}, TypeError, "node_ids holds 1; ids are strings"),
        ({"similarity_cutoff": "0.3"}, ValueError, "similarity_cutoff is '0.3'; it must be a number from -1 to 1"),
        ({"similarity_cutoff": 30}, ValueError, "similarity_cutoff is 30; it must be a number from -1 to 1"),
        ({"alpha": 5}, ValueError, "alpha is 5; it must be a number from 0 to 1"),
        ({"mmr_threshold": 5}, ValueError, "mmr_threshold is 5; it must be a number from 0 to 1"),
        ({"sparse_top_k": -1}, ValueError, "sparse_top_k is -1; it must be a whole number from 0"),
    ],
)
def test_invalid_values_of_retrievers_are_refused(
    image_index: ImageIndex, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        image_index.as_retriever(**given)


def test_none_takes_the_default(image_index: ImageIndex) -> None:
    retriever = image_index.as_retriever(**dict.fromkeys(RetrieverOptions.__optional_keys__))  # type: ignore[arg-type]
    assert len(retriever.retrieve("帽子")) == 2


def test_numpy_numbers_are_accepted(image_index: ImageIndex) -> None:
    retriever = image_index.as_retriever(
        similarity_top_k=np.int64(3),  # type: ignore[arg-type]
        sparse_top_k=np.int64(3),  # type: ignore[arg-type]
        alpha=np.float32(0.5),  # type: ignore[arg-type]
        vector_store_query_mode="hybrid",
    )
    assert len(retriever.retrieve("帽子")) == 3


def test_a_string_instead_of_a_list_of_ids_is_refused(image_index: ImageIndex) -> None:
    (first, *_) = (node.node_id for node in image_index.image_store.get_nodes())
    for call in (image_index.delete_nodes, image_index.image_store.delete_nodes, image_index.image_store.get_nodes):
        with pytest.raises(TypeError, match=r"node_ids is the string .*; give a list of ids"):
            call(first)
    assert len(image_index.image_store.get_nodes([first])) == 1


def test_engines_accept_a_single_postprocessor_and_check_on_error(
    image_index: ImageIndex, llm: ZhipuMultiModal
) -> None:
    assert image_index.as_query_engine(llm, node_postprocessors=ImageReranker(llm=llm))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_error is 'ignore'; it must be 'raise' or 'skip'"):
        image_index.as_query_engine(llm, on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="on_error is 'ignore'; it must be 'raise' or 'skip'"):
        image_index.as_chat_engine("context", llm, on_error="ignore")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"caption_weight": 2}, ValueError, "caption_weight is 2; it must be a number from 0 to 1"),
        ({"caption_weight": "x"}, ValueError, "caption_weight is 'x'; it must be a number from 0 to 1"),
        ({"on_error": "x"}, ValueError, "on_error is 'x'; it must be 'raise' or 'skip'"),
        ({"text_embed_model": "x"}, TypeError, "text_embed_model is 'x'; give one of LlamaIndex's embedding models"),
        ({"persist_dir": ""}, ValueError, "persist_dir is empty; the current directory is '.'"),
    ],
)
def test_invalid_values_of_build_index_are_refused(
    tiny_embedding: ChineseClipEmbedding,
    plain_nodes: list[ImageNode],
    given: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        build_index(plain_nodes, tiny_embedding, **given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZhipuMultiModal(api_key=KEY, temperature="hot"), "temperature is 'hot'; it should be a valid number"),
        (lambda: ZhipuMultiModal(api_key=KEY, temperature=5), "temperature is 5; it should be less than or equal to 1"),
        (lambda: ChineseClipEmbedding("no/such", precision="int4"), "precision is 'int4'; it should be 'fp32', "),
        (lambda: ChineseClipEmbedding(None), "model_name is None; it should be a valid string"),  # type: ignore[arg-type]
        (
            lambda: ImageReranker(llm=ZhipuMultiModal(api_key=KEY), top_n="all"),
            "top_n is 'all'; it should be a valid int",
        ),
        (lambda: FaissMultiModalVectorStore(namespace="a/b"), "namespace is 'a/b'; "),
    ],
)
def test_invalid_values_of_components_are_errors_of_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        make()
    assert message in str(caught.value)


def test_errors_do_not_show_secret_values() -> None:
    class Secret(KnownFields):
        word: str = Field(repr=False)

    with pytest.raises(ValueError, match=r"^Secret: word; it should be a valid string$"):
        Secret(word=4711)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^api_key is a int; give the key as text$"):
        ZhipuMultiModal(api_key=4711)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda e, wrong: load_index(wrong, e), "persist_dir"),
        (lambda e, wrong: FaissMultiModalVectorStore(wrong), "persist_dir"),
        (lambda e, wrong: FaissMultiModalVectorStore.from_persist_dir(wrong), "persist_dir"),
        (lambda e, wrong: read_folder(wrong), "folder"),
        (lambda e, wrong: read_jsonl(wrong), "path"),
    ],
)
def test_invalid_paths_are_refused(
    tiny_embedding: ChineseClipEmbedding, call: Callable[[object, object], object], argument: str
) -> None:
    with pytest.raises(TypeError, match=f"{argument} is 5; give a path"):
        call(tiny_embedding, 5)
    with pytest.raises(ValueError, match=f"{argument} is empty; the current directory is '.'"):
        call(tiny_embedding, " ")
    with pytest.raises(ValueError, match=rf"^{argument} is a URL \(postgresql://…\); give a path on this machine$"):
        call(tiny_embedding, "postgresql://user:secret@127.0.0.1/slides")


@pytest.mark.parametrize("wrong", [5, ["a.jpg"], "glm-4.5v"])
def test_an_object_that_is_not_an_llm_is_refused(image_index: ImageIndex, wrong: Any) -> None:
    for make in (image_index.as_query_engine, ImageCaptioner, lambda llm: image_index.as_chat_engine(llm=llm)):
        with pytest.raises(TypeError, match=r"give an LLM( of LlamaIndex)?, such as ZhipuMultiModal\("):
            make(llm=wrong)


def test_an_index_without_its_stores_is_refused(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]
) -> None:
    with pytest.raises(ValueError, match="does not hold the stores of this index: build_index"):
        ImageIndex(plain_nodes, embed_model=tiny_embedding)
    with pytest.raises(ValueError, match="does not hold the stores of this index: build_index"):
        ImageIndex.from_documents([Document(text="飞机")], embed_model=tiny_embedding)


def test_one_model_serves_both_stores_of_an_index(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]
) -> None:
    index = ImageIndex.from_vector_store(
        FaissMultiModalVectorStore(), tiny_embedding, image_vector_store=FaissMultiModalVectorStore()
    )
    index.insert_nodes(plain_nodes)
    assert len(index.as_retriever(similarity_top_k=3).retrieve("帽子")) == 3
