"""The official checkpoints, where there are any: ``pytest -m weights -s``.

``CN_CLIP_ROOT`` names the folder that holds them (``~/.cache/clip`` by default), ``COCO_CN_JSONL`` a jsonl of pictures
with captions in the form of the demo's, ``ARTICLE_JSONL`` the one of the article that many come from (1,000 pairs).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, read_jsonl
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS

pytestmark = pytest.mark.weights

ROOT = Path(os.environ.get("CN_CLIP_ROOT", "~/.cache/clip")).expanduser()
ARTICLE_SCORES = [0.7074, 0.6678, 0.6381]
"""Of the first three pictures for 飞机, ViT-B-16, picture and caption averaged."""


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
def test_captions_find_their_pictures(name: str) -> None:
    nodes = [node for node in read_jsonl(jsonl("COCO_CN_JSONL")) if node.text]
    embed = official(name)
    captions = np.asarray(embed.get_text_embedding_batch([node.text.split("\n")[0] for node in nodes]))
    pictures = np.asarray(embed.get_image_embedding_batch([str(node.image) for node in nodes], show_progress=True))

    scores = captions @ pictures.T
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)

    recalls = {k: float((ranks < k).mean()) for k in (1, 5, 10)}
    print(f"\n{name}, {len(nodes)} pairs: " + ", ".join(f"R@{k} {recall:.3f}" for k, recall in recalls.items()))
    assert recalls[1] > 0.3


def test_the_articles_scores_come_out() -> None:
    index = build_index(read_jsonl(jsonl("ARTICLE_JSONL")), embed_model=official("ViT-B-16"), show_progress=True)
    found = index.as_retriever(image_similarity_top_k=3).retrieve("飞机")
    print(f"\n飞机: {[round(result.score or 0, 4) for result in found]}, in the article {ARTICLE_SCORES}")
    assert [result.score for result in found] == pytest.approx(ARTICLE_SCORES, abs=2e-3)
