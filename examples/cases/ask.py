"""Ask the pages of a lecture or of a car manual: what the article does with slides, in two ways.

    python examples/cases/ask.py lecture
    python examples/cases/ask.py car_maintenance --question 胎压太低会有什么危害？

Offline, with the demo model and a local stand-in for the GLM API. With weights and a key:
``python examples/cases/ask.py lecture --model ViT-B-16``, and ``ZHIPUAI_API_KEY`` set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from llama_index.core.schema import BaseNode, ImageNode

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, plot_results
from llama_index_mm_zhipu.images import with_caption
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.readers import PageReader
from llama_index_mm_zhipu.testing import connect_glm

HERE = Path(__file__).parent
CASES = ("lecture", "car_maintenance")
DEMO_MODEL = str(HERE.parent / "demo" / "model")

SLIDE_WIDTH = 3840
"""Pages are rendered at 3840 × 2880."""

WEIGHT_OF_IMAGES = 0.2
"""Of a page full of text, its words say more than its looks: ``alpha`` of the hybrid search."""


class Question(NamedTuple):
    """A question, and the id of the page that answers it."""

    text: str
    page: str


def load_questions(case: str) -> list[Question]:
    """Return the questions that come with a case."""
    content = json.loads((HERE / f"{case}.json").read_text(encoding="utf-8"))
    return [Question(each["question"], f"{case}.pdf/{each['page']}") for each in content["questions"]]


def read_pages(case: str, images: Path, show_progress: bool = False) -> list[ImageNode]:
    """Render the pages of a case into a folder, and return them with their text."""
    reader = PageReader(longest_side=SLIDE_WIDTH, id_prefix="", show_progress=show_progress)
    return reader.load_data(HERE / f"{case}.pdf", images)


def index_with_text(pages: Sequence[BaseNode], embed_model: ChineseClipEmbedding) -> ImageIndex:
    """Index pages so that their images are found by vector and their text by its words."""
    return build_index(pages, embed_model=embed_model, caption_weight=0)


def index_without_text(pages: Sequence[BaseNode], embed_model: ChineseClipEmbedding) -> ImageIndex:
    """Index pages as the article does: images alone, which a model must be able to read."""
    return build_index([with_caption(page, "") for page in pages], embed_model=embed_model)


def ranks_of(index: ImageIndex, questions: Sequence[Question]) -> list[int]:
    """Return the rank, from 1, at which each question finds its page."""
    retriever = index.as_retriever(similarity_top_k=index.image_store.count(), alpha=WEIGHT_OF_IMAGES)
    found = [[result.node.node_id for result in retriever.retrieve(question.text)] for question in questions]
    return [ids.index(question.page) + 1 for ids, question in zip(found, questions, strict=True)]


def print_ranks(questions: Sequence[Question], with_text: Sequence[int], without_text: Sequence[int]) -> None:
    """Print at which rank each question finds its page, either way."""
    print("\nrank with text / by image alone, and question")
    for question, rank, bare_rank in zip(questions, with_text, without_text, strict=True):
        print(f"{rank:4} / {bare_rank:<4} {question.text}  → {question.page}")
    for title, ranks in (("with text", with_text), ("by image alone", without_text)):
        print(f"Among the first three, {title}: {sum(rank <= 3 for rank in ranks)} of {len(ranks)}")


def print_sources(nodes: Sequence[BaseNode]) -> None:
    """Print which pages were sent, and how each begins."""
    for node in nodes:
        title = node.get_content().splitlines()[:2]
        print(f"Sent: {node.node_id}, {getattr(node, 'image_path', None)}, its text beginning with {' '.join(title)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, index, search in both ways, ask."""
    parser = argparse.ArgumentParser(description="Ask the pages of a lecture or of a car manual.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--question", help="by default the first that comes with the case")
    parser.add_argument("--model", default=DEMO_MODEL, help="such as ViT-B-16")
    parser.add_argument("--glm", default="glm-4v-flash", help="model that answers")
    parser.add_argument("--output", type=Path, default=HERE / "output", help="folder for images")
    given = parser.parse_args(arguments)

    pages = read_pages(given.case, given.output / given.case, show_progress=True)
    print(f"Read {len(pages)} pages of {given.case}.pdf into {given.output / given.case}")
    questions = load_questions(given.case)
    embed_model = ChineseClipEmbedding(given.model)
    index = index_with_text(pages, embed_model)
    print_ranks(questions, ranks_of(index, questions), ranks_of(index_without_text(pages, embed_model), questions))

    if given.model == DEMO_MODEL:
        print(
            "The demo model knows emoji alone and cannot read: of it, the second way is chance. Try --model ViT-B-16."
        )

    question = given.question or questions[0].text
    print(f"\nQuestion: {question}")
    with closing(connect_glm(given.glm)) as llm:
        engine = index.as_query_engine(llm=llm, similarity_top_k=3, alpha=WEIGHT_OF_IMAGES)
        response = engine.query(question)
    print_sources([result.node for result in response.source_nodes])
    print(f"Answer: {response}")
    figure = given.output / f"{given.case}.png"
    plot_results(question, response.source_nodes).savefig(figure, dpi=120)
    print(f"Saved {figure}")


if __name__ == "__main__":
    main()
