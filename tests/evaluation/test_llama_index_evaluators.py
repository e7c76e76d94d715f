"""LlamaIndex's evaluators judge the results of our retriever and the answers of our query engine by our LLM."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from math import log2
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.evaluation import (
    BaseEvaluator,
    BatchEvalRunner,
    EvaluationResult,
    FaithfulnessEvaluator,
    MultiModalRetrieverEvaluator,
    RelevancyEvaluator,
    RetrieverEvaluator,
)
from llama_index.core.evaluation.multi_modal import MultiModalFaithfulnessEvaluator, MultiModalRelevancyEvaluator
from llama_index.core.schema import Document, ImageNode, MediaResource, MetadataMode
from outline import images_of, outline

from llama_index_mm_zhipu import ChineseClipEmbedding, ImageReranker, ZhipuMultiModal, build_index, read_jsonl
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.testing import MockGLMServer, Reasoning, Says
from llama_index_mm_zhipu.testing.wire import text_of

Connect = Callable[..., ZhipuMultiModal]
QUESTION = "哪张图里有帽子？"
NAMES = ("飞机", "闹钟", "太阳", "彩虹", "香蕉", "柠檬", "红苹果", "青苹果", "樱桃", "西瓜")
METRICS = ["hit_rate", "mrr", "precision", "recall", "ap", "ndcg"]
# Rankings of the demo model. Adjacent scores differ by at least 0.02, so all backends give the same order.
FOUND = {"飞机": ["飞机", "香蕉", "红苹果"], "苹果": ["彩虹", "红苹果", "柠檬"], "香蕉": ["香蕉", "太阳", "飞机"]}
# The first query finds its image at rank 1, the second one of its two images at rank 2, the third none.
EXPECTED = {"飞机": ["飞机"], "苹果": ["青苹果", "红苹果"], "香蕉": ["柠檬"]}
SCORES = {
    "飞机": {"hit_rate": 1, "mrr": 1, "precision": 1 / 3, "recall": 1, "ap": 1, "ndcg": 1},
    "苹果": {
        "hit_rate": 1,
        "mrr": 1 / 2,
        "precision": 1 / 3,
        "recall": 1 / 2,
        "ap": 1 / 4,
        "ndcg": (1 / log2(3)) / (1 + 1 / log2(3)),
    },
    "香蕉": dict.fromkeys(METRICS, 0),
}

FAITHFULNESS = "Information: {answer}\nContext: {captions}\n"
RELEVANCY = "Question: {question}\nResponse: {answer}\nContext: \n {captions}\n"
MULTI_MODAL_EVALUATORS = [
    pytest.param(MultiModalFaithfulnessEvaluator, FAITHFULNESS, id="faithfulness"),
    pytest.param(MultiModalRelevancyEvaluator, RELEVANCY, id="relevancy"),
]
TEXT_EVALUATORS = [
    pytest.param(FaithfulnessEvaluator, FAITHFULNESS, id="faithfulness"),
    pytest.param(RelevancyEvaluator, RELEVANCY, id="relevancy"),
]
VERDICTS = [("YES", True), ("No.", False)]


# Retrieval


@pytest.fixture(scope="module")
def emoji(demo_folder: Path) -> list[ImageNode]:
    """Ten emoji that the demo model knows, with their names as node ids."""
    nodes = [node for node in read_jsonl(demo_folder / "test.jsonl") if node.text in NAMES]
    return [node.model_copy(update={"id_": node.text}) for node in nodes]


@pytest.fixture(scope="module")
def emoji_index(demo_embedding: ChineseClipEmbedding, emoji: list[ImageNode]) -> ImageIndex:
    """An index of the ten emoji."""
    return build_index(emoji, embed_model=demo_embedding)


@pytest.mark.parametrize("evaluator_class", [MultiModalRetrieverEvaluator, RetrieverEvaluator])
@pytest.mark.parametrize("question", EXPECTED)
def test_metrics_follow_from_the_ranks(emoji_index: ImageIndex, question: str, evaluator_class: Any) -> None:
    evaluator = evaluator_class.from_metric_names(METRICS, retriever=emoji_index.as_retriever(image_similarity_top_k=3))
    result = evaluator.evaluate(question, EXPECTED[question], mode="image")
    assert result.retrieved_ids == result.retrieved_texts == FOUND[question]
    assert result.metric_vals_dict == pytest.approx(SCORES[question])


async def test_questions_are_evaluated_concurrently(emoji_index: ImageIndex) -> None:
    evaluator = MultiModalRetrieverEvaluator.from_metric_names(
        METRICS, retriever=emoji_index.as_retriever(image_similarity_top_k=3)
    )
    # Core removed aevaluate_dataset and EmbeddingQAFinetuneDataset between 0.14.19 and 0.14.22.
    results = await asyncio.gather(
        *(evaluator.aevaluate(question, expected, mode="image") for question, expected in EXPECTED.items())
    )
    means = {name: mean(result.metric_vals_dict[name] for result in results) for name in METRICS}
    assert [result.query for result in results] == list(EXPECTED)
    assert means == pytest.approx({name: mean(SCORES[question][name] for question in EXPECTED) for name in METRICS})


def test_mode_image_ignores_texts_and_mode_text_ranks_images_after_them(
    demo_embedding: ChineseClipEmbedding, emoji: list[ImageNode]
) -> None:
    texts = [Document(id_=f"text {number}", text=text) for number, text in enumerate(["轮胎气压", "更换机油"])]
    index = build_index([*emoji, *texts], embed_model=demo_embedding)
    evaluator = MultiModalRetrieverEvaluator.from_metric_names(
        ["mrr"], retriever=index.as_retriever(similarity_top_k=2, image_similarity_top_k=3)
    )
    as_images = evaluator.evaluate("飞机", ["飞机"], mode="image")
    as_texts = evaluator.evaluate("飞机", ["飞机"], mode="text")
    assert as_images.retrieved_ids == as_texts.retrieved_ids[2:] == FOUND["飞机"]
    assert (as_images.metric_vals_dict, as_texts.metric_vals_dict) == ({"mrr": 1}, {"mrr": 1 / 3})


def test_image_documents_count_as_images(demo_embedding: ChineseClipEmbedding, emoji: list[ImageNode]) -> None:
    documents = [
        Document(id_=node.text, image_resource=MediaResource(data=str(node.image).encode()), text=node.text)
        for node in emoji
    ]
    evaluator = MultiModalRetrieverEvaluator.from_metric_names(
        ["hit_rate"],
        retriever=build_index(documents, embed_model=demo_embedding).as_retriever(image_similarity_top_k=3),
    )
    result = evaluator.evaluate("飞机", ["飞机"], mode="image")
    assert (result.retrieved_ids[0], result.metric_vals_dict) == ("飞机", {"hit_rate": 1})


async def test_reranking_improves_the_metrics(
    emoji_index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    retriever = emoji_index.as_retriever(image_similarity_top_k=3)
    first = MultiModalRetrieverEvaluator.from_metric_names(["mrr"], retriever=retriever)
    second = MultiModalRetrieverEvaluator.from_metric_names(
        ["mrr"], retriever=retriever, node_postprocessors=[ImageReranker(llm=llm, top_n=3)]
    )
    before, after = [await each.aevaluate("苹果", ["红苹果"], mode="image") for each in (first, second)]
    assert (before.metric_vals_dict, after.metric_vals_dict) == ({"mrr": 1 / 2}, {"mrr": 1})
    assert sorted(after.retrieved_ids) == sorted(before.retrieved_ids)
    assert len(server.requests) == 1


# Answers judged with images


@pytest.fixture
def index(photo_index: ImageIndex) -> ImageIndex:
    """An index of ten captioned photographs."""
    return photo_index


async def judged(evaluator: BaseEvaluator, response: Any, use_async: bool, **kwargs: Any) -> EvaluationResult:
    if use_async:
        return await evaluator.aevaluate_response(query=QUESTION, response=response, **kwargs)
    return evaluator.evaluate_response(query=QUESTION, response=response, **kwargs)


def files_of(response: Any) -> list[str]:
    return [source.node.image_path for source in response.source_nodes]


def prompt_for(form: str, response: Any) -> str:
    captions = "\n\n".join(source.node.get_content() for source in response.source_nodes)
    return form.format(question=QUESTION, answer=response.response, captions=captions)


def sent_bytes(request: dict[str, Any]) -> list[bytes]:
    return [base64.b64decode(image) for image in images_of(request)]


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize(("verdict", "passing"), VERDICTS)
@pytest.mark.parametrize(("evaluator_class", "form"), MULTI_MODAL_EVALUATORS)
async def test_the_judge_sees_images_captions_and_answer(
    index: ImageIndex,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    evaluator_class: Any,
    form: str,
    verdict: str,
    passing: bool,
    use_async: bool,
) -> None:
    response: Any = index.as_query_engine(llm=llm, image_similarity_top_k=3).query(QUESTION)
    server.script(Says(verdict))
    evaluator = evaluator_class(multi_modal_llm=llm)
    result = await judged(evaluator, response, use_async, image_paths=files_of(response))

    _, request = server.requests
    assert sent_bytes(request) == [Path(file).read_bytes() for file in files_of(response)]
    assert len(files_of(response)) == 3
    assert prompt_for(form, response) in text_of(request["messages"][-1])
    assert (result.passing, result.score, result.feedback) == (passing, float(passing), verdict)


@pytest.mark.parametrize(("evaluator_class", "form"), MULTI_MODAL_EVALUATORS)
def test_the_judge_sees_images_only_if_their_paths_are_given(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, evaluator_class: Any, form: str
) -> None:
    response: Any = index.as_query_engine(llm=llm).query(QUESTION)
    evaluator_class(multi_modal_llm=llm).evaluate_response(query=QUESTION, response=response)
    assert images_of(server.requests[1]) == []
    assert prompt_for(form, response) in text_of(server.requests[1]["messages"][-1])


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("evaluator_class", [MultiModalFaithfulnessEvaluator, MultiModalRelevancyEvaluator])
async def test_images_can_be_given_as_data_uris_and_contexts_with_their_names(
    emoji_index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, evaluator_class: Any, use_async: bool
) -> None:
    response: Any = emoji_index.as_query_engine(llm=llm).query("飞机")
    server.script(Says("YES"))
    evaluator = evaluator_class(multi_modal_llm=llm)
    asked = {
        "query": "飞机",
        "response": str(response),
        # evaluate_response passes captions without the names by which the answer cites images.
        "contexts": [source.node.get_content(metadata_mode=MetadataMode.LLM) for source in response.source_nodes],
        "image_urls": [f"data:image/jpeg;base64,{source.node.image}" for source in response.source_nodes],
    }
    result = await evaluator.aevaluate(**asked) if use_async else evaluator.evaluate(**asked)

    _, request = server.requests
    assert images_of(request) == [source.node.image for source in response.source_nodes]
    labels = [line.removeprefix("Context: ") for line in outline(request) if "检索到的图片: " in line]
    assert labels == [
        f"检索到的图片: 图{number}（相似度 {source.score:.3g}）：「{caption}」"
        for number, (source, caption) in enumerate(zip(response.source_nodes, ["飞机", "香蕉"], strict=True), start=1)
    ]
    assert result.passing


@pytest.mark.parametrize(("evaluator_class", "form"), MULTI_MODAL_EVALUATORS)
def test_more_images_than_the_judge_accepts_are_sent_in_one_request(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, evaluator_class: Any, form: str
) -> None:
    response: Any = index.as_query_engine(llm=llm, image_similarity_top_k=8).query(QUESTION)
    server.script(Says("YES"))
    evaluator = evaluator_class(multi_modal_llm=llm)
    assert evaluator.evaluate_response(query=QUESTION, response=response, image_paths=files_of(response)).passing
    _, request = server.requests
    sent = sent_bytes(request)
    notes = [line for line in outline(request) if line.startswith(("（下面一张是拼图", "[即上面拼图"))]
    on_sheets = [int(number) for note in notes for number in re.findall(r"编号(\d+)的图片", note)]
    alone = [number for number, file in enumerate(files_of(response), start=1) if Path(file).read_bytes() in sent]
    assert len(sent) == 5
    assert sorted(on_sheets + alone) == list(range(1, 9))
    assert prompt_for(form, response) in text_of(request["messages"][-1])


@pytest.mark.parametrize("evaluator_class", [MultiModalFaithfulnessEvaluator, MultiModalRelevancyEvaluator])
@pytest.mark.parametrize("verdict", ["YES", "NO"])
def test_the_reasoning_of_the_judge_is_not_its_verdict(
    index: ImageIndex, connect: Connect, server: MockGLMServer, evaluator_class: Any, verdict: str
) -> None:
    class Hesitates(Says):
        """Mentions both verdicts in its reasoning and answers with one."""

        def alter_answer(self, answer: Any) -> Any:
            return Reasoning("YES or NO? Yes and no.").alter_answer(super().alter_answer(answer))

    llm = connect(model="glm-4.1v-thinking-flash")
    response: Any = index.as_query_engine(llm=llm).query(QUESTION)
    server.script(Hesitates(verdict))
    evaluator = evaluator_class(multi_modal_llm=llm)
    result = evaluator.evaluate_response(query=QUESTION, response=response, image_paths=files_of(response))
    assert (result.passing, result.feedback) == (verdict == "YES", verdict)


async def test_streamed_answers_are_judged_after_their_end(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    engine = index.as_query_engine(llm=llm, streaming=True)
    stream, other = engine.query(QUESTION), await engine.aquery(QUESTION)
    assert isinstance(stream, StreamingResponse)
    assert isinstance(other, AsyncStreamingResponse)
    evaluator = MultiModalRelevancyEvaluator(multi_modal_llm=llm)
    for response in (stream.get_response(), await other.get_response()):
        assert isinstance(response, Response)
        server.script(Says("YES"))
        result = await judged(evaluator, response, True, image_paths=files_of(response))
        assert result.passing
        assert prompt_for(RELEVANCY, response) in text_of(server.requests[-1]["messages"][-1])
        assert len(images_of(server.requests[-1])) == 2


@pytest.mark.filterwarnings("ignore:asyncio_module:DeprecationWarning")
async def test_a_batch_of_answers_is_judged(index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    questions = ["帽子", "鞋子"]
    engine = index.as_query_engine(llm=llm, image_similarity_top_k=1)
    responses: list[Any] = [engine.query(question) for question in questions]
    evaluators: dict[str, BaseEvaluator] = {
        "faithfulness": MultiModalFaithfulnessEvaluator(multi_modal_llm=llm),
        "relevancy": MultiModalRelevancyEvaluator(multi_modal_llm=llm),
    }
    # One worker, so that the scripted verdicts match the order of the requests.
    runner = BatchEvalRunner(evaluators, workers=1)
    server.script(Says("YES"), Says("NO"), Says("NO"), Says("YES"))
    files: Any = [files_of(response) for response in responses]
    results = await runner.aevaluate_responses(questions, responses, image_paths=files)

    assert {name: [result.passing for result in each] for name, each in results.items()} == {
        "faithfulness": [True, False],
        "relevancy": [False, True],
    }
    images = [Path(file).read_bytes() for (file,) in files]
    assert [sent_bytes(request) for request in server.requests[2:]] == [[images[0]]] * 2 + [[images[1]]] * 2


# Answers judged by text


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize(("verdict", "passing"), VERDICTS)
@pytest.mark.parametrize(("evaluator_class", "form"), TEXT_EVALUATORS)
async def test_text_evaluators_judge_by_captions(
    index: ImageIndex,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    evaluator_class: Any,
    form: str,
    verdict: str,
    passing: bool,
    use_async: bool,
) -> None:
    response: Any = index.as_query_engine(llm=llm).query(QUESTION)
    server.script(Says(verdict))
    result = await judged(evaluator_class(llm=llm), response, use_async)

    _, request = server.requests
    assert images_of(request) == []
    assert prompt_for(form, response) in text_of(request["messages"][-1])
    assert (result.passing, result.score, result.feedback) == (passing, float(passing), verdict)
