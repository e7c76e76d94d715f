"""Show results of the service: as text, as JSON lines, drawn in the terminal, or as a page."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.schema import NodeWithScore

from llama_index_mm_zhipu.cli.columns import fitted
from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.display import Gallery
from llama_index_mm_zhipu.images import ImageError, has_image, load_image
from llama_index_mm_zhipu.prompts.wording import in_one_line, wording_of
from llama_index_mm_zhipu.reporting import errors_only
from llama_index_mm_zhipu.service.results import SearchResult
from llama_index_mm_zhipu.text import columns_of, one_line

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
    show_page(gallery, options, console)


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
    console.result(f"{console.bold(name)}  {fitted(first, columns - columns_of(name) - 2)}")
    # In names of files, a line break is shown and not taken for a space.
    console.result(f"{_INDENT}{'  '.join(map(one_line, filter(None, [_near(result.source), result.node_id])))}")


def show_page(gallery: Callable[[], Gallery], options: argparse.Namespace, console: Console) -> None:
    """Write a page to the file of ``--html``, and open it with ``--open``; nothing without these options.

    Args:
        gallery: Makes the page.
        options: ``html`` and ``open``. Without ``html``, the page is written in a new temporary folder.
        console: Where to write.
    """
    if not options.html and not options.open:
        return
    file = options.html or Path(tempfile.mkdtemp(prefix="mmzhipu-")) / "results.html"
    path = gallery().save(file).absolute()
    console.note(console.wording.saved.format(path=path))
    if options.open and not webbrowser.open(path.as_uri()):
        console.note(console.wording.not_opened.format(path=path))


def require_drawing(options: argparse.Namespace, console: Console) -> None:
    """Check that images can be drawn, if ``--show`` was given on a terminal, before anything is searched or asked.

    Raises:
        ImportError: The extra is not installed.
    """
    if options.show and _has_room(console):
        _drawing()


def draw(result: NodeWithScore, console: Console) -> None:
    """Draw the image of a result in the terminal; nothing for a text, and off a terminal."""
    if not has_image(result.node):
        return
    if not _has_room(console):
        console.note_once(console.wording.needs_terminal)
        return
    try:
        image = load_image(result)
    except ImageError as error:
        console.note(str(error))
        return
    image.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
    rich_console, renderable = _drawing()
    # textual-image warns of terminals that do not tell how large their characters are.
    with errors_only("textual_image"):
        rich_console().print(renderable(image, width=_IMAGE_COLUMNS, height="auto"))


def _has_room(console: Console) -> bool:
    """Return whether images can be drawn: on a terminal, unless it says that it has no columns."""
    return console.is_terminal and os.get_terminal_size().columns > 0


def _drawing() -> tuple[Any, Any]:
    """Return the classes that draw: rich's console, and textual-image's image."""
    try:
        from rich.console import Console as RichConsole
        from textual_image.renderable import Image
    except ImportError:
        raise ImportError('--show needs the extra "terminal": pip install "llama-index-mm-zhipu[terminal]"') from None
    return RichConsole, Image


def _near(source: str) -> str:
    """Return a path below the present folder relative to it, and other sources as they are."""
    path = Path(source)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else source
