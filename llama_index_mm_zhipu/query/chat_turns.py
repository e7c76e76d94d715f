"""Turns of a chat that are answered from images: sync, async and streaming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Generator, Iterable, Sequence
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ImageBlock, MessageRole, TextBlock
from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import trace_method
from llama_index.core.chat_engine.types import AgentChatResponse, StreamingAgentChatResponse
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import astream_chat_response_to_tokens, stream_chat_response_to_tokens
from llama_index.core.memory import BaseMemory
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.tools import ToolOutput
from llama_index.core.types import Thread

from llama_index_mm_zhipu.arguments import require_choice
from llama_index_mm_zhipu.prompts.templates import ImagePromptTemplate, prompts_of
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.query.chat_memory import RemembersImages, message_of
from llama_index_mm_zhipu.query.labels import as_keys
from llama_index_mm_zhipu.query.prompt_blocks import PromptBlocks
from llama_index_mm_zhipu.query.prompt_helper import require_fitting
from llama_index_mm_zhipu.query.question import Question, as_bundle, has_words
from llama_index_mm_zhipu.query.sources import Sources
from llama_index_mm_zhipu.types import Language, OnError


class AnswersFromImages(RemembersImages):
    """Builds the messages of a turn from labels and images, and reads citations from the answer.

    The history holds the user's words and images and the answers, not the images that were retrieved: their numbers
    are those of their own turn.
    """

    _multi_modal_llm: LLM
    _memory: BaseMemory
    _system_prompt: Any
    _retriever: BaseRetriever
    _node_postprocessors: list[BaseNodePostprocessor]
    _blocks: PromptBlocks = PromptBlocks()
    _template: BasePromptTemplate = prompts_of("zh").qa
    _on_error: OnError = "skip"

    def _set_up(
        self,
        language: Language,
        include_images: bool,
        metadata_keys: Collection[str],
        on_error: OnError,
        template: BasePromptTemplate | None,
    ) -> None:
        require_choice(on_error, "on_error", "raise", "skip")
        self._blocks = PromptBlocks(language, include_images, as_keys(metadata_keys))
        self._template = ImagePromptTemplate.of(template or prompts_of(language).qa)
        self._on_error = on_error

    # Core's own of the condensing engine leave the image out of what postprocessors see.

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
        metadata = sources.metadata()
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
        metadata = sources.metadata()
        history = await self._memory.aget(input=str(query_bundle))
        messages = await asyncio.to_thread(self._messages, query_bundle, sources, history)
        if streaming:
            pieces = await astream_chat_response_to_tokens(await self._multi_modal_llm.astream_chat(messages))
            return AsyncStreamingResponse(sources.awatched(pieces, metadata), sources.sent, metadata)
        answer = (await self._multi_modal_llm.achat(messages)).message.content or ""
        return Response(answer, sources.sent, {**metadata, **sources.citations_in(answer)})

    # Core's own put the words of a message into the history, and not its images.

    @trace_method("chat")
    def chat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> AgentChatResponse:
        """Answer a message; ``response.metadata`` holds the citations.

        Args:
            message: Words; an image in any form but a string; or both in a ``QueryBundle`` or in a ``ChatMessage``. The
                first image of a message is searched by, and all are shown to the LLM, in later turns, too.
            chat_history: Replaces what was said before; its images are shown, too.
            prev_chunks: Sources to answer from if none are found.

        Raises:
            EmptyAnswerError: The model answered nothing.
            ImageError: The message's image, or with ``on_error="raise"`` another, cannot be read.
            GLMError: The LLM, if it is ``ZhipuMultiModal``, did not answer.
            ValueError: The message is longer than what the LLM takes.
        """
        question, nodes = self._begin(message, chat_history, prev_chunks)
        response = self.synthesize(question, nodes)
        answer = ChatMessage(role=MessageRole.ASSISTANT, content=str(response))
        self._memory.put(message_of(question))
        self._memory.put(answer)
        return AgentChatResponse(str(response), **_sources_of(question, response), metadata=response.metadata)

    @trace_method("chat")
    async def achat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> AgentChatResponse:
        """As ``chat``."""
        question, nodes = await self._abegin(message, chat_history, prev_chunks)
        response = await self.asynthesize(question, nodes)
        answer = ChatMessage(role=MessageRole.ASSISTANT, content=str(response))
        await self._memory.aput(await asyncio.to_thread(message_of, question))
        await self._memory.aput(answer)
        return AgentChatResponse(str(response), **_sources_of(question, response), metadata=response.metadata)

    @trace_method("chat")
    def stream_chat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> StreamingAgentChatResponse:
        """As ``chat``, streaming; the citations are in ``response.metadata`` when the stream has ended."""
        question, nodes = self._begin(message, chat_history, prev_chunks)
        response = self.synthesize(question, nodes, streaming=True)
        self._memory.put(message_of(question))
        pieces: Any = response.response_gen  # type: ignore[union-attr]
        stream = _responses_so_far(pieces)
        streamed = StreamingAgentChatResponse(chat_stream=stream, **_sources_of(question, response))
        writer = Thread(target=streamed.write_response_to_history, args=(self._memory,))
        streamed.write_response_to_history_thread = writer
        writer.start()
        return _with_metadata(streamed, response)

    @trace_method("chat")
    async def astream_chat(
        self,
        message: Question,
        chat_history: list[ChatMessage] | None = None,
        prev_chunks: list[NodeWithScore] | None = None,
    ) -> StreamingAgentChatResponse:
        """As ``stream_chat``."""
        question, nodes = await self._abegin(message, chat_history, prev_chunks)
        response = await self.asynthesize(question, nodes, streaming=True)
        await self._memory.aput(await asyncio.to_thread(message_of, question))
        pieces: Any = response.response_gen  # type: ignore[union-attr]
        streamed = StreamingAgentChatResponse(
            achat_stream=_aresponses_so_far(pieces), **_sources_of(question, response)
        )
        streamed.awrite_response_to_history_task = asyncio.create_task(
            streamed.awrite_response_to_history(self._memory)
        )
        return _with_metadata(streamed, response)

    def _begin(
        self, message: Question, chat_history: list[ChatMessage] | None, prev_chunks: list[NodeWithScore] | None
    ) -> tuple[QueryBundle, list[NodeWithScore]]:
        """Return a message as a question with what answers it; a given history replaces the earlier one."""
        question = self._checked(message)
        if chat_history is not None:
            self._memory.set(chat_history)
        nodes = self._get_nodes(self._to_search_by(question)) or prev_chunks or []
        return question, nodes

    async def _abegin(
        self, message: Question, chat_history: list[ChatMessage] | None, prev_chunks: list[NodeWithScore] | None
    ) -> tuple[QueryBundle, list[NodeWithScore]]:
        question = await asyncio.to_thread(self._checked, message)
        if chat_history is not None:
            await self._memory.aset(chat_history)
        nodes = await self._aget_nodes(await self._ato_search_by(question)) or prev_chunks or []
        return question, nodes

    def _checked(self, message: Question) -> QueryBundle:
        """Return a message as a question that the LLM has room for.

        Raises:
            ValueError: It has not.
        """
        question = as_bundle(message)
        require_fitting(question.query_str, self._multi_modal_llm.metadata, packed=False)
        return question

    def _to_search_by(self, question: QueryBundle) -> QueryBundle:
        """Return what to look for sources by."""
        return question

    async def _ato_search_by(self, question: QueryBundle) -> QueryBundle:
        return question

    def _sources(self, nodes: Sequence[NodeWithScore]) -> Sources:
        return Sources.of(
            nodes,
            language=self._blocks.language,
            metadata_keys=self._blocks.metadata_keys,
            on_error=self._on_error,
            needs_images=self._blocks.include_images,
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
            *map(self._of_history, history),
            *(message for message in prompt if message.role != MessageRole.SYSTEM),
        ]

    def _of_history(self, message: ChatMessage) -> ChatMessage:
        """Return an earlier message as it is sent: its images are marked as the user's."""
        if message.role != MessageRole.USER:
            return message
        blocks = [each for block in message.blocks for each in self._blocks_of_history(block)]
        if not any(not isinstance(each, TextBlock) or has_words(each.text) for each in blocks):
            # The API refuses empty messages.
            blocks = [TextBlock(text=wording_of(self._blocks.language).image_alone)]
        return ChatMessage(role=message.role, blocks=blocks)

    def _blocks_of_history(self, block: Any) -> list[Any]:
        if not isinstance(block, ImageBlock):
            return [block]
        return [*self._blocks.of_own_image(block)] if self._blocks.include_images else []


