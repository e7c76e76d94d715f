"""Metadata filters in PostgreSQL: what is stored of a node's metadata, and predicates as conditions on it.

All values and keys are bound parameters, and none of the conditions depends on the collation of the database.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Integer,
    Numeric,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB

from llama_index_mm_zhipu.stores.filterable import (
    FILLED,
    KEYS,
    NUMBER,
    NUMBER_ITEMS,
    TEXT,
    TEXT_ITEMS,
    WHOLE,
    WITH_NONE,
    filterable_of,
    plain_key,
)
from llama_index_mm_zhipu.stores.records import uuid_of
from llama_index_mm_zhipu.text import replace_lone_surrogates
from llama_index_mm_zhipu.vector_store.metadata_values import MetadataRow
from llama_index_mm_zhipu.vector_store.predicates import (
    AllOf,
    AnyOf,
    DocumentIs,
    HasValue,
    IdIs,
    ItemIs,
    MetadataPredicate,
    Not,
    Predicate,
    Scalar,
    ScalarCompares,
    ScalarIs,
    TextHas,
    WholeIs,
)

LOWER = "lower"
"""Name of the mapping of texts in lower case, where that differs. PostgreSQL's ``lower`` depends on the locale."""

_MAX_SINGLY = 16
"""Values of which each is looked up in the index, or searched in a text. More values are compared through one hash
table, which takes about the same time for any number of them. It is also the number of conditions in a group that
PostgreSQL may answer with indexes: planning that takes a time that grows with the square of their number."""

_BEYOND_FLOATS = 10**400
"""Stands for infinity, which JSON lacks: it is larger than any number that is stored otherwise."""

# PostgreSQL cannot store NUL. It becomes U+0001 followed by two of U+0002 and U+0003, and so do these three characters
# themselves: texts keep their order, and a part of a text is a part of its encoded form, and only that.
_ENCODED = {0: "\1\2\2", 1: "\1\2\3", 2: "\1\3\2", 3: "\1\3\3"}
_DECODED = {code: chr(number) for number, code in _ENCODED.items()}


def encode_text(text: str) -> str:
    r"""Return a text in a form that PostgreSQL stores, with the same order and the same parts.

    Examples:
        >>> encode_text("飞机"), encode_text("a\0")
        ('飞机', 'a\x01\x02\x02')
    """
    return replace_lone_surrogates(text).translate(_ENCODED)


def decode_text(text: str) -> str:
    """Return the text that ``encode_text`` was given."""
    first, *others = text.split("\1")
    return first + "".join(_DECODED.get("\1" + other[:2], "\1" + other[:2]) + other[2:] for other in others)


def filter_document(rows: Iterable[MetadataRow]) -> dict[str, Any]:
    """Return metadata rows as the JSON that conditions look at: ``filterable_of``, and texts in lower case."""
    # Lower case first, as Python does it: encoding changes control characters only.
    rows = list(rows)
    document = filterable_of(MetadataRow(row.key, row.kind, _encoded(row.value)) for row in rows)
    lower = {
        plain_key(row.key): encode_text(row.value.lower())
        for row in rows
        if row.kind == "scalar" and isinstance(row.value, str) and row.value.lower() != row.value
    }
    return {**document, LOWER: lower} if lower else document


def json_text(value: Any) -> str:
    """Return JSON as text. The serializer of the user's engine, which SQLAlchemy would call, may know less."""
    return json.dumps(value, ensure_ascii=False)


