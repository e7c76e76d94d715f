"""Unknown arguments are refused, with the name that was meant: of constructors, calls, retrievers and engines."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.schema import Document, ImageNode
from llama_index.core.vector_stores.types import MetadataFilter, VectorStoreQuery, VectorStoreQueryMode
from pydantic import computed_field

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    FaissMultiModalVectorStore,
    ImageCaptioner,
    ImageQueryEngine,
    ImageReranker,
    ZhipuMultiModal,
    build_index,
    evaluate_retrieval,
    load_index,
    plot_results,
    read_folder,
    read_jsonl,
    show,
)
from llama_index_mm_zhipu.arguments import (
    ARGUMENTS_ELSEWHERE,
    KnownFields,
    explicit_arguments,
    keyword_names,
    member_of,
    require_known,
)
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.query.chat import ImageCondensePlusContextChatEngine, ImageContextChatEngine
from llama_index_mm_zhipu.query.options import ChatOptions, RetrieverOptions, SynthesisOptions
from llama_index_mm_zhipu.query.retriever import ImageRetriever
from llama_index_mm_zhipu.readers import ColumnReader, Columns, FolderReader, WukongReader
from llama_index_mm_zhipu.testing import MockGLMServer

KEY = "0123456789abcdef.0123456789abcdef"


@pytest.fixture
def image_index(tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]) -> ImageIndex:
    return build_index(plain_nodes, embed_model=tiny_embedding)


@pytest.fixture(scope="module")
def llm() -> ZhipuMultiModal:
    return ZhipuMultiModal(api_key=KEY, api_base="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"top_k": 5}, "similarity_top_k"),
        ({"topk": 5}, "similarity_top_k"),
        ({"k": 5}, "similarity_top_k"),
        ({"limit": 3}, "similarity_top_k"),
        ({"n_results": 3}, "similarity_top_k"),
        ({"image_top_k": 5}, "image_similarity_top_k"),
        ({"Similarity_Top_K": 5}, "similarity_top_k"),
        ({"score_threshold": 0.9}, "similarity_cutoff"),
        ({"min_score": 0.9}, "similarity_cutoff"),
        ({"mode": "hybrid"}, "vector_store_query_mode"),
        ({"search_type": "mmr"}, "vector_store_query_mode"),
        ({"where": {}}, "filters"),
        ({"filter": None}, "filters"),
    ],
)
def test_retrievers_name_the_argument_that_was_meant(
    image_index: ImageIndex, given: dict[str, Any], meant: str
) -> None:
    (name,) = given
    for call in (image_index.as_retriever, lambda **options: ImageRetriever(image_index, **options)):
        with pytest.raises(TypeError, match=rf"unknown argument '{name}'; did you mean '{meant}'\?"):
            call(**given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"stream": True}, "streaming"),
        ({"rerank": True}, "node_postprocessors"),
        ({"reranker": None}, "node_postprocessors"),
        ({"top_k": 5}, "similarity_top_k"),
        ({"respons_mode": "compact"}, "response_mode"),
    ],
)
def test_query_engines_name_the_argument_that_was_meant(
    image_index: ImageIndex, llm: ZhipuMultiModal, given: dict[str, Any], meant: str
) -> None:
    with pytest.raises(TypeError, match=rf"did you mean '{meant}'\?"):
        image_index.as_query_engine(llm, **given)


@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "best", "condense_question", "simple"])
def test_chat_engines_of_every_mode_refuse_unknown_arguments(
    image_index: ImageIndex, llm: ZhipuMultiModal, mode: str
) -> None:
    with pytest.raises(TypeError, match=rf"\('{mode}'\): unknown argument 'mem0ry'; did you mean 'memory'"):
        image_index.as_chat_engine(mode, llm, mem0ry=None)
    assert image_index.as_chat_engine(mode, llm, system_prompt=None, chat_history=[])


def test_chat_engines_of_core_take_what_core_takes(image_index: ImageIndex, llm: ZhipuMultiModal) -> None:
    assert image_index.as_chat_engine("condense_question", llm, similarity_top_k=3, verbose=True, language="en")
    with pytest.raises(TypeError, match="unknown argument 'similarity_top_k'"):
        image_index.as_chat_engine("simple", llm, similarity_top_k=3)
    with pytest.raises(ValueError, match="ReActAgent"):
        image_index.as_chat_engine("react", llm)


def test_values_of_modes_are_listed(image_index: ImageIndex, llm: ZhipuMultiModal) -> None:
    with pytest.raises(ValueError, match=r"chat_mode is 'contxt'; it must be one of .*'context'"):
        image_index.as_chat_engine("contxt", llm)
    with pytest.raises(ValueError, match=r"response_mode is 'compct'; it must be one of .*'compact'"):
        image_index.as_query_engine(llm, response_mode="compct")
    with pytest.raises(ValueError, match=r"vector_store_query_mode is 'dense'; it must be one of .*'default'"):
        image_index.as_retriever(vector_store_query_mode="dense")


@pytest.mark.parametrize("bad", [-1, 1.5, "5", True])
def test_numbers_of_results_are_checked(image_index: ImageIndex, bad: Any) -> None:
    with pytest.raises(ValueError, match=r"similarity_top_k is .*; it must be a whole number from 0"):
        image_index.as_retriever(similarity_top_k=bad)
    retriever = image_index.as_retriever()
    with pytest.raises(ValueError, match="it must be a whole number from 0"):
        retriever.image_similarity_top_k = bad


def test_similarity_top_k_counts_images_too(image_index: ImageIndex) -> None:
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


def test_similarity_top_k_reaches_the_retrievers_of_engines(image_index: ImageIndex, llm: ZhipuMultiModal) -> None:
    engine = image_index.as_query_engine(llm, similarity_top_k=5)
    assert len(engine.retriever.retrieve("帽子")) == 5
    for mode in ("context", "condense_plus_context"):
        chat = image_index.as_chat_engine(mode, llm, similarity_top_k=5)
        assert len(chat._begin("帽子", None, None)[1].sent) == 5


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"model_name": "glm-4.6v"}, "did you mean 'model'"),
        ({"temprature": 0.1}, "did you mean 'temperature'"),
        ({"max_new_tokens": 300}, "did you mean 'max_tokens'"),
        ({"base_url": "http://127.0.0.1"}, "did you mean 'api_base'"),
        ({"presence_penalty": 0.5}, "further fields of the request go into additional_kwargs"),
    ],
)
def test_the_llm_names_the_argument_that_was_meant(given: dict[str, Any], meant: str) -> None:
    with pytest.raises(TypeError, match=f"ZhipuMultiModal: unknown argument '{next(iter(given))}'; {meant}"):
        ZhipuMultiModal(api_key=KEY, **given)


@pytest.mark.parametrize("method", ["complete", "stream_complete", "acomplete", "astream_complete"])
async def test_completions_refuse_unknown_fields_before_anything_is_sent(
    llm: ZhipuMultiModal, photos: list[Path], method: str
) -> None:
    for name, meant in (("images", "image_documents"), ("image", "image_documents"), ("temprature", "temperature")):
        with pytest.raises(TypeError, match=f"unknown argument '{name}'; did you mean '{meant}'"):
            await getattr(llm, method)("?", **{name: [photos[0]]})


@pytest.mark.parametrize("method", ["chat", "stream_chat", "achat", "astream_chat"])
async def test_chats_refuse_unknown_fields_before_anything_is_sent(llm: ZhipuMultiModal, method: str) -> None:
    with pytest.raises(TypeError, match="unknown argument 'max_new_tokens'; did you mean 'max_tokens'"):
        await getattr(llm, method)([ChatMessage(content="你好")], max_new_tokens=3)
    with pytest.raises(TypeError, match=r"unknown argument 'seed'; further fields .* additional_kwargs"):
        await getattr(llm, method)([ChatMessage(content="你好")], seed=3)


def test_further_fields_of_a_request_go_through_additional_kwargs() -> None:
    with MockGLMServer() as server:
        llm = ZhipuMultiModal(api_key=KEY, api_base=server.url, additional_kwargs={"seed": 7})
        llm.complete("你好", additional_kwargs={"watermark": False})
    assert server.requests[0]["seed"] == 7
    assert server.requests[0]["watermark"] is False


@pytest.mark.parametrize(
    ("make", "given", "meant"),
    [
        (ChineseClipEmbedding, {"model": "somewhere"}, "model_name"),
        (ChineseClipEmbedding, {"model_path": "somewhere"}, "model_name"),
        (ChineseClipEmbedding, {"batch_size": 8}, "embed_batch_size"),
        (ChineseClipEmbedding, {"devise": "cpu"}, "device"),
        (FaissMultiModalVectorStore, {"path": "x"}, "persist_dir"),
        (FaissMultiModalVectorStore, {"collection_name": "x"}, "namespace"),
        (FaissMultiModalVectorStore.from_persist_path, {"persist_path": __file__, "modell": "x"}, "model"),
        (ImageReranker, {"top_k": 3}, "top_n"),
        (ImageCaptioner, {"num_worker": 3}, "num_workers"),
        (build_index, {"persist_directory": "x"}, "persist_dir"),
        (build_index, {"embeddings": None}, "embed_model"),
        (load_index, {"embedding": None}, "embed_model"),
        (read_folder, {"caption": "x.csv"}, "captions"),
        (read_jsonl, {"encodng": "gbk"}, "encoding"),
        (FolderReader, {"recursiv": True}, "recursive"),
        (ColumnReader, {"columns": None, "on_eror": "skip"}, "on_error"),
        (Columns, {"image": "url"}, "image"),
        (MockGLMServer, {"latencies": 1.0}, "latency"),
        (WukongReader, {"show_progres": True}, "show_progress"),
        (FolderReader().load_data, {"folder": ".", "caption": "sidecar"}, "captions"),
        (show, {"langage": "zh"}, "language"),
        (plot_results, {"colums": 3}, "columns"),
        (evaluate_retrieval, {"data_set": None}, "dataset"),
        (ImageQueryEngine.from_args, {"stream": True, "retriever": None}, "streaming"),
        (ImageContextChatEngine.from_defaults, {"multi_modal_lm": None}, "multi_modal_llm"),
        (ImageCondensePlusContextChatEngine.from_defaults, {"skip_condens": True}, "skip_condense"),
    ],
)
def test_constructors_and_functions_name_the_argument_that_was_meant(
    make: Callable[..., Any], given: dict[str, Any], meant: str
) -> None:
    with pytest.raises(TypeError, match=rf"unknown argument '\w+'; did you mean '{meant}'\?"):
        make(**given)


def test_stores_refuse_unknown_arguments() -> None:
    store = FaissMultiModalVectorStore()
    with pytest.raises(TypeError, match="query: unknown argument 'efsearch'; did you mean 'ef_search'"):
        store.query(VectorStoreQuery(query_embedding=[1.0, 0.0]), efsearch=100)
    with pytest.raises(TypeError, match="add: unknown argument 'batch_size'; it takes settings"):
        store.add([], batch_size=3)
    with pytest.raises(TypeError, match="delete_nodes: unknown argument 'filter'; did you mean 'filters'"):
        store.delete_nodes(["a"], filter=None)
    with pytest.raises(TypeError, match="delete: unknown argument"):
        store.delete("a", anything=1)


def test_what_was_serialised_is_read_again(tmp_path: Path) -> None:
    llm = ZhipuMultiModal(api_key=KEY, temperature=0.5)
    assert ZhipuMultiModal.from_dict(llm.to_dict(), api_key=KEY).temperature == 0.5
    store = FaissMultiModalVectorStore(tmp_path)
    assert FaissMultiModalVectorStore.from_dict(store.to_dict()).persist_dir == str(tmp_path)
    rerank = ImageReranker(llm=llm, top_n=3)
    assert ImageReranker.from_dict(rerank.to_dict(), llm=llm).top_n == 3


def test_options_are_those_of_the_functions_that_they_go_to() -> None:
    assert keyword_names(ImageRetriever.__init__) - {"index"} == RetrieverOptions.__optional_keys__
    assert keyword_names(ImageQueryEngine.from_args) - {"retriever", "llm"} == SynthesisOptions.__optional_keys__
    chats = keyword_names(ImageCondensePlusContextChatEngine.from_defaults) | keyword_names(
        ImageContextChatEngine.from_defaults
    )
    refused = {"context_prompt", "context_template"}
    assert chats - {"retriever", "multi_modal_llm"} - refused == ChatOptions.__optional_keys__


def test_names_known_from_elsewhere_are_no_names_of_ours() -> None:
    retriever = {*RetrieverOptions.__optional_keys__, *SynthesisOptions.__optional_keys__}
    assert not retriever & {*ARGUMENTS_ELSEWHERE}


def test_known_names_pass_and_a_stranger_gets_the_list() -> None:
    require_known("f", ["a"], ["a", "b"])
    with pytest.raises(TypeError, match="f: unknown argument 'zzz'; it takes a, b"):
        require_known("f", ["zzz"], ["b", "a"])


def test_a_checked_function_keeps_its_signature() -> None:
    @explicit_arguments
    def f(folder: str, *, recursive: bool = True) -> bool:
        """Say whether."""
        return recursive

    assert f("x", recursive=False) is False
    assert list(inspect.signature(f).parameters) == ["folder", "recursive"]
    assert f.__doc__ == "Say whether."
    with pytest.raises(TypeError, match="f: unknown argument 'recursiv'; did you mean 'recursive'"):
        f("x", recursiv=False)  # type: ignore[call-arg]


def test_aliases_of_fields_are_known() -> None:
    from pydantic import Field

    class Aliased(KnownFields):
        id_: str = Field(default="", alias="id")

    assert Aliased(id="a").id_ == "a"


def test_members_are_found_by_value_and_kept() -> None:
    assert member_of(VectorStoreQueryMode, "mmr", "mode") is VectorStoreQueryMode.MMR
    assert member_of(VectorStoreQueryMode, VectorStoreQueryMode.MMR, "mode") is VectorStoreQueryMode.MMR


# Values


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
def test_values_of_retrievers_are_checked(
    image_index: ImageIndex, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        image_index.as_retriever(**given)


def test_none_stands_for_the_default(image_index: ImageIndex) -> None:
    retriever = image_index.as_retriever(**dict.fromkeys(RetrieverOptions.__optional_keys__))  # type: ignore[arg-type]
    assert len(retriever.retrieve("帽子")) == 2


def test_numpy_numbers_are_numbers(image_index: ImageIndex) -> None:
    retriever = image_index.as_retriever(
        similarity_top_k=np.int64(3),  # type: ignore[arg-type]
        sparse_top_k=np.int64(3),  # type: ignore[arg-type]
        alpha=np.float32(0.5),  # type: ignore[arg-type]
        vector_store_query_mode="hybrid",
    )
    assert len(retriever.retrieve("帽子")) == 3


def test_ids_are_no_string(image_index: ImageIndex) -> None:
    (first, *_) = (node.node_id for node in image_index.image_store.get_nodes())
    for call in (image_index.delete_nodes, image_index.image_store.delete_nodes, image_index.image_store.get_nodes):
        with pytest.raises(TypeError, match=r"node_ids is the string .*; give a list of ids"):
            call(first)
    assert len(image_index.image_store.get_nodes([first])) == 1


def test_engines_take_one_postprocessor_and_check_on_error(image_index: ImageIndex, llm: ZhipuMultiModal) -> None:
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
        ({"persist_dir": ""}, ValueError, "persist_dir is empty; the present folder is '.'"),
    ],
)
def test_values_of_build_index_are_checked(
    tiny_embedding: ChineseClipEmbedding,
    plain_nodes: list[ImageNode],
    given: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        build_index(plain_nodes, tiny_embedding, **given)


# Subclasses


def test_a_reader_may_pass_arguments_on() -> None:
    class Mine(FolderReader):
        def __init__(self, tag: str, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.tag = tag

    assert Mine("t", recursive=False).recursive is False
    with pytest.raises(TypeError, match="FolderReader: unknown argument 'recursiv'; did you mean 'recursive'"):
        Mine("t", recursiv=False)


def test_components_may_have_fields_of_their_own(tmp_path: Path) -> None:
    class Open(FaissMultiModalVectorStore):
        model_config = ConfigDict(extra="allow")

    class Tagged(FaissMultiModalVectorStore):
        tag: str = Field(default="", validation_alias="Tag")

        @computed_field  # type: ignore[prop-decorator]
        @property
        def shown(self) -> str:
            return self.tag

    assert Open(anything=1).anything == 1  # type: ignore[attr-defined, call-arg]
    tagged = Tagged(tmp_path, Tag="x")
    assert tagged.tag == "x"
    assert Tagged.from_dict({**tagged.to_dict(), "Tag": "y"}).shown in ("x", "y")


# Values


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
def test_wrong_values_are_errors_of_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        make()
    assert message in str(caught.value)


def test_secrets_are_not_shown_in_errors_of_values() -> None:
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
def test_paths_are_checked(
    tiny_embedding: ChineseClipEmbedding, call: Callable[[object, object], object], argument: str
) -> None:
    with pytest.raises(TypeError, match=f"{argument} is 5; give a path"):
        call(tiny_embedding, 5)
    with pytest.raises(ValueError, match=f"{argument} is empty; the present folder is '.'"):
        call(tiny_embedding, " ")


@pytest.mark.parametrize("wrong", [5, ["a.jpg"], "glm-4.5v"])
def test_what_is_no_llm_is_refused(image_index: ImageIndex, wrong: Any) -> None:
    for make in (image_index.as_query_engine, ImageCaptioner, lambda llm: image_index.as_chat_engine(llm=llm)):
        with pytest.raises(TypeError, match=r"give an LLM( of LlamaIndex)?, such as ZhipuMultiModal\("):
            make(llm=wrong)


def test_what_a_chat_engine_does_instead_of_streaming_is_said(image_index: ImageIndex) -> None:
    with pytest.raises(TypeError, match="'stream'; a chat engine streams its answer by stream_chat"):
        image_index.as_chat_engine(stream=True)  # type: ignore[call-arg]


async def test_batches_of_texts_refuse_other_arguments(tiny_embedding: ChineseClipEmbedding) -> None:
    with pytest.raises(TypeError, match="unknown argument 'batch_size'"):
        tiny_embedding.get_text_embedding_batch(["飞机"], batch_size=3)
    with pytest.raises(TypeError, match="unknown argument 'batch_size'"):
        await tiny_embedding.aget_text_embedding_batch(["飞机"], batch_size=3)


def test_an_index_over_other_stores_is_refused(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]
) -> None:
    with pytest.raises(ValueError, match="does not hold the stores of this index: build_index"):
        ImageIndex(plain_nodes, embed_model=tiny_embedding)
    with pytest.raises(ValueError, match="does not hold the stores of this index: build_index"):
        ImageIndex.from_documents([Document(text="飞机")], embed_model=tiny_embedding)


def test_an_index_over_two_stores_takes_the_model_for_both(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode]
) -> None:
    index = ImageIndex.from_vector_store(
        FaissMultiModalVectorStore(), tiny_embedding, image_vector_store=FaissMultiModalVectorStore()
    )
    index.insert_nodes(plain_nodes)
    assert len(index.as_retriever(similarity_top_k=3).retrieve("帽子")) == 3
