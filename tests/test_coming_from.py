"""The pages "Coming from …": the article's way and ours give the same results, and the tables are complete."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from glob import glob
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import article_way
import numpy as np
import numpy.typing as npt
import pytest
import torch
from article_way import ArticleAnswers, ArticleSearch, Pair, demo_pairs
from blocks import blocks_in, code_blocks
from guide_folder import guide_folder
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle
from outline import images_of
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.testing import MockGLMServer

PAGES = Path(__file__).parents[1] / "docs"
TOP_K = 10
WORDS = (
    "飞机",
    "红苹果",
    "一只猫",
    "图里有消防车吗？",
    "绿色的圆形",
    "时钟的图片",
    "下雨天打的伞",
    "笑脸",
    "书",
    "水果",
)
TOLERANCE = 1e-3
# Pairs whose scores are this close may change places: OpenVINO and torch round differently.
TIE = 1e-4
# Mean difference of two compressions of one image, of 255.
MAX_DIFFERENCE = 4

ARTICLE_NAMES = {
    "MultimodalRetrieverConfig": (
        ("model_name", "dim", "index_path", "download_root", "batch_size"),
        ("validate",),
    ),
    "MultimodalRetriever": (
        (
            *("config", "device", "model", "preprocess", "dim", "index", "embeddings", "documents", "num_documents"),
            *("index_path", "batch_size"),
        ),
        (
            "convert_base642image",
            "merge_mm_embeddings",
            "_embed",
            "add_image_text",
            "build_from_pairs",
            "save_index",
            "load_index",
            "retrieve",
            "plot_results",
        ),
    ),
    "MultimodalRAG": (
        ("api_key", "retriever_config", "model_name", "top_k", "client", "retriever"),
        ("_prepare_context", "_image_to_base64", "chat", "chat_with_image"),
    ),
}
"""Arguments of the constructors with the other attributes, and methods, of the article's classes."""

METHOD_ARGUMENTS = {
    "convert_base642image": ("image_base64",),
    "merge_mm_embeddings": ("img_emb", "text_emb"),
    "_embed": ("image", "text"),
    "add_image_text": ("image", "text"),
    "build_from_pairs": ("img_text_pairs",),
    "save_index": ("index_path",),
    "load_index": ("index_path",),
    "retrieve": ("query", "top_k"),
    "plot_results": ("query", "results", "font_path"),
    "_prepare_context": ("results",),
    "_image_to_base64": ("image",),
    "chat": ("query", "include_images"),
    "chat_with_image": ("query", "image_path"),
}

ZHIPUAI_NAMES = (
    *("model", "api_key", "temperature", "max_tokens", "timeout", "size", "additional_kwargs"),
    *("complete", "acomplete", "stream_complete", "astream_complete", "chat", "achat", "stream_chat", "astream_chat"),
    *("metadata", "model_kwargs", "class_name", "has_completions_api", "has_videos_generations_api"),
    *("image_documents", "image_url", "video_url"),
)
"""Arguments and methods of LlamaIndex's ``ZhipuAIMultiModal``."""

CN_CLIP_NAMES = (
    *("available_models", "load_from_name", "load", "image_transform", "tokenize"),
    *("device", "download_root", "vision_model_name", "text_model_name", "input_resolution", "use_modelscope"),
    *("context_length", "encode_image", "encode_text", "get_similarity", "logit_scale"),
)
"""Functions, arguments and methods of cn_clip that scripts use for inference."""


class BothWays(NamedTuple):
    """The same pairs, indexed in the article's way and in ours."""

    pairs: Sequence[Pair]
    article: ArticleSearch
    ours: ImageIndex


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Keeps torch to one thread: one pair at a time is too little work for two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[100, pytest.param(1389, marks=pytest.mark.integration)])
def both(
    request: pytest.FixtureRequest, one_thread: None, demo_folder: Path, demo_embedding: ChineseClipEmbedding
) -> BothWays:
    pairs = demo_pairs(demo_folder / "test.jsonl", request.param)
    assert len(pairs) == request.param
    article = ArticleSearch(demo_folder / "model")
    for pair in pairs:
        article.add(opened(pair), pair.caption)
    return BothWays(pairs, article, build_index(list(map(node_of, pairs)), demo_embedding))


def opened(pair: Pair) -> Image.Image:
    return Image.open(BytesIO(pair.data))


def node_of(pair: Pair) -> ImageNode:
    return ImageNode(id_=pair.id, image=base64.b64encode(pair.data).decode(), text=pair.caption)


