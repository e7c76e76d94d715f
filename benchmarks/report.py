"""Findings as tables of text, and the plot of recall against speed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contenders import CONTENDERS
from dataset import FILTERS
from stages import query_name

Found = Mapping[str, Any]

MISSING = "–"

# Sums of floating-point numbers in another order can swap two neighbours that are equally near.
_EXACT = 0.995


def contender_table(results: Mapping[str, Found]) -> str:
    """Return one row per contender, and what a reader must know about each."""
    header = ["contender", "add nodes/s", "query p50 ms", "p95 ms", "recall@10"]
    header += [f"{selectivity} filter ms" for selectivity in FILTERS]
    header += ["delete ms", "close s", "reopen s", "peak MiB", "minus baseline", "disk MiB", "status"]
    remarks = [f"  {name}: {remark}" for name, found in results.items() for remark in _remarks(name, found)]
    return "\n".join([_table(header, [_row(name, found) for name, found in results.items()]), *remarks])


def interleaved_table(found: Found) -> str:
    """Return the comparison, query by query, of the store with raw faiss."""
    header = ["ours and raw faiss in turn", "p50 ms", "minus raw, p50 ms"]
    rows = [
        [name, number(values["p50_ms"]), number(values["minus_raw_p50_ms"])]
        for name, values in found["interleaved"].items()
    ]
    return _table(header, rows)


def reopen_table(results: Mapping[str, Found]) -> str:
    """Return how long opening takes until the first answer, per state of the folder."""
    header = ["reopened", "median s", "each"]
    rows = [
        [name, _seconds(found["median_s"]), ", ".join(map(_seconds, found["each_s"]))]
        for name, found in results.items()
    ]
    return _table(header, rows)


def hnsw_table(results: Mapping[str, Found]) -> str:
    """Return recall and speed per kind of vectors and breadth of search."""
    header = ["vectors", "ef_search", "recall@10", "query p50 ms"]
    rows = []
    for vectors, found in results.items():
        if "exact" in found:
            rows.append([vectors, "exact", _recall(found["exact"]["recall"]), number(found["exact"]["p50_ms"])])
        rows += [
            [vectors, str(point["ef_search"]), _recall(point["recall"]), number(point["p50_ms"])]
            for point in found.get("curve", [])
        ]
    built = [f"  {vectors}: built in {number(found.get('build_s'))} s" for vectors, found in results.items()]
    return "\n".join([_table(header, rows), *built, *_notes(results)])


def growth_table(found: Found) -> str:
    """Return what a node and a query cost in a store of each size."""
    header = ["nodes", "add µs/node", "query p50 ms"]
    rows = [
        [f"{point['size']:,}", number(point["add_us"]), number(point["query_ms"])] for point in found.get("points", [])
    ]
    rows.append(["grows as size to the", number(found.get("add_exponent")), number(found.get("query_exponent"))])
    return _table(header, rows)


def plot_hnsw(results: Mapping[str, Found], title: str, file: Path) -> None:
    """Draw recall over milliseconds per query, a curve per kind of vectors, the exact search as a cross."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for vectors, found in results.items():
        curve = found.get("curve", [])
        (line,) = axes.plot([p["p50_ms"] for p in curve], [p["recall"] for p in curve], marker="o", label=vectors)
        for point in curve:
            axes.annotate(
                str(point["ef_search"]),
                (point["p50_ms"], point["recall"]),
                textcoords="offset points",
                xytext=(5, -10),
                fontsize=8,
            )
        if "exact" in found:
            axes.plot(
                found["exact"]["p50_ms"],
                1.0,
                marker="x",
                color=line.get_color(),
                linestyle="",
                label=f"{vectors}, exact",
            )
    axes.set(xscale="log", xlabel="ms per query (median); at the points: ef_search", ylabel="recall@10", title=title)
    # Plain numbers, not powers of ten.
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(loc="center right")
    figure.savefig(file, dpi=120)


def number(value: float | None) -> str:
    """Return a number with three significant digits, or all before the point; a dash for None."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _recall(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _row(name: str, found: Found) -> list[str]:
    query = found.get(query_name(None), {})
    return [
        name,
        number(found.get("add_per_second")),
        number(query.get("p50_ms")),
        number(query.get("p95_ms")),
        _recall(query.get("recall")),
        *(_filtered_cell(found, selectivity) for selectivity in FILTERS),
        number(found.get("delete_ms")),
        _seconds(found.get("close_s")),
        _seconds(found.get("reopen_s")),
        number(found.get("peak_mib")),
        number(found.get("peak_minus_baseline_mib")),
        number(found.get("disk_mib")),
        found["status"],
    ]


def _filtered_cell(found: Found, selectivity: str) -> str:
    query = found.get(query_name(selectivity), {})
    return number(query.get("p50_ms")) + ("*" if query.get("recall", 1.0) < _EXACT else "")


def _remarks(name: str, found: Found) -> Iterable[str]:
    if CONTENDERS[name].remark:
        yield CONTENDERS[name].remark
    for selectivity in FILTERS:
        recall = found.get(query_name(selectivity), {}).get("recall", 1.0)
        if recall < _EXACT:
            yield f"* recall@10 with the {selectivity} filter {recall:.3f}"
    if found.get("left_after_delete"):
        yield f"{found['left_after_delete']} of the deleted documents are still found"
    if name == "ours" and "bare_fsync_ms" in found:
        yield (
            f"between the deletions, on the same disk, a bare fsync took {number(found['bare_fsync_ms'])} ms and "
            f"a commit of one row to SQLite {number(found['bare_commit_ms'])} ms"
        )
    if found["status"] == "over the limit" and query_name(None) not in found and "added" in found:
        yield f"the limit was reached with {found['added']:,} nodes added"
    yield from found.get("notes", [])


def _notes(results: Mapping[str, Found]) -> list[str]:
    return [f"  {name}: {note}" for name, found in results.items() for note in found.get("notes", [])]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines of aligned columns: the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
