"""Checks of the machine: memory, processor cores and disk space."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from llama_index_mm_zhipu.cli.doctor.check import GIB, Context, Finding, joined, size_text
from llama_index_mm_zhipu.cli.doctor.wording import Wording
from llama_index_mm_zhipu.concurrency import available_threads, thread_limit

LOW_MEMORY = 3 * GIB
"""Available memory below which there is a warning."""

LOW_DISK = 2 * GIB
"""Free space below which there is a warning if weights are yet to be downloaded."""

FULL_DISK = 100_000_000
"""Free space below which the check fails."""


class Memory(NamedTuple):
    """Memory in bytes; None if it is unknown.

    Attributes:
        total: Memory of the machine, or the limit of the container.
        available: Memory that a new program can use.
    """

    total: int | None
    available: int | None


def check_memory(context: Context) -> Finding:
    """Check how much memory is available to this process."""
    return memory_finding(memory(), context.words)


def memory_finding(found: Memory, words: Wording) -> Finding:
    """Return the finding for an amount of memory."""
    if found.total is None:
        return Finding("ok", words.memory_unknown)
    if found.available is None:
        return Finding("ok", words.memory_total.format(total=size_text(found.total)))
    detail = words.memory.format(total=size_text(found.total), available=size_text(found.available))
    if found.available < LOW_MEMORY:
        return Finding("warning", detail, words.memory_low_advice)
    return Finding("ok", detail)


def memory(root: Path = Path("/")) -> Memory:
    """Return the memory of this process: that of the machine, and on Linux within the limits of its control groups.

    Args:
        root: Folder with ``proc`` and ``sys``.
    """
    meminfo = root / "proc" / "meminfo"
    if not meminfo.is_file():
        return Memory(_physical_memory(), None)
    # Lines such as "MemTotal:       24684084 kB".
    numbers = {line.partition(":")[0]: line.split()[1] for line in meminfo.read_text().splitlines()}
    total, available = (int(numbers[key]) << 10 for key in ("MemTotal", "MemAvailable"))
    for limit, used in _control_group_limits(root):
        total, available = min(total, limit), min(available, max(0, limit - used))
    return Memory(total, available)


def check_cores(context: Context) -> Finding:
    """Report how many cores this process may use."""
    words = context.words
    template = words.cores if thread_limit() is None else words.cores_limited
    return Finding("ok", template.format(available=available_threads(), total=os.cpu_count()))


def check_disk(context: Context) -> Finding:
    """Check the free space where the index, the weights and temporary files are."""
    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import DEFAULT_DOWNLOAD_ROOT

    words = context.words
    folders = {words.disk_weights: Path(DEFAULT_DOWNLOAD_ROOT), words.disk_temporary: Path(tempfile.gettempdir())}
    if context.store is not None:
        folders = {words.disk_store: context.store, **folders}
    findings = []
    for what, folder in folders.items():
        needs_weights = context.missing_weights is not None and what == words.disk_weights
        existing = _nearest_existing(folder.expanduser().absolute())
        try:
            free = shutil.disk_usage(existing).free
        except OSError as error:
            reason = error.strerror or str(error)
            findings.append(Finding("ok", words.disk_unknown.format(what=what, folder=existing, reason=reason)))
        else:
            findings.append(disk_finding(what, existing, free, words, needs_weights=needs_weights))
    return joined(findings, words)


def disk_finding(what: str, folder: Path, free: int, words: Wording, *, needs_weights: bool) -> Finding:
    """Return the finding for one folder.

    Args:
        what: What the folder is for.
        folder: An existing folder.
        free: Free bytes there.
        words: The texts.
        needs_weights: Whether weights are yet to be downloaded to this folder.
    """
    detail = words.disk.format(what=what, folder=folder, free=size_text(free))
    if free < FULL_DISK:
        return Finding("failed", detail, words.disk_full_advice)
    if needs_weights and free < LOW_DISK:
        return Finding("warning", detail, words.disk_low_advice)
    return Finding("ok", detail)


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or the nearest of its parents, that exists and that this process may enter."""
    for each in (folder, *folder.parents):
        with suppress(OSError):
            if each.is_dir():
                return each
    return Path.cwd()


def _physical_memory() -> int | None:
    """Return the memory of a machine without ``/proc``: macOS tells it, Windows does not."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _control_group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use, in bytes, of the control groups of this process and of the groups that contain these."""
    own_groups = root / "proc" / "self" / "cgroup"
    if not own_groups.is_file():
        return
    for line in own_groups.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount, names = root / "sys" / "fs" / "cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys" / "fs" / "cgroup" / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # Inside a container, the group may be named as the host sees it; its files are then at the mount itself.
        folder = mount / group.lstrip("/") if ".." not in group else mount
        for each in (folder, *folder.parents):
            if (found := _limit_and_use(each, *names)) is not None:
                yield found
            if each == mount:
                break


def _limit_and_use(folder: Path, limit_name: str, use_name: str, cache_name: str) -> tuple[int, int] | None:
    """Return limit and use of a control group, without the file cache that the system frees when it needs memory."""
    try:
        limit = (folder / limit_name).read_text().strip()
        used = int((folder / use_name).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    return (int(limit), used - int(statistics.get(cache_name, 0))) if limit != "max" else None
