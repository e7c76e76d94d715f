"""What is asked: words, an image, or both."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import TypeAlias

from llama_index.core.schema import QueryBundle

from llama_index_mm_zhipu.images import ImageSource, image_source
from llama_index_mm_zhipu.text import with_whole_characters

Question: TypeAlias = "str | QueryBundle | ImageSource"
"""Words; an image in any form but a string; or both in a ``QueryBundle``."""

_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})
"""Unicode categories of spaces, line ends, controls and zero-width characters."""


def has_words(text: str) -> bool:
    """Whether a text holds anything but blanks, such as spaces of any width, line ends and zero-width characters."""
    return any(unicodedata.category(character) not in _INVISIBLE for character in text)


def as_bundle(question: Question) -> QueryBundle:
    """Return a question in the form that may hold an image, with whole characters.

    Raises:
        ImageError: It is neither words nor an image.
    """
    if isinstance(question, QueryBundle):
        return replace(question, query_str=with_whole_characters(question.query_str))
    return QueryBundle(with_whole_characters(question)) if isinstance(question, str) else as_image_bundle(question)


def as_image_bundle(image: QueryBundle | ImageSource) -> QueryBundle:
    """Return a question by an image alone; a string is the image's path or URL.

    Raises:
        ImageError: It is no image.
    """
    if isinstance(image, QueryBundle):
        return image
    image_source(image)
    # LlamaIndex declares a path, and hands it to the embedding model as it is.
    return QueryBundle("", image_path=image)  # type: ignore[arg-type]


def as_query(question: Question) -> QueryBundle:
    """Return a copy of a question to search by: blanks are no words.

    Raises:
        ImageError: It is neither words nor an image.
    """
    query = as_bundle(question)
    custom = query.custom_embedding_strs
    return replace(
        query,
        query_str=query.query_str if has_words(query.query_str) else "",
        custom_embedding_strs=None if custom is None else [text for text in custom if has_words(text)],
    )
