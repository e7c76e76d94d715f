"""Errors whose messages tell users what to do, for programs that show them in one line."""

from __future__ import annotations

from llama_index_mm_zhipu.prompts.wording import in_one_line

_EXPECTED = frozenset(
    {"GLMError", "ImportError", "OSError", "OcrEngineError", "RuntimeError", "UnknownNodeError", "ValueError"}
)
"""Classes by name: bad input, missing extras, stores, models, the API. Importing some of them is slow."""

_FAULTS = frozenset({"NotImplementedError", "RecursionError"})
"""Classes derived from these that only a fault of a program raises."""


class UnknownNodeError(LookupError):
    """No node has an id; the message names similar ids.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> ImageService(build_index(read_folder("images", id_prefix="shop"), embed_model)).look("shop/apples.jpg")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.service.errors.UnknownNodeError: no image has the id shop/apples.jpg; did you mean
        shop/apple.jpg, shop/plane.jpg, shop/green_apple.jpg?
    """


class FilterSyntaxError(ValueError):
    """A metadata filter is not written as ``FILTER_SYNTAX`` says.

    Args:
        message: What happened.
        expression: The filter as it was given.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> ImageService(index).parsed_filters(["便宜"])
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.service.errors.FilterSyntaxError: the filter '便宜' is not understood; write one of:
        key=value, ...
    """

    def __init__(self, message: str, *, expression: str = "") -> None:
        super().__init__(message)
        self.expression = expression


def is_expected(error: Exception) -> bool:
    """Return whether the message of an error tells what to do; others are faults of this package."""
    names = class_names(error)
    return not _EXPECTED.isdisjoint(names) and _FAULTS.isdisjoint(names)


def class_names(error: Exception) -> list[str]:
    """Return the names of an error's class and its base classes."""
    return [each.__name__ for each in type(error).__mro__]


def message_of(error: Exception) -> str:
    """Return the message of an error in one line, without control characters; its class if it has none."""
    return in_one_line(str(error)) or type(error).__name__
