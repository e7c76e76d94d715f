"""Compare settings of an index by questions of your own: how often are the right images found?

Builds the index of each setting in memory, asks all questions, and lists those whose images are not among the first
five. Runs offline over the demo images, which the demo model was trained on: the figures only show how it works.

    python examples/evaluate.py
    python examples/evaluate.py --data goods.jsonl --questions questions.jsonl --model ViT-B-16

Each line of the questions is `{"question": "有红色的裙子吗？", "image_ids": ["84"]}`, with the ids of all images that
answer it. Thirty questions that your users really asked say more than a thousand captions.
"""

import argparse
import json
from pathlib import Path

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, evaluate_retrieval, read_jsonl
from llama_index_mm_zhipu.evaluation import RetrievalDataset, RetrievalQuery
from llama_index_mm_zhipu.index import ImageIndex

EXAMPLES = Path(__file__).parent
SETTINGS = {
    0.0: {"images only": "default", "images, hybrid": "hybrid"},
    0.5: {"with captions": "default"},
}
"""By the share of captions in the vectors: names of settings, and how words search."""

DEPTH = 5


def read_questions(file: Path) -> RetrievalDataset:
    """Return the questions of a file with one JSON object per line."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return RetrievalDataset([RetrievalQuery(line["question"], tuple(line["image_ids"])) for line in lines])


def missed_questions(index: ImageIndex, questions: RetrievalDataset, mode: str) -> list[str]:
    """Return the questions of which no right image is among the first results."""
    retriever = index.as_retriever(similarity_top_k=DEPTH, vector_store_query_mode=mode)
    return [
        question.text
        for question in questions.queries
        if not {result.node.node_id for result in retriever.retrieve(question.text)} & set(question.image_ids)
    ]


def main() -> None:
    """Measure each setting, and print a table and what was missed."""
    parser = argparse.ArgumentParser(description="Compare settings of an index by questions of your own.")
    parser.add_argument("--data", type=Path, default=EXAMPLES / "demo" / "test.jsonl", help="jsonl file of images")
    parser.add_argument("--questions", type=Path, default=EXAMPLES / "questions.jsonl", help="questions with image ids")
    parser.add_argument("--model", default=str(EXAMPLES / "demo" / "model"), help="name such as ViT-B-16, or path")
    options = parser.parse_args()
    embed_model, questions = ChineseClipEmbedding(options.model), read_questions(options.questions)
    print(f"{'setting':<16}{'R@1':>7}{'R@5':>7}{'R@10':>7}{'MRR@10':>8}  missed among the first {DEPTH}")
    for caption_weight, modes in SETTINGS.items():
        index = build_index(read_jsonl(options.data, id_prefix=""), embed_model, caption_weight=caption_weight)
        for name, mode in modes.items():
            # Its warning about captions in vectors is for questions that are these captions.
            scores = evaluate_retrieval(index, questions, vector_store_query_mode=mode).text_to_image
            recall = "".join(f"{100 * share:7.1f}" for share in scores.recall.values())
            missed = missed_questions(index, questions, mode)
            print(f"{name:<16}{recall}{100 * scores.mrr:8.1f}  {'、'.join(missed)}")
        index.close()


if __name__ == "__main__":
    main()
