"""Measure how well pages are found by questions in their own words and in other words, with and without rewriting.

    python benchmarks/rewording.py
    python benchmarks/rewording.py --model ViT-B-16 --json rewording.json

The pages and questions are those of ``examples/cases``. Without an API key, the search words come from a local mock
server that answers by rule: from a list of everyday words, ``examples/cases/everyday_words.json``, which was written
for these questions. The figures then show that the mechanism works, and not how well a model rewrites.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from llama_index.core.schema import NodeWithScore
from measuring import write_figures

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.testing import connect_glm

CASES = Path(__file__).parents[1] / "examples" / "cases"
sys.path.insert(0, str(CASES))

import ask  # noqa: E402

QUESTIONS = {"in the words of the page": "questions", "in other words": "questions_in_other_words"}

Find = Callable[[str], Sequence[NodeWithScore]]


def main() -> None:
    """Measure both cases, and print a table."""
    settings = _parser().parse_args()
    synonyms = json.loads((CASES / "everyday_words.json").read_text(encoding="utf-8"))
    embed_model = ChineseClipEmbedding(settings.model)
    rows: list[dict[str, Any]] = []
    with closing(connect_glm(settings.glm, synonyms=synonyms)) as llm, tempfile.TemporaryDirectory() as folder:
        for case in ask.CASES:
            index = ask.index_with_text(ask.read_pages(case, Path(folder) / case), embed_model)
            rows += _measure(case, index, llm)
    print(table(rows))
    if settings.json is not None:
        write_figures(settings.json, rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=ask.DEMO_MODEL, help="name such as ViT-B-16, or path of weights")
    parser.add_argument("--glm", default="glm-4v-flash", help="GLM model that rewrites")
    parser.add_argument("--json", type=Path, help="file for the ranks")
    return parser


def _measure(case: str, index: ImageIndex, llm: ZhipuMultiModal) -> list[dict[str, Any]]:
    """Return the rank of each question's page, by questions and by way of searching."""
    ways = _ways_to_search(index, llm)
    rows = []
    for title, key in QUESTIONS.items():
        questions = ask.load_questions(case, key)
        ranks = {way: [_rank(find, question) for question in questions] for way, find in ways.items()}
        rows.append({"case": case, "questions": title, "ranks": ranks})
    return rows


def _ways_to_search(index: ImageIndex, llm: ZhipuMultiModal) -> dict[str, Find]:
    """Return functions that rank all pages of an index by a question. Hybrid search has its default settings."""
    count = index.image_store.count()

    def find_by(mode: str, rewrite: bool) -> Find:
        options: dict[str, Any] = {"vector_store_query_mode": mode, "similarity_top_k": count}
        return index.as_query_engine(llm, query_rewrite=rewrite, **options).retrieve

    return {
        "full text": find_by("text_search", False),
        "hybrid": find_by("hybrid", False),
        "full text, rewritten": find_by("text_search", True),
        "hybrid, rewritten": find_by("hybrid", True),
    }


def _rank(find: Find, question: ask.Question) -> int | None:
    """Return the rank of a question's page, from 1; None if it is not found."""
    ids = [result.node.node_id for result in find(question.text)]
    return ids.index(question.page) + 1 if question.page in ids else None


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of questions whose page is found first, and among the first three."""
    ways = list(rows[0]["ranks"])
    lines = [f"| case | questions | {' | '.join(ways)} |", f"|---|---|{'---|' * len(ways)}"]
    for row in rows:
        cells = [f"{_found(ranks, 1)} / {_found(ranks, 3)}" for ranks in row["ranks"].values()]
        count = len(row["ranks"][ways[0]])
        lines.append(f"| `{row['case']}` | {count} {row['questions']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _found(ranks: Sequence[int | None], depth: int) -> int:
    return sum(rank is not None and rank <= depth for rank in ranks)


if __name__ == "__main__":
    main()
