"""``mmzhipu search``: by words, by an image, by an image of the index; filters, modes, pages, files with odd names."""

from __future__ import annotations

import os
import shutil
import sys
import webbrowser
from pathlib import Path

import pytest
from runs import Command

from llama_index_mm_zhipu.cli.parser import MODES


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the browser of the user writes the URLs that it is given."""
    if sys.platform == "win32":
        pytest.skip("the browser is a shell script")
    program, opened = tmp_path / "browser", tmp_path / "opened.txt"
    program.write_text(f'#!/bin/sh\necho "$1" >> "{opened}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(program))
    # The module reads the variable once.
    monkeypatch.setattr(webbrowser, "_tryorder", None)
    monkeypatch.setattr(webbrowser, "_browsers", {})
    return opened


def test_results_are_two_lines_each_on_stdout(mmzhipu: Command, store: Path, emoji: Path) -> None:
    run = mmzhipu("search", "红苹果", "-k", 3, "--mode", "default", "--store", store)
    lines = run.out.splitlines()
    assert (run.status, run.err, len(lines)) == (0, "", 6)
    assert lines[0].startswith("Picture 1  similarity 0.")
    assert lines[0].endswith("  红苹果")
    assert lines[1].startswith(f"     {emoji}  ")
    assert lines[1].endswith("/6")
    assert "\033" not in run.out


def test_chinese_words(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("--lang", "zh", "search", "红苹果", "-k", 1, "--store", store)
    assert run.out.startswith("图1  得分 ")
    assert mmzhipu("search", "红苹果", "-k", 1, "--store", store, "--lang", "zh") == run


def test_words_are_joined(mmzhipu: Command, store: Path) -> None:
    joined = mmzhipu("search", "a red apple", "--store", store)
    assert mmzhipu("search", "a", "red", "apple", "--store", store) == joined


def test_json_lines_hold_everything(mmzhipu: Command, store: Path, emoji: Path) -> None:
    run = mmzhipu("search", "红苹果", "--store", store, "--json")
    first, *others = run.rows
    assert (run.status, run.err, len(others)) == (0, "", 4)
    assert {name: first[name] for name in ("type", "number", "caption", "score_type", "source", "text")} == {
        "type": "image",
        "number": 1,
        "caption": "红苹果",
        "score_type": "score",
        "source": str(emoji),
        "text": "",
    }
    assert first["metadata"] == {"价格": 60, "颜色": "红"}
    assert [row["number"] for row in run.rows] == [1, 2, 3, 4, 5]
    assert first["node_id"].endswith("/6")
    assert first["score"] > others[0]["score"]


def test_an_image_without_a_caption_is_found(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("search", "柠檬", "-k", 1, "--store", store)
    assert run.out.splitlines()[0].endswith("  emoji.jsonl")
    assert mmzhipu("search", "柠檬", "-k", 1, "--store", store, "--json").rows[0]["caption"] == ""


def test_the_store_is_that_of_the_variable_or_in_the_present_folder(
    mmzhipu: Command, store: Path, surroundings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = mmzhipu("search", "西瓜", "--store", store)
    shutil.copytree(store, surroundings / "mmzhipu_store")
    assert mmzhipu("search", "西瓜") == expected
    assert mmzhipu("search", "西瓜", "--store", "./mmzhipu_store/../mmzhipu_store") == expected
    monkeypatch.chdir(surroundings.parent)
    assert mmzhipu("search", "西瓜").status == 2
    monkeypatch.setenv("MMZHIPU_STORE", "here/mmzhipu_store")
    assert mmzhipu("search", "西瓜") == expected


def test_without_an_index_the_command_that_builds_one_is_named(mmzhipu: Command, surroundings: Path) -> None:
    for command in (["search", "x"], ["ask", "x"], ["chat"], ["info"], ["export", "x"], ["mcp"]):
        run = mmzhipu(*command, "--store", "my photos")
        assert (run.status, run.out) == (2, "")
        advice = "no index in 'my photos'; build one there with: mmzhipu index PATH --store 'my photos'"
        assert run.err == f"error: {advice}\n"
        assert "错误：'my photos' 中没有索引" in mmzhipu(*command, "--store", "my photos", "--lang", "zh").err
    assert list(surroundings.iterdir()) == []


def test_nothing_found_is_status_1(mmzhipu: Command, store: Path) -> None:
    arguments = ("search", "红苹果", "--mode", "default", "--cutoff", "0.999", "--store", store)
    assert mmzhipu(*arguments) == (1, "", "nothing found\n")
    assert mmzhipu(*arguments, "--json") == (1, "", "nothing found\n")
    assert mmzhipu(*arguments, "--lang", "zh") == (1, "", "没有找到\n")
    assert mmzhipu("search", "红苹果", "--filter", "颜色=紫", "--store", store).status == 1


def test_nothing_to_search_for_is_said_before_anything_is_loaded(mmzhipu: Command, surroundings: Path) -> None:
    for words in ([], ["  "]):
        run = mmzhipu("search", *words)
        assert run == (2, "", "error: nothing to search for: give words, or an image with --image/--like\n")


@pytest.mark.parametrize(
    ("expressions", "found"),
    [
        (["价格>=60", "颜色=红"], {"6", "7", "10"}),
        (["颜色 in 红,绿", "价格<80"], {"2", "6", "7"}),
        (["颜色 not in 红，黄"], {"1", "4", "8"}),
        (["价格 = 60"], {"6"}),
        (["价格≥90", "价格 != 100"], {"9"}),
    ],
)
def test_several_filters_are_all_met(mmzhipu: Command, store: Path, expressions: list[str], found: set[str]) -> None:
    options = [option for expression in expressions for option in ("--filter", expression)]
    run = mmzhipu("search", "水果", "-k", 10, "--json", "--store", store, *options)
    assert {row["node_id"].rpartition("/")[2] for row in run.rows} == found


def test_filters_that_cannot_be_understood_or_met_are_errors(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("search", "x", "--filter", "便宜", "--store", store)
    assert (run.status, run.out) == (2, "")
    assert "'便宜' is not understood; write one of: key=value" in run.err
    run = mmzhipu("search", "x", "--filter", "价钱<5", "--store", store)
    assert run.status == 2
    assert "'价钱'" in run.err
    assert "'价格'" in run.err


def test_filters_that_cannot_be_understood_or_met_are_explained_in_chinese(mmzhipu: Command, store: Path) -> None:
    options = ("--store", store, "--lang", "zh")
    run = mmzhipu("search", "x", "--filter", "价钱<5", *options)
    assert run == (2, "", "错误：没有图片或文本带有元数据 价钱；可以筛选的有：价格、颜色\n")
    run = mmzhipu("search", "x", "--filter", "便宜", *options)
    assert run.err.startswith("错误：筛选条件 便宜 的写法不对，应是以下之一：key=value、")


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_finds_a_caption(mmzhipu: Command, store: Path, mode: str) -> None:
    run = mmzhipu("search", "红苹果", "--mode", mode, "--store", store, "--json")
    assert run.rows[0]["caption"] == "红苹果"
    assert run.rows[0]["score_type"] == ("similarity" if mode == "default" else "score")


def test_an_image_file_searches_alone_and_with_words(
    mmzhipu: Command, store: Path, examples: list[object], surroundings: Path
) -> None:
    name = "图 a'b\"\n.jpg"
    (surroundings / name).write_bytes(examples[2].image)  # type: ignore[attr-defined]
    run = mmzhipu("search", "-i", name, "-k", 1, "--store", store, "--json")
    assert run.rows[0]["caption"] == "太阳"
    assert mmzhipu("search", "太阳", "-i", name, "-k", 1, "--store", store, "--json").rows[0]["caption"] == "太阳"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken.jpg", "broken.jpg is not an image that Pillow can read"),
        (".", "it is a folder, not a file"),
    ],
)
def test_an_image_that_cannot_be_read_is_an_error(
    mmzhipu: Command, store: Path, surroundings: Path, name: str, said: str
) -> None:
    (surroundings / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    for command in ("search", "ask"):
        run = mmzhipu(command, "x", "-i", name, "--store", store, *(["--mock"] if command == "ask" else []))
        assert (run.status, run.out) == (2, "")
        assert said in run.err
        assert run.err.splitlines()[-1].startswith("error: ")
    run = mmzhipu("search", "-i", name, "--store", store, "--lang", "zh")
    assert run.err.startswith("错误：图片无法读取（")


def test_an_image_of_the_index_finds_others_like_it(mmzhipu: Command, store: Path) -> None:
    apple = mmzhipu("search", "红苹果", "-k", 1, "--store", store, "--json").rows[0]["node_id"]
    run = mmzhipu("search", "--like", apple, "-k", 9, "--store", store, "--json")
    assert len(run.rows) == 9
    assert apple not in {row["node_id"] for row in run.rows}
    run = mmzhipu("search", "--like", "6", "--store", store)
    assert (run.status, run.out) == (2, "")
    assert run.err == f"error: no image has the id 6; did you mean {apple}?\n"
    assert "错误：索引中没有这张图片（" in mmzhipu("search", "--like", "6", "--store", store, "--lang", "zh").err


def test_a_page_is_written(mmzhipu: Command, store: Path, surroundings: Path) -> None:
    page = surroundings / "页 面" / "a'b.html"
    run = mmzhipu("search", "红苹果", "--store", store, "--html", "页 面/a'b.html")
    assert run.err == f"saved {page}\n"
    assert "红苹果" in page.read_text(encoding="utf-8")
    assert run.out == mmzhipu("search", "红苹果", "--store", store).out


def test_a_page_is_opened_in_the_browser(mmzhipu: Command, store: Path, surroundings: Path, browser: Path) -> None:
    run = mmzhipu("search", "红苹果", "--store", store, "--html", "a b.html", "--open", "--json")
    assert (run.status, run.err, len(run.rows)) == (0, f"saved {surroundings / 'a b.html'}\n", 5)
    assert browser.read_text().splitlines() == [(surroundings / "a b.html").as_uri()]
    run = mmzhipu("search", "红苹果", "--store", store, "--open")
    temporary = Path(run.err.removeprefix("saved ").strip())
    assert "红苹果" in temporary.read_text(encoding="utf-8")
    assert browser.read_text().splitlines()[1:] == [temporary.as_uri()]
    shutil.rmtree(temporary.parent)


def test_without_a_browser_the_page_is_named(
    mmzhipu: Command, store: Path, surroundings: Path, browser: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER", str(browser.parent / "no browser"))
    monkeypatch.setenv("PATH", "")
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "TERM"):
        monkeypatch.delenv(variable, raising=False)
    run = mmzhipu("search", "红苹果", "--store", store, "--html", "a.html", "--open")
    assert run.status == 0
    assert run.err.splitlines()[1] == f"no browser could be opened; open {surroundings / 'a.html'} in one"


def test_images_are_not_drawn_off_a_terminal(mmzhipu: Command, store: Path) -> None:
    run = mmzhipu("search", "红苹果", "--store", store, "--show")
    assert run.err == "--show draws images in a terminal only; --html FILE writes a page\n"
    assert run.out == mmzhipu("search", "红苹果", "--store", store).out


@pytest.mark.parametrize(
    ("columns", "shown"), [(3, "…"), (14, "sc…"), (28, "score 1.0000  红…"), (40, "score 1.0000  红苹果")]
)
def test_results_are_cut_to_the_columns_of_the_terminal(
    mmzhipu: Command, store: Path, columns: int, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    run = mmzhipu("search", "红苹果", "-k", 1, "--store", store)
    assert (run.status, run.out.splitlines()[0]) == (0, f"Picture 1  {shown}")


@pytest.fixture
def odd_names(photos: list[Path], surroundings: Path) -> list[str]:
    """Names of images in the folder ``照片 a'b"c`` of the present folder, which no other index has."""
    names = ["红 裙子.jpg", "it's.jpg", 'q"uote.jpg', "new\nline.jpg", "\x1b[31mred.jpg", "-k.jpg", "a,b=c.jpg"]
    if sys.platform == "win32":
        names = [name for name in names if not set(name) & set('"\n\x1b')]
    folder = surroundings / ("照片 a'b" if sys.platform == "win32" else "照片 a'b\"c")
    folder.mkdir()
    for name, photo in zip(names, photos, strict=False):
        shutil.copy(photo, folder / name)
    return names


