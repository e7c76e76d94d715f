"""Show results of the service: as text, as JSON lines, drawn in the terminal, or as a page."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path

from llama_index.core.schema import NodeWithScore

from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.display import Gallery
from llama_index_mm_zhipu.images import ImageError, has_image, load_image
from llama_index_mm_zhipu.prompts.wording import in_one_line, wording_of
from llama_index_mm_zhipu.service.results import SearchResult
from llama_index_mm_zhipu.text import columns_of

_INDENT = "     "
_MAX_COLUMNS = 100
_IMAGE_SIDE = 512
_IMAGE_COLUMNS = 48


def show_results(
    results: Sequence[SearchResult],
    nodes: Sequence[NodeWithScore],
    gallery: Callable[[], Gallery],
    options: argparse.Namespace,
    console: Console,
) -> None:
    """Show results in the form that the options ask for.

    Args:
        results: The results.
        nodes: The same as nodes, for their images.
        gallery: Makes the page.
        options: ``show``, ``open`` and ``html``.
        console: Where to write.
    """
    for result, node in zip(results, nodes, strict=True):
        if console.is_json:
            console.data(result.as_dict())
        else:
            print_result(result, console)
        if options.show:
            draw(node, console)
    if options.html or options.open:
        show_page(gallery(), options.html, options.open, console)


def print_result(result: SearchResult, console: Console) -> None:
    """Print a result as two lines: number, score and caption, then where it comes from."""
    wording = console.wording
    name = wording.text_result
    if result.number is not None:
        name = wording_of(console.language).name.format(number=result.number)
    template = wording.similarity if result.score_type == "similarity" else wording.score
    score = template.format(score=f"{result.score:.4f}") if result.score is not None else ""
    page = wording.page.format(page=result.page) if result.page else ""
    words = in_one_line((result.caption or result.text or Path(result.source).name)[:_MAX_COLUMNS])
    columns = min(shutil.get_terminal_size((_MAX_COLUMNS, 24)).columns, _MAX_COLUMNS)
    first = "  ".join(filter(None, [score, result.time, page, words]))
    console.result(f"{console.bold(name)}  {_fitted(first, columns - 8)}")
    console.result(f"{_INDENT}{'  '.join(filter(None, [in_one_line(_near(result.source)), result.node_id]))}")


def show_page(gallery: Gallery, file: Path | None, is_opened: bool, console: Console) -> None:
    """Write a gallery as a page, and open it in the browser.

    Args:
        gallery: The gallery.
        file: The file to write; None for a new one in the folder for temporary files.
        is_opened: Whether to open it.
        console: Where to write.
    """
    path = gallery.save(file or Path(tempfile.mkdtemp(prefix="mmzhipu-")) / "results.html").absolute()
    console.note(console.wording.saved.format(path=path))
    if is_opened and not webbrowser.open(path.as_uri()):
        console.note(console.wording.not_opened.format(path=path))


def draw(result: NodeWithScore, console: Console) -> None:
    """Draw the image of a result in the terminal; nothing for a text, and off a terminal.

    Raises:
        ImportError: The extra is not installed.
    """
    if not has_image(result.node):
        return
    if not console.is_terminal:
        console.note_once(console.wording.needs_terminal)
        return
    try:
        from rich.console import Console as RichConsole
        from textual_image.renderable import Image
    except ImportError:
        raise ImportError('--show needs the extra "terminal": pip install "llama-index-mm-zhipu[terminal]"') from None
    try:
        image = load_image(result)
    except ImageError as error:
        console.note(str(error))
        return
    image.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
    RichConsole().print(Image(image, width=_IMAGE_COLUMNS, height="auto"))


def _near(source: str) -> str:
    """Return a path below the present folder relative to it, and other sources as they are."""
    path = Path(source)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else source


def _fitted(text: str, columns: int) -> str:
    """Return the beginning of a text that takes at most so many columns."""
    if columns_of(text) <= columns:
        return text
    while columns_of(text) >= columns:
        text = text[:-1]
    return f"{text}…"
