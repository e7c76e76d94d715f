"""Fit questions and sources into requests, and make LlamaIndex's response synthesizers with this package's prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.indices.prompt_helper import ChatPromptHelper
from llama_index.core.llms import LLM, LLMMetadata
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.prompt_utils import get_empty_prompt_txt
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode, get_response_synthesizer
from llama_index.core.response_synthesizers.context_only import ContextOnly
from llama_index.core.response_synthesizers.generation import Generation
from llama_index.core.response_synthesizers.no_text import NoText
from llama_index.core.utilities.token_counting import TokenCounter
from llama_index.core.utils import get_tokenizer

from llama_index_mm_zhipu.prompts.templates import ImagePromptTemplate, prompts_of
from llama_index_mm_zhipu.text import CJK_RANGES
from llama_index_mm_zhipu.types import Language

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool

_UNSPACED = re.compile(f"[{CJK_RANGES}]")

_PADDING = 5
# Tokens that texts leave free for each image, and for all images together a quarter of the context at most.
_IMAGE_TOKENS = 1000
_LARGEST_SHARE = 4


# At most this many characters per token of the model's context are counted, so that a question of megabytes is refused
# quickly.
_COUNTED = 8
# A token of a GLM model has fewer characters than this on average: the service documents 1.8 characters of Chinese.
_CHARACTERS_OF_A_TOKEN = 8
_UNSPACED_CHARACTERS_OF_A_TOKEN = 2

_SHORTEN = (
    "shorten the question, put long texts into the index and ask about them, or take a model with a larger context"
)


def require_fitting(question: str, metadata: LLMMetadata, *, packed: bool) -> None:
    """Raise an error for a question that leaves a model no room: LlamaIndex's own error does not name the question.

    Args:
        question: Words of the question.
        metadata: Metadata of the LLM.
        packed: Whether sources are packed around the question. If so, LlamaIndex's tokenizer counts the tokens; it
            counts the rest of the prompt too, and finds more tokens in Chinese than GLM models do. Otherwise the
            question is refused only if no tokenizer could make it fit.

    Raises:
        ValueError: The question is too long.
    """
    answer = max(metadata.num_output, 0)
    room = metadata.context_window - answer
    # A character takes four tokens at most, one for each byte of UTF-8.
    if len(question) * 4 < room:
        return
    tokens = _count_tokens(question, room) if packed else _count_at_least(question)
    if tokens >= room:
        raise ValueError(
            f"the question has {len(question)} characters, {'about' if packed else 'at least'} {tokens} tokens, and "
            f"{metadata.model_name} takes {metadata.context_window}, {answer} of them for the answer; {_SHORTEN}"
        )


def fit_one_request(messages: Sequence[ChatMessage], metadata: LLMMetadata) -> bool:
    """Return whether messages leave a model room for its answer.

    Texts are counted by LlamaIndex's tokenizer, and leave room for each image: about 1,000 tokens, in all a quarter of
    the context at most. ``ZhipuMultiModal`` fits the images into what the model takes.

    Args:
        messages: All messages of the request.
        metadata: Metadata of the LLM.
    """
    texts = [block.text for message in messages for block in message.blocks if isinstance(block, TextBlock)]
    images = sum(isinstance(block, ImageBlock) for message in messages for block in message.blocks)
    context = metadata.context_window
    room = context - max(metadata.num_output, 0) - _PADDING - _image_room(images, context)
    # A character takes four tokens at most, one for each byte of UTF-8.
    if sum(map(len, texts)) * 4 < room:
        return True
    tokenizer = get_tokenizer()
    return sum(len(tokenizer(text)) for text in texts) < room


def _image_room(images: int, context_window: int) -> int:
    return min(images * _IMAGE_TOKENS, context_window // _LARGEST_SHARE)


def _count_tokens(text: str, room: int) -> int:
    counted = text[: _COUNTED * room]
    return len(get_tokenizer()(counted)) * len(text) // max(len(counted), 1)


def _count_at_least(text: str) -> int:
    unspaced = len(_UNSPACED.findall(text))
    return unspaced // _UNSPACED_CHARACTERS_OF_A_TOKEN + (len(text) - unspaced) // _CHARACTERS_OF_A_TOKEN


class WholeImagesPromptHelper(ChatPromptHelper):
    """A ``ChatPromptHelper`` that keeps images with their labels, and in one request if possible.

    LlamaIndex's own counts 2,125 tokens for each image, so that a model with a context of 8 K gets three at a time,
    reads every file several times, and may end a request between a label and its image. This helper sends any number of
    images together as long as texts and labels leave room: ``ZhipuMultiModal`` fits the images into what the model
    takes. Texts keep their lines, and are split where one is too long.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "WholeImagesPromptHelper"

    async def arepack(
        self,
        prompt: BasePromptTemplate,
        messages: Sequence[ChatMessage],
        padding: int = _PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> list[ChatMessage]:
        """Pack messages, in order, into as few as their texts need."""
        images = sum(map(_has_image, messages))
        size = self._room(prompt, llm, tools) - padding - _image_room(images, self.context_window)
        packs: list[list[ChatMessage]] = [[]]
        left = size
        for piece in [piece for message in messages for piece in await self._pieces(message, size)]:
            tokens = self._text_tokens(piece)
            if tokens > left and packs[-1]:
                packs.append([])
                left = size
            packs[-1].append(piece)
            left -= tokens
        return [_joined(pack) for pack in packs if pack]

    async def _pieces(self, message: ChatMessage, size: int) -> list[ChatMessage]:
        """Split a text that is longer than a request takes."""
        if _has_image(message) or self._text_tokens(message) <= size:
            return [message]
        if size <= 0:
            raise self._too_long(self.context_window - self.num_output - size)
        return cast("list[ChatMessage]", await message.asplit(max_tokens=size))

    def _text_tokens(self, message: ChatMessage) -> int:
        count = TokenCounter().get_string_tokens
        return sum(count(block.text) for block in message.blocks if isinstance(block, TextBlock))

    def _room(self, prompt: BasePromptTemplate, llm: LLM | None, tools: list[BaseTool] | None) -> int:
        """Return how many tokens of a request are left for sources; counted as in LlamaIndex, but without roles."""
        texts = [get_empty_prompt_txt(prompt), getattr(llm, "system_prompt", None) or ""]
        # A structured LLM sends its class as a tool.
        own = [get_function_tool(llm.output_cls)] if isinstance(llm, StructuredLLM) else []
        functions = [tool.metadata.to_openai_tool() for tool in [*(tools or []), *own]]
        counter = TokenCounter()
        taken = sum(map(counter.get_string_tokens, texts)) + counter.estimate_tokens_in_tools(functions)
        room = self.context_window - self.num_output - taken
        if room < 0:
            raise self._too_long(taken)
        return room if self.chunk_size_limit is None else min(room, self.chunk_size_limit)

    def _too_long(self, taken: int) -> ValueError:
        return ValueError(
            f"question, prompt and images take about {taken} tokens and leave no room for texts: the model takes "
            f"{self.context_window}, {self.num_output} of them for the answer; {_SHORTEN}"
        )

    async def atruncate(
        self,
        prompt: BasePromptTemplate,
        messages: Sequence[ChatMessage],
        padding: int = _PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> Sequence[ChatMessage]:
        """Shorten messages that hold text alone."""
        return [
            message
            if _has_image(message)
            else (await super(WholeImagesPromptHelper, self).atruncate(prompt, [message], padding, llm, tools))[0]
            for message in messages
        ]


def _has_image(message: ChatMessage) -> bool:
    return any(isinstance(block, ImageBlock) for block in message.blocks)


def _joined(messages: Sequence[ChatMessage]) -> ChatMessage:
    return ChatMessage(role=messages[0].role, blocks=[block for message in messages for block in message.blocks])


TEXT_TEMPLATES = ("text_qa_template", "refine_template", "summary_template", "image_qa_template")
"""LlamaIndex's templates for texts, which a multimodal synthesizer never uses."""

# These put all sources into one request, if they fit.
_ONE_REQUEST = (ResponseMode.COMPACT, ResponseMode.SIMPLE_SUMMARIZE)

# For these, LlamaIndex would create an LLM of OpenAI's if none is given.
_MODES_WITHOUT_LLM: dict[ResponseMode, type[BaseSynthesizer]] = {
    ResponseMode.NO_TEXT: NoText,
    ResponseMode.CONTEXT_ONLY: ContextOnly,
}


def image_synthesizer(
    llm: LLM,
    language: Language = "zh",
    response_mode: ResponseMode = ResponseMode.COMPACT,
    *,
    streaming: bool = False,
    **settings: Any,
) -> BaseSynthesizer:
    """Make the synthesizer of a response mode.

    Args:
        llm: A chat LLM that takes images.
        language: Language of the prompts.
        response_mode: One of LlamaIndex's response modes.
        streaming: Whether answers stream.
        **settings: Further arguments of ``get_response_synthesizer``; a template that is None is the package's.
    """
    if response_mode in _MODES_WITHOUT_LLM:
        return _MODES_WITHOUT_LLM[response_mode](llm=llm, streaming=streaming, multimodal=True)
    prompts = prompts_of(language)
    own = {
        "chat_content_qa_template": prompts.qa,
        "chat_content_refine_template": prompts.refine,
        "chat_summary_template": prompts.summary,
        "simple_template": prompts.simple,
    }
    for name, template in own.items():
        settings[name] = ImagePromptTemplate.of(settings.get(name) or template)
    return get_response_synthesizer(
        llm=llm,
        chat_prompt_helper=Settings._chat_prompt_helper or WholeImagesPromptHelper.from_llm_metadata(llm.metadata),
        response_mode=response_mode,
        streaming=streaming,
        multimodal=True,
        **settings,
    )


def may_take_one_request(llm: LLM, response_mode: ResponseMode, output_cls: type[BaseModel] | None = None) -> bool:
    """Return whether an answer needs no synthesizer if one request holds all sources.

    LlamaIndex parses structured answers, and a prompt helper that the user has set decides how sources are packed.

    Args:
        llm: The LLM to ask.
        response_mode: One of LlamaIndex's response modes.
        output_cls: The class of structured answers, if they are wanted.
    """
    is_structured = output_cls is not None or isinstance(llm, StructuredLLM)
    return response_mode in _ONE_REQUEST and not is_structured and Settings._chat_prompt_helper is None


def asks_an_llm(synthesizer: BaseSynthesizer) -> bool:
    """Return whether a synthesizer asks a model at all."""
    return not isinstance(synthesizer, tuple(_MODES_WITHOUT_LLM.values()))


def looks_at_sources(synthesizer: BaseSynthesizer) -> bool:
    """Return whether a synthesizer uses sources, and not the question alone."""
    return not isinstance(synthesizer, Generation)


def without_text_templates(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without templates for texts, which LlamaIndex passes on as None.

    Raises:
        ValueError: A template for texts is given.
    """
    require_no_text_templates(name for name, value in options.items() if value is not None)
    return {name: value for name, value in options.items() if name not in TEXT_TEMPLATES}


def require_no_text_templates(names: Iterable[str]) -> None:
    """Raise an error for templates that would never be used.

    Raises:
        ValueError: One of the names belongs to a template for texts.
    """
    for name in names:
        if name in TEXT_TEMPLATES:
            raise ValueError(f"{name} is not for answers from images; give chat_content_qa_template or its siblings")
