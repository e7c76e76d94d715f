"""The words of the command: complete in both languages, and chosen by the locale."""

from __future__ import annotations

import argparse
import dataclasses
import locale
import re
import string
from collections.abc import Iterator, Mapping
from typing import get_args

import pytest

from llama_index_mm_zhipu.cli.parser import build_parser
from llama_index_mm_zhipu.cli.wording import WORDING, CliWording, Count, language_of_environment
from llama_index_mm_zhipu.embedding.backends import BackendError, CheckpointError
from llama_index_mm_zhipu.embedding.references import LostModelError
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.llm import GLMError
from llama_index_mm_zhipu.llm.endpoint import MissingKeyError
from llama_index_mm_zhipu.llm.errors import GLMAuthenticationError
from llama_index_mm_zhipu.readers.records import EmptySourceError
from llama_index_mm_zhipu.service.errors import FilterSyntaxError, UnknownNodeError
from llama_index_mm_zhipu.store_file import StoreFileError
from llama_index_mm_zhipu.types import Language
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError, StoreError, UnknownMetadataError

LANGUAGES = get_args(Language)

EXPLAINED_BY: dict[str, set[str]] = {
    "MissingKeyError": set(),
    "FilterSyntaxError": set(vars(FilterSyntaxError("x"))),
    "UnknownMetadataError": set(vars(UnknownMetadataError("x"))),
}


def texts_of(language: Language) -> dict[str, str]:
    """Return all texts that are formatted, by field and key."""
    texts: dict[str, str] = {}
    for name, value in dataclasses.asdict(WORDING[language]).items():
        if isinstance(value, Mapping) and name not in ("errors", "reasons"):
            texts |= {f"{name}.{key}": text for key, text in value.items()}
        elif isinstance(value, str):
            texts[name] = value
    return texts


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def parsers_of(language: Language) -> Iterator[argparse.ArgumentParser]:
    """Yield the parser and those of the commands."""
    parser = build_parser(WORDING[language])
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def test_both_languages_have_the_same_texts_with_the_same_placeholders() -> None:
    chinese, english = texts_of("zh"), texts_of("en")
    assert chinese.keys() == english.keys()
    for name, text in chinese.items():
        assert text, name
        assert placeholders(text) == placeholders(english[name]), name


def test_the_fields_are_documented_with_their_placeholders() -> None:
    documented = re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", CliWording.__doc__ or "", re.MULTILINE)
    assert [name for name, _ in documented] == [field.name for field in dataclasses.fields(CliWording)]
    chinese = texts_of("zh")
    for name, description in documented:
        named = set(re.findall(r"``\{(\w+)\}``", description))
        if name in chinese:
            assert named == placeholders(chinese[name]), name


@pytest.mark.parametrize("language", LANGUAGES)
def test_reasons_are_for_classes_of_errors_and_keep_their_messages(language: Language) -> None:
    for name, text in WORDING[language].reasons.items():
        # Some errors are explained completely: a missing key, and those whose attributes tell what is wrong.
        assert placeholders(text) == EXPLAINED_BY.get(name, {"message"}), name


def test_reasons_name_classes_that_exist() -> None:
    classes = (
        BackendError,
        CheckpointError,
        EmptySourceError,
        FilterSyntaxError,
        GLMAuthenticationError,
        GLMError,
        ImageError,
        ImportError,
        LostModelError,
        MissingKeyError,
        ModelMismatchError,
        StoreError,
        StoreFileError,
        UnknownMetadataError,
        UnknownNodeError,
    )
    names = {name for language in LANGUAGES for name in WORDING[language].reasons}
    assert names == {each.__name__ for each in classes}


def test_numbers_are_followed_by_singular_or_plural() -> None:
    english, chinese = WORDING["en"].ready, WORDING["zh"].ready
    assert [english.format(images=Count(number)) for number in (0, 1, 2, 1389)] == [
        "Ready: 0 images.",
        "Ready: 1 image.",
        "Ready: 2 images.",
        "Ready: 1,389 images.",
    ]
    assert chinese.format(images=Count(1389)) == "已就绪：共 1,389 张图片。"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_argument_of_every_command_has_help(language: Language) -> None:
    for parser in parsers_of(language):
        for action in parser._actions:
            if not isinstance(action, argparse._SubParsersAction):
                is_chinese = bool(re.search(r"[\u4e00-\u9fff]", action.help or ""))
                assert action.help, (parser.prog, action.dest)
                assert is_chinese == (language == "zh"), (parser.prog, action.dest, action.help)


def test_all_help_is_used() -> None:
    used = {action.help for parser in parsers_of("en") for action in parser._actions}
    used |= {parser.description for parser in parsers_of("en")}
    unused = [key for key, text in WORDING["en"].help.items() if text not in used]
    assert unused == []


@pytest.mark.parametrize("position", range(11))
def test_help_is_in_one_language(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    english, chinese = ([*parsers_of(language)][position].format_help() for language in ("en", "zh"))
    assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]", english), english
    # Without usage, names, placeholders, values and commands nothing is left that argparse says.
    words = set(re.findall(r"(?<![-\w.])[a-z]{2,}(?![-\w.])", chinese))
    for said in ("usage", "options", "show", "this", "help", "exit", "positional", "arguments", "program", "version"):
        assert said not in words, (said, chinese)


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LC_ALL": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_TW.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN"}, "zh"),
        ({"LANG": "zh"}, "zh"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "POSIX"}, "en"),
        ({"LANG": "C.UTF-8", "LANGUAGE": "zh_CN"}, "en"),
        ({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "zh_CN:en"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": "en_US:zh"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LANGUAGE": ""}, "zh"),
        ({"LANG": "Chinese_China.936"}, "zh"),
        ({"LC_TIME": "zh_CN.UTF-8", "LANG": "en_US.UTF-8"}, "en"),
    ],
)
def test_the_language_follows_the_locale(environment: dict[str, str], language: Language) -> None:
    assert language_of_environment(environment) == language


@pytest.mark.parametrize(
    ("name", "language"),
    [("zh_CN", "zh"), ("Chinese (Simplified)_China", "zh"), ("English_United States", "en"), (None, "en")],
)
def test_without_variables_the_language_follows_the_system(
    name: str | None, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locale, "getlocale", lambda: (name, None))
    assert language_of_environment({}) == language
    assert language_of_environment({"LANG": ""}) == language
