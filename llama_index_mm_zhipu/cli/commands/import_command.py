"""``mmzhipu import``: add an export to an index."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.transfer import show_transfer
from llama_index_mm_zhipu.service.moving import import_folder


def run(options: argparse.Namespace, console: Console) -> int:
    """Import the export; return the exit status."""
    report = import_folder(options.FOLDER, options.store, show_progress=console.shows_progress)
    show_transfer(report, console.wording.imported, options, console)
    return ExitStatus.DONE