def _sources_of(question: QueryBundle, response: RESPONSE_TYPE) -> dict[str, Any]:
    """Return what a chat response says of its sources, in the form that LlamaIndex gives it."""
    captions = "\n".join(result.node.get_content() for result in response.source_nodes)
    retrieved = ToolOutput(
        tool_name="retriever",
        content=captions,
        raw_input={"message": question.query_str},
        raw_output=response.metadata,
    )
    return {"sources": [retrieved], "source_nodes": response.source_nodes}


def _with_metadata(streamed: StreamingAgentChatResponse, response: RESPONSE_TYPE) -> StreamingAgentChatResponse:
    """Give a stream the metadata of the answer, which completes the same dictionary at its end."""
    # LlamaIndex's class for streams has no such field.
    streamed.metadata = response.metadata  # type: ignore[attr-defined]
    return streamed


def _responses_so_far(pieces: Iterable[str]) -> Generator[ChatResponse, None, None]:
    answer = ""
    for piece in pieces:
        answer += piece
        yield _response(answer, piece)


async def _aresponses_so_far(pieces: AsyncIterable[str]) -> AsyncGenerator[ChatResponse, None]:
    answer = ""
    async for piece in pieces:
        answer += piece
        yield _response(answer, piece)


def _response(answer: str, piece: str) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=answer), delta=piece)
