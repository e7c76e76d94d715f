"""Write the table of guides/scale.md, in both languages, from what the conformance suite declares for each store.

Run with ``make docs``; a test compares the pages with what this writes. The suite is in ``tests/stores``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = Path("guides") / "scale.md"
"""The page below the folder of each language."""

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


class Wording(NamedTuple):
    """The words of the table in one language.

    Attributes:
        titles: Titles of rows and columns by the English ones; those that are missing stay English.
        yes: The store does it.
        no: The store does not do it.
        refused: The store raises an error.
        any_size: No limit.
        max_size: A limit; ``{bytes}``.
        some: Some filters of a row work; ``{supported}``, ``{total}``.
        filter: Title of a row about filters; ``{title}``.
    """

    titles: Mapping[str, str]
    yes: str = "yes"
    no: str = "no"
    refused: str = "refused"
    any_size: str = "any"
    max_size: str = "{bytes:,} bytes"
    some: str = "{supported} of {total}"
    filter: str = "filter {title}"


LANGUAGES = {
    "en": Wording(titles={}),
    "zh": Wording(
        yes="支持",
        no="不支持",
        refused="报错",
        any_size="不限",
        max_size="{bytes:,} 字节",
        some="{total} 种中的 {supported} 种",
        filter="过滤条件：{title}",
        titles={
            "embedded": "内置",
            "any other": "其他",
            "search by vector, `mmr`": "按向量检索、`mmr`",
            "full text, hybrid search": "全文检索、混合检索",
            "largest node with its image": "节点连同图片的大小上限",
            "lists nodes: unchanged and moved images are recognised": "能列出节点，从而认出未变和移动过的图片",
            "`==`, `in`": "`==`、`in`",
            "`!=`, `nin`": "`!=`、`nin`",
            "`==` with a list": "`==` 比较列表",
            "`>`, `>=`, `<`, `<=` with numbers": "`>`、`>=`、`<`、`<=` 比较数字",
            "`>`, `>=`, `<`, `<=` with texts": "`>`、`>=`、`<`、`<=` 比较文本",
            "`contains`, `any`, `all` in lists": "`contains`、`any`、`all` 用于列表",
            "`contains` in texts": "`contains` 用于文本",
            "`and`, `or`": "`and`、`or`",
            "`not`, nested": "`not`、嵌套",
            "keys in Chinese, with dots and quotes": "中文键名、带点号或引号的键名",
        },
    ),
}
"""The words by the name of the folder of pages."""


def table(language: str) -> str:
    """Return the table in a language of ``LANGUAGES``."""
    words = LANGUAGES[language]
    for folder in ("tests", "tests/vector_store", "tests/stores"):
        sys.path.insert(0, str(ROOT / folder))
    try:
        suites = {name: getattr(importlib.import_module(module), suite) for name, (module, suite) in STORES.items()}
        cases = importlib.import_module("filter_cases").FILTER_CASES
    finally:
        del sys.path[:3]
    rows: dict[str, Callable[[Any], str]] = {
        "search by vector, `mmr`": lambda suite: _modes(suite, words, "default", "mmr"),
        "full text, hybrid search": lambda suite: _modes(suite, words, "text_search", "hybrid"),
        "largest node with its image": lambda suite: _largest(suite, words),
        "lists nodes: unchanged and moved images are recognised": lambda suite: (
            words.yes if suite.lists_nodes else words.no
        ),
    }
    titles = {title: words.titles.get(title, title) for title in rows}
    for title, beginnings in FILTERS.items():
        rows[title] = lambda suite, beginnings=beginnings: _filters(suite, words, cases, beginnings)  # type: ignore[misc]
        titles[title] = words.filter.format(title=words.titles.get(title, title))
    lines = [f"| | {' | '.join(words.titles.get(name, name) for name in suites)} |", f"|---{'|---' * len(suites)}|"]
    lines += [f"| {titles[title]} | {' | '.join(map(cell, suites.values()))} |" for title, cell in rows.items()]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Return the pages with their tables, by their paths."""
    return {ROOT / "docs" / language / PAGE: _with_table(language) for language in LANGUAGES}


def _with_table(language: str) -> str:
    text = (ROOT / "docs" / language / PAGE).read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table(language)}\n\n{END}{after}"


def _modes(suite: Any, words: Wording, *names: str) -> str:
    has = {mode.value for mode in suite.modes}
    return words.yes if has.issuperset(names) else words.refused


def _largest(suite: Any, words: Wording) -> str:
    return words.any_size if suite.max_row_bytes is None else words.max_size.format(bytes=suite.max_row_bytes)


def _filters(suite: Any, words: Wording, cases: dict[str, Any], beginnings: tuple[str, ...]) -> str:
    names = {name for name in cases if name.startswith(beginnings) and _owner(name) == beginnings}
    refused = names & suite.refused_filters
    if not refused:
        return words.yes
    if refused == names:
        return words.refused
    return words.some.format(supported=len(names) - len(refused), total=len(names))


def _owner(name: str) -> tuple[str, ...]:
    """Return the beginnings of the row that a case belongs to: those with the longest match."""
    return max(FILTERS.values(), key=lambda each: max((len(b) for b in each if name.startswith(b)), default=0))


def main() -> None:
    """Write the table into the pages."""
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
        print(f"Wrote {page}")


if __name__ == "__main__":
    main()
