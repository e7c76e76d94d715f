"""If nltk refuses the data that llama-index-core ships, the error contains the command that fixes it."""

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
    globals_helper._punkt_tokenizer = None  # a failed attempt leaves a tokenizer that is used without an error
    try:
        split()
    except PermissionError as error:
        print(error)
"""


@pytest.mark.integration
def test_hard_linked_data_is_refused_with_the_command_that_fixes_it(tmp_path: Path) -> None:
    """``uv pip install`` makes such hard links to its cache."""
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


def test_other_errors_stay_unchanged() -> None:
    with pytest.raises(PermissionError, match=r"^nobody may read it$"), nltk_errors_explained():
        raise PermissionError("nobody may read it")