def test_files_with_odd_names_are_indexed_shown_on_one_line_and_found_again(
    mmzhipu: Command, odd_names: list[str], demo_model: Path, surroundings: Path
) -> None:
    (folder,) = surroundings.iterdir()
    run = mmzhipu("index", folder.name, "--model", demo_model, "--device", "cpu")
    assert (run.status, run.out.split(":")[0]) == (0, "7 images in mmzhipu_store")
    rows = mmzhipu("search", "x", "-k", 10, "--json").rows
    assert {row["source"] for row in rows} == {str(folder / name) for name in odd_names}
    shown = mmzhipu("search", "x", "-k", 10)
    assert len(shown.out.splitlines()) == 2 * len(odd_names)
    assert f"{folder.name}/new\\nline.jpg  " in shown.out
    assert "\033" not in shown.out
    for row in rows:
        like = mmzhipu("search", "--like", row["node_id"], "-k", 10, "--json").rows
        assert {other["node_id"] for other in like} == {other["node_id"] for other in rows} - {row["node_id"]}
    run = mmzhipu("search", "x", "--json", "--filter", "file_name='a,b=c.jpg'")
    assert [row["metadata"] for row in run.rows] == [{"file_name": "a,b=c.jpg"}]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file systems take only Unicode")
def test_names_that_are_not_utf_8(
    mmzhipu: Command, photos: list[Path], demo_model: Path, store: Path, surroundings: Path
) -> None:
    odd = os.fsdecode(b"a\xff\xfe.jpg")
    shutil.copy(photos[0], surroundings / odd)
    assert mmzhipu("search", "-i", odd, "-k", 1, "--store", store).status == 0
    run = mmzhipu("index", ".", "--model", demo_model, "--device", "cpu")
    assert (run.status, run.out) == (2, "")
    assert run.err.endswith("a\\udcff\\udcfe.jpg: the name is not UTF-8; rename it\n")
    odd = os.fsdecode(b"s\xff")
    run = mmzhipu("index", photos[0], "--model", demo_model, "--device", "cpu", "--store", odd)
    assert (run.status, run.out) == (2, "")
    assert run.err.endswith("s\\udcff/image.sqlite3: its path is not UTF-8; rename the folder\n")
    assert not (surroundings / odd).exists()
    shutil.copytree(store, surroundings / odd)
    assert mmzhipu("info", "--store", odd, "--json").rows[0]["folder"] == odd
    assert mmzhipu("info", "--store", odd).out.splitlines()[0].endswith("here/s\\udcff")


@pytest.mark.parametrize(("language", "named"), [("en", "score "), ("zh", "得分 ")])
def test_scores_of_full_text_are_not_called_similarities(
    mmzhipu: Command, store: Path, language: str, named: str
) -> None:
    run = mmzhipu("search", "红苹果", "-k", 1, "--mode", "text_search", "--store", store, "--lang", language)
    assert f"  {named}" in run.out.splitlines()[0]
