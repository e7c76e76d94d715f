"""``with_image_blocks``: tools of MCP servers whose images reach the model as images, not as base64 in a text."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import wraps
from typing import Any

from llama_index.core.base.llms.types import ContentBlock, TextBlock
from llama_index.core.tools import FunctionTool, ToolOutput

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.images import ImageError, decode_base64, is_data_uri
from llama_index_mm_zhipu.llm.images import UnprintedImageBlock, small_bytes
from llama_index_mm_zhipu.prompts.wording import Wording, in_one_line, wording_of
from llama_index_mm_zhipu.query.tools import made_output
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import Language

logger = logging.getLogger(__name__)

# Results are recognised by their attributes: the package mcp, whose classes they are, is not imported, because only
# users of MCP have it. Its version 1 writes some names in camel case.


@explicit_arguments
def with_image_blocks(tools: Iterable[FunctionTool], *, language: Language = "zh") -> list[FunctionTool]:
    """Return the tools of MCP servers, such that agents see the images that the servers return.

    LlamaIndex makes one text of an MCP result, with the base64 of its images. The tools returned here make a
    ``TextBlock`` of each text and an ``ImageBlock`` of each image, in their order; images of more than 2,048 pixels are
    shrunk. Other content, and images that cannot be read, are named in a text. A result that is an error stays one.
    Outputs of other tools are not changed.

    Args:
        tools: Tools of ``McpToolSpec`` from ``llama-index-tools-mcp``.
        language: ``"zh"`` or ``"en"``, the language of the texts that replace other content.

    Returns:
        A tool for each of ``tools``, with the same name, description and arguments.

    Raises:
        TypeError: One of the tools is not a ``FunctionTool``.

    Examples:
        >>> from base64 import b64encode
        >>> from pathlib import Path
        >>> from llama_index.core.tools import FunctionTool
        >>> from llama_index_mm_zhipu.query import with_image_blocks
        >>> from mcp_types import CallToolResult, ImageContent, TextContent
        >>> image = ImageContent(data=b64encode(Path("query.jpg").read_bytes()).decode(), mime_type="image/jpeg")
        >>> def look() -> CallToolResult:
        ...     return CallToolResult(content=[TextContent(text="红苹果"), image])
        >>> [tool] = with_image_blocks([FunctionTool.from_defaults(look)])
        >>> [block.block_type for block in tool().blocks]
        ['text', 'image']
    """
    wording = wording_of(language)
    return [_converting(tool, wording) for tool in tools]


def _converting(tool: FunctionTool, wording: Wording) -> FunctionTool:
    if not isinstance(tool, FunctionTool):
        raise TypeError(f"a {type(tool).__name__} is not a FunctionTool; give the tools of McpToolSpec")

    # With the signature of the original function, in which LlamaIndex looks for a context.
    @wraps(tool.real_fn)
    def call(*args: Any, **arguments: Any) -> ToolOutput:
        return _converted(tool.call(*args, **arguments), wording)

    @wraps(tool.real_fn)
    async def acall(*args: Any, **arguments: Any) -> ToolOutput:
        return await asyncio.to_thread(_converted, await tool.acall(*args, **arguments), wording)

    return FunctionTool(call, tool.metadata, acall, callback=made_output)


def _converted(output: ToolOutput, wording: Wording) -> ToolOutput:
    """Return an output whose blocks are those of an MCP result, or the output itself if it has none."""
    result = output.raw_output
    parts = _parts_of(result)
    if parts is None:
        return output
    structured = _attribute(result, "structured_content", "structuredContent")
    blocks = [block for part in parts for block in _blocks_of(part, wording)]
    if not blocks and structured is not None:
        blocks = [TextBlock(text=json.dumps(structured, ensure_ascii=False, default=str))]
    converted = ToolOutput(
        blocks=blocks,
        tool_name=output.tool_name,
        raw_input=output.raw_input,
        is_error=bool(_attribute(result, "is_error", "isError")),
    )
    # Without the base64, which events and memories would hold a second time.
    converted.raw_output = converted.content if structured is None else structured
    return converted


def _parts_of(result: Any) -> Sequence[Any] | None:
    """Return the content of a tool call, or the contents of a resource; None for anything else."""
    for name, attribute in (("content", "type"), ("contents", "uri")):
        parts = getattr(result, name, None)
        if isinstance(parts, list) and all(hasattr(part, attribute) for part in parts):
            return parts
    return None


def _blocks_of(part: Any, wording: Wording) -> Iterator[ContentBlock]:
    # The contents of a resource have no type.
    content = getattr(part, "resource", part)
    text = getattr(content, "text", None)
    if isinstance(text, str):
        yield TextBlock(text=text)
        return
    kind = _kind_of(content)
    data = _attribute(content, "data", "blob")
    if isinstance(data, str) and "image" in (kind.partition("/")[0], getattr(content, "type", None)):
        yield _image_of(data, kind, wording)
    else:
        yield TextBlock(text=wording.omitted.format(what=_name_of(content, kind)))


def _image_of(data: str, kind: str, wording: Wording) -> ContentBlock:
    try:
        return UnprintedImageBlock(image=small_bytes(decode_base64(data, f"an MCP result of type {one_line(kind)}")))
    except ImageError as error:
        logger.warning("an image of an MCP result is left out: %s", error)
        return TextBlock(text=wording.gone)


def _kind_of(content: Any) -> str:
    return str(_attribute(content, "mime_type", "mimeType") or getattr(content, "type", None) or "binary")


def _name_of(content: Any, kind: str) -> str:
    uri = str(getattr(content, "uri", None) or "")
    # A data URI is its content.
    names = [str(getattr(content, "name", None) or ""), "" if is_data_uri(uri) else uri, kind]
    return in_one_line(" ".join(filter(None, names)))


def _attribute(value: Any, *names: str) -> Any:
    return next((found for name in names if (found := getattr(value, name, None)) is not None), None)
