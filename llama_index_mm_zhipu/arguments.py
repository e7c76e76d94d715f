"""Checks of arguments. Each error names the argument and says what to write instead."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from functools import wraps
from numbers import Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from llama_index.core.bridge.pydantic import BaseModel, ValidationError, model_validator

from llama_index_mm_zhipu.text import replace_lone_surrogates

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
Member = TypeVar("Member", bound=Enum)

_MIN_SIMILARITY = 0.75
_MAX_LISTED = 40

_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""At least two characters: one is a drive of Windows."""

ARGUMENTS_ELSEWHERE: dict[str, tuple[str, ...]] = {
    "api_token": ("api_key",),
    "api_url": ("api_base",),
    "base_url": ("api_base",),
    "batch_size": ("embed_batch_size", "insert_batch_size", "choice_batch_size"),
    "checkpoint": ("model_name",),
    "collection_name": ("namespace",),
    "clip_model": ("model_name", "embed_model"),
    "cutoff": ("similarity_cutoff",),
    "dtype": ("precision",),
    "dir": ("persist_dir", "folder"),
    "directory": ("persist_dir", "folder"),
    "embedding": ("embed_model",),
    "embeddings": ("embed_model",),
    "endpoint": ("api_base",),
    "fp16": ("precision",),
    "files": ("image_documents", "nodes_or_documents"),
    "image": ("image_documents",),
    "image_files": ("image_documents",),
    "folder": ("persist_dir",),
    "gpu": ("device",),
    "half": ("precision",),
    "image_embed_model": ("embed_model",),
    "image_paths": ("image_documents",),
    "image_top_k": ("image_similarity_top_k",),
    "image_urls": ("image_documents",),
    "images": ("image_documents", "nodes_or_documents"),
    "k": ("similarity_top_k", "top_n", "top_k"),
    "key": ("api_key",),
    "limit": ("similarity_top_k", "top_n", "top_k"),
    "language_model": ("llm",),
    "max_completion_tokens": ("max_tokens",),
    "max_new_tokens": ("max_tokens",),
    "max_output_tokens": ("max_tokens",),
    "max_results": ("similarity_top_k", "top_n"),
    "metadata_filter": ("filters",),
    "metadata_filters": ("filters",),
    "min_score": ("similarity_cutoff",),
    "mode": ("chat_mode", "vector_store_query_mode"),
    "model": ("model_name", "embed_model", "llm"),
    "model_name": ("model",),
    "model_name_or_path": ("model_name", "model"),
    "model_path": ("model_name", "model"),
    "multi_modal_llm": ("llm",),
    "n": ("similarity_top_k", "top_n"),
    "nodes": ("nodes_or_documents",),
    "n_results": ("similarity_top_k", "top_n", "top_k"),
    "num_results": ("similarity_top_k", "top_n", "top_k"),
    "path": ("persist_dir", "model_name", "folder"),
    "persist_directory": ("persist_dir",),
    "persist_path": ("persist_dir",),
    "prune": ("remove_missing",),
    "picture": ("image", "image_documents"),
    "postprocessors": ("node_postprocessors",),
    "query_type": ("vector_store_query_mode",),
    "rerank": ("node_postprocessors",),
    "reranker": ("node_postprocessors",),
    "score_threshold": ("similarity_cutoff",),
    "search_kwargs": ("vector_store_kwargs",),
    "search_mode": ("vector_store_query_mode",),
    "search_type": ("vector_store_query_mode",),
    "stop_sequences": ("stop",),
    "similarity_threshold": ("similarity_cutoff",),
    "storage_dir": ("persist_dir",),
    "store_dir": ("persist_dir",),
    "stream": ("streaming",),
    "threshold": ("similarity_cutoff",),
    "token": ("api_key",),
    "top_k": ("similarity_top_k", "top_n"),
    "top_n": ("similarity_top_k",),
    "uri": ("persist_dir",),
    "use_gpu": ("device",),
    "weights": ("model_name",),
    "where": ("filters",),
    "zhipu_api_key": ("api_key",),
    "zhipuai_api_key": ("api_key",),
}
"""Names of arguments in other libraries, with the names in this package for the same thing, most likely first."""


def require_known(owner: str, given: Iterable[str], known: Collection[str], advice: str = "") -> None:
    """Raise an error for an unknown argument. If it were ignored, ``include_image=False`` would still send images.

    Args:
        owner: Name of the function or class that was called.
        given: Names of the given arguments.
        known: Names of the accepted arguments.
        advice: Advice if no known name is similar. By default the known names are listed.

    Raises:
        TypeError: A name is unknown. The message suggests a name that is similar or means the same.
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
    """Decorate a function so that an unknown keyword argument raises an error that suggests the right name."""
    if any(each.kind == each.VAR_KEYWORD for each in inspect.signature(function).parameters.values()):
        # The constructor of a subclass that passes further arguments on to its base class, which checks them.
        return function
    known = keyword_names(function)
    owner = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        require_known(owner, kwargs, known)
        return function(*args, **kwargs)

    return checked


def explicit_constructor(cls: type[C]) -> type[C]:
    """Decorate a class with ``explicit_arguments`` for its constructor."""
    cls.__init__ = explicit_arguments(cls.__init__)  # type: ignore[method-assign]
    return cls


def keyword_names(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters that can be passed by keyword, without ``self`` and ``cls``."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return frozenset(each.name for each in parameters if each.kind in named) - {"self", "cls"}


def chosen(given: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return the given arguments that have one of the names."""
    return {name: value for name, value in given.items() if name in names}


