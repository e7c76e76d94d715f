"""Steps that query engines and chat engines share: find nodes, compose the messages of a request, and ask the model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.base.response.schema import RESPONSE_TYPE, AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.synthesis import SynthesizeEndEvent, SynthesizeStartEvent
from llama_index.core.llms import LLM
from llama_index.core.llms.llm import astream_chat_response_to_tokens, stream_chat_response_to_tokens
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from llama_index_mm_zhipu.images import ImageSource, ResolvedSource, caption_of, page_text_of, read_bytes
from llama_index_mm_zhipu.llm.images import QUERY_IMAGE_NUMBER, NumberedImageBlock
from llama_index_mm_zhipu.prompts.templates import RuledTextBlock
from llama_index_mm_zhipu.prompts.wording import Wording, as_quoted_lines, in_one_line, wording_of
from llama_index_mm_zhipu.query.labels import IMAGE_LABEL
from llama_index_mm_zhipu.query.question import has_words, images_of
from llama_index_mm_zhipu.query.rewrite import SEARCH_WORDS, QueryRewriter
from llama_index_mm_zhipu.query.sources import Source, Sources, readable_source
from llama_index_mm_zhipu.readers.records import time_of
from llama_index_mm_zhipu.types import Language, OnError

Blocks = list[TextBlock | ImageBlock]


@dataclass(frozen=True)
class Composer:
    """Composes messages from questions and sources. Query engines and chat engines share it.

    Args:
        language: Language of labels and explanations.
        include_images: Whether images are sent, those of the question too; otherwise labels with captions alone.
        metadata_keys: Metadata of sources that is sent besides labels and texts.
    """

    language: Language = "zh"
    include_images: bool = True
    metadata_keys: Collection[str] = ()

    def sources_of(
        self, results: Sequence[NodeWithScore], *, on_error: OnError = "skip", expects_answer: bool = True
    ) -> Sources:
        """Return results as the sources of an answer, see ``Sources.of``."""
        return Sources.of(
            results,
            language=self.language,
            metadata_keys=self.metadata_keys,
            on_error=on_error,
            needs_images=self.include_images,
            expects_answer=expects_answer,
        )

    def compose(
        self,
        question: QueryBundle,
        sources: Sources,
        template: BasePromptTemplate,
        *,
        history: Sequence[ChatMessage] = (),
        system_prompt: str = "",
    ) -> list[ChatMessage]:
        """Return the messages of one request: the rules, the chat before, the sources and the question.

        Args:
            question: Words, images, or both.
            sources: The sources to answer from.
            template: Template with the variables ``context_messages`` and ``query_str``, see ``PROMPTS``.
            history: Messages that go between the rules and the sources.
            system_prompt: Text that goes before the rules.

        Raises:
            ImageError: An image of the question or of the history cannot be read.
        """
        shown = [*map(self.blocks_of_source, sources.sent)] or [self.blocks_without_sources()]
        prompt = template.format_messages(
            context_messages=[ChatMessage(blocks=blocks) for blocks in shown],
            query_str=question.query_str,
            query_blocks=self.blocks_of_question(question),
        )
        rules = [message.content or "" for message in prompt if message.role == MessageRole.SYSTEM]
        system = "\n\n".join(filter(None, [system_prompt, *rules]))
        return [
            *([ChatMessage(role=MessageRole.SYSTEM, content=system)] if system else []),
            *map(self._of_history, history),
            *(message for message in prompt if message.role != MessageRole.SYSTEM),
        ]

    def nodes_for_synthesizer(self, sources: Sources) -> list[NodeWithScore]:
        """Return nodes whose content blocks are those of the sources, for LlamaIndex's response synthesizers."""
        return [
            NodeWithScore(
                node=PromptNode(source.result.node.node_id, self.blocks_of_source(source)), score=source.result.score
            )
            for source in sources.sent
        ]

    def blocks_of_source(self, source: Source) -> Blocks:
        """Return the blocks that the prompt shows of a source: metadata, page text, label, image; or metadata, text."""
        node, wording = source.result.node, wording_of(self.language)
        labels = (wording.label_key, IMAGE_LABEL)
        keys = [key for key in self.metadata_keys if key in node.metadata and key not in labels]
        # Metadata is quoted like captions: anybody may have written it.
        metadata = [f"> {in_one_line(key)}: {in_one_line(str(node.metadata[key]))}" for key in keys]
        if not isinstance(node, ImageNode):
            lines = as_quoted_lines(node.get_content(metadata_mode=MetadataMode.NONE))
            return [TextBlock(text="\n".join([wording.text, *metadata, lines]))]
        rule = wording.time_rule if time_of(node) else ""
        text = RuledTextBlock(text="\n".join([*metadata, self._label(node, wording)]), rule=rule)
        if source.image is None:
            return [text]
        return [text, self._image_block(source.image, node.metadata[IMAGE_LABEL]["number"])]

    def blocks_without_sources(self) -> Blocks:
        """Return the blocks that the prompt shows in place of sources where there are none."""
        return [TextBlock(text=wording_of(self.language).no_sources)]

    def blocks_of_question(self, question: QueryBundle) -> Blocks:
        """Return the images that a question is about, marked as such; empty if there are none.

        Raises:
            ImageError: One of them cannot be read.
        """
        if not self.include_images:
            return []
        return [block for image in images_of(question) for block in self._blocks_of_own_image(image)]

    def _label(self, node: BaseNode, wording: Wording) -> str:
        label = str(node.metadata[wording.label_key])
        has_content = self.include_images or caption_of(node) or page_text_of(node)
        return label if has_content else label + wording.colon + wording.no_caption

    def _blocks_of_own_image(self, image: ImageSource) -> Blocks:
        source = readable_source(image)
        return [TextBlock(text=wording_of(self.language).own_image), self._image_block(source, QUERY_IMAGE_NUMBER)]

    def _image_block(self, source: ResolvedSource, number: int) -> NumberedImageBlock:
        if isinstance(source, Path):
            return NumberedImageBlock(path=source, number=number, language=self.language)
        if isinstance(source, str):
            return NumberedImageBlock(url=source, number=number, language=self.language)
        return NumberedImageBlock(image=read_bytes(source), number=number, language=self.language)

    def _of_history(self, message: ChatMessage) -> ChatMessage:
        """Return an earlier message as it is sent: its images are marked as the user's."""
        if message.role != MessageRole.USER:
            return message
        blocks = [each for block in message.blocks for each in self._blocks_of_history(block)]
        if not any(not isinstance(each, TextBlock) or has_words(each.text) for each in blocks):
            # The API refuses empty messages.
            blocks = [TextBlock(text=wording_of(self.language).image_alone)]
        return ChatMessage(role=message.role, blocks=blocks)

    def _blocks_of_history(self, block: Any) -> list[Any]:
        if not isinstance(block, ImageBlock):
            return [block]
        return [*self._blocks_of_own_image(block)] if self.include_images else []


