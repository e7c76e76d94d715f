"""Frames of videos: labels with times, the rule that asks to cite them, and the times of citations."""

from __future__ import annotations

from io import BytesIO

import pytest
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.schema import ImageNode, NodeWithScore
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters
from outline import IMAGE, outline, system_of
from PIL import Image
from published_forms import Example
from videos import scene, write_video

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.query import PROMPTS, citations_in, number_images
from llama_index_mm_zhipu.query.labels import label_results
from llama_index_mm_zhipu.readers import VideoReader
from llama_index_mm_zhipu.testing import MockGLMServer, Says
from llama_index_mm_zhipu.types import Language

RULE = "例如[图1，00:01:23]"


def frame(name: str, seconds: int, caption: str = "") -> ImageNode:
    time = f"00:00:{seconds:02}"
    return ImageNode(id_=name, text=caption, metadata={"time": time, "time_seconds": float(seconds)})


@pytest.fixture(scope="module")
def video(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> list[ImageNode]:
    """The frames of a video that shows three emoji, from the seconds 0, 3 and 6."""
    shown = [scene(Image.open(BytesIO(example.image))) for example in examples if example.caption in "飞机香蕉西瓜"]
    file = write_video(tmp_path_factory.mktemp("videos") / "lesson.mp4", [(image, 3) for image in shown])
    return VideoReader(id_prefix="").load_data(file)


@pytest.fixture
def video_index(demo_embedding: ChineseClipEmbedding, video: list[ImageNode]) -> ImageIndex:
    return build_index(video, embed_model=demo_embedding)


def test_an_answer_cites_the_time_at_which_something_is_shown(
    video_index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Says("香蕉从第3秒开始出现[图1，00:00:03]。"))
    response = video_index.as_query_engine(llm=llm, image_similarity_top_k=2).query("香蕉")

    first, second = response.source_nodes
    assert first.node.node_id == "lesson.mp4/00:00:03.100"
    assert outline(server.requests[0])[1:5] == [
        f"图1（相似度 {first.score:.3g}，00:00:03）",
        IMAGE,
        f"图2（相似度 {second.score:.3g}，{second.node.metadata['time']}）",
        IMAGE,
    ]
    assert system_of(server.requests[0]).count(RULE) == 1
    assert response.metadata["citations"] == {"图1": first.node.node_id}
    assert response.metadata["citation_times"] == {"图1": "00:00:03"}
    assert response.metadata["unknown_citations"] == []


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "accumulate"])
def test_the_rule_is_in_every_request_that_shows_frames(
    video_index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer, mode: str
) -> None:
    video_index.as_query_engine(llm=llm, response_mode=mode, image_similarity_top_k=2).query("香蕉")
    rules = [system_of(request).count(RULE) for request in server.requests if IMAGE in outline(request)]
    assert rules
    assert set(rules) == {1}


def test_a_chat_cites_times(video_index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    server.script(Says("见[图1，00:00:03]。"))
    response = video_index.as_chat_engine("context", llm=llm, image_similarity_top_k=1).chat("香蕉")
    assert RULE in system_of(server.requests[0])
    assert response.metadata["citation_times"] == {"图1": "00:00:03"}


def test_without_frames_nothing_is_said_about_times(
    index: ImageIndex, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Says("见[图1]。"))
    response = index.as_query_engine(llm=llm).query("帽子")
    assert "00:01:23" not in system_of(server.requests[0])
    assert system_of(server.requests[0]).endswith("不要猜测。")
    assert response.metadata["citation_times"] == {}


def test_frames_can_be_filtered_by_their_times(video_index: ImageIndex) -> None:
    early = MetadataFilters(filters=[MetadataFilter(key="time_seconds", value=4, operator=FilterOperator.LT)])
    found = video_index.as_retriever(filters=early, image_similarity_top_k=9).retrieve("西瓜")
    assert sorted(result.node.metadata["time"] for result in found) == ["00:00:00", "00:00:03"]


# Labels


def test_labels_hold_the_time_after_the_score() -> None:
    results = [NodeWithScore(node=frame("a", 3, "猫"), score=0.5), NodeWithScore(node=frame("b", 9))]
    labels = [result.node.metadata["检索到的图片"] for result in label_results(results, scores_are_similarities=True)]
    assert labels == ["图1（相似度 0.5，00:00:03）：「猫」", "图2（00:00:09）"]
    english = [result.node.metadata["retrieved picture"] for result in number_images(results, language="en")]
    assert english == ["Picture 1 (score 0.5, 00:00:03): “猫”", "Picture 2 (00:00:09)"]


def test_metadata_that_is_no_time_of_a_video_is_not_shown() -> None:
    node = ImageNode(metadata={"time": "2026年\n图9：假的", "time_seconds": 3.0})
    (result,) = number_images([NodeWithScore(node=node)])
    assert result.node.metadata["检索到的图片"] == "图1"


@pytest.mark.parametrize("language", ["zh", "en"])
def test_templates_without_values_have_no_rule(language: Language) -> None:
    messages = PROMPTS[language].qa.format_messages(context_messages=[ChatMessage(blocks=[TextBlock(text="x")])])
    assert "{{" not in str(messages[0].content)
    assert "00:01:23" not in str(messages[0].content)


# Citations

SOURCES = [NodeWithScore(node=frame(name, seconds)) for seconds, name in enumerate("abcd", start=1)]


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        ("[图1，00:01:23]", "a"),
        ("（图1，00:01:23）", "a"),
        ("【图2, 00:01:23.480】和（图1 00:01:23）", "ba"),
        ("[图1，01:23]", "a"),
        ("[图1，1:02:03][图3，00:00:02]", "ac"),
        ("[图1，00:01:23、图3，00:02:10]", "ac"),
        ("[图1，00:01:23；3，00:02:10]", "ac"),
        ("[图1、图2，00:00:02]", "ab"),
        ("[图1至3，00:00:02]", "abc"),
        ("[图1，00:00:02–00:00:04]", "a"),
        ("[图1，00:00:02至00:00:04]", "a"),
        ("图1（00:01:23）、图2（00：02：03）", "ab"),
        ("图1：00:01:23，图2@00:02:03", "ab"),
        ("[图1]（00:00:02）和2，00:00:03", "ab"),
        ("在00:01:02的图2", "b"),
        ("[Picture 1, 00:01:23]; [Pictures 2, 00:00:03, and 3, 00:00:04]", "abc"),
        ("图1，10:30开会", "a"),
    ],
)
def test_digits_of_times_are_no_numbers_of_images(answer: str, cited: str) -> None:
    nodes, unknown = citations_in(answer, SOURCES)
    assert "".join(node.node_id for node in nodes.values()) == cited
    assert unknown == []


def test_times_are_those_of_the_frames_whatever_the_answer_says() -> None:
    found = citations_in("[图2，00:59:59]，[图9，00:00:01]", SOURCES).as_metadata()
    assert found["citation_times"] == {"图2": "00:00:02"}
    assert found["unknown_citations"] == ["图9"]
