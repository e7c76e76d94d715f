"""Show what an export or import did."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.cli.wording import Count
from llama_index_mm_zhipu.stores.transfer.moving import TransferReport
from llama_index_mm_zhipu.text import readable_size


def show_transfer(report: TransferReport, text: str, options: argparse.Namespace, console: Console) -> None:
    """Print the report of an export or import.

    Args:
        report: What was done.
        text: The words for it.
        options: ``FOLDER`` and ``store``.
        console: Where to write.
    """
    if console.is_json:
        console.data(
            {
                "folder": str(options.FOLDER),
                "store": str(options.store),
                "nodes": report.nodes,
                "kept": report.kept,
                "shards": report.shards,
                "bytes": report.bytes,
                "seconds": report.seconds,
                "skipped": dict(report.skipped),
            }
        )
        return
    console.result(
        text.format(
            nodes=Count(report.nodes),
            kept=f"{report.kept:,}",
            folder=options.FOLDER,
            store=options.store,
            size=readable_size(report.bytes),
            seconds=f"{report.seconds:.1f}",
        )
    )
