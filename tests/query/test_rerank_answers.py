"""Scores and reasons are found in whatever a model puts around them."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.query.rerank_answers import Verdict, verdicts_in

TWO = '[{"number": 1, "score": 8, "reason": "有帽子"}, {"number": 2, "score": 2.5, "reason": "没有"}]'
EXPECTED = {1: Verdict(8.0, "有帽子"), 2: Verdict(2.5, "没有")}


@pytest.mark.parametrize(
    "answer",
    [
        TWO,
        f"```json\n{TWO}\n```",
        f"好的，打分如下：\n{TWO}\n希望有帮助。",
        TWO.strip("[]"),
        TWO.replace("}, {", "}\n{"),
        f'{{"results": {TWO}}}',
        f'{TWO[:-1]}, {{"number": 3, "sco',
        f'{TWO[:-1]}, {{"number": 7, "score": 9, "reason": "不存在"}}, {{"number": 1, "score": 0}}]',
        TWO.replace("8,", '"8/10",').replace('"number": 2', '"number": "2"'),
    ],
    ids=["plain", "fenced", "talkative", "bare", "lines", "wrapped", "cut", "unknown and twice", "strings"],
)
def test_forms(answer: str) -> None:
    assert verdicts_in(answer, 2) == EXPECTED


def test_scores_stay_within_bounds_and_reasons_on_a_line() -> None:
    answer = '[{"number": 1, "score": 100, "reason": "很\\n 好"}, {"number": 2, "score": -3}]'
    assert verdicts_in(answer, 2) == {1: Verdict(10.0, "很 好"), 2: Verdict(0.0, "")}


def test_a_single_candidate_needs_no_number() -> None:
    assert verdicts_in('{"score": 7, "reason": "有"}', 1) == {1: Verdict(7.0, "有")}
    assert verdicts_in('{"score": 7, "reason": "有"}', 2) is None


@pytest.mark.parametrize(
    "answer", ["", "都很好。", "[]", '{"number": 1}', '{"number": 1, "score": true}', '[{"number": 1, "score"', "{8}"]
)
def test_what_cannot_be_read(answer: str) -> None:
    assert verdicts_in(answer, 2) is None
