"""The stand-in chooses, scores and captions by rules."""

from __future__ import annotations

import json

from llama_index_mm_zhipu.testing.answers import caption, scores, selected_choice, selection

SELECTOR = (
    "Some choices are given below. It is provided in a numbered list (1 to 2), where each item in the list corresponds "
    "to a summary.\n---\n(1) 轮胎的气压\n\n(2) 帽子的照片\n---\nUsing only the choices above and not prior knowledge, "
    "return the choice that is most relevant to the question: '哪张是帽子？'\n"
)
SCORING = '编号1：红色的帽子\n编号2：轮胎\n问题：帽子\n格式：[{"number": 1, "score": 8, "reason": "理由"}]'


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_choice_with_the_most_characters_of_the_question() -> None:
    assert selected_choice(user(SELECTOR)) == 2
    assert json.loads(selection(user(SELECTOR)) or "")[0]["choice"] == 2


def test_scores_are_shares_of_the_question() -> None:
    judged = json.loads(scores(user(SCORING)) or "")
    assert [(item["number"], item["score"]) for item in judged] == [(1, 10.0), (2, 0.0)]


def test_other_prompts_are_not_for_these_rules() -> None:
    for rule in (selected_choice, selection, scores, caption):
        assert rule(user("问题：帽子是什么颜色？")) is None
