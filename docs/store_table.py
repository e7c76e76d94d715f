"""Write the table of stores into the guide scale.md, from what the conformance suite of tests/stores declares.

Run with ``make docs``; a test compares the page with what this writes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "en" / "guides" / "scale.md"
BEGIN, END = "<!-- table of stores -->", "<!-- end of the table -->"

STORES: dict[str, tuple[str, str]] = {
    "embedded": ("test_conformance", "TestFaissMultiModalVectorStore"),
    "Postgres": ("test_postgres", "TestPostgres"),
    "Qdrant": ("test_qdrant", "TestLocalMode"),
    "Milvus": ("test_milvus", "TestMilvusLite"),
    "any other": ("test_other", "TestAnyStore"),
}
"""Module and class of the conformance tests by the name of the store."""

FILTERS: dict[str, tuple[str, ...]] = {
    "`==`, `in`": ("== number", "== text", "== frac", "== bool", "== empty", "in ", "SQL "),
    "`!=`, `nin`": ("!= ", "nin ", "SQL in a key, negated"),
    "`==` with a list": ("== list",),
    "`>`, `>=`, `<`, `<=` with numbers": ("> num", ">= num", "< num", "<= frac"),
    "`>`, `>=`, `<`, `<=` with texts": (">= text", "< text"),
    "`contains`, `any`, `all` in lists": ("contains, in a list", "contains, a number", "contains, None", "any", "all"),
    "`contains` in texts": ("contains, in a text",),
    "`text_match`": ("text_match, ", "text_match", "SQL in a text"),
    "`text_match_insensitive`": ("text_match_insensitive",),
    "`is_empty`": ("is_empty",),
    "`and`, `or`": ("and", "or"),
    "`not`, nested": ("not", "nested"),
    "keys in Chinese, with dots and quotes": ("Chinese", "key "),
}
"""Beginnings of the names in ``filter_cases.FILTER_CASES`` by the row of the table."""


def table() -> str:
    """Return the table."""
    for folder in ("tests", "tests/vector_store", "tests/stores"):
        sys.path.insert(0, str(ROOT / folder))
    try:
        suites = {name: getattr(importlib.import_module(module), suite) for name, (module, suite) in STORES.items()}
        cases = importlib.import_module("filter_cases").FILTER_CASES
    finally:
        del sys.path[:3]
    rows: dict[str, Callable[[Any], str]] = {
        "search by vector, `mmr`": lambda suite: _modes(suite, "default", "mmr"),
        "full text, hybrid search": lambda suite: _modes(suite, "text_search", "hybrid"),
        "largest node with its image": _largest,
        "lists nodes: unchanged and moved images are recognised": lambda suite: "yes" if suite.lists_nodes else "no",
    }
    for title, beginnings in FILTERS.items():
        rows[f"filter {title}"] = lambda suite, beginnings=beginnings: _filters(suite, cases, beginnings)  # type: ignore[misc]
    lines = [f"| | {' | '.join(suites)} |", f"|---{'|---' * len(suites)}|"]
    lines += [f"| {title} | {' | '.join(map(cell, suites.values()))} |" for title, cell in rows.items()]
    return "\n".join(lines)


def page() -> str:
    """Return the page with its table."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _modes(suite: Any, *names: str) -> str:
    has = {mode.value for mode in suite.modes}
    return "yes" if has.issuperset(names) else "refused"


def _largest(suite: Any) -> str:
    return "any" if suite.max_row_bytes is None else f"{suite.max_row_bytes:,} bytes"


def _filters(suite: Any, cases: dict[str, Any], beginnings: tuple[str, ...]) -> str:
    names = {name for name in cases if name.startswith(beginnings) and _owner(name) == beginnings}
    refused = names & suite.refused_filters
    if not refused:
        return "yes"
    return "refused" if refused == names else f"{len(names) - len(refused)} of {len(names)}"


def _owner(name: str) -> tuple[str, ...]:
    """Return the beginnings of the row that a case belongs to: those with the longest match."""
    return max(FILTERS.values(), key=lambda each: max((len(b) for b in each if name.startswith(b)), default=0))


def main() -> None:
    """Write the table into the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE}")


if __name__ == "__main__":
    main()
