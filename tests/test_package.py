"""The package's face: cheap to import, complete, typed."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import pytest

import llama_index_mm_zhipu


@pytest.mark.parametrize(
    ("statement", "libraries"),
    [
        ("from llama_index_mm_zhipu import *", ["torch", "faiss", "zhipuai", "matplotlib", "openvino", "transformers"]),
        ("from llama_index_mm_zhipu import ChineseClipEmbedding", ["torch", "httpx"]),
    ],
)
def test_importing_loads_no_heavy_library(statement: str, libraries: list[str]) -> None:
    program = f"import sys; {statement}; print([name for name in {libraries} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    for name in llama_index_mm_zhipu.__all__:
        assert getattr(llama_index_mm_zhipu, name).__name__ == name
    assert dir(llama_index_mm_zhipu) == sorted(llama_index_mm_zhipu.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        llama_index_mm_zhipu.nothing  # noqa: B018


def test_the_package_is_typed() -> None:
    assert (files(llama_index_mm_zhipu) / "py.typed").is_file()
