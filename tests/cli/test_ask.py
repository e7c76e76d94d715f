"""``mmzhipu ask``: answers with their sources, errors of the API, and the local mock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from runs import Command

from llama_index_mm_zhipu.testing import Cut, MockGLMServer, NullContent, Says


def test_an_answer_is_followed_by_the_sources_that_it_cites(
    mmzhipu: Command, store: Path, emoji: Path, glm: MockGLMServer
) -> None:
    glm.script(Says("图2 是水果，图9 不在。"))
    run = mmzhipu("ask", "哪个是红苹果？", "--store", store)
    assert run.status == 0
    assert run.err == "the answer cites 图9, and no image has that name\n"
    lines = run.out.splitlines()
    assert lines[:3] == ["图2 是水果，图9 不在。", "", "Sources:"]
    assert lines[3].startswith("Picture 2  ")
    assert lines[4].startswith(f"     {emoji}  ")
    assert len(lines) == 5


def test_the_words_around_an_answer_are_chinese(mmzhipu: Command, store: Path, glm: MockGLMServer) -> None:
    glm.script(Says("图2 是水果，图9 不在。"), Says("不知道。"))
    run = mmzhipu("ask", "哪个是红苹果？", "--store", store, "--lang", "zh")
    assert run.out.splitlines()[2] == "引用的图片："
    assert run.out.splitlines()[3].startswith("图2  ")
    assert run.err == "回答引用了不存在的 图9\n"
    run = mmzhipu("ask", "哪个？", "--store", store, "--lang", "zh")
    assert run == (0, "不知道。\n\n回答没有引用图片。\n", "")


def test_json_is_one_line_with_everything(mmzhipu: Command, store: Path, glm: MockGLMServer) -> None:
    glm.script(Says("图1 和 图9。"))
    run = mmzhipu("ask", "哪个是", "红苹果？", "--store", store, "--json", "-k", 2)
    (answer,) = run.rows
    assert (run.status, run.err) == (0, "")
    assert (answer["question"], answer["text"]) == ("哪个是 红苹果？", "图1 和 图9。")
    assert answer["citations"] == {"图1": answer["sources"][0]["node_id"]}
    assert (answer["unknown_citations"], len(answer["sources"]), answer["skipped"]) == (["图9"], 2, {})
    assert answer["sources"][0]["caption"] == "红苹果"


def test_the_llm_the_filters_and_the_image_are_used(
    mmzhipu: Command, store: Path, glm: MockGLMServer, photos: list[Path]
) -> None:
    arguments = ("--llm", "glm-4.5v", "-f", "颜色=红", "-f", "价格<=60", "-i", photos[0], "-k", 5)
    (answer,) = mmzhipu("ask", "这是什么？", "--store", store, "--json", *arguments).rows
    assert {source["metadata"]["价格"] for source in answer["sources"]} == {20, 60}
    assert glm.requests[0]["model"] == "glm-4.5v"
    assert str(glm.requests[0]).count("image_url") >= 3


def test_an_image_alone_is_a_question(mmzhipu: Command, store: Path, glm: MockGLMServer, photos: list[Path]) -> None:
    assert mmzhipu("ask", "", "-i", photos[0], "--store", store).status == 0
    assert len(glm.requests) == 1


def test_nothing_to_ask_is_said_before_anything_is_loaded(mmzhipu: Command) -> None:
    run = mmzhipu("ask", " ")
    assert run == (2, "", "error: nothing to search for: give words, or an image with --image\n")


def test_if_nothing_is_found_the_model_is_not_asked(mmzhipu: Command, store: Path, glm: MockGLMServer) -> None:
    for arguments in ([], ["--json"], ["--html", "page.html"]):
        run = mmzhipu("ask", "什么？", "--filter", "颜色=紫", "--store", store, *arguments)
        assert run == (1, "", "nothing found\n")
    assert glm.requests == []
    assert not Path("page.html").exists()


def test_a_page_with_the_answer_is_written(mmzhipu: Command, store: Path, glm: MockGLMServer) -> None:
    glm.script(Says("是图1。"))
    run = mmzhipu("ask", "哪个是红苹果？", "--store", store, "--html", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert run.err == f"saved {Path('page.html').absolute()}\n"
    assert "哪个是红苹果？" in page
    assert re.sub("<.*?>", "", page).count("是图1。") == 1


def test_answers_cannot_control_the_terminal(mmzhipu: Command, store: Path, glm: MockGLMServer) -> None:
    glm.script(Says("红\x1b[31m色\x9b2J\x07\r\n\t图1\x7f"), Says("红\x1b[31m色"))
    assert mmzhipu("ask", "?", "--store", store).out.startswith("红[31m色2J\n\t图1\n\nSources:\n")
    assert mmzhipu("ask", "?", "--store", store, "--json").rows[0]["text"] == "红\x1b[31m色"


@pytest.mark.parametrize(
    ("status", "code", "english", "chinese"),
    [
        (401, "1002", "the GLM API answered HTTP 401, code 1002: 不行; check ZHIPUAI_API_KEY", "密钥不正确或已失效（"),
        (400, "1301", "the GLM API answered HTTP 400, code 1301: 不行; rephrase the question", "调用 GLM 失败（"),
    ],
)
def test_errors_of_the_api_are_explained_in_one_line(
    mmzhipu: Command, store: Path, glm: MockGLMServer, key: str, status: int, code: str, english: str, chinese: str
) -> None:
    glm.fail_next(status, code, "不行", times=3)
    for arguments in ([], ["--json"]):
        run = mmzhipu("ask", "什么？", "--store", store, *arguments)
        assert (run.status, run.out) == (2, "")
        assert run.err.startswith(f"error: {english}")
        assert len(run.err.splitlines()) == 1
        assert key not in run.err
    assert mmzhipu("ask", "什么？", "--store", store, "--lang", "zh").err.startswith(f"错误：{chinese}")


def test_a_model_that_answers_nothing_is_an_error(mmzhipu: Command, store: Path, glm: MockGLMServer) -> None:
    glm.script(Says(""), NullContent())
    run = mmzhipu("ask", "什么？", "--store", store)
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith("error: the model answered nothing to a question with 3 sources; ask again")
    assert mmzhipu("ask", "什么？", "--store", store).status == 2


def test_an_answer_that_is_cut_off_ends_its_line_before_the_error(
    mmzhipu: Command, store: Path, glm: MockGLMServer
) -> None:
    glm.script(Cut(3))
    run = mmzhipu("ask", "什么？", "--store", store)
    assert run.status == 2
    assert run.out.endswith("\n")
    assert "Sources" not in run.out
    assert run.err.startswith("error: no connection to the GLM API (")


def test_a_missing_key_is_explained(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("ask", "什么？", "--store", store)
    assert run == (
        2,
        "",
        "error: no API key: get one for free at https://open.bigmodel.cn, and set ZHIPUAI_API_KEY\n",
    )
    run = mmzhipu("ask", "什么？", "--store", store, "--lang", "zh", "--llm", "glm-4.5v")
    assert run.err.startswith("错误：没有设置密钥，请先在 https://open.bigmodel.cn 免费申请，")
    assert mmzhipu("chat", "--store", store).status == 2


def test_the_mock_answers_without_a_key_and_says_so(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("ask", "什么？", "--store", store, "--mock")
    assert run.status == 0
    assert run.out.startswith("（本地模拟服务，不是模型）问题：什么？\n收到 3 张图片。\n")
    assert run.err.startswith("The answer comes from the local mock server")
    run = mmzhipu("ask", "什么？", "--store", store, "--mock", "--lang", "zh", "--json")
    assert run.err == "以下回答来自本地模拟服务，它只描述收到的内容，不是模型。\n"
    assert len(run.rows) == 1


def test_images_that_are_gone_are_named_and_the_others_are_shown(
    mmzhipu: Command, photos: list[Path], demo_model: Path, glm: MockGLMServer
) -> None:
    Path("my photos").mkdir()
    for photo in photos[:3]:
        (Path("my photos") / photo.name).write_bytes(photo.read_bytes())
    mmzhipu("index", "my photos", "--model", demo_model)
    (Path("my photos") / photos[0].name).unlink()
    run = mmzhipu("ask", "什么？")
    assert run.status == 0
    assert len(str(glm.requests[0]).split("image_url")) - 1 == 2 * 2
    assert run.err.count(photos[0].name) == 2
    assert len(run.err.splitlines()) == 1
    (answer,) = mmzhipu("ask", "什么？", "--json").rows
    assert [node_id.rpartition("/")[2] for node_id in answer["skipped"]] == [photos[0].name]
    assert len(answer["sources"]) == 2
