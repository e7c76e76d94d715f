"""Formats what ``stores.py`` measures as a Markdown table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from report import MISSING, number
from stores_contenders import STORES, Result
from stores_questions import FILTER

_ASKED_BY = {"vector": "by vector", "filter": "with a filter", "text": "by full text", "hybrid": "by words and vector"}


def store_table(found: Mapping[str, Result]) -> str:
    """Return a Markdown table with a row per store, and remarks on stores."""
    header = ["store", "add, rows/s", "by vector, ms: p50 (p95)", "recall@10", f"{FILTER} filter, ms", "recall@10"]
    header += ["full text, ms", "hybrid, ms", "replace a node, ms", "open again, s"]
    header += ["peak memory, MiB (minus baseline)", "bytes a row"]
    rows = [header, ["---"] * len(header), *(_row(name, result) for name, result in found.items())]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    most = max((times["count"] for result in found.values() for times in result["questions"].values()), default=0)
    remarks = [f"* {name}: {note}" for name, result in found.items() for note in _remarks(result, most)]
    return "\n".join([*lines, *([""] if remarks else []), *remarks])


def _row(name: str, result: Result) -> list[str]:
    asked = result["questions"]
    vector, filtered = asked.get("vector", {}), asked.get("filter", {})
    return [
        STORES[name].title,
        number(result.get("add_per_second")),
        _ms(vector),
        _recall(vector),
        _ms(filtered),
        _recall(filtered),
        _ms(asked.get("text", {})),
        _ms(asked.get("hybrid", {})),
        _ms(result.get("replace", {})),
        number(result.get("reopen_s")),
        _memory(result),
        _bytes_a_row(result),
    ]


def _remarks(result: Result, most: int) -> Iterator[str]:
    asked = result["questions"]
    if (result.get("finish_s") or 0) >= 0.1:
        yield f"{number(result['finish_s'])} s after the last add, to build the index or to vacuum"
    for kind in ("text", "hybrid"):
        if (same := asked.get(kind, {}).get("recall")) is not None and same < 1:
            yield f"{same:.1%} of the answers of the embedded store to questions {_ASKED_BY[kind]}"
    for kind, times in asked.items():
        if times["count"] < most:
            yield f"{times['count']} questions {_ASKED_BY[kind]}, because of the time limit"
    if result["refused"]:
        yield f"refuses questions {' and '.join(_ASKED_BY[kind] for kind in result['refused'])}"
    yield from result["notes"]


def _bytes_a_row(result: Result) -> str:
    """Return bytes on disk per node, and in brackets those without indexes if the store tells them."""
    cells = [f"{size / result['nodes']:,.0f}" for size in result.get("disk_bytes", {}).values()]
    return f"{cells[0]} ({cells[1]} without indexes)" if len(cells) > 1 else cells[0] if cells else MISSING


def _ms(times: Mapping[str, float]) -> str:
    return f"{number(times['p50_ms'])} ({number(times['p95_ms'])})" if times else MISSING


def _recall(times: Mapping[str, Any]) -> str:
    return MISSING if times.get("recall") is None else f"{times['recall']:.3f}"


def _memory(result: Result) -> str:
    """Return the peak in MiB, and in brackets without what Python, packages and the benchmark take."""
    peak, baseline = result.get("peak_bytes"), result.get("baseline_bytes")
    return f"{peak / 2**20:,.0f} ({(peak - baseline) / 2**20:,.0f})" if peak and baseline else MISSING
