"""Convert retrieved nodes to the plain data of the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore

from llama_index_mm_zhipu.images import caption_of, describe, has_image, page_text_of
from llama_index_mm_zhipu.query.labels import IMAGE_LABEL
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
from llama_index_mm_zhipu.service.results import SearchResult
from llama_index_mm_zhipu.store_file import INTERNAL_METADATA_KEYS

_OWN_KEYS = RESERVED_KEYS | INTERNAL_METADATA_KEYS


def results_of(found: Sequence[NodeWithScore]) -> list[SearchResult]:
    """Return retrieved nodes, labelled by ``ImageRetriever`` or an engine, as plain data in their order."""
    return [result_of(each.node, each.score) for each in found]


def result_of(node: BaseNode, score: float | None = None) -> SearchResult:
    """Return a node as plain data.

    Args:
        node: An image or a text.
        score: Its score; None if it was not searched for.
    """
    label: Any = node.metadata.get(IMAGE_LABEL)
    label = label if isinstance(label, Mapping) else {}
    is_image = has_image(node)
    return SearchResult(
        type="image" if is_image else "text",
        number=label.get("number"),
        node_id=node.node_id,
        score=score,
        score_type=None if score is None else label.get("score_type", "score"),
        caption=caption_of(node) if is_image else "",
        text=page_text_of(node) if is_image else node.get_content(MetadataMode.NONE),
        page=str(node.metadata.get(PAGE_LABEL) or ""),
        time=time_of(node),
        source=source_of(node),
        metadata={key: value for key, value in node.metadata.items() if key not in _OWN_KEYS},
    )


def source_of(node: BaseNode) -> str:
    """Return the file or URL that a node comes from; empty if that is not known.

    The part of a URL that may hold a secret is left out.
    """
    path = getattr(node, "image_path", None) or node.metadata.get(FILE_PATH)
    if path:
        return str(path)
    root, location = node.metadata.get(SOURCE_ROOT), location_of(node)
    if location is not None and isinstance(root, str):
        is_record = location.startswith(f"{root}{RECORD_SEPARATOR}")
        name = node.metadata.get(FILE_NAME)
        return path_of_location(root if is_record or name is None else f"{root}/{name}")
    url = getattr(node, "image_url", None)
    return describe(url) if url else ""
