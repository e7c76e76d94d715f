"""Command lines: options, defaults, and what is said about wrong ones in both languages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import __version__
from llama_index_mm_zhipu.cli.parser import (
    DATASETS,
    MODES,
    PRECISIONS,
    SIDECAR,
    build_parser,
    default_store,
    language_in,
    parse,
)
from llama_index_mm_zhipu.cli.wording import WORDING
from llama_index_mm_zhipu.embedding.backends import Precision
from llama_index_mm_zhipu.evaluation.dataset import FORMATS
from llama_index_mm_zhipu.readers import folder
from llama_index_mm_zhipu.service.image_service import DEFAULT_MODEL
from llama_index_mm_zhipu.text import columns_of

COMMAND_LINES = (
    ("index", "x"),
    ("search",),
    ("ask", "x"),
    ("chat",),
    ("mcp",),
    ("info",),
    ("evaluate", "jsonl", "x"),
    ("export", "x"),
    ("import", "x"),
    ("doctor",),
)
"""The shortest command line of each command."""


def error_of(arguments: str, capsys: pytest.CaptureFixture[str], language: str = "en") -> list[str]:
    """Return the lines of the error that a command line causes."""
    with pytest.raises(SystemExit) as left:
        parse(build_parser(WORDING[language]), arguments.split())  # type: ignore[index]
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return str(err).splitlines()


@pytest.mark.parametrize(
    ("arguments", "english", "chinese"),
    [
        ("--nothing", "the following arguments are required: COMMAND", "缺少参数：命令"),
        ("search --nothing", "unrecognized arguments: --nothing", "无法识别的参数：--nothing"),
        ("search --jso", "unrecognized arguments: --jso", "无法识别的参数：--jso"),
        ("index", "the following arguments are required: PATH", "缺少参数：PATH"),
        ("export a b", "unrecognized arguments: b", "无法识别的参数：b"),
        ("search --image", "argument -i/--image: expected one argument", "-i/--image 后面缺少值"),
        ("search --json=1", "argument --json: ignored explicit argument '1'", "--json 后面不能有值（'1'）"),
        (
            "search -k 0",
            "argument -k/--top-k: '0' is not a whole number of at least 1",
            "-k/--top-k 的值 '0' 不对，应为正整数",
        ),
        (
            "ask x -k two",
            "argument -k/--top-k: 'two' is not a whole number of at least 1",
            "-k/--top-k 的值 'two' 不对，应为正整数",
        ),
        ("search --cutoff x", "argument --cutoff: invalid float value: 'x'", "--cutoff 的值 'x' 不对"),
        ("mcp --port x", "argument --port: 'x' is not a port", "--port 的值 'x' 不对，应为端口号"),
        ("mcp --port 65536", "argument --port: '65536' is not a port", "--port 的值 '65536' 不对，应为端口号"),
        (
            "search --image a --like b",
            "argument --like: not allowed with argument -i/--image",
            "--like 不能与 -i/--image 同时使用",
        ),
        (
            "ask x --show --json",
            "argument --json: not allowed with argument --show",
            "--json 不能与 --show 同时使用",
        ),
    ],
)
def test_wrong_usage_is_explained_in_both_languages(
    arguments: str, english: str, chinese: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments.split()[0]
    program = "mmzhipu" if command.startswith("-") else f"mmzhipu {command}"
    assert error_of(arguments, capsys) == [f"error: {english}", f"{program} --help explains the options"]
    assert error_of(arguments, capsys, "zh") == [f"错误：{chinese}", f"用法见 {program} --help"]


@pytest.mark.parametrize(
    "arguments", ["serach", "search --mode near", "info --lang fr", "index x --precision fp8", "evaluate nothing x"]
)
def test_values_that_can_be_chosen_are_listed(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Their quotation marks differ between versions of Python.
    assert "(choose from" in error_of(arguments, capsys)[0]
    chinese = error_of(arguments, capsys, "zh")[0]
    assert chinese.startswith("错误：")
    assert "可选：" in chinese
    assert not {"argument", "invalid", "choose"} & set(chinese.split())


def test_choices_are_what_the_library_takes() -> None:
    assert set(DATASETS) == set(FORMATS)
    assert set(PRECISIONS) == set(get_args(Precision))
    assert SIDECAR == folder.SIDECAR
    assert set(MODES) <= {mode.value for mode in VectorStoreQueryMode}


def test_the_help_names_the_formats_of_data_sets_and_the_default_model() -> None:
    for wording in WORDING.values():
        assert all(name in wording.help["dataset"] for name in DATASETS)
        assert all(DEFAULT_MODEL in wording.help[name] for name in ("model", "doctor.model"))
        assert all(mode in wording.help["mode"] for mode in MODES)


def test_commands_have_the_options_that_they_read() -> None:
    parser = build_parser(WORDING["en"])
    options = parse(parser, ["search", "红", "汽车", "-k", "2", "-f", "a=1", "-f", "b>2", "-i", "x.jpg", "-v"])
    assert options.WORDS == ["红", "汽车"]
    assert (options.top_k, options.filter, options.image, options.verbose) == (2, ["a=1", "b>2"], "x.jpg", True)
    assert (options.json, options.show, options.open, options.html, options.mode) == (False, False, False, None, None)
    options = parse(parser, ["chat", "-f", "a=1", "--store", "~/x", "--mock"])
    assert (options.store, options.filter, options.top_k) == (Path.home() / "x", ["a=1"], 3)
    options = parse(parser, ["index", "a", "~/b"])
    assert list(map(str, options.PATH)) == ["a", str(Path.home() / "b")]
    assert (options.captions, options.name_column, options.caption_column) == (None, "file_name", "caption")


def test_words_may_follow_options_and_look_like_options() -> None:
    options = parse(build_parser(WORDING["en"]), ["search", "--json", "--", "--json", "-1"])
    assert (options.json, options.WORDS) == (True, ["--json", "-1"])


@pytest.mark.parametrize(
    ("arguments", "language"),
    [
        (["search", "--lang", "zh"], "zh"),
        (["--lang=en", "search"], "en"),
        (["--lang"], None),
        (["search", "zh"], None),
        (["--lang", "fr"], "fr"),
    ],
)
def test_the_language_is_found_before_the_parser_is_built(arguments: list[str], language: str | None) -> None:
    assert language_in(arguments) == language


def test_the_language_is_an_option_of_the_program_and_of_each_command() -> None:
    parser = build_parser(WORDING["zh"])
    assert parse(parser, ["--lang", "zh", "info"]).lang == parse(parser, ["info", "--lang", "zh"]).lang == "zh"


def test_the_store_is_in_the_present_folder_or_where_the_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMZHIPU_STORE", raising=False)
    assert default_store() == Path("mmzhipu_store")
    monkeypatch.setenv("MMZHIPU_STORE", "")
    assert default_store() == Path("mmzhipu_store")
    monkeypatch.setenv("MMZHIPU_STORE", "~/照片 索引 100%")
    assert default_store() == Path.home() / "照片 索引 100%"
    options = parse(build_parser(WORDING["en"]), ["info"])
    assert options.store == Path.home() / "照片 索引 100%"
    assert str(default_store()) in options.parser.format_help().replace("\n" + " " * 30, "")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(build_parser(WORDING["en"]), ["--version"])
    assert (left.value.code, capsys.readouterr().out) == (0, f"mmzhipu {__version__}\n")


def test_help_fits_the_terminal_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for wording in WORDING.values():
        parser = build_parser(wording)
        of_commands = [parse(parser, line).parser for line in COMMAND_LINES]
        for each in (parser, *of_commands):
            assert [line for line in each.format_help().splitlines() if columns_of(line) > 80] == []


def test_building_the_parser_and_its_help_load_only_the_standard_library() -> None:
    program = (
        "import sys; from llama_index_mm_zhipu.cli.main import main\n"
        "try: main(['search', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'llama_index', 'numpy', 'PIL', 'tqdm', 'httpx', 'pydantic', 'argcomplete'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
