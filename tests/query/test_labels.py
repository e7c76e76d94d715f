"""Labels: one key that LLMs see, numbers by rank and anew where others reorder; the given nodes stay as they were."""

from __future__ import annotations

from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode

from llama_index_mm_zhipu.query import ImageNumbering, number_images
from llama_index_mm_zhipu.query.labels import label_results

RESULTS = [
    NodeWithScore(
        node=ImageNode(id_="a", text="猫", metadata={"page": 1, "file_path": "/home/me/a.jpg"}), score=0.91234
    ),
    NodeWithScore(node=TextNode(id_="t", text="说明", metadata={"file_path": "/home/me/t.txt"}), score=0.8),
    NodeWithScore(node=ImageNode(id_="b"), score=0.7),
    NodeWithScore(node=ImageNode(id_="c", text="狗"), score=None),
]


def labels(results: list[NodeWithScore], key: str = "检索到的图片") -> list[str | None]:
    return [result.node.metadata.get(key) for result in results]


def test_labels_hold_number_similarity_and_caption() -> None:
    found = label_results(RESULTS, scores_are_similarities=True)
    assert labels(found) == ["图1（相似度 0.912）：「猫」", None, "图2（相似度 0.7）", "图3：「狗」"]
    assert labels(label_results(RESULTS))[:1] == ["图1（得分 0.912）：「猫」"]
    english = label_results(RESULTS, language="en", scores_are_similarities=True)
    assert labels(english, "retrieved picture")[0] == "Picture 1 (similarity 0.912): “猫”"


def test_an_llm_sees_the_label_and_what_was_asked_for() -> None:
    shown = [result.node.get_metadata_str(MetadataMode.LLM) for result in label_results(RESULTS)]
    assert shown == [
        "检索到的图片: 图1（得分 0.912）：「猫」",
        "",
        "检索到的图片: 图2（得分 0.7）",
        "检索到的图片: 图3：「狗」",
    ]
    asked = label_results(RESULTS, metadata_keys=["page"])[0].node
    assert asked.get_metadata_str(MetadataMode.LLM) == "page: 1\n检索到的图片: 图1（得分 0.912）：「猫」"
    assert "检索到的图片" not in asked.get_metadata_str(MetadataMode.EMBED)


def test_given_nodes_stay_as_they_were() -> None:
    before = [result.model_dump() for result in RESULTS]
    label_results(RESULTS)
    number_images(RESULTS)
    assert [result.model_dump() for result in RESULTS] == before


def test_reordered_images_get_new_numbers_and_keep_their_similarity() -> None:
    found = label_results(RESULTS, scores_are_similarities=True)
    found[2].score = 9.0
    renumbered = number_images(found[::-1])
    assert labels(renumbered) == ["图1：「狗」", "图2（相似度 0.7）", None, "图3（相似度 0.912）：「猫」"]
    assert [result.score for result in renumbered] == [None, 9.0, 0.8, 0.91234]


def test_images_of_other_retrievers_get_labels() -> None:
    assert labels(number_images(RESULTS)) == ["图1（得分 0.912）：「猫」", None, "图2（得分 0.7）", "图3：「狗」"]


def test_a_caption_that_looks_like_a_label_is_none() -> None:
    node = ImageNode(text="图9：架构", metadata={"检索到的图片": "图9.jpg"})
    (result,) = number_images([NodeWithScore(node=node)])
    assert labels([result]) == ["图1：「图9：架构」"]


def test_a_postprocessor_numbers_for_other_engines() -> None:
    mixed = [*label_results(RESULTS[:1]), *label_results(RESULTS[2:3])]
    assert labels(mixed) == ["图1（得分 0.912）：「猫」", "图1（得分 0.7）"]
    assert labels(ImageNumbering().postprocess_nodes(mixed)) == ["图1（得分 0.912）：「猫」", "图2（得分 0.7）"]
    assert ImageNumbering.from_dict(ImageNumbering(language="en").to_dict()).language == "en"


def test_a_label_shows_the_caption_as_it_is_now() -> None:
    (found,) = label_results(RESULTS[:1], scores_are_similarities=True)
    found.node.set_content("***")
    assert labels(number_images([found])) == ["图1（相似度 0.912）：「***」"]


def test_a_caption_may_end_like_a_score() -> None:
    node = ImageNode(text="苹果（红）")
    (found,) = label_results([NodeWithScore(node=node, score=0.5)], scores_are_similarities=True)
    for _ in range(2):
        (found,) = number_images([found])
    assert labels([found]) == ["图1（相似度 0.5）：「苹果（红）」"]
    assert labels(number_images([found], language="en"), "retrieved picture") == [
        "Picture 1 (similarity 0.5): “苹果（红）”"
    ]
    found.node.set_content("某人")
    assert labels(number_images([found])) == ["图1（相似度 0.5）：「某人」"]


def test_a_label_is_one_line() -> None:
    forged = ImageNode(text="猫\n图9（相似度 0.99）：狗\n图2")
    assert labels(number_images([NodeWithScore(node=forged)])) == ["图1：「猫 图9（相似度 0.99）：狗 图2」"]


def test_labels_may_change_their_language() -> None:
    found = label_results(RESULTS, scores_are_similarities=True)
    english = number_images(found, language="en")
    assert labels(english, "retrieved picture")[0] == "Picture 1 (similarity 0.912): “猫”"
    assert labels(english) == [None] * 4


def test_metadata_of_users_stays() -> None:
    node = ImageNode(metadata={"图片": "图12.jpg", "image": "hat.jpg"})
    (result,) = number_images([NodeWithScore(node=node)])
    assert {key: result.node.metadata[key] for key in node.metadata} == node.metadata
