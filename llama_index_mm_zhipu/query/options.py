"""Types of the keyword arguments of ``as_query_engine`` and ``as_chat_engine``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypedDict

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.callbacks import CallbackManager
from llama_index.core.memory import BaseMemory
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from llama_index_mm_zhipu.query.retriever import QueryMode
from llama_index_mm_zhipu.types import Language, OnError


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
