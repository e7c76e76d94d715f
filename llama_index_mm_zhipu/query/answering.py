"""Steps that query engines and chat engines share: find nodes, and ask the model for an answer with citations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import astream_chat_response_to_tokens, stream_chat_response_to_tokens
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import NodeWithScore, QueryBundle

from llama_index_mm_zhipu.query.sources import Sources

_dispatcher = get_dispatcher(__name__)


def find_nodes(
    retriever: BaseRetriever, postprocessors: Sequence[BaseNodePostprocessor], question: QueryBundle
) -> list[NodeWithScore]:
    """Retrieve nodes and apply the postprocessors in order."""
    return postprocessed(retriever.retrieve(question), postprocessors, question)


async def afind_nodes(
    retriever: BaseRetriever, postprocessors: Sequence[BaseNodePostprocessor], question: QueryBundle
) -> list[NodeWithScore]:
    """As ``find_nodes``."""
    return await apostprocessed(await retriever.aretrieve(question), postprocessors, question)


def postprocessed(
    nodes: list[NodeWithScore], postprocessors: Sequence[BaseNodePostprocessor], question: QueryBundle
) -> list[NodeWithScore]:
    """Apply postprocessors in order."""
    for postprocessor in postprocessors:
        nodes = postprocessor.postprocess_nodes(nodes, query_bundle=question)
    return nodes


async def apostprocessed(
    nodes: list[NodeWithScore], postprocessors: Sequence[BaseNodePostprocessor], question: QueryBundle
) -> list[NodeWithScore]:
    """As ``postprocessed``."""
    for postprocessor in postprocessors:
        nodes = await postprocessor.apostprocess_nodes(nodes, query_bundle=question)
    return nodes


def ask(llm: LLM, messages: Sequence[ChatMessage], sources: Sources, *, streaming: bool) -> RESPONSE_TYPE:
    """Send one request and return its answer with sources and citations.

    Args:
        llm: A chat LLM that takes images.
        messages: What ``Composer.compose`` made of question and sources.
        sources: The sources that the messages show.
        streaming: Whether the answer streams; its citations are then in the metadata when the stream has ended.

    Raises:
        EmptyAnswerError: The model answered nothing.
        ImageError: The model answered nothing because an image could not be read to its end.
    """
    metadata = sources.metadata()
    if streaming:
        pieces = stream_chat_response_to_tokens(llm.stream_chat(messages))
        return StreamingResponse(sources.watched(pieces, metadata), sources.results, metadata)
    answer = llm.chat(messages).message.content or ""
    return Response(answer, sources.results, {**metadata, **sources.citations_in(answer)})


async def aask(llm: LLM, messages: Sequence[ChatMessage], sources: Sources, *, streaming: bool) -> RESPONSE_TYPE:
    """As ``ask``."""
    metadata = sources.metadata()
    if streaming:
        pieces = await astream_chat_response_to_tokens(await llm.astream_chat(messages))
        return AsyncStreamingResponse(sources.awatched(pieces, metadata), sources.results, metadata)
    answer = (await llm.achat(messages)).message.content or ""
    return Response(answer, sources.results, {**metadata, **sources.citations_in(answer)})


@contextmanager
def synthesis_events(
    callback_manager: CallbackManager, question: QueryBundle
) -> Iterator[Callable[[RESPONSE_TYPE], RESPONSE_TYPE]]:
    """Emit the events that LlamaIndex's response synthesizers emit around an answer.

    Yields:
        A function that takes the response, reports it, and returns it.
    """
    _dispatcher.event(SynthesizeStartEvent(query=question))
    with callback_manager.event(CBEventType.SYNTHESIZE, payload={EventPayload.QUERY_STR: question.query_str}) as event:

        def end(response: RESPONSE_TYPE) -> RESPONSE_TYPE:
            event.on_end(payload={EventPayload.RESPONSE: response})
            _dispatcher.event(SynthesizeEndEvent(query=question, response=response))
            return response

        yield end
