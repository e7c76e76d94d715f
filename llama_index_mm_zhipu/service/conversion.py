"""Convert retrieved nodes to the plain data of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore

from llama_index_mm_zhipu.images import (
    PAGE_TEXT_LINES,
    caption_of,
    describe,
    has_image,
    is_data_uri,
    is_url,
    page_text_of,
)
from llama_index_mm_zhipu.query.labels import IMAGE_LABEL, RETRIEVAL_SCORES
from llama_index_mm_zhipu.readers.figures import PAGE_LABEL
from llama_index_mm_zhipu.readers.records import (
    FILE_NAME,
    FILE_PATH,
    RECORD_SEPARATOR,
    RESERVED_KEYS,
    SOURCE_ROOT,
    location_of,
    path_of_location,
    time_of,
)
from llama_index_mm_zhipu.service.results import SearchResult, TextLine
from llama_index_mm_zhipu.store_file import INTERNAL_METADATA_KEYS
from llama_index_mm_zhipu.vector_store.fulltext import count_words, tokens_of, words_of_query

_BOX_LENGTH = 4
OWN_METADATA_KEYS = RESERVED_KEYS | INTERNAL_METADATA_KEYS
"""Metadata keys of this package, which results do not show."""


def results_of(found: Sequence[NodeWithScore]) -> list[SearchResult]:
    """Return retrieved nodes, labelled by ``ImageRetriever`` or an engine, as plain data in their order."""
    return [result_of(each.node, each.score) for each in found]


def result_of(node: BaseNode, score: float | None = None) -> SearchResult:
    """Return a node as plain data.

    Args:
        node: An image or a text.
        score: Its score; None if it was not searched for.
    """
    label = _mapping_in(node, IMAGE_LABEL)
    number = label.get("number")
    is_cosine = label.get("score_type") == "similarity" or score == _mapping_in(node, RETRIEVAL_SCORES).get("cosine")
    is_image = has_image(node)
    return SearchResult(
        type="image" if is_image else "text",
        # Records of a data set may have a key of that name.
        number=number if isinstance(number, int) else None,
        node_id=node.node_id,
        score=score,
        score_type=None if score is None else "similarity" if is_cosine else "score",
        caption=caption_of(node) if is_image else "",
        text=page_text_of(node) if is_image else node.get_content(MetadataMode.NONE),
        page=str(node.metadata.get(PAGE_LABEL) or ""),
        time=time_of(node),
        source=source_of(node),
        metadata={key: value for key, value in node.metadata.items() if key not in OWN_METADATA_KEYS},
    )


def lines_of(node: BaseNode, words: str = "") -> list[TextLine]:
    """Return the lines that OCR found in an image.

    Args:
        node: The image.
        words: Words that were searched for; lines that full text search would find by any of them are marked.
    """
    searched = words_of_query(words)
    stored = node.metadata.get(PAGE_TEXT_LINES)
    return [
        TextLine(
            text=str(line.get("text", "")),
            box=tuple(line["box"]),
            score=float(line.get("score", 1)),
            is_match=count_words(searched, tokens_of(str(line.get("text", "")))) > 0,
        )
        for line in (stored if isinstance(stored, list) else ())
        if isinstance(line, Mapping) and len(line.get("box", ())) == _BOX_LENGTH
    ]


def source_of(node: BaseNode) -> str:
    """Return the file or URL that a node comes from; empty if that is not known.

    The part of a URL that may hold a secret is left out.
    """
    path = getattr(node, "image_path", None) or node.metadata.get(FILE_PATH)
    if path:
        # LlamaIndex takes URLs and images in base64 for paths, too.
        return describe(str(path)) if is_url(str(path)) or is_data_uri(str(path)) else str(path)
    root, location = node.metadata.get(SOURCE_ROOT), location_of(node)
    if location is not None and isinstance(root, str):
        is_record = location.startswith(f"{root}{RECORD_SEPARATOR}")
        name = node.metadata.get(FILE_NAME)
        return path_of_location(root if is_record or name is None else f"{root}/{name}")
    url = getattr(node, "image_url", None)
    return describe(url) if url else ""


def _mapping_in(node: BaseNode, key: str) -> Mapping[str, Any]:
    value = node.metadata.get(key)
    return value if isinstance(value, Mapping) else {}
