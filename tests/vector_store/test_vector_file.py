"""The vector file of a store: rows by id, crashes in the middle of an addition, files that do not belong together."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import VectorStoreQuery

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError
from llama_index_mm_zhipu.vector_store.schema import MIGRATIONS
from llama_index_mm_zhipu.vector_store.vector_file import VectorFiles, VectorLayout, VectorRows, evenly_spaced

VECTORS = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


def nodes(*numbers: int) -> list[TextNode]:
    return [TextNode(id_=f"n{number}", text=f"文 {number}", embedding=VECTORS[number].tolist()) for number in numbers]


def nearest(store: FaissMultiModalVectorStore, number: int) -> list[str]:
    return store.query(VectorStoreQuery(query_embedding=VECTORS[number].tolist(), similarity_top_k=1)).ids or []


def stored(store: FaissMultiModalVectorStore, *numbers: int) -> bool:
    ids, vectors = store.get_vectors([f"n{number}" for number in numbers])
    return ids == [f"n{number}" for number in numbers] and np.array_equal(vectors, VECTORS[list(numbers)])


def vector_file(folder: Path) -> Path:
    (file,) = folder.glob("*.vectors")
    return file


# Rows


@pytest.fixture(params=["file", "memory"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> VectorRows:
    """Rows of which the first three have the ids 5, 7 and 20, and the others those behind 30."""
    files = VectorFiles(tmp_path / "a.sqlite3" if request.param == "file" else None)
    rows = files.create(VectorLayout.new(8, listed=3, after=30), np.array([5, 7, 20]), [VECTORS[:3]])
    rows.append(31, VECTORS[3:400])
    return rows


@pytest.mark.parametrize("ids", [[5], [20, 7], [31, 5, 400], [33, 32, 31], [40, 40, 5], list(range(31, 428, 3)), []])
def test_rows_are_read_in_the_order_of_their_ids(rows: VectorRows, ids: list[int]) -> None:
    positions = [{5: 0, 7: 1, 20: 2}.get(id_, id_ - 28) for id_ in ids]
    assert np.array_equal(rows.read(np.array(ids, np.int64)), VECTORS[positions])


def test_rows_behind_the_last_committed_one_are_replaced(rows: VectorRows) -> None:
    rows.append(32, VECTORS[490:495])
    assert np.array_equal(rows.read(np.array([31, 32, 36, 37])), VECTORS[[3, 490, 494, 9]])


def test_blocks_hold_all_rows_up_to_an_id(rows: VectorRows) -> None:
    assert np.array_equal(np.concatenate(list(rows.blocks(50))), VECTORS[:23])
    assert rows.count_until(50) == 23


def test_a_row_behind_the_end_is_an_error_that_names_the_file(rows: VectorRows) -> None:
    for ids in ([31, 428], [427, 428, 429]):
        with pytest.raises(StoreError, match=r"(\.vectors|in memory) ends too early: it is damaged"):
            rows.read(np.array(ids))


def test_ids_are_evenly_spaced() -> None:
    assert evenly_spaced(np.arange(1, 101), 3).tolist() == [1, 50, 100]
    assert evenly_spaced(np.arange(1, 3), 3).tolist() == [1, 2]
    assert evenly_spaced(np.arange(0), 3).tolist() == []


# Stores


def test_an_addition_that_fails_leaves_no_vector_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FaissMultiModalVectorStore(tmp_path)
    store.add(nodes(0, 1))
    with monkeypatch.context() as patched:
        # The disk becomes full after the vectors were written.
        patched.setattr("llama_index_mm_zhipu.vector_store.nodes.NewNodes.text_terms", lambda new: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.add(nodes(2, 3))
    store.add(nodes(4, 5))
    assert stored(store, 0, 1, 4, 5)
    assert (nearest(store, 4), store.count()) == (["n4"], 4)
    store.close()
    with FaissMultiModalVectorStore(tmp_path) as again:
        assert stored(again, 0, 1, 4, 5)


def test_what_a_killed_writer_left_in_the_vector_file_is_replaced(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 1))
    with vector_file(tmp_path).open("ab") as file:
        file.write(VECTORS[9:12].tobytes() + b"half")
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(2, 3))
        assert stored(store, 0, 1, 2, 3)
        assert nearest(store, 3) == ["n3"]


def test_another_process_that_has_the_store_open_reads_added_vectors(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as one, FaissMultiModalVectorStore(tmp_path) as other:
        one.add(nodes(0, 1))
        assert stored(other, 0, 1)
        one.clear()
        one.add([TextNode(id_="n0", embedding=[1.0, 2.0])])
        assert other.get_vectors(["n0"])[1].tolist() == [[1.0, 2.0]]
        assert other.query(VectorStoreQuery(query_embedding=[1.0, 1.0], similarity_top_k=1)).similarities == [3.0]


def test_clearing_removes_the_vector_file(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0, 1))
        before = vector_file(tmp_path)
        store.clear()
        assert not before.exists()
        store.add(nodes(2))
        assert vector_file(tmp_path) != before
        assert stored(store, 2)


def test_files_that_a_killed_process_left_are_removed_at_the_next_opening(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add(nodes(0))
    current = vector_file(tmp_path)
    for name in ("default.00000000.vectors", "default.00000001.vectors.tmp", "image.00000000.vectors"):
        (tmp_path / name).write_bytes(b"half")
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert stored(store, 0)
    left = {path.name for path in tmp_path.glob("*.vectors*")}
    assert left == {current.name, "image.00000000.vectors"}


@pytest.mark.parametrize("damage", ["missing", "of another store", "cut", "header"])
def test_a_vector_file_that_is_not_the_right_one_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    with FaissMultiModalVectorStore(tmp_path / "store") as store:
        store.add(nodes(*range(100)))
    file = vector_file(tmp_path / "store")
    data = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "of another store":
        with FaissMultiModalVectorStore(tmp_path / "other") as other:
            other.add([TextNode(embedding=[1.0, 2.0])])
        file.write_bytes(vector_file(tmp_path / "other").read_bytes())
    else:
        file.write_bytes(data[:5000] if damage == "cut" else b"garbage" + data[7:])
    with pytest.raises(StoreError, match=file.name) as caught:
        FaissMultiModalVectorStore(tmp_path / "store")
    assert "restore" in str(caught.value)
    file.write_bytes(data)
    with FaissMultiModalVectorStore(tmp_path / "store") as store:
        assert stored(store, *range(100))


def test_a_copy_has_its_own_vector_file_and_can_be_made_again(tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path / "store") as store:
        store.add(nodes(0, 1, 2))
        store.persist(str(tmp_path / "copy" / "image__vector_store.json"))
        store.delete_nodes(["n1"])
        store.add(nodes(3))
        store.persist(str(tmp_path / "copy" / "image__vector_store.json"))
        store.clear()
        store.add(nodes(5, 6))
        store.persist(str(tmp_path / "copy" / "image__vector_store.json"))
        store.add(nodes(7))
    assert vector_file(tmp_path / "copy").name.startswith("image.")
    with FaissMultiModalVectorStore.from_persist_dir(tmp_path / "copy", "image") as copy:
        assert stored(copy, 5, 6)
        assert copy.count() == 2
        copy.add(nodes(8))
        assert stored(copy, 5, 6, 8)


def test_vectors_of_an_earlier_schema_move_to_a_file(tmp_path: Path) -> None:
    numbers = [3, 4, 9]
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        for step in MIGRATIONS[:4]:
            if isinstance(step, str):
                database.executescript(step)
        database.execute("pragma user_version = 4")
        for number in numbers:
            content = nodes(number)[0].model_dump_json(exclude={"embedding"})
            database.execute(
                "insert into nodes values (?, ?, null, 'TextNode', ?, null)", (number, f"n{number}", content)
            )
            database.execute("insert into vectors values (?, ?)", (number, VECTORS[number].tobytes()))
        database.execute("update sqlite_sequence set seq = 12 where name = 'nodes'")
        database.execute("insert into settings values ('dimension', '8')")
        database.execute('insert into settings values (\'snapshot\', \'{"kind": "flat", "file": "x.faiss"}\')')
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert stored(store, *numbers)
        store.add(nodes(20, 21))
        assert stored(store, *numbers, 20, 21)
        assert nearest(store, 21) == ["n21"]
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
    assert "vectors" not in tables
