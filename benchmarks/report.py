"""Formats the results of stages as text tables, and plots recall against query time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contenders import CONTENDERS
from dataset import FILTERS
from stages import query_name

Result = Mapping[str, Any]
"""Results of one stage."""

MISSING = "–"

# Two neighbours at nearly the same distance may change places if sums are computed in another order.
_EXACT = 0.995


def contender_table(results: Mapping[str, Result]) -> str:
    """Return a table with one row per contender, and remarks on contenders."""
    header = ["contender", "add nodes/s", "query p50 ms", "p95 ms", "recall@10"]
    header += [f"{selectivity} filter ms" for selectivity in FILTERS]
    header += ["delete ms", "close s", "reopen s", "peak MiB", "minus baseline", "disk MiB", "status"]
    remarks = [f"  {name}: {remark}" for name, result in results.items() for remark in _remarks(name, result)]
    return "\n".join([_table(header, [_row(name, result) for name, result in results.items()]), *remarks])


def interleaved_table(result: Result) -> str:
    """Return the comparison of the store with raw faiss, whose queries alternate."""
    header = ["ours and raw faiss, alternating", "p50 ms", "minus raw, p50 ms"]
    rows = [
        [name, number(times["p50_ms"]), number(times["minus_raw_p50_ms"])]
        for name, times in result["interleaved"].items()
    ]
    return _table(header, rows)


def reopen_table(results: Mapping[str, Result]) -> str:
    """Return the time from opening to the first answer, by state of the folder."""
    header = ["reopened", "median s", "each"]
    rows = [
        [name, _seconds(result["median_s"]), ", ".join(map(_seconds, result["each_s"]))]
        for name, result in results.items()
    ]
    return _table(header, rows)


def index_table(results: Mapping[str, Result]) -> str:
    """Return recall and query time by index type, type of vectors, and ``search_breadth``."""
    header = ["index, vectors", "search_breadth", "recall@10", "query p50 ms"]
    rows = []
    for vectors, result in results.items():
        if "exact" in result:
            rows.append([vectors, "flat", _recall(result["exact"]["recall"]), number(result["exact"]["p50_ms"])])
        if "default" in result:
            rows.append([vectors, "default", _recall(result["default"]["recall"]), number(result["default"]["p50_ms"])])
        rows += [
            [vectors, str(point["search_breadth"]), _recall(point["recall"]), number(point["p50_ms"])]
            for point in result.get("curve", [])
        ]
    built = [f"  {vectors}: built in {number(result.get('build_s'))} s" for vectors, result in results.items()]
    return "\n".join([_table(header, rows), *built, *_notes(results)])


def growth_table(result: Result) -> str:
    """Return the time per node and per query for each size of a store."""
    header = ["nodes", "add µs/node", "query p50 ms"]
    rows = [
        [f"{point['size']:,}", number(point["add_us"]), number(point["query_ms"])] for point in result.get("points", [])
    ]
    rows.append(["grows as size to the", number(result.get("add_exponent")), number(result.get("query_exponent"))])
    return _table(header, rows)


def bulk_table(result: Result) -> str:
    """Return the speed of adding columns, the times of queries by vectors and words, memory, and opening."""
    opened = result["opened"]
    lines = [
        f"{number(result['bulk_per_second'])} nodes added a second; then {number(result['settle_s'])} s for the index",
        f"{number(result['disk_mib'])} MiB on the disk",
        f"opened in {_seconds(opened['reopen_s'])} s; a process that opens it and asks takes "
        f"{number(opened['peak_mib'])} MiB, of which {number(opened['peak_before_mib'])} before it",
    ]
    by_vector = [
        [name, _recall(series["recall"]), number(series["p50_ms"]), number(series["p95_ms"])]
        for name, series in result["series"].items()
    ]
    lines.append(_table(["by vector", "recall@10", "p50 ms", "p95 ms"], by_vector))
    by_words = [[name, number(series["p50_ms"]), number(series["p95_ms"])] for name, series in result["text"].items()]
    lines.append(_table(["by words of two characters", "p50 ms", "p95 ms"], by_words))
    return "\n".join(lines)


def plot_index(results: Mapping[str, Result], title: str, file: Path) -> None:
    """Plot recall over query time: a curve for each type of vectors, and a cross for exact search."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for vectors, result in results.items():
        curve = result.get("curve", [])
        (line,) = axes.plot([p["p50_ms"] for p in curve], [p["recall"] for p in curve], marker="o", label=vectors)
        for point in curve:
            axes.annotate(
                str(point["search_breadth"]),
                (point["p50_ms"], point["recall"]),
                textcoords="offset points",
                xytext=(5, -10),
                fontsize=8,
            )
        if "exact" in result:
            axes.plot(
                result["exact"]["p50_ms"],
                1.0,
                marker="x",
                color=line.get_color(),
                linestyle="",
                label=f"{vectors}, exact",
            )
    axes.set(xscale="log", xlabel="ms per query (median); labels: search_breadth", ylabel="recall@10", title=title)
    # Label the axis with plain numbers instead of powers of ten.
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(loc="center right")
    figure.savefig(file, dpi=120)


def number(value: float | None) -> str:
    """Return a number with three significant digits, a large number without decimals, or a dash for None."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _recall(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _seconds(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _row(name: str, result: Result) -> list[str]:
    query = result.get(query_name(None), {})
    return [
        name,
        number(result.get("add_per_second")),
        number(query.get("p50_ms")),
        number(query.get("p95_ms")),
        _recall(query.get("recall")),
        *(_filtered_cell(result, selectivity) for selectivity in FILTERS),
        number(result.get("delete_ms")),
        _seconds(result.get("close_s")),
        _seconds(result.get("reopen_s")),
        number(result.get("peak_mib")),
        number(result.get("peak_minus_baseline_mib")),
        number(result.get("disk_mib")),
        result["status"],
    ]


def _filtered_cell(result: Result, selectivity: str) -> str:
    query = result.get(query_name(selectivity), {})
    return number(query.get("p50_ms")) + ("*" if query.get("recall", 1.0) < _EXACT else "")


def _remarks(name: str, result: Result) -> Iterable[str]:
    if CONTENDERS[name].remark:
        yield CONTENDERS[name].remark
    for selectivity in FILTERS:
        recall = result.get(query_name(selectivity), {}).get("recall", 1.0)
        if recall < _EXACT:
            yield f"* recall@10 with the {selectivity} filter {recall:.3f}"
    if result.get("left_after_delete"):
        yield f"{result['left_after_delete']} of the deleted documents are still found"
    if name == "ours" and "bare_fsync_ms" in result:
        yield (
            f"between the deletions, on the same disk, a bare fsync took {number(result['bare_fsync_ms'])} ms and "
            f"a commit of one row to SQLite {number(result['bare_commit_ms'])} ms"
        )
    if result["status"] == "over the limit" and query_name(None) not in result and "added" in result:
        yield f"the limit was reached with {result['added']:,} nodes added"
    yield from result.get("notes", [])


def _notes(results: Mapping[str, Result]) -> list[str]:
    return [f"  {name}: {note}" for name, result in results.items() for note in result.get("notes", [])]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return lines of aligned columns, the first left-aligned and the others right-aligned."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
