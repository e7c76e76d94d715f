"""SQL conditions on nodes, each compiled in two ways: as a test of one node, and as listings of all nodes that meet it.

A query chooses between them by cost. If few nodes meet a condition, an index of SQLite lists them at once, and the
query compares its vector with these alone. If many nodes meet it, listing them would take longer than the vector
search: the nearest nodes are searched first and tested then. One form of SQL cannot do both, because
``x in (select …)`` lists all nodes before its first answer, while ``exists (… where id = nodes.id …)`` cannot use the
index by value.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.text import replace_lone_surrogates

LISTED = "select value from json_each(?)"
"""The values of a JSON list. One parameter holds them all, because SQLite limits the number of parameters."""

LISTED_IDS = "select value as id from json_each(?)"
"""The same as row ids."""

_DECODED = "select decoded(value) from json_each(?)"

POSTINGS = ("postings", "recent_postings")
"""The tables of terms and row ids (module ``postings``). Queries read both."""

# SQLite orders every number before every text, and the empty text before all other texts.
NUMBERS = "value < ''"
TEXTS = "value >= ''"

MAX_TESTS = 64
"""Maximum tests in one statement. SQLite's limits are 500 parts of a compound select and expressions 1,000 levels deep.
Well below them, a larger group is evaluated faster one condition after another (``filters.resolve``)."""

MAX_LEVELS = 8
"""Maximum levels of nested conditions in one statement. SQLite's parser takes about 20."""

_MAX_LISTINGS = 8

_MAX_LOOKED_UP = 64
"""Maximum values whose numbers are looked up before nodes are tested. It takes a few microseconds each."""


