"""``mmzhipu ask``: answer one question from the images found for it."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.answers import print_answer
from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.cli.opening import open_service
from llama_index_mm_zhipu.cli.results import show_page


def run(options: argparse.Namespace, console: Console) -> int:
    """Answer; return 1 if nothing was found that the answer could rest on."""
    service = open_service(options, console)
    try:
        stream = service.ask(
            " ".join(options.QUESTION),
            image=options.image,
            similarity_top_k=options.top_k,
            filters=options.filter,
        )
        answer = print_answer(stream, console, draws=options.show)
        if options.html or options.open:
            show_page(stream.gallery(console.language), options.html, options.open, console)
    finally:
        service.close()
    return 0 if answer.sources else 1
