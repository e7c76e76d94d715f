"""What is stored and asked of PostgreSQL, without a server."""

from __future__ import annotations

from itertools import product

import pytest
from filter_cases import FILTER_CASES
from llama_index.core.vector_stores import MetadataFilters

pytest.importorskip("pgvector")
pytest.importorskip("sqlalchemy")

from sqlalchemy.dialects import postgresql

from llama_index_mm_zhipu.stores.postgres.filters import decode_text, encode_text, filter_document
from llama_index_mm_zhipu.stores.postgres.table import NodeTable, settings_name
from llama_index_mm_zhipu.stores.postgres.text import text_queries, text_vector
from llama_index_mm_zhipu.vector_store.metadata_values import metadata_rows
from llama_index_mm_zhipu.vector_store.predicates import predicate_of

TEXTS = ["".join(each) for length in range(4) for each in product("\0\1\2\3\4a", repeat=length)]


def test_encoded_texts_come_back_and_keep_their_order() -> None:
    encoded = [encode_text(text) for text in TEXTS]
    assert not any("\0" in each for each in encoded)
    assert [decode_text(each) for each in encoded] == TEXTS
    assert sorted(encoded) == [encode_text(text) for text in sorted(TEXTS)]


def test_encoded_texts_have_the_same_parts() -> None:
    parts = [text for text in TEXTS if len(text) <= 2]
    assert all((part in text) == (encode_text(part) in encode_text(text)) for part in parts for text in TEXTS)


def test_infinite_numbers_are_larger_than_all_others() -> None:
    document = filter_document(metadata_rows({"a": 10**400, "b": -(10**400), "c": 1e308}))
    assert document["number"]["b"] < -1e308 < document["number"]["c"] < document["number"]["a"]


@pytest.mark.parametrize("name", FILTER_CASES)
def test_values_and_keys_are_bound(name: str) -> None:
    case = FILTER_CASES[name]
    filters = case if isinstance(case, MetadataFilters) else MetadataFilters(filters=[case])
    condition = NodeTable("public", "data_x", "vector(2)", "json").filters.condition(predicate_of(filters))
    sql = str(condition.compile(dialect=postgresql.dialect()))
    for secret in ("page", "title", "tags", "猫", "红", "SU7", "drop", "21.59", "O'Neill", "e\\f", "1=1"):
        assert secret not in sql


def test_vectors_of_long_texts_stay_within_the_limits_of_postgresql() -> None:
    vector, length = text_vector("飞机 " * 20_000 + "狗")
    assert length == 60_001
    positions = {word: each.split(",") for word, each in (entry.split(":") for entry in vector.split(" "))}
    assert len(positions["'飞机'"]) == 256
    assert positions["'狗'"] == ["16383"]

    vector, _ = text_vector(" ".join(f"word{i}" for i in range(500_000)))
    assert 900_000 < len(vector.encode()) < 2_000_000
    (long,) = text_vector("a" * 5000)[0].split(" ")
    assert len(long) < 200
    assert long.startswith(text_queries("a" * 5000)[0])


def test_names_of_settings_tables_are_short_and_different() -> None:
    assert settings_name("data_nodes") == "data_nodes_mm_settings"
    names = {settings_name("data_" + "表" * 20 + end) for end in "ab"}
    assert len(names) == 2
    assert max(map(len, names)) <= 63
