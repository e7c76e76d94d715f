"""Which errors are explained in one line, and what that line may hold."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import llama_index_mm_zhipu
from llama_index_mm_zhipu.service.errors import is_expected, message_of

PACKAGE = Path(llama_index_mm_zhipu.__file__).parent


def names_of_errors() -> list[tuple[str, str]]:
    """Return module and name of every public class of the package that is called an error."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and not node.name.startswith("_"):
                found.append((module, node.name))
    return found


def test_every_error_of_the_package_is_expected() -> None:
    classes = [getattr(pytest.importorskip(module), name) for module, name in names_of_errors()]
    errors = [each for each in classes if issubclass(each, Exception)]
    assert len(errors) > 20
    assert [each for each in errors if not is_expected(each.__new__(each))] == []


@pytest.mark.parametrize("error", [OSError("full"), ValueError("x"), ImportError("x"), RuntimeError("no memory")])
def test_errors_of_python_that_users_can_act_on_are_expected(error: Exception) -> None:
    assert is_expected(error)


@pytest.mark.parametrize(
    "error",
    [
        *(KeyError("a"), IndexError("a"), AttributeError("a"), TypeError("a"), AssertionError("a")),
        *(NotImplementedError("a"), RecursionError("a"), ZeroDivisionError("a"), StopIteration()),
    ],
)
def test_faults_of_a_program_are_not(error: Exception) -> None:
    assert not is_expected(error)


def test_a_message_is_one_line_without_control_characters() -> None:
    assert message_of(ValueError("no such\n  file: \x1b[31ma\x07\u202e\udcff")) == "no such file: [31ma\ufffd"
    assert message_of(ValueError()) == "ValueError"
    assert message_of(FileNotFoundError(2, "No such file", "/a/b")) == "[Errno 2] No such file: '/a/b'"


def test_the_errors_are_found_without_importing_them() -> None:
    source = (PACKAGE / "service" / "errors.py").read_text(encoding="utf-8")
    imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "llama_index_mm_zhipu.prompts.wording"}
    assert importlib.import_module("llama_index_mm_zhipu.service").FILTER_SYNTAX
