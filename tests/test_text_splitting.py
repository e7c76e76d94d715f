"""Where nltk refuses the data that llama-index-core ships, the error holds the command that helps."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import llama_index.core
import pytest

from llama_index_mm_zhipu.index.read import nltk_errors_explained

PROGRAM = """
from llama_index.core import Document
from llama_index.core.embeddings import MockMultiModalEmbedding
from llama_index.core.schema import TextNode
from llama_index.core.utils import globals_helper
from llama_index_mm_zhipu import build_index
model = MockMultiModalEmbedding(embed_dim=4)
index = build_index([TextNode(text="kept")], embed_model=model)
manual = Document(text="轮胎气压应为二百三十千帕。" * 2000)
for split in (lambda: build_index([manual], embed_model=model), lambda: index.insert(manual)):
    globals_helper._punkt_tokenizer = None  # after a failure it would be half made, and pass
    try:
        split()
    except PermissionError as error:
        print(error)
"""


def test_data_that_uv_linked_is_refused_with_the_command_that_helps(tmp_path: Path) -> None:
    """As in an environment that ``uv pip install`` made with hard links."""
    shipped = Path(llama_index.core.__file__).parent / "_static" / "nltk_cache"
    linked = shutil.copytree(shipped, tmp_path / "nltk_cache")
    for file in [path for path in linked.rglob("*") if path.is_file()]:
        os.link(file, file.with_name(f"{file.name}.in-uv-cache"))

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "NLTK_DATA": str(linked)},
        capture_output=True,
        text=True,
        check=True,
    )

    by_build_index, by_insert = done.stdout.splitlines()
    assert by_build_index == by_insert
    assert by_build_index.endswith(
        "install a copy of it: uv pip install --no-deps --link-mode copy --reinstall-package llama-index-core "
        f"llama-index-core=={version('llama-index-core')}"
    )


def test_other_refusals_stay_as_they_are() -> None:
    with pytest.raises(PermissionError, match=r"^nobody may read it$"), nltk_errors_explained():
        raise PermissionError("nobody may read it")
