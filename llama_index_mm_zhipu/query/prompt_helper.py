"""How sources are packed into as few requests as possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from llama_index.core.base.llms.types import ChatMessage, ImageBlock
from llama_index.core.indices.prompt_helper import ChatPromptHelper
from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.prompt_utils import get_empty_prompt_txt

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool

_PADDING = 5
# Room that texts leave for each picture, and the share of the context that they leave at most.
_PICTURE_TOKENS = 1000
_LARGEST_SHARE = 4


class WholePicturesPromptHelper(ChatPromptHelper):
    """A ``ChatPromptHelper`` that never parts a picture from its label, nor pictures from each other.

    LlamaIndex's own counts 2,125 tokens for each picture, so that a model with a context of 8 K gets three at a time,
    reads every file several times to do so, and may end a request between a label and its picture. Here pictures go
    out together, however many: ``ZhipuMultiModal`` fits them into what the model takes. Texts keep their lines, and are
    split where one is too long.
    """

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "WholePicturesPromptHelper"

    async def arepack(
        self,
        prompt: BasePromptTemplate,
        messages: Sequence[ChatMessage],
        padding: int = _PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> list[ChatMessage]:
        """Pack messages into the fewest, those with pictures all into the last one."""
        texts, pictures = _apart(messages)
        padding += min(len(pictures) * _PICTURE_TOKENS, self.context_window // _LARGEST_SHARE)
        size = self._room(prompt, llm, tools) - padding
        packs: list[list[ChatMessage]] = [[]]
        left = size
        for text in [piece for message in texts for piece in await _pieces(message, size)]:
            tokens = await text.aestimate_tokens()
            if tokens > left and packs[-1]:
                packs.append([])
                left = size
            packs[-1].append(text)
            left -= tokens
        packs[-1].extend(pictures)
        return [_joined(pack) for pack in packs if pack]

    def _room(self, prompt: BasePromptTemplate, llm: LLM | None, tools: list[BaseTool] | None) -> int:
        """Return the tokens that a request has for sources, as LlamaIndex's own method counts them but for roles."""
        texts = [get_empty_prompt_txt(prompt), getattr(llm, "system_prompt", None) or ""]
        functions = [tool.metadata.to_openai_tool() for tool in self._get_tools_from_llm(llm, tools)]
        counter = self._token_counter
        taken = sum(map(counter.get_string_tokens, texts)) + counter.estimate_tokens_in_tools(functions)
        room = self._get_available_context_size(taken)
        return room if self.chunk_size_limit is None else min(room, self.chunk_size_limit)

    async def atruncate(
        self,
        prompt: BasePromptTemplate,
        messages: Sequence[ChatMessage],
        padding: int = _PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> Sequence[ChatMessage]:
        """Shorten messages that are of text alone."""
        return [
            message
            if _has_picture(message)
            else (await super(WholePicturesPromptHelper, self).atruncate(prompt, [message], padding, llm, tools))[0]
            for message in messages
        ]


async def _pieces(message: ChatMessage, size: int) -> list[ChatMessage]:
    """Split a text that is longer than a request takes."""
    if await message.aestimate_tokens() <= size:
        return [message]
    return cast("list[ChatMessage]", await message.asplit(max_tokens=size))


def _apart(messages: Sequence[ChatMessage]) -> tuple[list[ChatMessage], list[ChatMessage]]:
    return [m for m in messages if not _has_picture(m)], [m for m in messages if _has_picture(m)]


def _has_picture(message: ChatMessage) -> bool:
    return any(isinstance(block, ImageBlock) for block in message.blocks)


def _joined(messages: Sequence[ChatMessage]) -> ChatMessage:
    return ChatMessage(role=messages[0].role, blocks=[block for message in messages for block in message.blocks])
