"""What can be shown: nodes, images by path, and the sources of answers."""

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
    caption_of,
    describe,
    is_data_uri,
    is_url,
    load_image,
    node_of_image,
)
from llama_index_mm_zhipu.prompts.wording import language_of_text
from llama_index_mm_zhipu.types import Language

Query: TypeAlias = "ImageSource | QueryBundle | None"
"""Words, or an image in any form that ``images.load_image`` takes, or both of a ``QueryBundle``."""


def results_of(results: Any) -> list[NodeWithScore]:
    """Return what is to be shown, best first, with scores where there are some.

    Args:
        results: Nodes with or without scores; images by path, URL, ``bytes`` or ``PIL.Image``; one of these; or a
            response with ``source_nodes``, of a query engine or a chat engine.

    Raises:
        TypeError: There is something else among them.
    """
    sources = getattr(results, "source_nodes", results)
    if isinstance(sources, (str, bytes, bytearray, Path, Image.Image, BaseNode, NodeWithScore)):
        sources = [sources]
    if not isinstance(sources, Iterable):
        raise TypeError(f"cannot show an object of type {type(results).__name__}: give nodes, images or a response")
    return [_with_score(item) for item in sources]


def query_parts(query: Query, urls: UrlRules) -> tuple[str, Image.Image | None]:
    """Return the words of a query and its image.

    A string that is no image counts as words; of a URL that was not fetched, what may be secret is left out.

    Raises:
        ImageError: The image of a query that is not a string cannot be read.
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
    """Return the language for a query and its results: Chinese if any word is, or if there are none."""
    texts = [words, *(caption_of(result.node) for result in results)]
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
            # Its tile says what is wrong with it.
            return NodeWithScore(node=ImageNode(id_=describe(item), image_path=item))
        raise TypeError(f"cannot show {describe(item)}: give nodes, images or a response ({error})") from None
