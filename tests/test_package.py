"""The package as a whole: imports are cheap and go one way, public names are complete, types are shipped."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.resources import files
from itertools import chain
from pathlib import Path

import pytest

import llama_index_mm_zhipu

PACKAGE = Path(llama_index_mm_zhipu.__file__).parent

LAYERS = (
    ("types", "text"),
    ("reporting", "concurrency", "shared_folders", "store_file"),
    ("arguments", "images", "prompts"),
    # The parts, each of which is useful alone
    ("embedding", "vector_store", "llm"),
    ("stores",),
    # What connects them
    ("ingestion",),
    ("readers",),
    ("query",),
    ("index",),
    ("distributed",),
    # What shows, measures and tests the whole
    ("display", "evaluation", "testing"),
    # The ways in for people and agents
    ("service",),
    ("server",),
    ("mcp",),
    ("cli",),
    ("__main__",),
)
"""Modules and packages import only from the layers above their own."""


@pytest.mark.parametrize(
    ("statement", "libraries"),
    [
        (
            "from llama_index_mm_zhipu import *",
            ["torch", "faiss", "zhipuai", "matplotlib", "openvino", "transformers", "rapidocr", "cv2"],
        ),
        ("from llama_index_mm_zhipu import ChineseClipEmbedding", ["torch", "httpx"]),
    ],
)
def test_importing_loads_no_heavy_library(statement: str, libraries: list[str]) -> None:
    program = f"import sys; {statement}; print([name for name in {libraries} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def imported_parts(part: str) -> dict[str, str]:
    """Return the parts of the package that a part imports, each with a file that does so."""
    path = PACKAGE / part
    files_of_part = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    found: dict[str, str] = {}
    for file in files_of_part:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [each.name for each in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for name in names:
                package, _, rest = f"{prefix}{name}".partition(".")
                if package == PACKAGE.name and rest != "__version__":
                    found.setdefault(rest.partition(".")[0], file.relative_to(PACKAGE).as_posix())
    return found


def test_every_part_is_in_a_layer() -> None:
    paths = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert {path.stem for path in paths} - {"__init__"} == set(chain(*LAYERS))


@pytest.mark.parametrize("depth", range(len(LAYERS)))
def test_parts_import_only_from_the_layers_above(depth: int) -> None:
    above = set(chain(*LAYERS[:depth]))
    for part in LAYERS[depth]:
        wrong = {name: file for name, file in imported_parts(part).items() if name not in {part, *above}}
        assert wrong == {}, f"{part} imports from its own layer or from below"


def test_every_public_name_is_there() -> None:
    for name in llama_index_mm_zhipu.__all__:
        assert getattr(llama_index_mm_zhipu, name).__name__ == name
    assert dir(llama_index_mm_zhipu) == sorted(llama_index_mm_zhipu.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        llama_index_mm_zhipu.nothing  # noqa: B018


def test_the_package_is_typed() -> None:
    assert (files(llama_index_mm_zhipu) / "py.typed").is_file()
