"""Recall of the fusions of vectors and full text, on questions about pages and on names of emoji.

    python benchmarks/fusion.py

Each collection is an index of this package, and each row a way to query it. ``default`` is what an index does without
any option. The constants of ``vector_store/fusion.py`` were searched on one half of the queries; the table has the
recall of all queries, and of the other half.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode, ImageNode

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.embedding import embed_nodes
from llama_index_mm_zhipu.images import with_caption, with_page_text
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.readers import PageReader

EXAMPLES = Path(__file__).parents[1] / "examples"
sys.path.insert(0, str(EXAMPLES / "cases"))

from ask import CASES, DEMO_MODEL, Question, load_questions  # noqa: E402

DEPTHS = (1, 3, 5)

QUERY_OPTIONS: dict[str, dict[str, Any]] = {
    "vector alone": {"vector_store_query_mode": "default"},
    "text alone": {"vector_store_query_mode": "text_search"},
    "reciprocal ranks, alpha 0.5": {"vector_store_query_mode": "hybrid", "alpha": 0.5},
    "reciprocal ranks, alpha 0.2": {"vector_store_query_mode": "hybrid", "alpha": 0.2},
    "default": {},
}


class Collection(NamedTuple):
    """Images and the queries for them."""

    name: str
    nodes: Sequence[BaseNode]
    queries: Sequence[Question]


def collections(model: ChineseClipEmbedding, step: int) -> list[Collection]:
    """Return the collections with vectors of their images alone; of the emoji, every ``step``-th is asked for."""
    emoji = [json.loads(line) for line in (EXAMPLES / "demo" / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    images = _with_vectors(model, [ImageNode(id_=each["image_id"], image=each["image_base64"]) for each in emoji])
    names = [str(each["caption"]) for each in emoji]
    pages = {case: _with_vectors(model, _pages(case)) for case in CASES}
    texts = [page.get_content() for case in CASES for page in pages[case]]

    def on_half(change: Callable[[int, ImageNode], BaseNode]) -> list[BaseNode]:
        return [change(number, image) if number % 2 == 0 else image for number, image in enumerate(images)]

    by_name = [Question(name, image.node_id) for name, image in zip(names, images, strict=True)][::step]
    questions = [Question(f"有没有{name}的图片？", image.node_id) for name, image in zip(names, images, strict=True)][
        ::step
    ]
    half = on_half(lambda number, image: with_caption(image, names[number]))
    cited = on_half(lambda number, image: with_page_text(image, _page_about(names, number), "ocr"))
    foreign = on_half(lambda number, image: with_page_text(image, texts[number // 2 % len(texts)], "ocr"))
    captioned = [with_caption(image, name) for image, name in zip(images, names, strict=True)]
    return [
        *(Collection(case, pages[case], load_questions(case)) for case in CASES),
        Collection("emoji, half with captions", half, by_name),
        Collection("the same, asked by questions", half, questions),
        Collection("emoji, all with captions", captioned, by_name),
        Collection("emoji, foreign page text on half", foreign, by_name),
        Collection("emoji, page text with six names on half", cited, by_name),
        Collection(
            "emoji (half with captions) and pages, questions about pages",
            [*half, *pages["lecture"], *pages["car_maintenance"]],
            [*load_questions("lecture"), *load_questions("car_maintenance")],
        ),
    ]


def recalls(index: ImageIndex, queries: Sequence[Question], options: dict[str, Any]) -> list[list[bool]]:
    """Return for each query whether its image is among the first results, by depth."""
    retriever = index.as_retriever(similarity_top_k=max(DEPTHS), **options)
    found = []
    for query in queries:
        ids = [result.node_id for result in retriever.retrieve(query.text)]
        found.append([query.page in ids[:depth] for depth in DEPTHS])
    return found


def share(found: Sequence[Sequence[bool]]) -> str:
    """Return the recall at each depth as a cell of the table."""
    return " / ".join(f"{sum(column) / len(found):.3f}" for column in zip(*found, strict=True))


def other_half(found: Sequence[list[bool]]) -> list[list[bool]]:
    """Return the results of the half of the queries that no constant was chosen on: two of every four."""
    return [each for number, each in enumerate(found) if number // 2 % 2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one table for each collection."""
    parser = argparse.ArgumentParser(description="Recall of the fusions of vectors and full text.")
    parser.add_argument("--model", default=DEMO_MODEL, help="name or path of weights")
    parser.add_argument("--step", type=int, default=1, help="ask for every n-th emoji only")
    given = parser.parse_args(arguments)
    model = ChineseClipEmbedding(given.model)
    for collection in collections(model, given.step):
        index = build_index(collection.nodes, embed_model=model, caption_weight=0)
        print(f"\n{collection.name}: {len(collection.nodes):,} images, {len(collection.queries):,} queries\n")
        print(f"| R@{' / R@'.join(map(str, DEPTHS))} | all | other half |\n|---|---|---|")
        for name, options in QUERY_OPTIONS.items():
            found = recalls(index, collection.queries, options)
            print(f"| {name} | {share(found)} | {share(other_half(found))} |")
        sys.stdout.flush()


def _with_vectors(model: ChineseClipEmbedding, images: Sequence[ImageNode]) -> list[ImageNode]:
    return [node for node in embed_nodes(images, model, caption_weight=0) if isinstance(node, ImageNode)]


def _pages(case: str) -> list[ImageNode]:
    return PageReader(longest_side=960, id_prefix="").load_data(EXAMPLES / "cases" / f"{case}.pdf")


def _page_about(names: Sequence[str], number: int) -> str:
    """Return a page text about an emoji that names five others."""
    others = [names[(number + 277 * step) % len(names)] for step in range(1, 6)]
    return f"本页的主题是{names[number]}，下面按顺序说明它的特点。" + "".join(f"另见{other}。" for other in others)


if __name__ == "__main__":
    main()
