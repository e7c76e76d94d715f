"""Scores and reasons are found in whatever a model puts around them."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.query.rerank import Verdict, verdicts_in

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
        f'{TWO[:-1]}, {{"number": 7, "score": 9, "reason": "不存在"}}]',
        f'格式：[{{"number": 1, "score": 3, "reason": "理由"}}]\n{TWO}',
        TWO.replace('"有帽子"', '"有"帽子""').replace('"有"帽子""', '"有帽子",'),
        TWO.replace("8,", '"8/10",').replace('"number": 2', '"number": "2"'),
    ],
    ids=[
        "plain",
        "fenced",
        "talkative",
        "bare",
        "lines",
        "wrapped",
        "cut",
        "unknown",
        "format repeated",
        "broken",
        "strings",
    ],
)
def test_forms(answer: str) -> None:
    assert verdicts_in(answer, 2) == EXPECTED


def test_scores_stay_within_bounds_and_reasons_on_a_line() -> None:
    answer = '[{"number": 1, "score": 100, "reason": "很\\n 好"}, {"number": 2, "score": -3}]'
    assert verdicts_in(answer, 2) == {1: Verdict(10.0, "很 好"), 2: Verdict(0.0, "")}


def test_broken_strings_cost_no_score() -> None:
    answer = '[{"number":1,"score":9,"reason":"写着{帽子}字样"},{"Number":2,"Score":1,"reason":"写着"裙子"二字"},]'
    verdicts = verdicts_in(answer, 2)
    assert verdicts is not None
    assert [verdicts[number].score for number in (1, 2)] == [9.0, 1.0]
    assert verdicts[1].reason == "写着{帽子}字样"
    assert verdicts_in('{"number": 1, "score": 1e-7}', 1) == {1: Verdict(1e-7, "")}


def test_trailing_commas_cost_no_reason() -> None:
    answer = '[{"number": 1, "score": 9, "reason": "写着\\"帽子\\"，有,}",}, {"number": 2, "score": 1,},]'
    assert verdicts_in(answer, 2) == {1: Verdict(9.0, '写着"帽子"，有,}'), 2: Verdict(1.0, "")}


def test_a_model_that_counts_from_zero_is_not_understood() -> None:
    assert verdicts_in('[{"number": 0, "score": 9}, {"number": 1, "score": 2}]', 2) is None
    assert verdicts_in('[{"number": 1, "score": NaN}]', 1) is None


def test_a_single_candidate_needs_no_number() -> None:
    assert verdicts_in('{"score": 7, "reason": "有"}', 1) == {1: Verdict(7.0, "有")}
    assert verdicts_in('{"score": 7, "reason": "有"}', 2) is None


@pytest.mark.parametrize(
    "answer",
    [
        "",
        '{"score":' * 5000,
        "都很好。",
        "[]",
        '{"number": 1}',
        '{"number": 1, "score": true}',
        '[{"number": 1, "score"',
        "{8}",
    ],
)
def test_what_cannot_be_read(answer: str) -> None:
    assert verdicts_in(answer, 2) is None
