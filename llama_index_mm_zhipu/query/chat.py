"""Chat engines that answer from pictures: LlamaIndex's own two, which by themselves drop captions."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.chat_engine import MultiModalCondensePlusContextChatEngine, MultiModalContextChatEngine
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import astream_chat_response_to_tokens, stream_chat_response_to_tokens
from llama_index.core.memory import BaseMemory
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import NodeWithScore, QueryBundle

from llama_index_mm_zhipu.embedding.nodes import OnError
from llama_index_mm_zhipu.images import has_image
from llama_index_mm_zhipu.llm.default import llm_or_default
from llama_index_mm_zhipu.query.labels import as_keys
from llama_index_mm_zhipu.query.prompt_blocks import PromptBlocks
from llama_index_mm_zhipu.query.prompts import PicturePromptTemplate, prompts_of
from llama_index_mm_zhipu.query.question import as_bundle
from llama_index_mm_zhipu.query.sources import Sources
from llama_index_mm_zhipu.wording import Language, wording_of

ChatResponseType = TypeVar("ChatResponseType", AgentChatResponse, StreamingAgentChatResponse)


class _AnswersFromPictures:
    """Builds the messages of a turn from labels and pictures, and reads citations from the answer.

    The history holds what was said, not the pictures that were shown.
    """

    _multi_modal_llm: LLM
    _memory: BaseMemory
    _system_prompt: Any
    _retriever: BaseRetriever
    _node_postprocessors: list[BaseNodePostprocessor]
    _blocks: PromptBlocks = PromptBlocks()
    _template: BasePromptTemplate = prompts_of("zh").qa
    _on_error: OnError = "skip"

    @classmethod
    def from_defaults(
        cls,
        retriever: BaseRetriever,
        *,
        language: Language = "zh",
        include_images: bool = True,
        metadata_keys: Collection[str] = (),
        on_error: OnError = "skip",
        chat_content_qa_template: BasePromptTemplate | None = None,
        **kwargs: Any,
    ) -> Any:
        """Build a chat engine.

        Args:
            retriever: Usually ``PictureRetriever``.
            language: ``"zh"`` or ``"en"``, of prompts and labels.
            include_images: Whether pictures go out; else labels with captions alone.
            metadata_keys: Metadata that goes out besides.
            on_error: ``"skip"`` pictures that cannot be read any more, or ``"raise"`` at the first.
            chat_content_qa_template: In place of the package's prompt.
            **kwargs: Of LlamaIndex's engine: ``multi_modal_llm``, ``memory``, ``chat_history``, ``system_prompt``, …
        """
        for name in ("context_template", "context_prompt"):
            if kwargs.get(name) is not None:
                raise ValueError(f"{name} is for texts; give chat_content_qa_template, which shows pictures")
        prompts = prompts_of(language)
        kwargs["multi_modal_llm"] = llm_or_default(kwargs.get("multi_modal_llm"))
        kwargs["condense_prompt"] = kwargs.get("condense_prompt") or prompts.condense
        engine = super().from_defaults(retriever, **kwargs)  # type: ignore[misc]
        engine._blocks = PromptBlocks(language, include_images, as_keys(metadata_keys))
        engine._template = PicturePromptTemplate.of(chat_content_qa_template or prompts.qa)
        engine._on_error = on_error
        return engine

    # Core's own of the condensing engine leave the picture out of what postprocessors see.

    def _get_nodes(self, query: str | QueryBundle) -> list[NodeWithScore]:
        bundle = as_bundle(query)
        nodes = self._retriever.retrieve(bundle)
        for postprocessor in self._node_postprocessors:
            nodes = postprocessor.postprocess_nodes(nodes, query_bundle=bundle)
        return self._sources(nodes).sent

    async def _aget_nodes(self, query: str | QueryBundle) -> list[NodeWithScore]:
        bundle = as_bundle(query)
        nodes = await self._retriever.aretrieve(bundle)
        for postprocessor in self._node_postprocessors:
            nodes = await postprocessor.apostprocess_nodes(nodes, query_bundle=bundle)
        return (await asyncio.to_thread(self._sources, nodes)).sent

    def synthesize(
        self,
        query_bundle: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        streaming: bool = False,
    ) -> RESPONSE_TYPE:
        """Answer a message from given nodes and the history."""
        sources = self._sources(nodes)
        metadata = _metadata(sources)
        messages = self._messages(query_bundle, sources, self._memory.get(input=str(query_bundle)))
        if streaming:
            pieces = stream_chat_response_to_tokens(self._multi_modal_llm.stream_chat(messages))
            return StreamingResponse(sources.watched(pieces, metadata), sources.sent, metadata)
        answer = self._multi_modal_llm.chat(messages).message.content or ""
        return Response(answer, sources.sent, {**metadata, **sources.citations_in(answer)})

    async def asynthesize(
        self,
        query_bundle: str | QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
        streaming: bool = False,
    ) -> RESPONSE_TYPE:
        """As ``synthesize``."""
        sources = await asyncio.to_thread(self._sources, nodes)
        metadata = _metadata(sources)
        history = await self._memory.aget(input=str(query_bundle))
        messages = await asyncio.to_thread(self._messages, query_bundle, sources, history)
        if streaming:
            pieces = await astream_chat_response_to_tokens(await self._multi_modal_llm.astream_chat(messages))
            return AsyncStreamingResponse(sources.awatched(pieces, metadata), sources.sent, metadata)
        answer = (await self._multi_modal_llm.achat(messages)).message.content or ""
        return Response(answer, sources.sent, {**metadata, **sources.citations_in(answer)})

    def chat(self, *args: Any, **kwargs: Any) -> AgentChatResponse:
        """Answer a message; ``response.metadata`` holds the citations."""
        response: AgentChatResponse = super().chat(*args, **kwargs)  # type: ignore[misc]
        return _with_metadata(response)

    async def achat(self, *args: Any, **kwargs: Any) -> AgentChatResponse:
        """As ``chat``."""
        response: AgentChatResponse = await super().achat(*args, **kwargs)  # type: ignore[misc]
        return _with_metadata(response)

    def stream_chat(self, *args: Any, **kwargs: Any) -> StreamingAgentChatResponse:
        """As ``chat``, streaming; the citations are in ``response.metadata`` when the stream has ended."""
        response: StreamingAgentChatResponse = super().stream_chat(*args, **kwargs)  # type: ignore[misc]
        return _with_metadata(response)

    async def astream_chat(self, *args: Any, **kwargs: Any) -> StreamingAgentChatResponse:
        """As ``stream_chat``."""
        response: StreamingAgentChatResponse = await super().astream_chat(*args, **kwargs)  # type: ignore[misc]
        return _with_metadata(response)

    def _sources(self, nodes: Sequence[NodeWithScore]) -> Sources:
        return Sources.of(
            nodes,
            language=self._blocks.language,
            metadata_keys=self._blocks.metadata_keys,
            on_error=self._on_error,
            needs_pictures=self._blocks.include_images,
        )

    def _messages(
        self, query: str | QueryBundle, sources: Sources, history: Sequence[ChatMessage]
    ) -> list[ChatMessage]:
        """Put the history between the rule and the sources with the message."""
        bundle = as_bundle(query)
        results = self._blocks.of_results(sources.sent) or self._blocks.of_no_results()
        shown = [ChatMessage(blocks=result.node.get_content_blocks()) for result in results]
        prompt = self._template.format_messages(
            context_messages=shown, query_str=bundle.query_str, query_blocks=self._blocks.of_question(bundle)
        )
        rules = [message.content or "" for message in prompt if message.role == MessageRole.SYSTEM]
        system = "\n\n".join(filter(None, [self._system_prompt, *rules]))
        return [
            *([ChatMessage(role=MessageRole.SYSTEM, content=system)] if system else []),
            *(self._with_words(message) for message in history),
            *(message for message in prompt if message.role != MessageRole.SYSTEM),
        ]

    def _with_words(self, message: ChatMessage) -> ChatMessage:
        """Say of a message that was a picture alone what it was: APIs refuse empty ones."""
        if message.role != MessageRole.USER or message.content:
            return message
        return ChatMessage(role=message.role, content=wording_of(self._blocks.language).picture_alone)


class PictureContextChatEngine(_AnswersFromPictures, MultiModalContextChatEngine):  # type: ignore[misc]
    """Looks for sources by each message as it is; a message may be a ``QueryBundle`` with a picture.

    ``response.metadata`` holds the citations, as that of ``PictureQueryEngine`` does; of a stream, when it has ended.
    """


class PictureCondensePlusContextChatEngine(  # type: ignore[misc]
    _AnswersFromPictures, MultiModalCondensePlusContextChatEngine
):
    """Has the LLM make a question of message and history, and looks for sources by this and the message's picture.

    A message may be a ``QueryBundle`` with a picture. ``response.metadata`` holds the citations, as that of
    ``PictureQueryEngine`` does; of a stream, when it has ended.
    """

    def _condense_question(self, chat_history: list[ChatMessage], latest_message: Any) -> Any:
        return _rephrased(latest_message, super()._condense_question(chat_history, str(latest_message)))

    async def _acondense_question(self, chat_history: list[ChatMessage], latest_message: Any) -> Any:
        return _rephrased(latest_message, await super()._acondense_question(chat_history, str(latest_message)))


def _metadata(sources: Sources) -> dict[str, Any]:
    pictures = [result for result in sources.sent if has_image(result.node)]
    texts = [result for result in sources.sent if not has_image(result.node)]
    return {"text_nodes": texts, "image_nodes": pictures, **sources.metadata()}


def _with_metadata(response: ChatResponseType) -> ChatResponseType:
    """Give a chat response the metadata of the answer; a stream completes the same dictionary at its end."""
    # LlamaIndex's class for streams has no such field.
    response.metadata = response.sources[0].raw_output  # type: ignore[attr-defined, unused-ignore]
    return response


def _rephrased(message: str | QueryBundle, question: str) -> str | QueryBundle:
    return replace(message, query_str=question) if isinstance(message, QueryBundle) else question