class PromptNode(TextNode):
    """A node with given content blocks, which LlamaIndex's synthesizers put into their prompts."""

    _blocks: Blocks = PrivateAttr()

    def __init__(self, node_id: str, blocks: Blocks) -> None:
        super().__init__(id_=node_id, text="\n".join(block.text for block in blocks if isinstance(block, TextBlock)))
        self._blocks = blocks

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[Any]:
        """Return the blocks."""
        return list(self._blocks)


_dispatcher = get_dispatcher(__name__)


class Found(NamedTuple):
    """What a search has found.

    Attributes:
        nodes: The nodes after the postprocessors.
        search_words: The words that were searched for besides the question; None if no rewriter was asked.
    """

    nodes: list[NodeWithScore]
    search_words: list[str] | None

    def told_in(self, response: RESPONSE_TYPE) -> RESPONSE_TYPE:
        """Put the search words into the metadata of the response, if a rewriter was asked."""
        if self.search_words is not None and response.metadata is not None:
            # A stream completes this dictionary at its end.
            response.metadata[SEARCH_WORDS] = self.search_words
        return response


def find_nodes(
    retriever: BaseRetriever,
    postprocessors: Sequence[BaseNodePostprocessor],
    question: QueryBundle,
    rewriter: QueryRewriter | None = None,
) -> Found:
    """Retrieve nodes and apply the postprocessors in order; these see the question as it was asked."""
    query, words = rewriter.rewrite(question) if rewriter else (question, None)
    return Found(postprocessed(retriever.retrieve(query), postprocessors, question), words)


async def afind_nodes(
    retriever: BaseRetriever,
    postprocessors: Sequence[BaseNodePostprocessor],
    question: QueryBundle,
    rewriter: QueryRewriter | None = None,
) -> Found:
    """As ``find_nodes``."""
    query, words = await rewriter.arewrite(question) if rewriter else (question, None)
    return Found(await apostprocessed(await retriever.aretrieve(query), postprocessors, question), words)


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
    if streaming:
        return sources.cited_in(StreamingResponse(stream_chat_response_to_tokens(llm.stream_chat(messages))))
    return sources.cited_in(Response(llm.chat(messages).message.content or ""))


async def aask(llm: LLM, messages: Sequence[ChatMessage], sources: Sources, *, streaming: bool) -> RESPONSE_TYPE:
    """As ``ask``."""
    if streaming:
        pieces = await astream_chat_response_to_tokens(await llm.astream_chat(messages))
        return sources.cited_in(AsyncStreamingResponse(pieces))
    return sources.cited_in(Response((await llm.achat(messages)).message.content or ""))


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
