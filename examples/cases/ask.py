"""Ask questions about the pages of a lecture or of a car manual, which are indexed with and without their text.

    python examples/cases/ask.py lecture
    python examples/cases/ask.py car_maintenance --question 胎压太低会有什么危害？

This example runs offline, with the demo model and a local mock of the GLM API. To use the real models, set
``ZHIPUAI_API_KEY`` and run ``python examples/cases/ask.py lecture --model ViT-B-16``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

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
"""Width of rendered pages in pixels; their height is 2880."""

WEIGHT_OF_IMAGES = 0.2
"""``alpha`` of the hybrid search: on pages full of text, words say more than the image."""


class Question(NamedTuple):
    """A question and the id of the page or figure that answers it."""

    text: str
    page: str


def load_questions(case: str, key: str = "questions") -> list[Question]:
    """Return the questions of a case; none if it has none of the kind.

    Args:
        case: Name of the case.
        key: ``"questions"``; ``"questions_in_other_words"``, which share no word with the page that answers them; or
            ``"figure_questions"``, which a figure on a page answers.
    """
    content = json.loads((HERE / f"{case}.json").read_text(encoding="utf-8"))
    return [Question(each["question"], _id_of(case, each)) for each in content.get(key, [])]


def _id_of(case: str, question: dict[str, Any]) -> str:
    page = f"{case}.pdf/{question['page']}"
    return f"{page}/figure-{question['figure']}" if "figure" in question else page


def read_pages(case: str, images: Path, show_progress: bool = False, figures: bool = False) -> list[ImageNode]:
    """Render the pages of a case into a folder, and return them as nodes with their text, with figures on request."""
    reader = PageReader(longest_side=SLIDE_WIDTH, id_prefix="", figures=figures, show_progress=show_progress)
    return reader.load_data(HERE / f"{case}.pdf", images)


def index_with_text(pages: Sequence[BaseNode], embed_model: ChineseClipEmbedding) -> ImageIndex:
    """Index pages so that they are found by the vectors of their images and by the words of their text."""
    return build_index(pages, embed_model=embed_model, caption_weight=0)


def index_without_text(pages: Sequence[BaseNode], embed_model: ChineseClipEmbedding) -> ImageIndex:
    """Index the images of pages alone. The embedding model must be able to read them."""
    return build_index([with_caption(page, "") for page in pages], embed_model=embed_model)


def ranks_of(index: ImageIndex, questions: Sequence[Question]) -> list[int]:
    """Return for each question the rank, from 1, of its page."""
    retriever = index.as_retriever(similarity_top_k=index.image_store.count(), alpha=WEIGHT_OF_IMAGES)
    found = [[result.node.node_id for result in retriever.retrieve(question.text)] for question in questions]
    return [ids.index(question.page) + 1 for ids, question in zip(found, questions, strict=True)]


def print_ranks(questions: Sequence[Question], with_text: Sequence[int], without_text: Sequence[int]) -> None:
    """Print the ranks of the pages in both indexes."""
    print("\nrank with text / by image alone, and question")
    for question, rank, bare_rank in zip(questions, with_text, without_text, strict=True):
        print(f"{rank:4} / {bare_rank:<4} {question.text}  → {question.page}")
    for title, ranks in (("with text", with_text), ("by image alone", without_text)):
        print(f"Among the first three, {title}: {sum(rank <= 3 for rank in ranks)} of {len(ranks)}")


def print_figure_ranks(questions: Sequence[Question], ranks: Sequence[int]) -> None:
    """Print the ranks of figures in an index of pages and figures."""
    print("\nrank of the figure, and question")
    for question, rank in zip(questions, ranks, strict=True):
        print(f"{rank:4} {question.text}  → {question.page}")
    print(f"Among the first three: {sum(rank <= 3 for rank in ranks)} of {len(ranks)}")


def print_sources(nodes: Sequence[BaseNode]) -> None:
    """Print the pages that were sent, with the beginning of their text."""
    for node in nodes:
        title = node.get_content().splitlines()[:2]
        print(f"Sent: {node.node_id}, {getattr(node, 'image_path', None)}, its text beginning with {' '.join(title)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read pages, index them with and without text, print ranks, and ask a question."""
    parser = argparse.ArgumentParser(description="Ask questions about the pages of a lecture or of a car manual.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--question", help="default: the first question of the case")
    parser.add_argument("--model", default=DEMO_MODEL, help="name such as ViT-B-16, or path of weights")
    parser.add_argument("--glm", default="glm-4v-flash", help="GLM model")
    parser.add_argument("--output", type=Path, default=HERE / "output", help="folder for images")
    given = parser.parse_args(arguments)

    nodes = read_pages(given.case, given.output / given.case, show_progress=True, figures=True)
    pages = [node for node in nodes if node.parent_node is None]
    print(f"Read {len(pages)} pages of {given.case}.pdf into {given.output / given.case}")
    questions = load_questions(given.case)
    embed_model = ChineseClipEmbedding(given.model)
    index = index_with_text(pages, embed_model)
    print_ranks(questions, ranks_of(index, questions), ranks_of(index_without_text(pages, embed_model), questions))

    if figure_questions := load_questions(given.case, "figure_questions"):
        print_figure_ranks(figure_questions, ranks_of(index_with_text(nodes, embed_model), figure_questions))

    if given.model == DEMO_MODEL:
        print(
            "The demo model knows only emoji and cannot read text, so its ranks by image alone are random. "
            "Try --model ViT-B-16."
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