class FilterCompiler:
    """Compiles predicates to conditions on the rows of a table.

    Args:
        key: Column with ``uuid_of`` the node id.
        document: Column with ``uuid_of`` the id of the source document.
        metadata: Column with ``filter_document``, never null.
    """

    def __init__(self, key: ColumnElement[Any], document: ColumnElement[Any], metadata: ColumnElement[Any]) -> None:
        self._key = key
        self._document = document
        self._metadata = metadata

    def condition(self, predicate: Predicate) -> ColumnElement[bool]:
        """Return a condition that is true or false, never null."""
        if isinstance(predicate, AllOf):
            return self._all_of(predicate.parts)
        if isinstance(predicate, AnyOf):
            return _planned_once(or_(false(), *map(self.condition, predicate.parts)), predicate.parts)
        if isinstance(predicate, Not):
            return not_(self.condition(predicate.part))
        if isinstance(predicate, IdIs):
            return self._key == among_uuids(map(uuid_of, predicate.node_ids))
        if isinstance(predicate, DocumentIs):
            return self._document == among_uuids(map(uuid_of, map(replace_lone_surrogates, predicate.ref_doc_ids)))
        return self._metadata_condition(predicate)

    def text_under(self, key: str) -> ColumnElement[str]:
        """Return the encoded text under a metadata key; null if there is none."""
        return self._value(TEXT, plain_key(key))

    def _all_of(self, parts: Sequence[Predicate]) -> ColumnElement[bool]:
        contained = [_contained(part) for part in parts]
        keys = {each[0] for each in contained if each is not None}
        if len(parts) <= _MAX_SINGLY or None in contained or len(keys) > 1:
            return _planned_once(and_(true(), *map(self.condition, parts)), parts)
        texts, numbers = _by_type([each[1] for each in contained if each is not None])
        key = plain_key(keys.pop())
        return and_(self._contains_all(TEXT, key, texts, Text), self._contains_all(NUMBER, key, numbers, Numeric))

    def _contains_all(self, mapping: str, key: str, values: Sequence[Any], type_: Any) -> ColumnElement[bool]:
        value: ColumnElement[Any] = func.unnest(_array(values, type_)).column_valued("value")
        items = func.jsonb_build_object(f"{mapping}_items", func.jsonb_build_object(key, func.jsonb_build_array(value)))
        found: ColumnElement[bool] = self._metadata.op("@>", is_comparison=True)(items)
        if mapping == TEXT:
            found = or_(found, _is_true(func.strpos(self._value(TEXT, key), value) > 0))
        return not_(exists().where(not_(found)))

    def _metadata_condition(self, predicate: MetadataPredicate) -> ColumnElement[bool]:
        key = plain_key(predicate.key)
        if isinstance(predicate, ScalarIs):
            return self._scalar_is(key, predicate.values)
        if isinstance(predicate, ScalarCompares):
            return self._scalar_compares(key, predicate)
        if isinstance(predicate, TextHas):
            return self._text_has(key, predicate)
        if isinstance(predicate, ItemIs):
            with_none = [self._contains({WITH_NONE: [key]})] if predicate.or_none else []
            return or_(false(), *self._item_is(key, predicate.values), *with_none)
        if isinstance(predicate, WholeIs):
            return self._contains({WHOLE: {key: encode_text(predicate.json)}})
        assert isinstance(predicate, HasValue)
        return self._contains({FILLED if predicate.is_filled else KEYS: [key]})

    def _scalar_is(self, key: str, values: Sequence[Scalar]) -> ColumnElement[bool]:
        if len(values) <= _MAX_SINGLY:
            return or_(false(), *(self._contains({_mapping(value): {key: _encoded(value)}}) for value in values))
        texts, numbers = _by_type(values)
        text, number = self._value(TEXT, key), cast(self._value(NUMBER, key), Numeric)
        return or_(
            _is_true(text == func.any(_array(texts, Text))), _is_true(number == func.any(_array(numbers, Numeric)))
        )

    def _scalar_compares(self, key: str, predicate: ScalarCompares) -> ColumnElement[bool]:
        value: ColumnElement[Any]
        if isinstance(predicate.value, str):
            # The order of code points, as in Python.
            value = self._value(TEXT, key).collate("C")
        else:
            value = cast(self._value(NUMBER, key), Numeric)
        return _is_true(value.op(predicate.sign, is_comparison=True)(_bound(predicate.value)))

    def _text_has(self, key: str, predicate: TextHas) -> ColumnElement[bool]:
        text, parts = self._value(TEXT, key), [encode_text(part) for part in predicate.parts]
        if predicate.ignore_case:
            text = func.coalesce(self._value(LOWER, key), text)
            parts = [encode_text(part.lower()) for part in predicate.parts]
        if len(parts) > _MAX_SINGLY:
            return _has_part_among(text, parts)
        return or_(false(), *(_is_true(func.strpos(text, bindparam(None, part, type_=Text)) > 0) for part in parts))

    def _item_is(self, key: str, values: Sequence[Scalar]) -> list[ColumnElement[bool]]:
        if len(values) <= _MAX_SINGLY:
            return [self._contains({f"{_mapping(value)}_items": {key: [_encoded(value)]}}) for value in values]
        texts, numbers = _by_type(values)
        return [
            self._has_item_among(TEXT_ITEMS, key, _array(texts, Text), Text),
            self._has_item_among(NUMBER_ITEMS, key, _array(numbers, Numeric), Numeric),
        ]

    def _has_item_among(self, mapping: str, key: str, values: Any, type_: Any) -> ColumnElement[bool]:
        items = self._metadata.op("#>")(_array([mapping, key], Text))
        item: ColumnElement[Any] = func.jsonb_array_elements_text(items).column_valued("item")
        return exists().where(cast(item, type_) == func.any(values))

    def _contains(self, part: dict[str, Any]) -> ColumnElement[bool]:
        # The operator that the GIN index of the column answers.
        return self._metadata.op("@>", is_comparison=True)(cast(bindparam(None, json_text(part), type_=Text), JSONB))

    def _value(self, mapping: str, key: str) -> ColumnElement[str]:
        value: ColumnElement[str] = self._metadata.op("#>>", return_type=Text())(_array([mapping, key], Text))
        return value


