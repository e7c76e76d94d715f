"""Function calling: LlamaIndex's tools to a request, the model's calls back to LlamaIndex."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool

from llama_index_mm_zhipu.llm.errors import GLMInvalidRequestError, new_error
from llama_index_mm_zhipu.llm.models import MODELS, ModelLimits, table_name
from llama_index_mm_zhipu.llm.tools import read_arguments


def tool_fields(tools: Sequence[BaseTool]) -> dict[str, Any]:
    """Return the fields of a request that offer tools to the model."""
    specifications = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
    # The API knows no other choice than "auto".
    return {"tools": specifications, "tool_choice": "auto"} if specifications else {}


def require_function_calls(model: str, limits: ModelLimits) -> None:
    """Refuse functions for a model of the table that calls none; of other models the API knows more.

    Args:
        model: Name of the model.
        limits: Its limits.

    Raises:
        GLMInvalidRequestError: It calls none; the message names models that do.
    """
    if limits.tools or table_name(model) is None:
        return
    able = ", ".join(name for name, others in MODELS.items() if others.tools)
    raise new_error(
        GLMInvalidRequestError,
        f"{model} calls no functions",
        advice=f"take a model that does ({able}), or a ReActAgent, which works with every model",
    )


def tool_calls(response: ChatResponse) -> list[ToolSelection]:
    """Return the tools that the model chose, with their arguments.

    Raises:
        GLMToolCallError: The arguments are not one complete JSON object.
    """
    return [
        ToolSelection(
            tool_id=block.tool_call_id or "",
            tool_name=block.tool_name,
            tool_kwargs=_arguments(block),
        )
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]


def api_tool_call(call: ToolCallBlock) -> dict[str, Any]:
    """Return a call in the API's form, with arguments as JSON text."""
    return _api_call(call.tool_call_id, call.tool_name, call.tool_kwargs)


def calls_in_history(message: ChatMessage, new_id: str) -> list[dict[str, Any]]:
    """Return the calls of an earlier answer in the API's form.

    They are in its blocks, or where other integrations leave them: in ``tool_calls`` of ``additional_kwargs`` as JSON
    or as objects of OpenAI's SDK, in old histories one call in ``function_call``.

    Args:
        message: The answer.
        new_id: Id for a ``function_call``, which has none.

    Raises:
        ValueError: What is there is no call.
    """
    if blocks := [block for block in message.blocks if isinstance(block, ToolCallBlock)]:
        return [api_tool_call(block) for block in blocks]
    listed = message.additional_kwargs.get("tool_calls")
    if not listed and (function := message.additional_kwargs.get("function_call")):
        listed = [{"id": new_id, "function": function}]
    return [_listed_call(call) for call in listed or ()]


def _listed_call(call: Any) -> dict[str, Any]:
    fields = _fields_of(call)
    function = _fields_of(fields.get("function"))
    return _api_call(fields.get("id"), function.get("name"), function.get("arguments"))


def _fields_of(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if not isinstance(value, dict):
        raise ValueError(f"the tool calls of a message hold a {type(value).__name__}; give them as ToolCallBlock")
    return value


def _api_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def keep_first_tool_call(response: ChatResponse) -> None:
    """Drop all tool calls of an answer but the first."""
    message = response.message
    first = next((block for block in message.blocks if isinstance(block, ToolCallBlock)), None)
    if first is not None:
        message.blocks = [block for block in message.blocks if block is first or not isinstance(block, ToolCallBlock)]
        message.additional_kwargs["tool_calls"] = message.additional_kwargs["tool_calls"][:1]


def _arguments(call: ToolCallBlock) -> dict[str, Any]:
    arguments = call.tool_kwargs
    return arguments if isinstance(arguments, dict) else read_arguments(call.tool_name, arguments)
