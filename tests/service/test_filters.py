"""Filters as people and models write them: what they mean, what they find, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.vector_stores.types import FilterCondition, MetadataFilter, MetadataFilters

from llama_index_mm_zhipu.service import FILTER_SYNTAX
from llama_index_mm_zhipu.service.filters import KeyTypes, parse_filters
from llama_index_mm_zhipu.service.image_service import ImageService

NUMBERS, TEXTS, BOTH, UNKNOWN = (
    KeyTypes(False, True),
    KeyTypes(True, False),
    KeyTypes(True, True),
    KeyTypes(False, False),
)
LISTS = KeyTypes(True, False, are_lists=True)


def parsed(expression: str, types: KeyTypes = UNKNOWN) -> tuple[str, str, Any]:
    """Return key, operator and value of an expression."""
    filters = parse_filters([expression], lambda key: types)
    assert filters is not None
    (only,) = filters.filters
    assert isinstance(only, MetadataFilter)
    return only.key, only.operator.value, only.value


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("price>=100", ("price", ">=", 100)),
        ("price >= 99.5", ("price", ">=", 99.5)),
        ("price≥100", ("price", ">=", 100)),
        ("price<=-5", ("price", "<=", -5)),
        ("price ≤ -0.5", ("price", "<=", -0.5)),
        ("price>.5", ("price", ">", 0.5)),
        ("price<+3", ("price", "<", 3)),
        ("price=100", ("price", "==", 100)),
        ("price==100", ("price", "==", 100)),
        ("price!=100", ("price", "!=", 100)),
        ("price<>100", ("price", "!=", 100)),
        ("price≠100", ("price", "!=", 100)),
        # Chinese input methods
        ("价格＞＝１００", ("价格", ">=", 100)),
        ("价格＜１００", ("价格", "<", 100)),
        ("价格！＝100", ("价格", "!=", 100)),
        ("颜色＝红", ("颜色", "==", "红")),
        ("名称～手册", ("名称", "text_match_insensitive", "手册")),
        ("颜色=“红”", ("颜色", "==", "红")),
        ("颜色 in 红，蓝、绿", ("颜色", "in", ["红", "蓝", "绿"])),
        # Texts
        ("title=a red car", ("title", "==", "a red car")),
        ("title~a=b", ("title", "text_match_insensitive", "a=b")),
        ("title~100", ("title", "text_match_insensitive", "100")),
        ('title="100"', ("title", "==", "100")),
        ("title='it's'", ("title", "==", "it's")),
        ("title=it's", ("title", "==", "it's")),
        ("title='>=5'", ("title", "==", ">=5")),
        ("title=1,000", ("title", "==", "1,000")),
        ("title=5.", ("title", "==", "5.")),
        ("title=-", ("title", "==", "-")),
        # Keys
        ("made by hand = yes", ("made by hand", "==", "yes")),
        ('"made in china" = yes', ("made in china", "==", "yes")),
        ("'a>=b'>=3", ("a>=b", ">=", 3)),
        ('"颜色" in 红', ("颜色", "in", ["红"])),
        ("  price\t>\n5  ", ("price", ">", 5)),
        # Lists
        ("颜色 in 红,蓝", ("颜色", "in", ["红", "蓝"])),
        ("颜色 not in 红, 蓝", ("颜色", "nin", ["红", "蓝"])),
        ("颜色 NOT  IN 红", ("颜色", "nin", ["红"])),
        ('颜色 in "红,蓝",绿', ("颜色", "in", ["红,蓝", "绿"])),
        ("颜色 in '红,蓝', “绿、黄”", ("颜色", "in", ["红,蓝", "绿、黄"])),
        ('颜色 in "红"色,蓝', ("颜色", "in", ['"红"色', "蓝"])),
        ("颜色 in 红,,蓝,", ("颜色", "in", ["红", "蓝"])),
        ('颜色 in ["红", "蓝"]', ("颜色", "in", ["红", "蓝"])),
        ("颜色 in (红,蓝)", ("颜色", "in", ["红", "蓝"])),
        ("颜色 in（红，蓝）", ("颜色", "in", ["红", "蓝"])),
        ("price in 1,2", ("price", "in", [1, 2])),
        ("price in 1,2.5", ("price", "in", [1, 2.5])),
        ("price in 1,2.50,x", ("price", "in", ["1", "2.50", "x"])),
        ("in_stock in true,false", ("in_stock", "in", [1, 0])),
        # Booleans, which LlamaIndex's filters do not have
        ("in_stock=true", ("in_stock", "==", 1)),
        ("in_stock!=False", ("in_stock", "!=", 0)),
        ("in_stock='true'", ("in_stock", "==", "true")),
    ],
)
def test_an_expression_means_a_filter(expression: str, expected: tuple[str, str, Any]) -> None:
    found = parsed(expression)
    assert found == expected
    assert type(found[2]) is type(expected[2])


@pytest.mark.parametrize(
    ("types", "expected"),
    [(TEXTS, "007"), (NUMBERS, 7), (BOTH, 7), (UNKNOWN, 7)],
    ids=["texts", "numbers", "both", "?"],
)
def test_a_value_that_looks_like_a_number_is_a_text_where_all_values_are(types: KeyTypes, expected: str | int) -> None:
    assert parsed("sku=007", types)[2] == expected
    assert parsed("sku in 007", types)[2] == [expected]
    assert parsed("sku='007'", types)[2] == "007"


def test_a_boolean_is_a_text_where_any_value_is() -> None:
    assert [parsed("a=True", types)[2] for types in (TEXTS, BOTH, NUMBERS, UNKNOWN)] == ["True", "True", 1, 1]


def test_lists_are_asked_for_items() -> None:
    assert parsed("tags=红", LISTS) == ("tags", "contains", "红")
    assert parsed("tags in 红,蓝", LISTS) == ("tags", "any", ["红", "蓝"])
    for expression, operator in (("tags!=红", "contains"), ("tags not in 红", "any")):
        filters = parse_filters([expression], lambda key: LISTS)
        assert filters is not None
        (negated,) = filters.filters
        assert isinstance(negated, MetadataFilters)
        assert negated.condition is FilterCondition.NOT
        assert negated.filters[0].operator.value == operator  # type: ignore[union-attr]
    for expression in ("tags~红", "tags>=3"):
        with pytest.raises(ValueError, match=f"filter '{expression}' cannot be met, because the values of 'tags' are"):
            parse_filters([expression], lambda key: LISTS)


def test_several_expressions_must_all_be_met() -> None:
    filters = parse_filters(["a=1", "b=2"], lambda key: UNKNOWN)
    assert filters is not None
    assert (len(filters.filters), filters.condition) == (2, FilterCondition.AND)
    assert parse_filters([], lambda key: UNKNOWN) is None


@pytest.mark.parametrize(
    "expression",
    [
        *("", " ", "price", "price>", "=5", ">=5", "in 红,蓝", "颜色 in", "颜色 in ", "颜色 in ,，", "颜色 not in ()"),
        *("price=>100", "price=<100", "price===100", "price=~100", "price＞＞100", '"a" b=3', '""=3', "颜色in红"),
    ],
)
def test_nonsense_is_refused_with_the_syntax(expression: str) -> None:
    with pytest.raises(ValueError, match="is not understood") as error:
        parse_filters(["a=1", expression], lambda key: UNKNOWN)
    assert FILTER_SYNTAX in str(error.value)
    assert repr(expression) in str(error.value)


def test_long_nonsense_is_refused_at_once_and_shown_shortened() -> None:
    for expression in ("a" + " " * 300_000, "a not " * 60_000, "a in " + "x ," * 100_000 + "=>", '"' * 300_001):
        with pytest.raises(ValueError, match="is not understood") as error:
            parse_filters([expression, "nothing"], lambda key: UNKNOWN)
        assert len(str(error.value)) < 500


def test_numbers_of_any_length_can_be_searched_for(goods: ImageService) -> None:
    for digits in ("9" * 30, "9" * 300, "9" * 300 + "." + "9" * 300):
        assert found_by(goods, f"价格<{digits}")
        assert not found_by(goods, f"价格>{digits}")
    with pytest.raises(ValueError, match="compares text with numbers"):
        found_by(goods, f"价格>{'9' * 5_000}")


@given(st.text(max_size=40), st.sampled_from([TEXTS, NUMBERS, BOTH, UNKNOWN, LISTS]))
def test_any_text_is_a_filter_or_refused(expression: str, types: KeyTypes) -> None:
    with suppress(ValueError):
        filters = parse_filters([expression], lambda key: types)
        assert filters is not None
        assert len(filters.filters) == 1


NOT_QUOTED = st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), min_size=1)


@given(NOT_QUOTED, st.sampled_from(["=", "!=", ">", ">=", "<", "<=", "~"]), NOT_QUOTED)
def test_quotation_marks_keep_keys_and_values_as_they_are(key: str, operator: str, value: str) -> None:
    found = parsed(f'"{key}" {operator} "{value}"')
    assert (found[0], found[2]) == (key, value)


@given(st.lists(NOT_QUOTED, min_size=1))
def test_quotation_marks_keep_the_items_of_lists_as_they_are(items: list[str]) -> None:
    written = ", ".join(f'"{item}"' for item in items)
    assert parsed(f"a in {written}")[2] == items
    assert parsed(f"a in [{written}]")[2] == items


@given(st.one_of(st.integers(), st.decimals(allow_nan=False, allow_infinity=False, places=3)))
def test_numbers_are_read_back(number: Any) -> None:
    assert parsed(f"a={number}")[2] == pytest.approx(float(number), rel=1e-9)


def found_by(service: ImageService, *expressions: str) -> set[str]:
    """Return the ids of the images and texts that filters let through."""
    found = service.search("任何东西", similarity_top_k=20, filters=expressions).results
    return {result.node_id for result in found}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("价格>=100", {"飞机", "手册"}),
        ("价格>99", {"飞机", "闹钟", "手册"}),
        ("价格＜０", {"太阳"}),
        ("价格<=0", {"太阳", "彩虹"}),
        ("价格=-5", {"太阳"}),
        ("价格!=100", {"闹钟", "太阳", "彩虹", "目录"}),
        ("价格 in 7,99.5", {"闹钟", "目录"}),
        ("价格 not in 7, 99.5, 100", {"太阳", "彩虹"}),
        ("颜色=红", {"飞机", "手册"}),
        ("颜色 in 红、白", {"飞机", "手册", "目录"}),
        ('颜色 in "红,蓝"', {"太阳"}),
        ("颜色 in 红,蓝", {"飞机", "手册", "闹钟"}),
        ("颜色~色", {"彩虹"}),
        ("颜色~红", {"飞机", "手册", "太阳"}),
        ("file_name~PDF", {"手册", "目录"}),
        ("file_name~-a", {"目录"}),
        ("sku=007", {"飞机"}),
        ("sku=7", {"闹钟"}),
        ("sku in 007,8", {"飞机"}),
        ("in_stock=true", {"飞机", "太阳"}),
        ("in_stock=False", {"闹钟"}),
        ("in_stock=1", {"飞机", "太阳"}),
        ('"made in china"=yes', {"飞机"}),
        ("made in china=yes", None),
        ("'a>=b'=1", {"闹钟"}),
        ("tags=玩具", {"闹钟", "太阳"}),
        ("tags=玩", set()),
        ("tags in 红色,蓝色", {"闹钟"}),
        ("tags!=红色", {"飞机", "太阳", "彩虹", "手册", "目录"}),
        ("尺寸=3", {"彩虹"}),
        ("尺寸 not in 1,3", {"闹钟", "太阳", "手册", "目录"}),
        ("mixed=7", {"彩虹"}),
        ("mixed='7'", {"太阳"}),
    ],
)
def test_filters_find_images_and_texts(goods: ImageService, expression: str, expected: set[str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="has the metadata 'made'"):
            found_by(goods, expression)
    else:
        assert found_by(goods, expression) == expected


def test_filters_together_find_what_meets_all(goods: ImageService) -> None:
    assert found_by(goods, "价格>=0", "in_stock=true") == {"飞机"}


def test_filters_that_cannot_match_name_what_there_is(goods: ImageService) -> None:
    with pytest.raises(ValueError, match=r"the metadata 'prise' that the filters ask for; there is .*'价格'") as error:
        found_by(goods, "prise>3")
    assert "source_root" not in str(error.value)
    with pytest.raises(ValueError, match="compares text with numbers"):
        found_by(goods, "价格=很多")
    with pytest.raises(ValueError, match="'tags' are lists"):
        found_by(goods, "tags~玩")
