"""Tools in requests and tool calls in answers. Incomplete arguments raise an error and are never guessed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, ToolCallBlock
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool

from llama_index_mm_zhipu.llm.errors import GLMInvalidRequestError, GLMToolCallError, new_error
from llama_index_mm_zhipu.llm.models import MODELS, ModelLimits, table_name
from llama_index_mm_zhipu.text import replace_lone_surrogates

_MAX_QUOTED_CHARACTERS = 80

# A function whose schema has any of these may take arguments.
_PARAMETER_KEYS = ("properties", "patternProperties", "additionalProperties", "$ref", "allOf", "anyOf", "oneOf")


@dataclass
class _Call:
    """A tool call, which may still be incomplete."""

    index: Any = None
    id: str = ""
    name: str = ""
    arguments: str = ""


class ToolCalls:
    """Collects the tool calls of one answer.

    Args:
        without_parameters: Names of functions that take no arguments. The API may send empty arguments for them.
    """

    def __init__(self, without_parameters: Collection[str] = ()) -> None:
        self._without_parameters = without_parameters
        self._calls: list[_Call] = []

    def add(self, calls: Iterable[dict[str, Any]], *, whole: bool) -> None:
        """Add the ``tool_calls`` of an answer or of a piece of a stream.

        Args:
            calls: The calls as the API sent them.
            whole: Whether each is a whole call, and not a fragment that may continue an earlier one.
        """
        for part in calls:
            function = part.get("function") or {}
            call_id, name = str(part.get("id") or ""), str(function.get("name") or "")
            call = None if whole else self._call_of(part.get("index"), call_id, name)
            if call is None:
                call = _Call(part.get("index"))
                self._calls.append(call)
            call.id = call.id or call_id
            call.name = call.name or name
            call.arguments += _as_text(function.get("arguments"))

    def partial(self) -> list[dict[str, Any]]:
        """Return the calls so far in the API's form, with arguments that may be incomplete."""
        return [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": replace_lone_surrogates(call.arguments)},
            }
            for call in self._calls
        ]

    def complete(self, finish_reason: str | None) -> list[ToolCallBlock]:
        """Return the calls of a complete answer.

        Args:
            finish_reason: The answer's ``finish_reason``, or None if the API sent none.

        Raises:
            GLMToolCallError: A call has no name, or its arguments are not one JSON object.
        """
        return [
            ToolCallBlock(
                tool_call_id=call.id, tool_name=call.name, tool_kwargs=self._complete_arguments(call, finish_reason)
            )
            for call in self._calls
        ]

    def _call_of(self, index: Any, call_id: str, name: str) -> _Call | None:
        """Return the call that a fragment continues, by default the newest one, or None if it begins a new call."""
        same_index = [call for call in self._calls if index is None or call.index == index]
        newest = same_index[-1] if same_index else None
        return None if newest is None or _begins_another(newest, call_id, name) else newest

    def _complete_arguments(self, call: _Call, finish_reason: str | None) -> str:
        if not call.name:
            raise _error("a tool without naming it", call.arguments)
        arguments = replace_lone_surrogates(call.arguments)
        if not arguments.strip() and call.name in self._without_parameters and finish_reason not in (None, "length"):
            return "{}"
        if finish_reason == "length" and _parsed(arguments) is None:
            raise _error(f"{call.name!r:.60} with arguments that max_tokens cut off", arguments)
        read_arguments(call.name, arguments)
        return arguments


def read_arguments(name: str, arguments: str) -> dict[str, Any]:
    """Parse the complete arguments of a tool.

    Raises:
        GLMToolCallError: The arguments are not one JSON object.
    """
    parsed = _parsed(arguments)
    if not isinstance(parsed, dict):
        raise _error(f"{name!r:.60} with arguments that are not one JSON object", arguments)
    return parsed


def functions_without_parameters(tools: Any) -> frozenset[str]:
    """Return the names of the functions among the ``tools`` of a request that take no arguments."""
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return frozenset(
        str(function.get("name"))
        for function in functions
        if isinstance(function, dict) and not _takes_arguments(function.get("parameters"))
    )


def _takes_arguments(schema: Any) -> bool:
    return isinstance(schema, dict) and any(schema.get(key) for key in _PARAMETER_KEYS)


def _begins_another(call: _Call, call_id: str, name: str) -> bool:
    """Return whether a fragment with the same index as a call begins another call.

    Some servers send all calls with one index, others give every fragment of a call a different id. Only the first
    fragment of a call has a name.
    """
    if not name or not call.name:
        return False
    if name != call.name:
        return True
    if call_id and call.id:
        return call_id != call.id
    # Nothing can follow a complete object, so this is another call of the same function.
    return isinstance(_parsed(call.arguments), dict)


def _as_text(arguments: Any) -> str:
    """Return arguments as JSON text. Some servers send the object itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _parsed(arguments: str) -> Any:
    """Parse JSON, or return None if it is invalid. Line breaks in strings, which models write, are accepted."""
    try:
        return json.loads(arguments, strict=False, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _error(what: str, arguments: str) -> GLMToolCallError:
    beginning = arguments[:_MAX_QUOTED_CHARACTERS]
    quoted = f"{beginning!r}{'…' if len(arguments) > _MAX_QUOTED_CHARACTERS else ''}"
    return new_error(GLMToolCallError, f"the model called {what}: {quoted}")


def tool_fields(tools: Sequence[BaseTool]) -> dict[str, Any]:
    """Return the request fields that offer tools to the model."""
    specifications = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
    # The API accepts no other choice.
    return {"tools": specifications, "tool_choice": "auto"} if specifications else {}


def require_function_calls(model: str, limits: ModelLimits) -> None:
    """Refuse functions for a model in ``MODELS`` that calls none. For unknown models, the API decides.

    Args:
        model: Name of the model.
        limits: Limits of the model.

    Raises:
        GLMInvalidRequestError: The model calls no functions; the message names models that do.
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
    """Return the tools that the model called, with their arguments.

    Raises:
        GLMToolCallError: Arguments are not one complete JSON object.
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
    """Return a tool call in the API's form, with arguments as JSON text."""
    return _api_call(call.tool_call_id, call.tool_name, call.tool_kwargs)


def calls_in_history(message: ChatMessage, new_id: str) -> list[dict[str, Any]]:
    """Return the tool calls of an earlier answer in the API's form.

    They are read from its blocks, or from ``additional_kwargs``, where other integrations put them: in ``tool_calls``
    as JSON or as objects of OpenAI's SDK or, in old histories, one call in ``function_call``.

    Args:
        message: The answer.
        new_id: Id for a ``function_call``, which has none.

    Raises:
        ValueError: An entry is not a tool call.
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
    """Remove all tool calls of an answer except the first."""
    message = response.message
    first = next((block for block in message.blocks if isinstance(block, ToolCallBlock)), None)
    if first is not None:
        message.blocks = [block for block in message.blocks if block is first or not isinstance(block, ToolCallBlock)]
        message.additional_kwargs["tool_calls"] = message.additional_kwargs["tool_calls"][:1]


def _arguments(call: ToolCallBlock) -> dict[str, Any]:
    arguments = call.tool_kwargs
    return arguments if isinstance(arguments, dict) else read_arguments(call.tool_name, arguments)
