"""Ask questions about the pages of a lecture or of a car manual, which are indexed with and without their text.

    python examples/cases/ask.py lecture
    python examples/cases/ask.py car_maintenance --question 胎压太低会有什么危害？
    python examples/cases/ask.py car_maintenance --images-only

With ``--images-only`` the pages are images without any text, as slides and screenshots often are: RGBA PNG files of
3840 × 2880 (lecture) and 5120 × 2880 pixels (car manual). OCR reads them, which needs the extra ``ocr``.

This example runs offline, with the demo model and a local mock of the GLM API. To use the real models, set
``ZHIPUAI_API_KEY`` and run ``python examples/cases/ask.py lecture --model ViT-B-16``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode, ImageNode
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, plot_results, read_folder
from llama_index_mm_zhipu.images import load_image, page_text_of, with_page_text
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.readers import PageReader
from llama_index_mm_zhipu.testing import connect_glm

HERE = Path(__file__).parent
CASES = ("lecture", "car_maintenance")
DEMO_MODEL = str(HERE.parent / "demo" / "model")

SLIDE_WIDTH = 3840
"""Width of rendered pages in pixels; their height is 2880."""

IMAGE_SIZES = {"lecture": (3840, 2880), "car_maintenance": (5120, 2880)}
"""Width and height in pixels of the PNG files that ``--images-only`` writes; margins are white."""

ASKED = {"lecture": "防止过拟合有哪些办法？", "car_maintenance": "冷却液怎么检查？"}
"""The question of each case if the command line has none."""


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


def write_images(case: str, folder: Path) -> Path:
    """Draw the pages of a case as PNG images without text, and return their folder.

    The file of the first page of the lecture is ``lecture.pdf/1.png`` in that folder.
    """
    for page in PageReader(longest_side=SLIDE_WIDTH, id_prefix="").lazy_load_data(HERE / f"{case}.pdf"):
        file = folder / f"{page.node_id}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn = load_image(page)
        image = Image.new("RGBA", IMAGE_SIZES[case], "white")
        image.paste(drawn, ((image.width - drawn.width) // 2, 0))
        image.save(file, compress_level=1)
    return folder


def index_with_text(pages: Sequence[BaseNode], embed_model: ChineseClipEmbedding) -> ImageIndex:
    """Index pages so that they are found by the vectors of their images and by the words of their text."""
    return build_index(pages, embed_model=embed_model)


def index_without_text(pages: Sequence[BaseNode], embed_model: ChineseClipEmbedding) -> ImageIndex:
    """Index the images of pages alone. The embedding model must be able to read them."""
    return build_index([with_page_text(page, "", "text_layer") for page in pages], embed_model=embed_model)


def index_images(folder: Path, embed_model: ChineseClipEmbedding, show_progress: bool = False) -> ImageIndex:
    """Index a folder of images of pages: OCR reads what is written on them."""
    images = read_folder(folder, id_prefix="")
    return build_index(images, embed_model=embed_model, ocr=True, show_progress=show_progress)


def ranks_of(index: ImageIndex, questions: Sequence[Question]) -> list[int]:
    """Return for each question the rank, from 1, of its page."""
    retriever = index.as_retriever(similarity_top_k=index.image_store.count())
    found = [
        [result.node.node_id.removesuffix(".png") for result in retriever.retrieve(question.text)]
        for question in questions
    ]
    return [ids.index(question.page) + 1 for ids, question in zip(found, questions, strict=True)]


def print_ranks(questions: Sequence[Question], columns: Mapping[str, Sequence[int]]) -> None:
    """Print the rank of each question's page or figure in one or more indexes.

    Args:
        questions: The questions.
        columns: The ranks in each index, by what the index holds.
    """
    print(f"\nrank {' / '.join(columns)}, and question")
    for question, *ranks in zip(questions, *columns.values(), strict=True):
        print(f"{' / '.join(f'{rank:4}' for rank in ranks)}  {question.text}  → {question.page}")
    for title, ranks in columns.items():
        print(f"Among the first three, {title}: {sum(rank <= 3 for rank in ranks)} of {len(ranks)}")


def print_sources(nodes: Sequence[BaseNode]) -> None:
    """Print the pages that were sent, with the beginning of their text."""
    for node in nodes:
        title = page_text_of(node).splitlines()[:2]
        print(f"Sent: {node.node_id}, {getattr(node, 'image_path', None)}, its text beginning with {' '.join(title)}")


def index_both_ways(
    case: str, questions: Sequence[Question], folder: Path, embed_model: ChineseClipEmbedding
) -> ImageIndex:
    """Index pages with their text layer and by image alone, print the ranks in both, and return the first index.

    The ranks of figures are those in a third index, of pages and figures.
    """
    nodes = read_pages(case, folder, show_progress=True, figures=True)
    pages = [node for node in nodes if node.parent_node is None]
    print(f"Read {len(pages)} pages of {case}.pdf into {folder}")
    index = index_with_text(pages, embed_model)
    by_image = ranks_of(index_without_text(pages, embed_model), questions)
    print_ranks(questions, {"with text": ranks_of(index, questions), "by image alone": by_image})
    if figure_questions := load_questions(case, "figure_questions"):
        print_ranks(figure_questions, {"beside pages": ranks_of(index_with_text(nodes, embed_model), figure_questions)})
    if embed_model.model_name == DEMO_MODEL:
        print(
            "The demo model knows only emoji and cannot read text, so its ranks by image alone are random. "
            "Try --model ViT-B-16."
        )
    return index


def index_by_ocr(
    case: str, questions: Sequence[Question], folder: Path, embed_model: ChineseClipEmbedding
) -> ImageIndex:
    """Write pages as images, index them with OCR, and print the ranks."""
    folder = write_images(case, folder)
    width, height = IMAGE_SIZES[case]
    print(f"Wrote images of {width} × {height} pixels without text to {folder / f'{case}.pdf'}")
    index = index_images(folder, embed_model, show_progress=True)
    print_ranks(questions, {"by the text that OCR read": ranks_of(index, questions)})
    return index


def main(arguments: Sequence[str] | None = None) -> None:
    """Index the pages of a case, print the ranks of its questions, and ask a question."""
    parser = argparse.ArgumentParser(description="Ask questions about the pages of a lecture or of a car manual.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--question", help="default: one about overfitting, or about the coolant")
    parser.add_argument(
        "--images-only", "--pictures-only", action="store_true", help="index images of the pages, which OCR reads"
    )
    parser.add_argument("--model", default=DEMO_MODEL, help="name such as ViT-B-16, or path of weights")
    parser.add_argument("--glm", default="glm-4v-flash", help="GLM model")
    parser.add_argument("--output", type=Path, default=HERE / "output", help="folder for images")
    given = parser.parse_args(arguments)

    name = f"{given.case}-images" if given.images_only else given.case
    index_pages = index_by_ocr if given.images_only else index_both_ways
    embed_model = ChineseClipEmbedding(given.model)
    index = index_pages(given.case, load_questions(given.case), given.output / name, embed_model)

    question = given.question or ASKED[given.case]
    print(f"\nQuestion: {question}")
    with closing(connect_glm(given.glm)) as llm:
        response = index.as_query_engine(llm=llm, similarity_top_k=3).query(question)
    print_sources([result.node for result in response.source_nodes])
    print(f"Answer: {response}")
    figure = given.output / f"{name}.png"
    plot_results(question, response.source_nodes).savefig(figure, dpi=120)
    print(f"Saved {figure}")


if __name__ == "__main__":
    main()