def assert_same_ranking(both: BothWays, query: str | Image.Image, ours: Sequence[NodeWithScore]) -> None:
    """Assert that our results have the article's scores, and that no pair is missing or out of order, ties aside."""
    found = both.article.search(query, len(both.pairs))
    scores = {both.pairs[each.number].id: each.score for each in found}
    assert len(ours) == TOP_K
    assert [each.score for each in ours] == pytest.approx([each.score for each in found[:TOP_K]], abs=TOLERANCE)
    theirs = [scores[each.node_id] for each in ours]
    assert [each.score for each in ours] == pytest.approx(theirs, abs=TOLERANCE)
    assert all(later < earlier + TIE for earlier, later in pairwise(theirs))
    assert theirs[-1] > found[TOP_K - 1].score - TIE


@pytest.mark.parametrize("words", WORDS)
def test_words_find_the_same_pairs_with_the_same_scores(both: BothWays, words: str) -> None:
    ours = both.ours.as_retriever(similarity_top_k=TOP_K).retrieve(words)

    assert_same_ranking(both, words, ours)


@pytest.mark.parametrize("position", [0, 0.3, 0.6, 0.95])
def test_images_find_the_same_pairs_with_the_same_scores(both: BothWays, position: float) -> None:
    turned = opened(both.pairs[int(position * len(both.pairs))]).rotate(15, fillcolor="white").resize((96, 96))

    ours = both.ours.as_retriever(similarity_top_k=TOP_K).retrieve(turned)

    assert_same_ranking(both, turned, ours)


@pytest.mark.parametrize("captioned", ["none", "every second"])
def test_pairs_without_captions_have_the_same_scores(
    both: BothWays, demo_folder: Path, demo_embedding: ChineseClipEmbedding, captioned: str
) -> None:
    pairs = [
        pair if captioned == "every second" and number % 2 else pair._replace(caption="")
        for number, pair in enumerate(both.pairs[:20])
    ]
    article = ArticleSearch(demo_folder / "model")
    for pair in pairs:
        article.add(opened(pair), pair.caption or None)
    weight = 0.5 if captioned == "every second" else None
    ours = build_index(list(map(node_of, pairs)), demo_embedding, caption_weight=weight)

    results = ours.as_retriever(similarity_top_k=TOP_K).retrieve("飞机")

    assert_same_ranking(BothWays(pairs, article, ours), "飞机", results)


@pytest.mark.parametrize("caption", ["", "很长的描述" * 20], ids=["missing", "too long"])
def test_one_caption_that_is_missing_or_too_long_changes_the_default_for_all_pairs(
    both: BothWays, demo_folder: Path, demo_embedding: ChineseClipEmbedding, caption: str
) -> None:
    pairs = [both.pairs[0]._replace(caption=caption), *both.pairs[1:20]]
    article = ArticleSearch(demo_folder / "model")
    for pair in pairs:
        article.add(opened(pair), pair.caption or None)
    nodes = list(map(node_of, pairs))

    assert build_index(nodes, demo_embedding).caption_weight == 0
    ours = build_index(nodes, demo_embedding, caption_weight=0.5)
    retriever = ours.as_retriever(similarity_top_k=len(pairs), vector_store_query_mode="default")
    found = {each.node_id: each.score for each in retriever.retrieve("飞机")}

    theirs = {pairs[each.number].id: each.score for each in article.search("飞机", len(pairs))}
    # The article's vector holds the beginning of a long caption, ours nothing of it.
    del found[pairs[0].id], theirs[pairs[0].id]
    assert found == pytest.approx(theirs, abs=TOLERANCE)


