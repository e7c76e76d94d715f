"""What a store says about itself is read from its file alone, and agrees with the store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from llama_index.core.schema import TextNode

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.store_file import read_store_file


def filled(folder: Path) -> FaissMultiModalVectorStore:
    store = FaissMultiModalVectorStore(folder, namespace="image", model="ViT 1234")
    nodes = [
        TextNode(
            id_=str(number), embedding=[1.0, float(number)], metadata={"价格": number, "source_root": f"/{number % 2}"}
        )
        for number in range(3)
    ]
    store.add(nodes, settings={"caption_weight": 0.5})
    return store


def test_a_file_agrees_with_its_store(tmp_path: Path) -> None:
    store = filled(tmp_path)
    file = read_store_file(tmp_path / "image.sqlite3")
    assert (file.nodes, file.metadata_keys) == (store.count(), ("source_root", "价格"))
    assert {key: file.settings[key] for key in store.settings()} == store.settings()
    assert (file.settings["dimension"], file.sources) == (2, {"/0": 2, "/1": 1})
    assert file.bytes >= (tmp_path / "image.sqlite3").stat().st_size
    store.close()


def test_what_an_open_store_has_just_written_is_seen(tmp_path: Path) -> None:
    store = filled(tmp_path)
    store.add([TextNode(id_="new", embedding=[0.0, 1.0])])
    assert read_store_file(tmp_path / "image.sqlite3").nodes == 4
    store.delete_nodes(["new", "0"])
    assert read_store_file(tmp_path / "image.sqlite3").nodes == 2
    store.close()


def test_reading_a_file_leaves_no_other_files(tmp_path: Path) -> None:
    filled(tmp_path).close()
    before = sorted(tmp_path.iterdir())
    read_store_file(tmp_path / "image.sqlite3")
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_in_a_folder_that_cannot_be_written_to_is_read(tmp_path: Path) -> None:
    filled(tmp_path).close()
    file = tmp_path / "image.sqlite3"
    file.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert read_store_file(file).nodes == 3
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("content", [b"", b"no database" * 100, b"SQLite format 3\0" + bytes(4080)])
def test_other_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.sqlite3").write_bytes(content)
    with pytest.raises(ValueError, match=r"image\.sqlite3 cannot be read as a store"):
        read_store_file(tmp_path / "image.sqlite3")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no store at .*image\.sqlite3"):
        read_store_file(tmp_path / "image.sqlite3")


def test_reading_a_file_loads_neither_core_nor_torch(tmp_path: Path) -> None:
    filled(tmp_path).close()
    program = (
        "import sys; from pathlib import Path; from llama_index_mm_zhipu.store_file import read_store_file;"
        f"read_store_file(Path({str(tmp_path / 'image.sqlite3')!r}));"
        "heavy = {'torch', 'llama_index', 'faiss', 'numpy', 'PIL'}; print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
