"""``mmzhipu search``: find images by words, by an image, or both."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.opening import open_service
from llama_index_mm_zhipu.cli.results import require_drawing, show_results


def run(options: argparse.Namespace, console: Console) -> int:
    """Search; return ``ExitStatus.NOTHING_FOUND`` if nothing was found."""
    words = " ".join(options.WORDS).strip()
    if not words and not options.image and not options.like:
        raise ValueError(console.wording.nothing_given.format(options="--image/--like"))
    require_drawing(options, console)
    service = open_service(options, console)
    try:
        found = service.search(
            words,
            image=options.image,
            like=options.like,
            similarity_top_k=options.top_k,
            filters=options.filter,
            mode=options.mode,
            similarity_cutoff=options.cutoff,
        )
        show_results(found.results, found.nodes, lambda: found.gallery(console.language), options, console)
    finally:
        service.close()
    if found.results:
        return ExitStatus.DONE
    console.note(console.wording.nothing_found)
    return ExitStatus.NOTHING_FOUND
