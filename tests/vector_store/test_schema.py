"""Migration of files with an earlier schema, errors for a later one, and the write transactions of a store."""

from __future__ import annotations

import base64
import datetime
import json
import math
import sqlite3
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import BaseNode, Document, ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.core.vector_stores.types import VectorStoreQueryMode

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store import StoreError, schema
from llama_index_mm_zhipu.vector_store.metadata_values import metadata_rows
from llama_index_mm_zhipu.vector_store.schema import MIGRATIONS


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    """A folder with a file of schema version 1: two nodes, and a deleted one in the log."""
    node = TextNode(id_="cat", text="一只猫", metadata={"page": 3, "tags": ["动物", "动物"], "deep": {"a": 1}})
    other = TextNode(id_="dog", text="一只狗", metadata={"page": 4})
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.executescript(f"{MIGRATIONS[0]} pragma user_version = 1; pragma journal_mode = wal;")
        database.execute("create virtual table texts using fts5 (tokens)")
        for id_, new, tokens in ((2, node, "一 只 猫 一只 只猫"), (3, other, "一 只 狗 一只 只狗")):
            row = (id_, new.node_id, None, "TextNode", new.model_dump_json(exclude={"embedding"}), None)
            database.execute("insert into nodes values (?, ?, ?, ?, ?, ?)", row)
            database.execute("insert into vectors values (?, ?)", (id_, np.float32([1, id_]).tobytes()))
            database.execute("insert into texts (rowid, tokens) values (?, ?)", (id_, tokens))
        database.executemany(
            "insert into metadata values (?, ?, ?, ?)",
            [
                (2, "page", "scalar", 3),
                (2, "tags", "json", '["动物", "动物"]'),
                (2, "tags", "item", "动物"),
                (2, "tags", "item", "动物"),
                (2, "deep", "json", '{"a": 1}'),
                (3, "page", "scalar", 4),
            ],
        )
        database.execute("insert into deletions (id) values (1)")
        database.execute("insert into settings values ('dimension', '2')")
    return tmp_path


def test_a_file_of_version_1_keeps_its_nodes(version_1: Path) -> None:
    with FaissMultiModalVectorStore.from_persist_dir(version_1) as store:
        assert store.query(VectorStoreQuery(query_embedding=[0, 1], similarity_top_k=5)).ids == ["dog", "cat"]
        assert store.get_nodes(["cat"])[0].metadata["tags"] == ["动物", "动物"]
        tagged = MetadataFilter(key="tags", value="动物", operator=FilterOperator.CONTAINS)
        assert [node.node_id for node in store.get_nodes(filters=MetadataFilters(filters=[tagged]))] == ["cat"]
        words = VectorStoreQuery(query_str="狗", similarity_top_k=5, mode=VectorStoreQueryMode.TEXT_SEARCH)
        assert store.query(words).ids == ["dog"]
        store.add([TextNode(id_="cat", text="猫", embedding=[2, 0])])
    with sqlite3.connect(version_1 / "default.sqlite3") as database:
        assert database.execute("pragma user_version").fetchone() == (len(MIGRATIONS),)
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    """A folder with a file of schema version 2, which stored values that JSON does not know as ``str`` spells them."""
    day = datetime.datetime(2026, 1, 2, 3, 4, 5)
    metadata = {"when": day, "tags": {"红"}, "price": Decimal("1.50"), "nothing": math.nan, "n": 1, "list": ["a", "b"]}
    rows = [
        ("when", "scalar", "2026-01-02 03:04:05"),
        ("tags", "scalar", "{'红'}"),
        ("price", "scalar", "1.50"),
        ("nothing", "scalar", "nan"),
        ("n", "scalar", 1),
        ("list", "json", '["a", "b"]'),
        ("list", "item", "a"),
        ("list", "item", "b"),
    ]
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.executescript(f"{MIGRATIONS[0]} {MIGRATIONS[1]} pragma user_version = 2; pragma journal_mode = wal;")
        for id_, node_id in enumerate("ab", start=1):
            node = TextNode(id_=node_id, text="x", metadata=metadata if node_id == "a" else {"n": 2})
            row = (id_, node_id, None, "TextNode", node.model_dump_json(exclude={"embedding"}), None)
            database.execute("insert into nodes values (?, ?, ?, ?, ?, ?)", row)
            database.execute("insert into vectors values (?, ?)", (id_, np.float32([1, id_]).tobytes()))
            for values in rows if node_id == "a" else [("n", "scalar", 2)]:
                database.execute("insert into metadata values (?, ?, ?, ?)", (id_, *values))
        database.execute("insert into settings values ('dimension', '2')")
    return tmp_path