def test_vectors_of_a_saved_index_can_be_kept(
    both: BothWays, demo_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    both.article.save(tmp_path)
    saved = np.load(tmp_path / "multimodal.vecstore.npz", allow_pickle=True)
    nodes = [
        node_of(pair).model_copy(update={"text": text, "embedding": vector.tolist()})
        for pair, (_, text), vector in zip(both.pairs, saved["documents"], saved["embeddings"][:, 0], strict=True)
    ]

    index = build_index(nodes, demo_embedding, caption_weight=0.5)

    assert_same_ranking(both, "飞机", index.as_retriever(similarity_top_k=TOP_K).retrieve("飞机"))


def test_the_model_sees_the_same_images_in_the_same_order(
    both: BothWays, server: MockGLMServer, connect: Callable[..., ZhipuMultiModal]
) -> None:
    question = "图里的飞机是什么颜色？"
    ArticleAnswers(both.article, server.url, top_k=3).ask(question)

    both.ours.as_query_engine(llm=connect(model="glm-4v-plus"), similarity_top_k=3).query(question)

    theirs, ours = map(images_of, server.requests)
    assert_same_images(theirs, ours, 3)


def test_the_image_of_a_question_comes_first_and_its_words_search(
    both: BothWays, server: MockGLMServer, connect: Callable[..., ZhipuMultiModal], photos: list[Path]
) -> None:
    question, own = "这和飞机有什么不同？", photos[0]
    ArticleAnswers(both.article, server.url, top_k=2).ask(question, own)

    engine = both.ours.as_query_engine(llm=connect(model="glm-4v-plus"), similarity_top_k=2, query_mode="text")
    engine.query(QueryBundle(question, image_path=str(own)))

    theirs, ours = map(images_of, server.requests)
    assert_same_images(theirs, ours, 3)
    assert base64.b64decode(ours[0]) == own.read_bytes()


def assert_same_images(theirs: Sequence[str], ours: Sequence[str], count: int) -> None:
    """Assert that both lists hold the same images in the same order; the article compresses its images once more."""
    assert len(theirs) == len(ours) == count
    differences = [[float(np.abs(pixels(first) - pixels(second)).mean()) for second in ours] for first in theirs]
    assert [int(np.argmin(row)) for row in differences] == list(range(count))
    assert max(min(row) for row in differences) < MAX_DIFFERENCE


def pixels(encoded: str) -> npt.NDArray[np.float32]:
    return np.asarray(Image.open(BytesIO(base64.b64decode(encoded))).convert("RGB").resize((64, 64)), np.float32)


def first_cells(page: Path, heading: str = "") -> str:
    """Return the code in the first cells of the tables below a heading, or of the whole page."""
    text = page.read_text(encoding="utf-8")
    if heading:
        text = re.split(rf"^#+ `{heading}`$", text, flags=re.MULTILINE)[1]
        text = re.split(r"^#+ ", text, flags=re.MULTILINE)[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]
    return "\n".join(code for cell in cells for code in re.findall(r"`([^`]+)`", cell))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ARTICLE_NAMES)
def test_each_argument_and_method_of_the_article_has_a_row(name: str, language: str) -> None:
    cells = first_cells(PAGES / language / "coming_from" / "article.md", name)
    attributes, methods = ARTICLE_NAMES[name]

    assert [each for each in attributes if not re.search(rf"(?<!\w){each}(?!\w|\()", cells)] == []
    calls = {method: re.search(rf"^{method}\(([^)]*)\)", cells, re.MULTILINE) for method in methods}
    described = {method: tuple(re.findall(r"(\w+)(?:=[^,]+)?", call[1])) for method, call in calls.items() if call}
    assert described == {method: METHOD_ARGUMENTS.get(method, ()) for method in methods}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    ("page", "names"), [("zhipuai_multimodal", ZHIPUAI_NAMES), ("cn_clip", CN_CLIP_NAMES)], ids=["zhipuai", "cn_clip"]
)
def test_each_argument_and_method_of_other_packages_has_a_row(page: str, names: Sequence[str], language: str) -> None:
    cells = first_cells(PAGES / language / "coming_from" / f"{page}.md")

    assert [name for name in names if not re.search(rf"(?<!\w){name}(?!\w)", cells)] == []


@pytest.mark.integration
def test_the_code_of_the_article_and_ours_on_the_page_print_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """The article's blocks run over our classes of its names; tests of the page check the outputs of ours."""
    page = PAGES / "en" / "coming_from" / "article.md"
    theirs, ours = code_blocks(page, "py"), shown_below(page, "found = retriever.retrieve")
    names: dict[str, Any] = {
        "MultimodalRetrieverConfig": article_way.MultimodalRetrieverConfig,
        "MultimodalRetriever": article_way.MultimodalRetriever,
        "MultimodalRAG": article_way.MultimodalRAG,
        "glob": glob,
        "base64_of": lambda file: base64.b64encode(Path(file).read_bytes()).decode("ascii"),
        "key": "id.secret",
    }
    with guide_folder():
        exec("\n".join(theirs), names)
    printed = re.findall(r"^(\S+) (\d\.\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert [f"{text} {float(score):.2f}" for text, score in printed] == ours.splitlines()
    assert len(printed) == 3
    assert len(names["results"]) == 3
    assert "收到 3 张图片" in names["answer"] or "收到 4 张图片" in names["answer"]


def shown_below(page: Path, beginning: str) -> str:
    """Return the output below the first block of our code on a page that has a line with such a beginning."""
    found = list(blocks_in(page.read_text(encoding="utf-8")))
    for block, follower in pairwise(found):
        if block.language == "python" and beginning in block.code:
            return follower.code
    raise AssertionError(beginning)
