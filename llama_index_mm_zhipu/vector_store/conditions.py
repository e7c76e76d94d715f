"""SQL conditions on nodes: each can be asked of one node, and can list all nodes that meet it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

LISTED = "select value from json_each(?)"
"""Values of a JSON list, however many these are: SQLite limits the number of parameters."""

# SQLite orders every number before every text: the empty text divides them.
NUMBERS = "value < ''"
TEXTS = "value >= ''"


class Statement(NamedTuple):
    """SQL with its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Condition:
    """What a node must meet.

    Attributes:
        test: Boolean expression over ``nodes.id``, cheap for one node.
        listings: One or more queries of a column ``id``, each of all nodes that meet the condition. They differ in
            where they begin, and so in cost; an id may come twice.
    """

    test: Statement
    listings: tuple[Statement, ...]


EVERY_NODE = Condition(Statement("true"), (Statement("select id from nodes"),))


def all_of(conditions: Sequence[Condition]) -> Condition:
    """All hold; none at all means every node. There is a listing that begins with each."""
    if len(conditions) == 1:
        return conditions[0]
    if not conditions:
        return EVERY_NODE
    listings = []
    for place, first in enumerate(conditions):
        rest = _joined(" and ", [condition.test for condition in (*conditions[:place], *conditions[place + 1 :])])
        begin = first.listings[0]
        listings.append(
            Statement(f"select id from ({begin.sql}) as nodes where {rest.sql}", (*begin.parameters, *rest.parameters))
        )
    return Condition(_joined(" and ", [condition.test for condition in conditions]), tuple(listings))


def any_of(conditions: Sequence[Condition]) -> Condition:
    """At least one holds; there must be one."""
    if len(conditions) == 1:
        return conditions[0]
    listing = _joined(" union all ", [condition.listings[0] for condition in conditions], brackets=False)
    return Condition(_joined(" or ", [condition.test for condition in conditions]), (listing,))


def negation(condition: Condition) -> Condition:
    """The condition does not hold."""
    sql, parameters = condition.test
    return Condition(
        Statement(f"not ({sql})", parameters), (Statement(f"select id from nodes where not ({sql})", parameters),)
    )


def has_metadata(key: str, test: str, *parameters: Any) -> Condition:
    """The node has a metadata row of this key that passes a test of ``kind`` and ``value``."""
    values = (key, *parameters)
    return Condition(
        Statement(f"exists (select 1 from metadata where id = nodes.id and key = ? and {test})", values),
        (Statement(f"select id from metadata where key = ? and {test}", values),),
    )


def one_of(column: str, values: Iterable[str]) -> Condition:
    """A column of the node is one of the values."""
    test, parameters = among(column, list(values))
    return Condition(
        Statement(f"exists (select 1 from nodes as node where node.id = nodes.id and ({test}))", parameters),
        (Statement(f"select id from nodes where {test}", parameters),),
    )


def of_document(ref_doc_id: str) -> Condition:
    """The node came from this document, or is it: a node without a source is its own, as in LlamaIndex's pipelines."""
    test, parameters = "ref_doc_id = ? or (ref_doc_id is null and node_id = ?)", (ref_doc_id, ref_doc_id)
    return Condition(
        Statement(f"exists (select 1 from nodes as node where node.id = nodes.id and ({test}))", parameters),
        (Statement(f"select id from nodes where {test}", parameters),),
    )


def among(column: str, values: Sequence[str | int | float]) -> Statement:
    """Test whether a column is one of the values."""
    # SQLite cuts texts from JSON at a NUL, and may round numbers with a fraction: these few are handed over singly.
    single = [value for value in values if isinstance(value, float) or (isinstance(value, str) and "\0" in value)]
    listed = json.dumps([value for value in values if value not in single] if single else list(values))
    tests = [f"{column} in ({LISTED})", *[f"{column} = ?" for _ in single]]
    return Statement(" or ".join(tests), (listed, *single))


def _joined(word: str, statements: Sequence[Statement], brackets: bool = True) -> Statement:
    parts = (f"({sql})" if brackets else sql for sql, _ in statements)
    return Statement(word.join(parts), tuple(value for statement in statements for value in statement.parameters))
