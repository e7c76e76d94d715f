"""Turns the arguments of ``plot_results`` and ``show`` into nodes with scores, words and an image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle
from PIL import Image

from llama_index_mm_zhipu.images import (
    ImageError,
    ImageSource,
    UrlRules,
    describe,
    is_data_uri,
    is_url,
    load_image,
    node_of_image,
    searchable_text_of,
)
from llama_index_mm_zhipu.prompts.wording import language_of_text
from llama_index_mm_zhipu.types import Language

Query: TypeAlias = "ImageSource | QueryBundle | None"
"""Words; an image in any form that ``images.load_image`` accepts; or a ``QueryBundle`` of both."""


def results_of(results: Any) -> list[NodeWithScore]:
    """Return the results to show, in their order, with the scores that they have.

    Args:
        results: Nodes with or without scores; images given as path, URL, ``bytes`` or ``PIL.Image``; one of these; or
            a response of a query engine or a chat engine, which has ``source_nodes``.

    Raises:
        TypeError: A result is neither a node nor an image.
    """
    sources = getattr(results, "source_nodes", results)
    if isinstance(sources, (str, bytes, bytearray, Path, Image.Image, BaseNode, NodeWithScore)):
        sources = [sources]
    if not isinstance(sources, Iterable):
        raise TypeError(f"cannot show an object of type {type(results).__name__}: give nodes, images or a response")
    return [_with_score(item) for item in sources]


def query_parts(query: Query, urls: UrlRules) -> tuple[str, Image.Image | None]:
    """Return the words and the image of a query.

    A string that is not an image counts as words. If it is a URL that was not fetched, the words are the URL without
    user, password, query and fragment, which may be secret.

    Raises:
        ImageError: The query is not a string, and its image cannot be read.
    """
    if query is None:
        return "", None
    if isinstance(query, QueryBundle):
        return query.query_str, load_image(query.image_path, urls=urls) if query.image_path else None
    if not isinstance(query, str):
        return "", load_image(query, urls=urls)
    try:
        return "", load_image(query, urls=urls)
    except ImageError:
        return describe(query) if is_url(query) or is_data_uri(query) else query, None


def language_of(words: str, results: Iterable[NodeWithScore]) -> Language:
    """Return the language of a query and its captions: Chinese if any of them is, or if there is no text at all."""
    texts = [words, *(searchable_text_of(result.node) for result in results)]
    return language_of_text("\n".join(texts))


def _with_score(item: Any) -> NodeWithScore:
    if isinstance(item, NodeWithScore):
        return item
    if isinstance(item, BaseNode):
        return NodeWithScore(node=item)
    try:
        return NodeWithScore(node=node_of_image(item))
    except ImageError as error:
        if isinstance(item, str):
            # The tile of this node will show the error.
            return NodeWithScore(node=ImageNode(id_=describe(item), image_path=item))
        raise TypeError(f"cannot show {describe(item)}: give nodes, images or a response ({error})") from None
