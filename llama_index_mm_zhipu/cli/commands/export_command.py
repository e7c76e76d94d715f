"""``mmzhipu export``: write an index into Parquet shards."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.opening import require_index
from llama_index_mm_zhipu.cli.transfer import show_transfer
from llama_index_mm_zhipu.service.moving import export_folder


def run(options: argparse.Namespace, console: Console) -> int:
    """Export the index; return the exit status."""
    require_index(options, console)
    report = export_folder(
        options.store,
        options.FOLDER,
        vectors="float16" if options.float16 else "float32",
        show_progress=console.shows_progress,
    )
    show_transfer(report, console.wording.exported, options, console)
    return ExitStatus.DONE