class KnownFields(BaseModel):
    """A pydantic model whose constructor refuses unknown fields, which LlamaIndex's models ignore.

    An invalid value raises a ``ValueError`` of one line.
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ValueError(f"{type(self).__name__}: {self._wrong_values(error)}") from None

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Unpickle by the constructor, as LlamaIndex's components do, which would hide its error and go on."""
        self.__init__(**state["__dict__"])  # type: ignore[misc]

    @model_validator(mode="before")
    @classmethod
    def _only_known_fields(cls, data: Any) -> Any:
        # Pydantic does not wrap a TypeError.
        if isinstance(data, dict):
            cls._require_known_fields(data)
        return data

    @classmethod
    def _require_known_fields(cls, given: Iterable[str]) -> None:
        if cls.model_config.get("extra") == "allow":
            return
        aliases = {name for field in cls.model_fields.values() for name in (field.alias, field.validation_alias)}
        names = {name for name in aliases if isinstance(name, str)}
        known = {*cls.model_fields, *cls.model_computed_fields, *names, "class_name"}
        require_known(cls.__name__, given, known, cls._advice())

    @classmethod
    def _wrong_values(cls, error: ValidationError) -> str:
        parts = []
        for each in error.errors(include_url=False):
            name = ".".join(map(str, each["loc"])) or "the value"
            field = cls.model_fields.get(str(each["loc"][0])) if each["loc"] else None
            # The value of a field that its repr hides may be secret.
            given = f" is {each['input']!r:.60}" if field is None or field.repr else ""
            wanted = each["msg"].removeprefix("Value error, ").replace("Input should", "it should", 1)
            parts.append(f"{name}{given}; {wanted}")
        return "; ".join(parts)

    @classmethod
    def _advice(cls) -> str:
        """Return advice for an argument to which no field is similar; an empty string lists the fields."""
        return ""


def member_of(enum: type[Member], value: Any, argument: str) -> Member:
    """Return a member of an enum by its value.

    Args:
        enum: An enum of strings.
        value: The member or its value.
        argument: Name of the argument.

    Raises:
        ValueError: The enum has no such value.
    """
    try:
        return enum(value)
    except ValueError:
        values = [str(member.value) for member in enum]
        raise ValueError(f"{argument} is {value!r}; it must be one of {', '.join(map(repr, values))}") from None


def as_ids(value: Iterable[str] | None, argument: str) -> list[str] | None:
    """Return ids as a list, without lone surrogates, as the store writes them; None stays None.

    Args:
        value: Value of the argument.
        argument: Name of the argument.

    Raises:
        TypeError: The value is a string, which would count as a list of characters, or an id is not a string.
    """
    if value is None:
        return None
    if isinstance(value, str):
        raise TypeError(f"{argument} is the string {value!r:.60}; give a list of ids")
    ids = list(value)
    wrong = next((each for each in ids if not isinstance(each, str)), None)
    if wrong is not None:
        raise TypeError(f"{argument} holds {wrong!r:.60}; ids are strings")
    return list(map(replace_lone_surrogates, ids))


def as_path(value: str | Path, argument: str) -> Path:
    """Return a path with ``~`` expanded.

    Args:
        value: Value of the argument.
        argument: Name of the argument.

    Raises:
        TypeError: The value is not a path.
        ValueError: The value is empty, which would mean the current directory, or a URL, which would mean a folder of
            that name. The URL is not shown, as it may hold a password.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{argument} is {value!r:.60}; give a path, as text or pathlib.Path")
    if not os.fspath(value).strip():
        raise ValueError(f"{argument} is empty; the current directory is '.'")
    if scheme := _URL_SCHEME.match(os.fspath(value)):
        raise ValueError(f"{argument} is a URL ({scheme[0]}…); give a path on this machine")
    return Path(value).expanduser()


def require_choice(value: object, argument: str, *choices: str) -> None:
    """Raise an error if a value is not one of the choices.

    Raises:
        ValueError: The value is not one of the choices.
    """
    if value not in choices:
        raise ValueError(f"{argument} is {value!r:.60}; it must be {' or '.join(map(repr, choices))}")


def require_positive(value: object, argument: str) -> None:
    """Raise an error if a value is not a whole number above 0.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{argument} is {value!r:.60}; it must be a whole number above 0")


def in_range(value: float | None, argument: str, minimum: float, maximum: float) -> float | None:
    """Return a number from ``minimum`` to ``maximum`` as a float; None stays None.

    Raises:
        ValueError: The value is not a number or is out of range.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not minimum <= value <= maximum:
        raise ValueError(f"{argument} is {value!r:.60}; it must be a number from {minimum:g} to {maximum:g}")
    return float(value)


def _likely_name(name: str, known: Collection[str]) -> str | None:
    for same_meaning in _ELSEWHERE_PLAIN.get(_plain(name), ()):
        if same_meaning in known:
            return same_meaning
    similar = difflib.get_close_matches(name.lower(), known, n=1, cutoff=_MIN_SIMILARITY)
    return similar[0] if similar else None


def _plain(name: str) -> str:
    """Return a name without its punctuation and case: ``topK``, ``top-k`` and ``top_k`` become ``topk``."""
    return "".join(filter(str.isalnum, name.lower()))


_ELSEWHERE_PLAIN = {_plain(name): meanings for name, meanings in ARGUMENTS_ELSEWHERE.items()}
