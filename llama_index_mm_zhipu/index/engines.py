"""The engines of an index, and the types of the keyword arguments of ``as_query_engine`` and ``as_chat_engine``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypedDict

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks import CallbackManager
from llama_index.core.chat_engine.types import BaseChatEngine, ChatMode
from llama_index.core.llms.utils import LLMType
from llama_index.core.memory import BaseMemory
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from llama_index_mm_zhipu.arguments import chosen, keyword_names, require_known
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.query.chat import ImageCondensePlusContextChatEngine, ImageContextChatEngine
from llama_index_mm_zhipu.query.engine import ImageQueryEngine
from llama_index_mm_zhipu.query.retriever import ImageRetriever, QueryMode
from llama_index_mm_zhipu.query.rewrite import QueryRewriter
from llama_index_mm_zhipu.query.simple_chat import ImageCondenseQuestionChatEngine, ImageSimpleChatEngine
from llama_index_mm_zhipu.query.synthesizer import require_no_text_templates, without_text_templates
from llama_index_mm_zhipu.types import Language, OnError

_RETRIEVING: dict[ChatMode, type[ImageContextChatEngine]] = {
    ChatMode.CONTEXT: ImageContextChatEngine,
    ChatMode.CONDENSE_PLUS_CONTEXT: ImageCondensePlusContextChatEngine,
    ChatMode.BEST: ImageCondensePlusContextChatEngine,
}


class RetrieverOptions(TypedDict, total=False):
    """Keyword arguments of ``as_retriever``; ``ImageRetriever`` documents them."""

    similarity_top_k: int
    image_similarity_top_k: int | None
    filters: MetadataFilters | None
    node_ids: list[str] | None
    doc_ids: list[str] | None
    query_mode: QueryMode
    similarity_cutoff: float | None
    vector_store_query_mode: VectorStoreQueryMode | str | None
    alpha: float | None
    sparse_top_k: int | None
    mmr_threshold: float | None
    vector_store_kwargs: Mapping[str, Any] | None
    language: Language
    metadata_keys: Collection[str]
    callback_manager: CallbackManager | None


class _AnswerOptions(TypedDict, total=False):
    """Keyword arguments that query engines and chat engines share."""

    language: Language
    include_images: bool
    metadata_keys: Collection[str]
    on_error: OnError
    query_rewrite: bool | QueryRewriter
    node_postprocessors: list[BaseNodePostprocessor] | None
    chat_content_qa_template: BasePromptTemplate | None
    verbose: bool


class SynthesisOptions(_AnswerOptions, total=False):
    """Keyword arguments of ``ImageQueryEngine.from_args``, which documents them."""

    response_synthesizer: BaseSynthesizer | None
    callback_manager: CallbackManager | None
    response_mode: ResponseMode | str
    chat_content_refine_template: BasePromptTemplate | None
    chat_summary_template: BasePromptTemplate | None
    simple_template: BasePromptTemplate | None
    output_cls: type[BaseModel] | None
    use_async: bool
    streaming: bool


class ChatOptions(_AnswerOptions, total=False):
    """Keyword arguments of the chat engines' ``from_defaults``, which documents them."""

    chat_history: list[ChatMessage] | None
    memory: BaseMemory | None
    system_prompt: str | None
    condense_prompt: PromptTemplate | str | None
    skip_condense: bool


class QueryEngineOptions(RetrieverOptions, SynthesisOptions, total=False):
    """Keyword arguments of ``as_query_engine``."""


class ChatEngineOptions(QueryEngineOptions, ChatOptions, total=False):
    """Keyword arguments of ``as_chat_engine``; each mode takes those of its own engine."""

    condense_question_prompt: BasePromptTemplate | None
    prefix_messages: list[ChatMessage] | None
    memory_cls: type[BaseMemory]


def make_query_engine(
    as_retriever: Callable[..., ImageRetriever], llm: LLMType | None, options: Mapping[str, Any]
) -> ImageQueryEngine:
    """Return the query engine of an index.

    Args:
        as_retriever: Makes the retriever, with the arguments of ``ImageIndex.as_retriever``.
        llm: A multimodal chat LLM, or None for the default.
        options: ``QueryEngineOptions`` as the user gave them.

    Raises:
        TypeError: An option is not known; the message names the likely one.
        ValueError: A template for texts is given.
    """
    given = without_text_templates(options)
    require_known("as_query_engine", given, {*QueryEngineOptions.__optional_keys__, "llm"})
    retriever = as_retriever(**chosen(given, RetrieverOptions.__optional_keys__))
    return ImageQueryEngine.from_args(retriever, llm, **chosen(given, SynthesisOptions.__optional_keys__))


def make_chat_engine(
    as_retriever: Callable[..., ImageRetriever], mode: ChatMode, llm: LLMType | None, options: Mapping[str, Any]
) -> BaseChatEngine | None:
    """Return the chat engine of an index for a mode, or None if the mode is LlamaIndex's alone.

    Args:
        as_retriever: Makes the retriever, with the arguments of ``ImageIndex.as_retriever``.
        mode: How the engine finds sources.
        llm: A multimodal chat LLM, or None for the default.
        options: ``ChatEngineOptions`` as the user gave them.

    Raises:
        TypeError: The mode's engine does not know an option; the message names the likely one.
        ValueError: A template for texts is given.
    """
    require_no_text_templates(name for name, value in options.items() if value is not None)
    if mode == ChatMode.SIMPLE:
        _require_known(mode, options, ImageSimpleChatEngine)
        own = chosen(options, _engine_arguments(ImageSimpleChatEngine))
        return ImageSimpleChatEngine.with_history(llm=llm_or_default(llm), **own)
    if mode == ChatMode.CONDENSE_QUESTION:
        _require_known(mode, options, ImageCondenseQuestionChatEngine, QueryEngineOptions.__optional_keys__)
        llm = llm_or_default(llm)
        query_engine = make_query_engine(as_retriever, llm, chosen(options, QueryEngineOptions.__optional_keys__))
        own = chosen(options, _engine_arguments(ImageCondenseQuestionChatEngine))
        return ImageCondenseQuestionChatEngine.with_history(query_engine=query_engine, llm=llm, **own)
    engine = _RETRIEVING.get(mode)
    if engine is None:
        return None
    _require_known(mode, options, engine, RetrieverOptions.__optional_keys__)
    retriever = as_retriever(**chosen(options, RetrieverOptions.__optional_keys__))
    own = chosen(options, _engine_arguments(engine))
    return engine.from_defaults(retriever, multi_modal_llm=llm_or_default(llm), **own)


def _require_known(
    mode: ChatMode, options: Mapping[str, Any], engine: type[BaseChatEngine], names: Collection[str] = ()
) -> None:
    known = {*_engine_arguments(engine), *names, "llm", "chat_mode"}
    streams = "stream" in options or "streaming" in options
    advice = "a chat engine streams its answer by stream_chat(message)" if streams else ""
    require_known(f"as_chat_engine({mode.value!r})", options, known, advice)


def _engine_arguments(engine: type[BaseChatEngine]) -> frozenset[str]:
    """Return the arguments of a chat engine that the index does not provide."""
    # Every chat engine of LlamaIndex has from_defaults, but their base class does not declare it.
    names = keyword_names(engine.from_defaults)  # type: ignore[attr-defined]
    return names - {"retriever", "query_engine", "llm", "multi_modal_llm"}
