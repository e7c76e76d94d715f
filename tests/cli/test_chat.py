"""``mmzhipu chat``: messages and commands from standard input, and errors that do not end the conversation."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import Command, Run

from llama_index_mm_zhipu.testing import Cut, MockGLMServer, Says

pytestmark = pytest.mark.integration

Chat = Callable[..., Run]


@pytest.fixture
def chat(mmzhipu: Command, store: Path, glm: MockGLMServer, monkeypatch: pytest.MonkeyPatch) -> Chat:
    """A function that runs a chat about the emoji, with the lines of a pipe."""

    def run(lines: str | bytes, *arguments: object) -> Run:
        data = lines if isinstance(lines, bytes) else lines.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        return mmzhipu("chat", "--store", store, *arguments)

    return run


def test_each_line_is_answered_with_the_history(chat: Chat, glm: MockGLMServer) -> None:
    glm.script(Says("是图1。"), None, Says("是图2。"))
    run = chat("哪个是红苹果？\n\n  \n多少钱？\n")
    assert (run.status, run.err) == (0, "")
    assert run.out.count("Sources:\nPicture ") == 2
    assert run.out.startswith("是图1。\n\nSources:\nPicture 1  ")
    assert "> " not in run.out
    history = [message["role"] for message in glm.requests[-1]["messages"]]
    assert history == ["system", "user", "assistant", "user"]


def test_json_is_one_line_an_answer(chat: Chat, glm: MockGLMServer) -> None:
    glm.script(Says("是图1。"))
    run = chat("哪个是红苹果？\n多少钱？", "--json", "-k", 1, "-f", "颜色=红")
    assert [row["question"] for row in run.rows] == ["哪个是红苹果？", "多少钱？"]
    assert [len(row["sources"]) for row in run.rows] == [1, 1]
    assert run.rows[0]["text"] == "是图1。"


def test_commands_are_obeyed_and_not_sent(chat: Chat, glm: MockGLMServer) -> None:
    run = chat("你好\n/clear\n/help\n再来\n/exit\n没有人读到\n")
    assert run.status == 0
    assert run.err.splitlines() == [
        "The conversation is forgotten.",
        "Type a message. /image FILE adds an image to the next message, /clear forgets the conversation, "
        "/exit or Ctrl-D ends.",
    ]
    assert "你好" not in str(glm.requests[-1])
    assert "没有人读到" not in str(glm.requests)
    assert chat("/quit\n你好\n") == (0, "", "")


def test_commands_are_explained_in_chinese(chat: Chat) -> None:
    run = chat("/clear\n/help\n/image 没有.jpg\n/imgae a.jpg\n", "--lang", "zh")
    lines = run.err.splitlines()
    assert (run.status, run.out) == (2, "")
    assert lines[0] == "对话已清空。"
    assert lines[1].startswith("请输入问题。")
    assert lines[2] == "错误：没有文件 没有.jpg"
    assert lines[3].startswith("错误：没有命令 /imgae。")


def test_a_mistyped_command_is_not_sent_to_the_model(chat: Chat, glm: MockGLMServer) -> None:
    run = chat("/imgae a.jpg\n")
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith("error: There is no command /imgae. Type a message.")
    assert glm.requests == []
    assert chat("/左边是什么？\n").status == 0
    assert len(glm.requests) == 1


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("a.jpg", "a.jpg"),
        ("a b.jpg", "a b.jpg"),
        ("a b.jpg", '"a b.jpg"'),
        ("a b.jpg", "'a b.jpg'"),
        ("a b.jpg", r"a\ b.jpg"),
        ("it's.jpg", "it's.jpg"),
        ("it's.jpg", '"it\'s.jpg"'),
        ("it's b.jpg", r"it\'s\ b.jpg"),
        ("图 片.jpg", "  图 片.jpg  "),
        ("a\\b.jpg", "a\\b.jpg"),
    ],
)
def test_an_image_goes_with_the_next_message_alone(
    chat: Chat, glm: MockGLMServer, photos: list[Path], name: str, typed: str
) -> None:
    if sys.platform == "win32" and "\\" in name + typed:
        pytest.skip("backslashes separate folders there")
    shutil.copy(photos[0], name)
    run = chat(f"/image {typed}\n这是什么？\n/clear\n还有呢？\n")
    assert (run.status, run.err) == (0, "The conversation is forgotten.\n")
    first, *_, last = glm.requests
    assert str(first).count("'image_url'") == str(last).count("'image_url'") + 2


@pytest.mark.parametrize("typed", ["", "no.jpg", "'", ".", "a b", '"unclosed', "a\\"])
def test_an_unknown_image_does_not_end_the_chat(chat: Chat, glm: MockGLMServer, typed: str) -> None:
    run = chat(f"/image {typed}\n你好\n")
    assert run.err == f"error: no such file: {typed}\n"
    assert len(glm.requests) == 1
    assert run.status == 2


def test_a_broken_image_does_not_end_the_chat(chat: Chat, glm: MockGLMServer) -> None:
    Path("broken.jpg").write_bytes(b"\xff\xd8 no more")
    run = chat("/image broken.jpg\n这是什么？\n你好\n")
    assert "broken.jpg is not an image" in run.err
    assert len(run.err.splitlines()) == 1
    assert len(glm.requests) == 1
    assert "你好" in run.out


def test_errors_of_the_api_do_not_end_the_chat(chat: Chat, glm: MockGLMServer, key: str) -> None:
    glm.script(Cut(3))
    run = chat("第一\n第二\n")
    assert run.status == 2
    assert run.err.startswith("error: no connection to the GLM API (")
    assert len(run.err.splitlines()) == 1
    assert "第二" in run.out
    glm.fail_next(401, "1002", "no")
    run = chat("第一\n第二\n", "--json", "--lang", "zh")
    assert run.err.startswith("错误：密钥不正确或已失效（")
    assert [row["question"] for row in run.rows] == ["第二"]
    assert key not in run.err


def test_filters_that_match_nothing_do_not_end_the_chat(chat: Chat) -> None:
    run = chat("第一\n第二\n", "-f", "价钱=1")
    assert (run.status, run.out) == (2, "")
    assert run.err.count("error: no image and no text has the metadata '价钱'") == 2


def test_bytes_that_are_not_utf_8_do_not_end_the_chat(chat: Chat, glm: MockGLMServer) -> None:
    run = chat("第一\n".encode() + b"\xff\xfe?\n" + "第三\n".encode())
    assert run.status == 0
    assert [text for text in ("第一", "第三") if text in run.out] == ["第一", "第三"]


def test_no_line_is_no_message(chat: Chat, glm: MockGLMServer) -> None:
    assert chat("") == (0, "", "")
    assert glm.requests == []


def test_the_mock_talks_without_a_key(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZHIPUAI_API_KEY")
    run = chat("你好\n", "--mock")
    assert run.out.startswith("（本地模拟服务，不是模型）问题：你好")
    assert run.err.startswith("The answer comes from the local mock server")
