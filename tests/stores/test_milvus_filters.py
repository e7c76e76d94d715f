"""Filters as expressions of Milvus, without Milvus."""

from __future__ import annotations

from filter_cases import METADATA, where
from llama_index.core.vector_stores import FilterOperator

from llama_index_mm_zhipu.stores.milvus.filters import expression_of, filter_fields, keys_of_text_parts, literal
from llama_index_mm_zhipu.vector_store.metadata_values import metadata_rows
from llama_index_mm_zhipu.vector_store.predicates import EVERY_NODE, AnyOf, DocumentIs, ScalarIs, predicate_of


def test_texts_cannot_end_a_literal() -> None:
    assert literal('"] or id != "\\') == r'"\"] or id != \"\\"'
    assert literal("a\nb\r\t") == r'"a\nb\r\t"'
    assert literal("\ud83d") == '"\ufffd"'
    assert expression_of(DocumentIs(("it's", '"')), "doc_id") == r"""doc_id in ["it's", "\""]"""


def test_each_type_of_number_has_a_list_of_its_own() -> None:
    assert expression_of(ScalarIs("page", (1, 2.0, 0.5)), "doc_id") == (
        "((exists mm_number_page) and (mm_number_page in [1, 2])) or "
        "((exists mm_number_page) and (mm_number_page in [0.5]))"
    )


def test_nothing_to_compare_with_is_never_and_no_condition_always() -> None:
    assert expression_of(AnyOf(()), "doc_id") == expression_of(ScalarIs("page", ()), "doc_id") == "id in []"
    assert expression_of(EVERY_NODE, "doc_id") == "not (id in [])"


def test_only_parts_of_texts_need_texts() -> None:
    assert keys_of_text_parts(predicate_of(where("title", "x", FilterOperator.TEXT_MATCH))) == {"title"}
    assert keys_of_text_parts(predicate_of(where("tags", "x", FilterOperator.CONTAINS))) == {"tags"}
    assert keys_of_text_parts(predicate_of(where("tags", [1, 2], FilterOperator.ANY))) == set()
    assert keys_of_text_parts(predicate_of(where("title", "x"))) == set()


def test_fields_have_plain_names_and_values_of_one_type() -> None:
    for metadata in METADATA.values():
        for name, value in filter_fields(metadata_rows(metadata)).items():
            assert name.isascii()
            assert name.isidentifier()
            values = value if isinstance(value, list) else [value]
            assert {isinstance(each, str) for each in values} == {"number" not in name}
