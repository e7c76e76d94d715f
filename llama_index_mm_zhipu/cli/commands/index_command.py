"""``mmzhipu index``: build an index of folders and files, or bring it up to date."""

from __future__ import annotations

import argparse

from llama_index_mm_zhipu.cli.console import Console, ExitStatus, shell_quoted
from llama_index_mm_zhipu.cli.parser import PROGRAM, default_store
from llama_index_mm_zhipu.cli.wording import Count
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.service.results import IndexReport
from llama_index_mm_zhipu.text import one_line

_MAX_SKIPPED = 10


def run(options: argparse.Namespace, console: Console) -> int:
    """Index the given paths; return ``ExitStatus.NOTHING_FOUND`` if the index holds no image afterwards."""
    inputs = IndexInputs(
        options.PATH,
        captions=options.captions,
        name_column=options.name_column,
        caption_column=options.caption_column or None,
        on_error="raise" if options.strict else "skip",
        show_progress=console.shows_progress,
    )
    service, report = ImageService.build(
        inputs,
        options.store,
        model=options.model,
        device=options.device,
        precision=options.precision,
        ocr=options.ocr,
        remove_missing=options.remove_missing,
    )
    service.close()
    _show(report, options, console)
    return ExitStatus.DONE if report.images else ExitStatus.NOTHING_FOUND


def _show(report: IndexReport, options: argparse.Namespace, console: Console) -> None:
    wording = console.wording
    if report.skipped_count:
        console.note(wording.skipped.format(count=report.skipped_count))
        listed = list(report.skipped.items())[:_MAX_SKIPPED]
        for name, reason in listed:
            shown = one_line(name)
            console.note(f"  {reason if shown in reason else f'{shown}: {reason}'}")
        if len(listed) < report.skipped_count:
            console.note(f"  {wording.more.format(count=report.skipped_count - len(listed))}")
    if console.is_json:
        console.data({"store": str(options.store), **report.as_dict()})
        return
    console.result(
        wording.indexed.format(
            images=Count(report.images),
            store=options.store,
            new=f"{report.new_images:,}",
            kept=f"{report.kept:,}",
            removed=f"{report.removed:,}",
            seconds=f"{report.seconds:.1f}",
        )
    )
    where = "" if options.store == default_store() else f" --store {shell_quoted(str(options.store))}"
    console.note(wording.next_search.format(command=f"{PROGRAM} search …{where}"))
