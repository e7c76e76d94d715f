"""Unknown arguments of constructors, functions and calls raise an error that suggests the right name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import ConfigDict, Field
from llama_index.core.schema import ImageNode
from llama_index.core.vector_stores.types import VectorStoreQuery
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
    require_known,
)
from llama_index_mm_zhipu.index.engines import ChatOptions, RetrieverOptions, SynthesisOptions
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.ingestion import ImageOcr
from llama_index_mm_zhipu.query.chat import ImageCondensePlusContextChatEngine, ImageContextChatEngine
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
def test_retrievers_suggest_the_right_name(image_index: ImageIndex, given: dict[str, Any], meant: str) -> None:
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
def test_query_engines_suggest_the_right_name(
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


def test_chat_engines_of_core_accept_their_own_arguments(image_index: ImageIndex, llm: ZhipuMultiModal) -> None:
    assert image_index.as_chat_engine("condense_question", llm, similarity_top_k=3, verbose=True, language="en")
    with pytest.raises(TypeError, match="unknown argument 'similarity_top_k'"):
        image_index.as_chat_engine("simple", llm, similarity_top_k=3)
    with pytest.raises(ValueError, match="ReActAgent"):
        image_index.as_chat_engine("react", llm)


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
def test_the_llm_suggests_the_right_name(given: dict[str, Any], meant: str) -> None:
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


def test_other_fields_of_a_request_are_sent_by_additional_kwargs() -> None:
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
        (ImageOcr, {"num_worker": 3}, "num_workers"),
        (build_index, {"persist_directory": "x"}, "persist_dir"),
        (build_index, {"embeddings": None}, "embed_model"),
        (load_index, {"embedding": None}, "embed_model"),
        (read_folder, {"caption": "x.csv"}, "captions"),
        (read_jsonl, {"encodng": "gbk"}, "encoding"),
        (FolderReader, {"recursiv": True}, "recursive"),
        (ColumnReader, {"columns": None, "on_eror": "skip"}, "on_error"),
        (Columns, {"picture": "url"}, "image"),
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
def test_constructors_and_functions_suggest_the_right_name(
    make: Callable[..., Any], given: dict[str, Any], meant: str
) -> None:
    with pytest.raises(TypeError, match=rf"unknown argument '\w+'; did you mean '{meant}'\?"):
        make(**given)


def test_stores_refuse_unknown_arguments() -> None:
    store = FaissMultiModalVectorStore()
    with pytest.raises(TypeError, match="query: unknown argument 'searchbreadth'; did you mean 'search_breadth'"):
        store.query(VectorStoreQuery(query_embedding=[1.0, 0.0]), searchbreadth=100)
    with pytest.raises(TypeError, match="add: unknown argument 'batch_size'; it takes settings"):
        store.add([], batch_size=3)
    with pytest.raises(TypeError, match="delete_nodes: unknown argument 'filter'; did you mean 'filters'"):
        store.delete_nodes(["a"], filter=None)
    with pytest.raises(TypeError, match="delete: unknown argument"):
        store.delete("a", anything=1)


def test_components_are_restored_from_their_dictionaries(tmp_path: Path) -> None:
    llm = ZhipuMultiModal(api_key=KEY, temperature=0.5)
    assert ZhipuMultiModal.from_dict(llm.to_dict(), api_key=KEY).temperature == 0.5
    store = FaissMultiModalVectorStore(tmp_path)
    assert FaissMultiModalVectorStore.from_dict(store.to_dict()).persist_dir == str(tmp_path)
    rerank = ImageReranker(llm=llm, top_n=3)
    assert ImageReranker.from_dict(rerank.to_dict(), llm=llm).top_n == 3


def test_option_types_match_the_functions_that_take_the_options() -> None:
    assert keyword_names(ImageRetriever.__init__) - {"index"} == RetrieverOptions.__optional_keys__
    assert keyword_names(ImageQueryEngine.from_args) - {"retriever", "llm"} == SynthesisOptions.__optional_keys__
    chats = keyword_names(ImageCondensePlusContextChatEngine.from_defaults) | keyword_names(
        ImageContextChatEngine.from_defaults
    )
    refused = {"context_prompt", "context_template"}
    assert chats - {"retriever", "multi_modal_llm"} - refused == ChatOptions.__optional_keys__


def test_retriever_and_engine_options_are_not_listed_as_foreign_names() -> None:
    retriever = {*RetrieverOptions.__optional_keys__, *SynthesisOptions.__optional_keys__}
    assert not retriever & {*ARGUMENTS_ELSEWHERE}


def test_the_known_names_are_listed_if_none_is_similar() -> None:
    require_known("f", ["a"], ["a", "b"])
    with pytest.raises(TypeError, match="f: unknown argument 'zzz'; it takes a, b"):
        require_known("f", ["zzz"], ["b", "a"])


def test_a_decorated_function_keeps_its_signature() -> None:
    @explicit_arguments
    def f(folder: str, *, recursive: bool = True) -> bool:
        """Say whether."""
        return recursive

    assert f("x", recursive=False) is False
    assert list(inspect.signature(f).parameters) == ["folder", "recursive"]
    assert f.__doc__ == "Say whether."
    with pytest.raises(TypeError, match="f: unknown argument 'recursiv'; did you mean 'recursive'"):
        f("x", recursiv=False)  # type: ignore[call-arg]


def test_aliases_of_fields_are_accepted() -> None:
    from pydantic import Field

    class Aliased(KnownFields):
        id_: str = Field(default="", alias="id")

    assert Aliased(id="a").id_ == "a"


def test_a_subclass_of_a_reader_may_pass_arguments_on() -> None:
    class Mine(FolderReader):
        def __init__(self, tag: str, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.tag = tag

    assert Mine("t", recursive=False).recursive is False
    with pytest.raises(TypeError, match="FolderReader: unknown argument 'recursiv'; did you mean 'recursive'"):
        Mine("t", recursiv=False)


def test_a_subclass_of_a_component_may_have_further_fields(tmp_path: Path) -> None:
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


def test_a_chat_engine_with_stream_suggests_stream_chat(image_index: ImageIndex) -> None:
    with pytest.raises(TypeError, match="'stream'; a chat engine streams its answer by stream_chat"):
        image_index.as_chat_engine(stream=True)  # type: ignore[call-arg]


async def test_text_batches_refuse_unknown_arguments(tiny_embedding: ChineseClipEmbedding) -> None:
    with pytest.raises(TypeError, match="unknown argument 'batch_size'"):
        tiny_embedding.get_text_embedding_batch(["飞机"], batch_size=3)
    with pytest.raises(TypeError, match="unknown argument 'batch_size'"):
        await tiny_embedding.aget_text_embedding_batch(["飞机"], batch_size=3)