def test_filters_on_a_file_of_version_2_see_values_as_they_are_read_back(version_2: Path) -> None:
    with FaissMultiModalVectorStore.from_persist_dir(version_2) as store:
        (node,) = store.get_nodes(["a"])
        for key, operator in (("when", ">="), ("when", "=="), ("price", "=="), ("n", "=="), ("list", "==")):
            one = MetadataFilter(key=key, value=node.metadata[key], operator=FilterOperator(operator))
            assert store.get_nodes(filters=MetadataFilters(filters=[one]))[0].node_id == "a"
        red = MetadataFilter(key="tags", value="红", operator=FilterOperator.CONTAINS)
        assert [found.node_id for found in store.get_nodes(filters=MetadataFilters(filters=[red]))] == ["a"]
        assert "nothing" not in store.metadata_keys()
    with sqlite3.connect(version_2 / "default.sqlite3") as database:
        query = "select value from metadata_values where id in (select value_id from node_metadata where id = 2)"
        assert database.execute(query).fetchall() == [(2,)]


@pytest.fixture
def version_4(tmp_path: Path) -> tuple[Path, list[BaseNode]]:
    """A folder with a file of schema version 4, and its nodes. The node with the highest row id was deleted."""
    image = base64.b64encode(b"pixels").decode()
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
    nodes: list[BaseNode] = [
        TextNode(
            id_="a", text="一只猫", metadata={"n": 1, "tags": ["x", None, "x"], "none": None}, relationships=source
        ),
        TextNode(id_="b", text="", metadata={"n": 1.0, "deep": {"k": 2}}, excluded_llm_metadata_keys=["n"]),
        ImageNode(id_="c", image=image, image_path="c.jpg", metadata={"n": "1", "title": ""}, relationships=source),
        ImageNode(id_="d", image="not base64", metadata={"n": 2**70}),
        Document(id_="e", text="红苹果", metadata={"n": True}),
    ]
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.executescript(
            f"{''.join(map(str, MIGRATIONS[:3]))} pragma user_version = 4; pragma journal_mode = wal;"
        )
        for id_, node in enumerate(nodes, start=1):
            hash_ = "h" if node.node_id == "c" else None
            content = node.model_dump_json(exclude={"embedding", "image"} if hash_ else {"embedding"})
            row = (id_, node.node_id, node.ref_doc_id, node.class_name(), content, hash_)
            database.execute("insert into nodes values (?, ?, ?, ?, ?, ?)", row)
            database.execute("insert into vectors values (?, ?)", (id_, np.float32([1, id_]).tobytes()))
            rows = [(id_, *each) for each in metadata_rows(json.loads(content)["metadata"])]
            database.executemany("insert or ignore into metadata values (?, ?, ?, ?)", rows)
        database.execute("insert into pictures values ('h', ?)", (b"pixels",))
        database.execute("insert into deletions (id) values (9)")
        database.execute("update sqlite_sequence set seq = 9 where name = 'nodes'")
        database.execute("insert into settings values ('dimension', '2')")
    return tmp_path, nodes


def test_a_file_of_version_4_keeps_its_nodes_and_gets_smaller(version_4: tuple[Path, list[BaseNode]]) -> None:
    folder, nodes = version_4
    with FaissMultiModalVectorStore.from_persist_dir(folder) as store:
        assert [node.to_dict() for node in store.get_nodes()] == [node.to_dict() for node in nodes]
        assert [node.node_id for node in store.get_nodes_of_document("doc")] == ["a", "c"]
        assert store.get_vectors(["c", "a"])[0] == ["a", "c"]
        assert store.metadata_keys() == ["deep", "n", "tags", "title"]
        assert store.metadata_values("n", 10) == (["1"], [1, float(2**70)])
        for key, operator, value, found in (
            ("n", "==", 1, "abe"),
            ("n", "==", "1", "c"),
            ("n", ">", 1.5, "d"),
            ("tags", "contains", "x", "a"),
            ("deep", "contains", "k", "b"),
            ("title", "==", "", "c"),
        ):
            one = MetadataFilter(key=key, value=value, operator=FilterOperator(operator))  # type: ignore[arg-type]
            assert "".join(node.node_id for node in store.get_nodes(filters=MetadataFilters(filters=[one]))) == found
        store.add([TextNode(id_="new", text="x", embedding=[0.0, 1.0])])
        store.delete("doc")
    with sqlite3.connect(folder / "default.sqlite3") as database:
        assert database.execute("select id from nodes").fetchall() == [(2,), (4,), (5,), (10,)]
        assert database.execute("select content from nodes where node_id = 'new'").fetchone() == ('{"text":"x"}',)
        assert database.execute("select length(content) < 100 from nodes where node_id = 'b'").fetchone() == (1,)
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
    assert not tables & {"metadata", "compact_nodes"}