class Statement(NamedTuple):
    """SQL and its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Condition:
    """A condition on nodes that one SQL statement can hold.

    Attributes:
        test: Boolean expression over ``nodes.id``, cheap for one node.
        listings: One or more queries with a column ``id`` of all nodes that meet the condition. They begin with
            different parts of the condition, and so differ in cost. An id may occur twice.
        tests: Number of tests of a node in the SQL.
        levels: Number of levels of nested conditions.
        reads_all: Whether every listing reads all nodes, as that of a negation does.
        inverse: The condition that this one negates.
    """

    test: Statement
    listings: tuple[Statement, ...]
    tests: int = 1
    levels: int = 1
    reads_all: bool = False
    inverse: Condition | None = None


@dataclass(frozen=True)
class Group:
    """Conditions that are too many, or nested too deeply, for one SQL statement. ``filters.resolve`` evaluates them.

    Attributes:
        parts: The conditions.
        holding: Which of them must hold.
    """

    parts: tuple[AnyCondition, ...]
    holding: Literal["all", "any", "none"]

    @property
    def inverse(self) -> Group | None:
        """The group that this one negates."""
        return Group(self.parts, "any") if self.holding == "none" else None


AnyCondition: TypeAlias = "Condition | Group"

EVERY_NODE = Condition(Statement("true"), (Statement("select id from nodes"),), reads_all=True)


# Combinations


def all_of(conditions: Sequence[AnyCondition]) -> AnyCondition:
    """Return the condition that all conditions hold; without any condition, every node meets it.

    Its listings begin with different conditions.
    """
    if len(conditions) == 1:
        return conditions[0]
    if not conditions:
        return EVERY_NODE
    fitting = _within_limits(conditions)
    if fitting is None:
        return Group(tuple(conditions), "all")
    selective = [position for position, condition in enumerate(fitting) if not condition.reads_all]
    listings = []
    # Each listing repeats all tests. A limit on their number keeps the SQL proportional to the conditions.
    for position in selective[:_MAX_LISTINGS] or [0]:
        begin = fitting[position].listings[0]
        rest = _joined(" and ", [condition.test for condition in (*fitting[:position], *fitting[position + 1 :])])
        listings.append(
            Statement(f"select id from ({begin.sql}) as nodes where {rest.sql}", (*begin.parameters, *rest.parameters))
        )
    test = _joined(" and ", [condition.test for condition in fitting])
    return Condition(test, tuple(listings), *_size(fitting), reads_all=not selective)


def any_of(conditions: Sequence[AnyCondition]) -> AnyCondition:
    """Return the condition that at least one of the conditions holds.

    Args:
        conditions: At least one condition.
    """
    if len(conditions) == 1:
        return conditions[0]
    fitting = _within_limits(conditions)
    if fitting is None:
        return Group(tuple(conditions), "any")
    listing = _joined(" union all ", [condition.listings[0] for condition in fitting], brackets=False)
    test = _joined(" or ", [condition.test for condition in fitting])
    return Condition(test, (listing,), *_size(fitting), reads_all=any(condition.reads_all for condition in fitting))


def negation(condition: AnyCondition) -> AnyCondition:
    """Return the condition that a condition does not hold."""
    if condition.inverse is not None:
        return condition.inverse
    if isinstance(condition, Group) and condition.holding == "any":
        return Group(condition.parts, "none")
    if isinstance(condition, Group) or _within_limits([condition]) is None:
        return Group((condition,), "none")
    sql, parameters = condition.test
    return Condition(
        Statement(f"not ({sql})", parameters),
        (Statement(f"select id from nodes where not ({sql})", parameters),),
        *_size([condition]),
        reads_all=True,
        inverse=condition,
    )


def _within_limits(conditions: Sequence[AnyCondition]) -> list[Condition] | None:
    """Return the conditions if one statement can hold them all, else None."""
    fitting = [condition for condition in conditions if isinstance(condition, Condition)]
    if len(fitting) < len(conditions):
        return None
    tests, levels = _size(fitting)
    return fitting if tests <= MAX_TESTS and levels <= MAX_LEVELS else None


def _size(conditions: Sequence[Condition]) -> tuple[int, int]:
    """Return the numbers of tests and levels of a combination of conditions."""
    return sum(condition.tests for condition in conditions), 1 + max(condition.levels for condition in conditions)


def _joined(operator: str, statements: Sequence[Statement], brackets: bool = True) -> Statement:
    parts = (f"({sql})" if brackets else sql for sql, _ in statements)
    return Statement(operator.join(parts), tuple(value for statement in statements for value in statement.parameters))


# Conditions on one node


def has_metadata(key: str, test: str, *parameters: Any) -> Condition:
    """Return the condition that a metadata row of the node has this key and passes a test of ``kind`` and ``value``."""
    return _has_metadata_row(test, test, (key, *parameters))


def has_metadata_among(key: str, kind: str, values: Sequence[str | int | float]) -> Condition:
    """Return the condition that a metadata row of the node has this key and kind, and one of these values."""
    if len(values) > _MAX_LOOKED_UP:
        listing, parameters = among("value", values)
        # The unary plus keeps SQLite from looking up each of the values for each node.
        test, _ = among("+value", values)
        return _has_metadata_row(f"kind = ? and {test}", f"kind = ? and {listing}", (key, kind, *parameters))
    test, parameters = Statement("value = ?", tuple(values)) if len(values) == 1 else among("value", values)
    test, parameters = f"kind = ? and {test}", (key, kind, *parameters)
    # SQLite runs the query in brackets once, and then reads a few rows of each node.
    one = f"exists (select 1 from node_metadata as own where own.id = nodes.id and value_id in ({_value_ids(test)}))"
    return Condition(Statement(one, parameters), (_nodes_with_values(test, parameters),))


def one_of(column: Literal["node_id", "ref_doc_id"], values: Iterable[str]) -> Condition:
    """Return the condition that a column of the node has one of the values."""
    ids = list(values)
    test, parameters = among(column, ids)
    return Condition(
        Statement(f"exists (select 1 from nodes as node where node.id = nodes.id and {test})", parameters),
        # The unary plus keeps SQLite from looking for an index of the column.
        (_nodes_with_terms(ids, Statement(f"+{test}", parameters)),),
    )


def of_document(ref_doc_id: str) -> Condition:
    """Return the condition that a node came from a document.

    A node without a source is its own document, as in LlamaIndex's pipelines.
    """
    document_id = replace_lone_surrogates(ref_doc_id)
    test, parameters = "(ref_doc_id = ? or (ref_doc_id is null and node_id = ?))", (document_id, document_id)
    return Condition(
        Statement(f"exists (select 1 from nodes as node where node.id = nodes.id and {test})", parameters),
        (_nodes_with_terms([document_id], Statement(test, parameters)),),
    )


def nodes_with_ids(column: Literal["node_id", "ref_doc_id"], values: Iterable[str]) -> Statement:
    """Return the query of the row ids of all nodes whose column has one of the values."""
    ids = list(values)
    # The unary plus keeps SQLite from looking for an index of the column.
    return _nodes_with_terms(ids, among(f"+{column}", ids))


def _nodes_with_terms(ids: Sequence[str], test: Statement) -> Statement:
    """Return the query of the nodes that have the terms of ids of nodes or documents, and pass a test.

    Terms are hashes, so that nodes with other ids have them too.
    """
    # SQLite sorts them, which takes half the time if they are in order.
    terms = json.dumps(sorted(map(id_term, ids)))
    found = " union all ".join(f"select id from {table} where term in ({LISTED})" for table in POSTINGS)
    return Statement(
        f"select id from nodes where id in ({found}) and {test.sql}", (*[terms] * len(POSTINGS), *test.parameters)
    )


def _has_metadata_row(test: str, listing: str, parameters: tuple[Any, ...]) -> Condition:
    """Return the condition that a metadata row of the node passes a test.

    Args:
        test: Test of ``kind`` and ``value`` for a given node.
        listing: The same test for all values.
        parameters: The key, and the parameters of either test.
    """
    # "Cross" fixes the order in which SQLite reads the tables.
    one = (
        "exists (select 1 from metadata_fields cross join node_metadata as own on own.field = metadata_fields.id "
        f"cross join metadata_values on metadata_values.id = value_id where key = ? and own.id = nodes.id and {test})"
    )
    return Condition(Statement(one, parameters), (_nodes_with_values(listing, parameters),))


def _nodes_with_values(test: str, parameters: tuple[Any, ...]) -> Statement:
    """Return the query of the nodes that have a value that passes a test; parameters as in ``_value_ids``."""
    # The values are looked up once, and then each table of postings is read.
    found = " union all ".join(f"select id from found cross join {table} on term = value_id" for table in POSTINGS)
    return Statement(f"select id from (with found (value_id) as ({_value_ids(test)}) {found})", parameters)


def _value_ids(test: str) -> str:
    """Return the query of the numbers of the values under a key that pass a test; the key is the first parameter."""
    # "Cross" fixes the order in which SQLite reads the tables.
    return (
        "select metadata_values.id from metadata_fields "
        f"cross join metadata_values on field = metadata_fields.id where key = ? and {test}"
    )


def of_row_ids(ids: Sequence[int]) -> Condition:
    """Return the condition that the row id of a node is one of these."""
    parameters = (json.dumps(list(ids)),)
    # The unary plus keeps SQLite from looking up each id first and testing the rest of the query on its node.
    return Condition(
        Statement(f"+nodes.id in ({LISTED})", parameters),
        (Statement(LISTED_IDS, parameters),),
    )


def among(column: str, values: Sequence[str | int | float]) -> Statement:
    """Return the test whether a column has one of the values."""
    if any(isinstance(value, float) or (isinstance(value, str) and "\0" in value) for value in values):
        return Statement(f"{column} in ({_DECODED})", (encode_values(values),))
    return Statement(f"{column} in ({LISTED})", (json.dumps(list(values)),))


# Functions that SQL calls


def register_functions(connection: sqlite3.Connection) -> None:
    """Define the SQL functions ``id_term``, ``lower``, ``decoded`` and ``contains_any`` on a connection."""
    connection.create_function("id_term", 1, id_term, deterministic=True)
    # SQLite's own lower() knows ASCII only.
    connection.create_function("lower", 1, _lower, deterministic=True)
    connection.create_function("decoded", 1, _decoded, deterministic=True)
    connection.create_function("contains_any", 2, _contains_any, deterministic=True)


def id_term(id_: str) -> int:
    """Return the term of the id of a node or a document: a negative number of 31 bits.

    Terms of metadata values are positive.
    """
    return ~(int.from_bytes(_digest(id_), "big") >> 1)


def id_terms(ids: Iterable[str]) -> npt.NDArray[np.int64]:
    """Return the terms of ids of nodes or documents."""
    digests = np.frombuffer(b"".join(map(_digest, ids)), ">u4")
    return ~(digests.astype(np.int64) >> 1)


def _digest(id_: str) -> bytes:
    return blake2b(id_.encode(), digest_size=4).digest()


def encode_values(values: Sequence[str | int | float]) -> str:
    """Return a JSON list of values for SQL, whose function ``decoded`` restores each of them exactly.

    Plain JSON is not enough: SQLite cuts texts from JSON at a NUL, and may round fractions.
    """
    return json.dumps([_encoded(value) for value in values])


def encode_texts(texts: Sequence[str]) -> str:
    """Return texts as the second argument of SQL's ``contains_any``."""
    return json.dumps(list(texts))


def _encoded(value: str | int | float) -> str:
    if isinstance(value, str):
        return f"t{value.encode().hex()}"
    return f"f{value.hex()}" if isinstance(value, float) else f"i{value}"


def _decoded(value: str) -> str | int | float:
    kind, rest = value[0], value[1:]
    if kind == "t":
        return bytes.fromhex(rest).decode()
    return float.fromhex(rest) if kind == "f" else int(rest)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _contains_any(text: str, encoded: str) -> bool:
    by_length = _texts_by_length(encoded)
    if len(text) * len(by_length) > sum(map(len, by_length.values())):
        return any(part in text for parts in by_length.values() for part in parts)
    # A short text has fewer substrings of these lengths than there are texts to look for.
    return any(
        text[start : start + length] in parts
        for length, parts in by_length.items()
        for start in range(len(text) - length + 1)
    )


# SQLite passes the same list with every row.
@lru_cache(maxsize=16)
def _texts_by_length(encoded: str) -> dict[int, set[str]]:
    by_length: dict[int, set[str]] = {}
    for text in json.loads(encoded):
        by_length.setdefault(len(text), set()).add(text)
    return by_length
