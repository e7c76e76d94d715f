"""The official checkpoints, where there are any: ``pytest -m weights -s``.

``CN_CLIP_ROOT`` names the folder that holds them (``~/.cache/clip`` by default), ``COCO_CN_JSONL`` a jsonl of images
with captions in the form of the demo's, ``ARTICLE_JSONL`` the one of the article that many come from (1,000 pairs),
``CHINESE_CLIP_DATA`` a folder with ``muge``, ``flickr30k-cn`` and ``coco-cn`` in the form of Chinese-CLIP's scripts.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, read_jsonl
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS
from llama_index_mm_zhipu.evaluation import PUBLISHED, RetrievalDataset, evaluate_retrieval
from llama_index_mm_zhipu.readers import ChineseClipReader

pytestmark = pytest.mark.weights

ROOT = Path(os.environ.get("CN_CLIP_ROOT", "~/.cache/clip")).expanduser()
ARTICLE_SCORES = [0.7074, 0.6678, 0.6381]
"""Of the first three images for 飞机, ViT-B-16, image and caption averaged."""


def official(name: str) -> ChineseClipEmbedding:
    if not (ROOT / OFFICIAL_MODELS[name].filename).is_file():
        pytest.skip(f"no {OFFICIAL_MODELS[name].filename} in {ROOT}; set CN_CLIP_ROOT")
    return ChineseClipEmbedding(name, download_root=str(ROOT))


def jsonl(variable: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"{variable} does not name a jsonl")
    return Path(os.environ[variable])


@pytest.mark.parametrize("name", OFFICIAL_MODELS)
def test_photographs_are_told_apart(name: str, photos: list[Path], captions: dict[str, str]) -> None:
    labels = [captions[photo.name] for photo in photos]
    probabilities = official(name).similarity(photos, [f"一张{label}的照片" for label in labels])
    right = float((probabilities.argmax(axis=1) == np.arange(len(photos))).mean())
    print(f"\n{name}: {right:.0%} of ten photographs get their own label")
    # Chance is 10 %. Several labels overlap (T恤, 衬衫, 长袖上衣).
    assert right >= 0.5


@pytest.mark.parametrize("name", OFFICIAL_MODELS)
def test_captions_find_their_images(name: str) -> None:
    nodes = [
        node.model_copy(update={"text": node.text.split("\n")[0]})
        for node in read_jsonl(jsonl("COCO_CN_JSONL"))
        if node.text
    ]
    index = build_index(nodes, embed_model=official(name), caption_weight=0, show_progress=True)
    report = evaluate_retrieval(index, nodes)
    print(f"\n{name}\n{report}")
    assert report.text_to_image.recall[1] > 0.3


@pytest.mark.parametrize("name", OFFICIAL_MODELS)
@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_tables_come_out(dataset: str, name: str) -> None:
    if "CHINESE_CLIP_DATA" not in os.environ:
        pytest.skip("CHINESE_CLIP_DATA does not name a folder with muge, flickr30k-cn and coco-cn in it")
    reader = ChineseClipReader()
    split = "valid" if dataset == "muge" else "test"
    folder = Path(os.environ["CHINESE_CLIP_DATA"]) / dataset
    images = reader.lazy_load_data(folder, split)
    index = build_index(images, embed_model=official(name), caption_weight=0, show_progress=True)
    queries = RetrievalDataset.from_texts(reader.load_texts(folder, split))
    report = evaluate_retrieval(index, queries, show_progress=True)
    published = PUBLISHED[dataset][name]
    print(f"\n{dataset}, {name}, published {published}\n{report}")
    for measured, expected in zip((report.text_to_image, report.image_to_text), published, strict=True):
        if expected is not None:
            assert [100 * recall for recall in measured.recall.values()] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("case", ["lecture", "car_maintenance"])
@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-H-14"])
def test_pages_without_captions_are_found_by_their_looks(name: str, case: str, ask: ModuleType, tmp_path: Path) -> None:
    questions = ask.load_questions(case)
    ranks = ask.ranks_of(ask.index_without_text(ask.read_pages(case, tmp_path), official(name)), questions)
    found = sum(rank <= 3 for rank in ranks) / len(ranks)
    print(f"\n{case}, {name}: {found:.0%} of the questions find their page among the first three, ranks {ranks}")
    # Chance is 30 and 25 %.
    assert found > 0.5


def test_the_articles_scores_come_out() -> None:
    index = build_index(read_jsonl(jsonl("ARTICLE_JSONL")), embed_model=official("ViT-B-16"), show_progress=True)
    found = index.as_retriever(image_similarity_top_k=3).retrieve("飞机")
    print(f"\n飞机: {[round(result.score or 0, 4) for result in found]}, in the article {ARTICLE_SCORES}")
    assert [result.score for result in found] == pytest.approx(ARTICLE_SCORES, abs=2e-3)
