"""Texts that tools put beside images. What a collection holds may come from anybody: it is quoted, and is no order."""

from __future__ import annotations

import json

from llama_index_mm_zhipu.prompts.wording import Wording, as_quoted_lines, in_one_line, quoted, wording_of
from llama_index_mm_zhipu.service.results import Answer, SearchResult
from llama_index_mm_zhipu.types import Language

_MAX_TEXT = 2_000
"""Characters of a caption, of metadata, and of a page text or text node; pages of books have some 1,000."""


def result_text(result: SearchResult, language: Language) -> str:
    """Return what is known of a result, one field a line.

    The label of an image, with number, score and caption, is the last line, so that nothing stands between it and the
    image; that of a text is the first. The caption is in quotation marks, and all other lines are quoted by ``>``.

    Args:
        result: The result.
        language: Language of the name of the image.
    """
    fields = {
        "id": result.node_id,
        "source": result.source,
        "page": result.page,
        "time": result.time,
        "metadata": json.dumps(result.metadata, ensure_ascii=False, default=str) if result.metadata else "",
    }
    details = [f"> {field}: {in_one_line(_shortened(value))}" for field, value in fields.items() if value]
    # The text could have a line that begins with "id:".
    text = [f"> text:\n{as_quoted_lines(as_quoted_lines(_shortened(result.text)))}"] if result.text else []
    label = _label(result, wording_of(language))
    return "\n".join([*text, *details, label] if result.type == "image" else [label, *details, *text])


def answer_text(answer: Answer) -> str:
    """Return an answer, followed by the ids of the images that it cites."""
    cited = [f"[{name}] = {in_one_line(node_id)}" for name, node_id in answer.citations.items()]
    unknown = [f"[{name}] does not exist" for name in answer.unknown_citations]
    return "\n".join([answer.text, "", *cited, *unknown]).rstrip()


def _label(result: SearchResult, wording: Wording) -> str:
    name = wording.name.format(number=result.number) if result.number is not None else result.type
    score = f" ({result.score_type} {result.score:.4f})" if result.score is not None else ""
    caption = f": {quoted(_shortened(result.caption), wording)}" if result.caption else ""
    return f"[{name}]{score}{caption}"


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