def among_uuids(keys: Iterable[str]) -> ColumnElement[Any]:
    """Return ``any(…)`` of UUIDs, to compare a column with."""
    return func.any(_array(list(keys), Uuid(as_uuid=False)))


def _has_part_among(text: ColumnElement[str], parts: Sequence[str]) -> ColumnElement[bool]:
    """Return whether a text has one of many parts, by looking up its own parts of the same lengths."""
    listed = func.unnest(_array(sorted(set(map(len, parts))), Integer))
    lengths = listed.table_valued("length", name="lengths").render_derived()
    # An empty part is in every text, at position 1.
    positions = func.generate_series(1, func.length(text) - lengths.c.length + 1)
    starts = positions.table_valued("start", name="starts").render_derived()
    part = func.substr(text, starts.c.start, lengths.c.length)
    found = part == func.any(_array(parts, Text))
    return exists(select(literal(1)).select_from(lengths.join(starts, true())).where(found))


def _contained(part: Predicate) -> tuple[str, Scalar] | None:
    """Return key and value if a predicate is that of ``CONTAINS``."""
    items = part.parts[0] if isinstance(part, AnyOf) and part.parts else part
    if not isinstance(items, ItemIs) or len(items.values) != 1:
        return None
    (value,) = items.values
    contains = AnyOf((items, TextHas(items.key, (value,)))) if isinstance(value, str) else items
    return (items.key, value) if part == contains and not items.or_none else None


def _planned_once(group: ColumnElement[bool], parts: Sequence[Predicate]) -> ColumnElement[bool]:
    return group if len(parts) <= _MAX_SINGLY else _is_true(group)


def _is_true(condition: ColumnElement[Any]) -> ColumnElement[bool]:
    return func.coalesce(condition, false())


def _array(values: Sequence[Any], type_: Any) -> ColumnElement[Any]:
    # The cast gives an empty array its type.
    return cast(bindparam(None, list(values), type_=ARRAY(type_)), ARRAY(type_))


def _bound(value: Scalar) -> ColumnElement[Any]:
    if isinstance(value, str):
        return bindparam(None, encode_text(value), type_=Text)
    return cast(bindparam(None, _encoded(value), type_=Numeric(asdecimal=False)), Numeric)


def _by_type(values: Sequence[Scalar]) -> tuple[list[Any], list[Any]]:
    encoded = [_encoded(value) for value in values]
    texts = [value for value in encoded if isinstance(value, str)]
    return texts, [value for value in encoded if not isinstance(value, str)]


def _mapping(value: Scalar) -> str:
    return TEXT if isinstance(value, str) else NUMBER


def _encoded(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return encode_text(value)
    if isinstance(value, float) and math.isinf(value):
        return _BEYOND_FLOATS if value > 0 else -_BEYOND_FLOATS
    return value
