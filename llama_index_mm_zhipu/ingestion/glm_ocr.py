"""``GlmOcrEngine``: GLM-OCR as an engine of ``ImageOcr``."""

from __future__ import annotations

from PIL import Image

from llama_index_mm_zhipu.ingestion.ocr_engines import OcrLine
from llama_index_mm_zhipu.llm.layout_parsing import LayoutParser

_WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)


class GlmOcrEngine:
    """Reads an image with GLM-OCR: paragraphs in reading order, tables as rows, without Markdown.

    The API gives one box for an element: each line of it gets an equal strip, and a line of an element without a box
    gets the whole image. It gives no scores: all are 1.

    Args:
        parser: The client; the default is ``LayoutParser()``, which takes the key from the environment.

    Raises:
        ValueError: No client is given, and there is no key.

    Examples:
        >>> from PIL import Image
        >>> from llama_index_mm_zhipu.ingestion import GlmOcrEngine
        >>> lines = GlmOcrEngine()(Image.open("slides/1.jpg"))
        >>> len(lines), lines[0].score
        (1, 1.0)
    """

    thread_safe = True
    """Several threads may call the engine at a time."""

    in_reading_order = True
    """The lines are whole paragraphs in reading order, which are kept as they are."""

    def __init__(self, parser: LayoutParser | None = None) -> None:
        self.parser = LayoutParser() if parser is None else parser

    def __repr__(self) -> str:
        """Show the client."""
        return f"GlmOcrEngine({self.parser!r})"

    @property
    def fingerprint(self) -> str:
        """Name of the model."""
        return f"layout_parsing {self.parser.model}"

    def __call__(self, image: Image.Image) -> list[OcrLine]:
        """Return the lines of an RGB image.

        Raises:
            GLMError: The call failed.
        """
        (page,) = self.parser.parse(image, page_count=1).pages
        return [OcrLine(text, box or _WHOLE_IMAGE, 1.0) for text, box in page.lines()]
