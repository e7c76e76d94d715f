"""Errors for arguments that are not understood: each names the argument, and what to write instead."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from llama_index.core.bridge.pydantic import BaseModel, model_validator

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
Member = TypeVar("Member", bound=Enum)

_SIMILAR = 0.75
_MAX_LISTED = 40

ARGUMENTS_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "api_url": ("api_base",),
    "base_url": ("api_base",),
    "batch_size": ("embed_batch_size", "insert_batch_size", "choice_batch_size"),
    "checkpoint": ("model_name",),
    "collection_name": ("namespace",),
    "cutoff": ("similarity_cutoff",),
    "directory": ("persist_dir", "folder"),
    "embedding": ("embed_model",),
    "embeddings": ("embed_model",),
    "endpoint": ("api_base",),
    "files": ("image_documents", "nodes_or_documents"),
    "image": ("image_documents", "picture"),
    "image_files": ("image_documents",),
    "image_paths": ("image_documents",),
    "image_top_k": ("image_similarity_top_k",),
    "image_urls": ("image_documents",),
    "images": ("image_documents", "nodes_or_documents"),
    "k": ("similarity_top_k", "top_n", "top_k"),
    "key": ("api_key",),
    "limit": ("similarity_top_k", "top_n", "top_k"),
    "max_completion_tokens": ("max_tokens",),
    "max_new_tokens": ("max_tokens",),
    "max_output_tokens": ("max_tokens",),
    "min_score": ("similarity_cutoff",),
    "mode": ("vector_store_query_mode", "chat_mode"),
    "model": ("model_name", "embed_model", "llm"),
    "model_name": ("model",),
    "model_name_or_path": ("model_name", "model"),
    "model_path": ("model_name", "model"),
    "n": ("similarity_top_k", "top_n"),
    "n_results": ("similarity_top_k", "top_n", "top_k"),
    "num_results": ("similarity_top_k", "top_n", "top_k"),
    "path": ("persist_dir", "model_name", "folder"),
    "persist_directory": ("persist_dir",),
    "postprocessors": ("node_postprocessors",),
    "query_type": ("vector_store_query_mode",),
    "rerank": ("node_postprocessors",),
    "reranker": ("node_postprocessors",),
    "score_threshold": ("similarity_cutoff",),
    "search_kwargs": ("vector_store_kwargs",),
    "search_mode": ("vector_store_query_mode",),
    "search_type": ("vector_store_query_mode",),
    "stop_sequences": ("stop",),
    "storage_dir": ("persist_dir",),
    "stream": ("streaming",),
    "threshold": ("similarity_cutoff",),
    "top_k": ("similarity_top_k", "top_n"),
    "where": ("filters",),
}
"""Names of arguments in other libraries, and ours for the same thing, the likeliest first."""


def require_known(owner: str, given: Iterable[str], known: Collection[str], advice: str = "") -> None:
    """Refuse arguments that nobody takes: left alone, ``include_image=False`` would send images.

    Args:
        owner: What was called, for the message.
        given: Names of the arguments.
        known: Names that are taken.
        advice: What to do if no known name is similar; by default the known names are listed.

    Raises:
        TypeError: A name is not known; the message names one that is similar, or that means the same.
    """
    unknown = [name for name in given if name not in known]
    if not unknown:
        return
    name = unknown[0]
    likely = _likely_name(name, known)
    if likely is not None:
        advice = f"did you mean {likely!r}?"
    elif not advice:
        listed = sorted(known)[:_MAX_LISTED]
        advice = f"it takes {', '.join(listed)}" if listed else "it takes no keyword arguments"
    raise TypeError(f"{owner}: unknown argument {name!r}; {advice}")


def explicit_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that an unknown keyword argument is refused with the name that was probably meant."""
    known = keyword_names(function)
    owner = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        require_known(owner, kwargs, known)
        return function(*args, **kwargs)

    return checked


def explicit_constructor(cls: type[C]) -> type[C]:
    """Decorate a class so that its constructor refuses unknown arguments as ``explicit_arguments`` does."""
    cls.__init__ = explicit_arguments(cls.__init__)  # type: ignore[method-assign]
    return cls


def keyword_names(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names that a function takes as keyword arguments."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return frozenset(each.name for each in parameters if each.kind in named) - {"self", "cls"}


def chosen(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the arguments that have one of these names."""
    return {name: value for name, value in given.items() if name in names}


class KnownFields(BaseModel):
    """A pydantic model whose constructor refuses arguments that are no fields, where LlamaIndex's would drop them."""

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, data: Any) -> Any:
        # pydantic passes a TypeError on as it is.
        if isinstance(data, dict):
            cls._require_known_fields(data)
        return data

    @classmethod
    def _require_known_fields(cls, given: Iterable[str]) -> None:
        aliases = {field.alias for field in cls.model_fields.values() if field.alias}
        require_known(cls.__name__, given, {*cls.model_fields, *aliases, "class_name"}, cls._advice())

    @classmethod
    def _advice(cls) -> str:
        """Say what to do with an argument that no field is similar to; empty lists the fields."""
        return ""


def member_of(enum: type[Member], value: Any, argument: str) -> Member:
    """Return a member of an enum by its value.

    Args:
        enum: Of strings.
        value: The member, or its value.
        argument: Whose value it is, for the message.

    Raises:
        ValueError: There is none of this value.
    """
    try:
        return enum(value)
    except ValueError:
        values = [str(member.value) for member in enum]
        raise ValueError(f"{argument} is {value!r}; it must be one of {', '.join(map(repr, values))}") from None


def _likely_name(name: str, known: Collection[str]) -> str | None:
    for same_meaning in _ELSEWHERE_PLAIN.get(_plain(name), ()):
        if same_meaning in known:
            return same_meaning
    similar = difflib.get_close_matches(name.lower(), known, n=1, cutoff=_SIMILAR)
    return similar[0] if similar else None


def _plain(name: str) -> str:
    """Spell ``topK``, ``top-k`` and ``top_k`` alike."""
    return "".join(filter(str.isalnum, name.lower()))


_ELSEWHERE_PLAIN = {_plain(name): meanings for name, meanings in ARGUMENTS_ELSEWHERE.items()}