def test_numbers_of_deleted_nodes_are_not_used_again_after_a_migration(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.executescript(
            f"{''.join(map(str, MIGRATIONS[:3]))} pragma user_version = 4; pragma journal_mode = wal;"
        )
        database.execute("insert into nodes values (7, 'a', null, 'TextNode', '{}', null)")
        database.execute("delete from nodes")
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([TextNode(id_="b", embedding=[1.0])])
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        assert database.execute("select id from nodes").fetchall() == [(8,)]


def test_a_migration_that_fails_leaves_the_file_unchanged(version_1: Path) -> None:
    with sqlite3.connect(version_1 / "default.sqlite3") as database:
        database.execute("drop index nodes_by_picture")
    with pytest.raises(StoreError, match="cannot open the vector store"):
        FaissMultiModalVectorStore.from_persist_dir(version_1)
    with sqlite3.connect(version_1 / "default.sqlite3") as database:
        assert database.execute("pragma user_version").fetchone() == (1,)
        assert database.execute("select count(*) from metadata").fetchone() == (6,)


def test_a_file_with_a_newer_schema_is_an_error(tmp_path: Path) -> None:
    FaissMultiModalVectorStore(tmp_path).close()
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.execute("pragma user_version = 99")
    with pytest.raises(StoreError, match=r"newer version of llama-index-mm-zhipu \(schema 99"):
        FaissMultiModalVectorStore(tmp_path)


def test_full_text_is_filled_again_after_use_without_fts5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_has_fts5", lambda connection: False)
        with FaissMultiModalVectorStore(tmp_path) as store:
            store.add([TextNode(id_="a", text="猫", embedding=[1.0])])
    with FaissMultiModalVectorStore(tmp_path) as store:
        words = VectorStoreQuery(query_str="猫", similarity_top_k=5, mode=VectorStoreQueryMode.TEXT_SEARCH)
        assert store.query(words).ids == ["a"]


def test_full_text_with_tokens_of_an_earlier_version_is_filled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([TextNode(id_="a", text="iPhone15Pro™🎉", embedding=[1.0])])
    with sqlite3.connect(tmp_path / "default.sqlite3") as database:
        database.executescript("""
            drop table texts;
            create virtual table texts using fts5 (tokens, tokenize = "ascii tokenchars '_'");
            insert into texts (rowid, tokens) values (1, 'iphone15protm');
            update settings set value = '2' where key = 'full_text';
        """)
        assert database.execute("select value from settings where key = 'full_text'").fetchone() == ("2",)
    assert not capsys.readouterr().err
    monkeypatch.setattr(schema, "_SLOW_FROM", 0)
    with FaissMultiModalVectorStore(tmp_path) as store:
        assert capsys.readouterr().err == "Filling the full text of 1 node, once …\n"
        for query in ("🎉", "iphone", "™"):
            words = VectorStoreQuery(query_str=query, similarity_top_k=5, mode=VectorStoreQueryMode.TEXT_SEARCH)
            assert store.query(words).ids == ["a"]
        store.delete_nodes(["a"])
        assert not store.has_texts()


# Transactions


def test_a_store_is_created_in_one_transaction_with_its_model(tmp_path: Path, transactions: list[list[str]]) -> None:
    with FaissMultiModalVectorStore(tmp_path, model="m") as store:
        assert len(transactions) == 1
        assert store.get_setting("model") == "m"
    assert len(transactions) == 1


def test_opening_a_store_writes_nothing(tmp_path: Path, transactions: list[list[str]]) -> None:
    with FaissMultiModalVectorStore(tmp_path, model="m") as store:
        store.add([TextNode(text="猫", embedding=[1.0])])
    (before, _), file = transactions, tmp_path / "default.sqlite3"
    assert before
    content = file.read_bytes()
    with FaissMultiModalVectorStore(tmp_path, model="m") as store:
        store.require_model("m")
        assert store.query(VectorStoreQuery(query_embedding=[1.0], similarity_top_k=1)).ids
        store.checkpoint()
    assert len(transactions) == 2
    assert file.read_bytes() == content


def test_nodes_and_settings_are_added_in_one_transaction(tmp_path: Path, transactions: list[list[str]]) -> None:
    store = FaissMultiModalVectorStore(tmp_path, model="m")
    transactions.clear()
    store.add([TextNode(id_="a", text="猫", embedding=[1.0])], settings={"caption_weight": 0.5, "precision": "fp32"})
    store.add([TextNode(id_="a", text="狗", embedding=[1.0])])
    assert len(transactions) == 2
    store.checkpoint()
    assert len(transactions) == 2
    assert (store.get_setting("caption_weight"), store.get_setting("precision")) == (0.5, "fp32")
    with pytest.raises(ValueError, match="has no embedding"):
        store.add([TextNode(text="马")], settings={"caption_weight": 0.0})
    assert store.add([], settings={"caption_weight": 0.0}) == []
    assert store.get_setting("caption_weight") == 0.5
    store.close()
