"""Texts that tools put beside images. Captions may come from anybody: they are quoted, so that they are no orders."""

from __future__ import annotations

import json

from llama_index_mm_zhipu.prompts.wording import as_quoted_lines, quoted, wording_of
from llama_index_mm_zhipu.service.results import Answer, SearchResult
from llama_index_mm_zhipu.types import Language

_MAX_TEXT = 2_000
"""Characters of a page text or text node; pages of books have some 1,000."""


def result_text(result: SearchResult, language: Language) -> str:
    """Return what is known of a result, one field a line.

    Args:
        result: The result.
        language: Language of the name of the image.
    """
    wording = wording_of(language)
    name = wording.name.format(number=result.number) if result.number is not None else result.type
    score = f"{result.score_type}: {result.score:.4f}" if result.score is not None else ""
    lines = [
        f"[{name}]",
        score,
        f"caption: {quoted(result.caption, wording)}" if result.caption else "",
        f"page: {result.page}" if result.page else "",
        f"time: {result.time}" if result.time else "",
        f"id: {result.node_id}",
        f"source: {result.source}" if result.source else "",
        f"metadata: {json.dumps(result.metadata, ensure_ascii=False)}" if result.metadata else "",
        f"text:\n{as_quoted_lines(result.text[:_MAX_TEXT])}" if result.text else "",
    ]
    return "\n".join(filter(None, lines))


def answer_text(answer: Answer) -> str:
    """Return an answer, followed by the ids of the images that it cites."""
    cited = [f"[{name}] = {node_id}" for name, node_id in answer.citations.items()]
    unknown = [f"[{name}] does not exist" for name in answer.unknown_citations]
    return "\n".join([answer.text, "", *cited, *unknown]).rstrip()
