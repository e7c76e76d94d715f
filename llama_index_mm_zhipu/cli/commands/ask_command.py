"""``mmzhipu ask``: answer one question from the images found for it."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.answers import print_answer
from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.opening import open_service
from llama_index_mm_zhipu.cli.results import require_drawing, show_page


def run(options: argparse.Namespace, console: Console) -> int:
    """Answer; return ``ExitStatus.NOTHING_FOUND`` if nothing was found that the answer could rest on."""
    question = " ".join(options.QUESTION).strip()
    if not question and not options.image:
        raise ValueError(console.wording.nothing_given.format(options="--image"))
    require_drawing(options, console)
    service = open_service(options, console)
    try:
        stream = service.ask(question, image=options.image, similarity_top_k=options.top_k, filters=options.filter)
        if not stream.sources:
            # The model was not asked.
            console.note(console.wording.nothing_found)
            return ExitStatus.NOTHING_FOUND
        print_answer(stream, console, draws=options.show)
        show_page(lambda: stream.gallery(console.language), options, console)
    finally:
        service.close()
    return ExitStatus.DONE
