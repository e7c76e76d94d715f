"""``mmzhipu evaluate``: measure how well a model finds images by captions and captions by images."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.evaluation.measurement import Measurement
from llama_index_mm_zhipu.evaluation.retrieval import TITLES, table_of


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the table of results; return the exit status."""
    measurement = Measurement(
        dataset=options.DATASET,
        path=options.PATH,
        images=options.images,
        split=options.split,
        model=options.model,
        device=options.device,
        index=options.index,
        skip=options.skip,
        show_progress=console.shows_progress,
    )
    rows = measurement.rows()
    if console.is_json:
        for name, figures in rows:
            # Published rows have fewer figures.
            console.data({"name": name, **dict(zip(TITLES, figures, strict=False))})
    else:
        console.result(table_of(rows))
    return ExitStatus.DONE
