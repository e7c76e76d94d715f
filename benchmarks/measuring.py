"""Helpers for measurements: the order of contenders, peak memory, what a benchmark ran on, and its figures."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import random
import sqlite3
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def shuffled_rounds(names: Collection[str], rounds: Iterable[T], order: random.Random) -> Iterator[tuple[str, T]]:
    """Yield each round with every name, in random order, so that a slow phase of the machine slows all contenders."""
    for this_round in rounds:
        for name in order.sample(list(names), len(names)):
            yield name, this_round


def peak_bytes() -> int | None:
    """Return the peak memory of this process in bytes, or None if the system does not report it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "darwin":
        # On Linux getrusage reports at least the peak of the process that started this one.
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def machine() -> dict[str, Any]:
    """Return platform, processor, number of cores and load averages."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, SQLite and those packages that are installed."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows))


def write_figures(file: Path, figures: Any) -> None:
    """Write figures as JSON; the folders of the file are created."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
