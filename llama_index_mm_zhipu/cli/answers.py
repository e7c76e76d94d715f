"""Print answers as they come, with the sources that they cite."""

from __future__ import annotations

from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.cli.results import draw, print_result
from llama_index_mm_zhipu.service.answers import AnswerStream
from llama_index_mm_zhipu.service.results import Answer
from llama_index_mm_zhipu.text import one_line


def print_answer(stream: AnswerStream, console: Console, *, draws: bool = False) -> None:
    """Print an answer and the sources that it cites; with JSON, one line at the end.

    Args:
        stream: The answer.
        console: Where to write.
        draws: Whether the cited images are drawn in the terminal.
    """
    if console.is_json:
        console.data(stream.read().as_dict())
        return
    _print_pieces(stream, console)
    _print_sources(stream.read(), stream, console, draws)


def _print_pieces(stream: AnswerStream, console: Console) -> None:
    is_begun = False
    try:
        for piece in stream:
            console.piece(piece)
            is_begun = is_begun or bool(piece)
    finally:
        if is_begun:
            # An error of the stream is written on a line of its own.
            console.result("")


def _print_sources(answer: Answer, stream: AnswerStream, console: Console, draws: bool) -> None:
    wording = console.wording
    cited = set(answer.citations.values())
    console.result(f"\n{wording.cited if cited else wording.no_citations}")
    for result, node in zip(answer.sources, stream.sources, strict=True):
        if result.node_id in cited:
            print_result(result, console)
            if draws:
                draw(node, console)
    if answer.unknown_citations:
        console.note(wording.unknown_citations.format(names=", ".join(answer.unknown_citations)))
    for node_id, reason in answer.skipped.items():
        console.note(f"{one_line(node_id)}: {reason}")
