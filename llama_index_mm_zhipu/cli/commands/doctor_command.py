"""``mmzhipu doctor``: check the installation, and say what to do."""

from __future__ import annotations

import argparse
from pathlib import Path

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.doctor import Check, run_checks
from llama_index_mm_zhipu.cli.parser import default_store
from llama_index_mm_zhipu.cli.wording import Count
from llama_index_mm_zhipu.service.status import status_of
from llama_index_mm_zhipu.store_file import IMAGES_FILE

_MARKS = {"ok": "✓", "warning": "!", "failed": "✗"}


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the result of each check; return ``ExitStatus.NOTHING_FOUND`` if any failed."""
    store = _store_of(options)
    checks = []
    for check in run_checks(
        store=store,
        model=options.model or _recorded_model(store),
        language=console.language,
        online=not options.offline,
    ):
        checks.append(check)
        if console.is_json:
            console.data(check.as_dict())
        else:
            _print(check, console)
    failed = sum(check.status == "failed" for check in checks)
    warnings = sum(check.status == "warning" for check in checks)
    wording = console.wording
    if failed or warnings:
        console.note("\n" + wording.doctor_failed.format(failed=failed, warnings=Count(warnings)))
    else:
        console.note("\n" + wording.doctor_ok)
    return ExitStatus.NOTHING_FOUND if failed else ExitStatus.DONE


def _store_of(options: argparse.Namespace) -> Path | None:
    """Return the index to check: the given one, else the usual one if it is there."""
    if options.store is not None:
        return Path(options.store)
    usual = default_store()
    return usual if (usual / IMAGES_FILE).is_file() else None


def _recorded_model(store: Path | None) -> str | None:
    if store is None:
        return None
    try:
        return status_of(store).model or None
    except (OSError, ValueError):
        # The check of the index says what is wrong with it.
        return None


def _print(check: Check, console: Console) -> None:
    console.result(f"{_MARKS[check.status]} {console.bold(check.title)}  {check.detail}")
    if check.advice:
        console.result(f"  → {check.advice}")
