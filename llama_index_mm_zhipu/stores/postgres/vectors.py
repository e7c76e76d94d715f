"""Search by vector in PostgreSQL: exact, or with an index of pgvector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, Integer, Select, Text, cast, func, literal, select, text
from sqlalchemy.sql.selectable import FromClause

from llama_index_mm_zhipu.stores.batches import cosine_candidates
from llama_index_mm_zhipu.vector_store.ranking import Scored

_OPERATORS = {"ip": "<#>", "cosine": "<=>", "l2": "<->"}
"""Distances of pgvector by the names in its operator classes, such as ``vector_cosine_ops``."""

_MAX_CANDIDATES = 10_000
"""More candidates than this are searched exactly: an index would be read row by row for a large part of the table."""

_MAX_EF_SEARCH = 1_000

_FIND_INDEX = text(
    """
    select opc.opcname,
        coalesce((select option_value from pg_options_to_table(c.reloptions) where option_name = 'lists'), '100'),
        (select string_to_array(extversion, '.')::int[] >= '{0,8}' from pg_extension where extname = 'vector')
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_am am on am.oid = c.relam
    join pg_opclass opc on opc.oid = i.indclass[0]
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = cast(:table as regclass) and a.attname = 'embedding' and i.indisvalid and i.indpred is null
    and am.amname in ('hnsw', 'ivfflat')
    """
)


@dataclass(frozen=True)
class VectorIndex:
    """An index on the vectors.

    Attributes:
        operator: The distance that it can search by.
        lists: Number of lists of an IVFFlat index.
        iterates: Whether it goes on until enough rows meet a condition, as pgvector 0.8 and later can.
    """

    operator: str
    lists: int
    iterates: bool


def find_index(connection: Connection, table: str) -> VectorIndex | None:
    """Return the best index on the vectors of a table, given by its quoted name; None if there is none."""
    found = {}
    for operator_class, lists, iterates in connection.execute(_FIND_INDEX, {"table": table}):
        metric = operator_class.removesuffix("_ops").rpartition("_")[2]
        found[metric] = lists, iterates
    best = next((metric for metric in _OPERATORS if metric in found), None)
    return None if best is None else VectorIndex(_OPERATORS[best], int(found[best][0]), found[best][1])


@dataclass(frozen=True)
class VectorSearch:
    """Finds the rows of a table with the largest inner products.

    Attributes:
        table: Table with the columns ``mm_key``, ``mm_order`` and ``embedding``.
        vector: The query's vector as an expression.
        condition: Condition on the rows.
        ef_search: Minimum of pgvector's ``hnsw.ef_search``; 0 leaves it as it is set in the database, 40 by default.
    """

    table: FromClause
    vector: ColumnElement[Any]
    condition: ColumnElement[bool]
    ef_search: int = 0

    def exact(self, connection: Connection, k: int) -> Scored[str]:
        """Return keys and inner products of the ``k`` best rows, computed for every row; older first among equals."""
        # The addition keeps PostgreSQL from answering with an index, which is approximate.
        distance = self._distance("<#>") + 0.0
        ordered = self._select().order_by(distance, self.table.c.mm_order).limit(k)
        return _scored(connection, ordered)

    def with_index(self, connection: Connection, index: VectorIndex, k: int) -> Scored[str]:
        """Return keys and inner products of about the ``k`` best rows; all rows if fewer than ``k`` meet the condition.

        An index by another distance than the inner product finds several times as many candidates, which are sorted by
        their inner products. Vectors of very different lengths may be missed; an index with ``vector_ip_ops`` finds
        them.
        """
        candidates = k if index.operator == "<#>" else cosine_candidates(k)
        if candidates > _MAX_CANDIDATES:
            return self.exact(connection, k)
        _configure(connection, index, max(candidates, self.ef_search))
        nearest = self._select().order_by(self._distance(index.operator)).limit(candidates).subquery()
        best = select(nearest).order_by(nearest.c.similarity.desc(), nearest.c.mm_order).limit(k)
        found = _scored(connection, best)
        # An index gives up after a number of rows (hnsw.max_scan_tuples) that do not meet the condition.
        return found if len(found) == k else self.exact(connection, k)

    def _select(self) -> Select[Any]:
        similarity = -self._distance("<#>")
        columns = self.table.c
        return select(columns.mm_key, similarity.label("similarity"), columns.mm_order).where(self.condition)

    def _distance(self, operator: str) -> ColumnElement[float]:
        return self.table.c.embedding.op(operator, return_type=Float())(self.vector)


def _configure(connection: Connection, index: VectorIndex, candidates: int) -> None:
    """Let indexes return enough rows, in this transaction only."""
    settings: dict[str, ColumnElement[str]] = {
        "hnsw.ef_search": _at_least("hnsw.ef_search", min(candidates, _MAX_EF_SEARCH)),
        # What pgvector's manual recommends. Its default, a single list, finds too little.
        "ivfflat.probes": _at_least("ivfflat.probes", math.isqrt(index.lists)),
    }
    if index.iterates:
        settings |= dict.fromkeys(("hnsw.iterative_scan", "ivfflat.iterative_scan"), literal("relaxed_order"))
    connection.execute(select(*(func.set_config(name, value, True) for name, value in settings.items())))


def _at_least(setting: str, value: int) -> ColumnElement[str]:
    # The setting is unknown until pgvector is used for the first time in a connection.
    current = cast(func.coalesce(func.nullif(func.current_setting(setting, True), ""), "1"), Integer)
    return cast(func.greatest(current, value), Text)


def _scored(connection: Connection, statement: Select[Any]) -> Scored[str]:
    return [(key, similarity) for key, similarity, *_ in connection.execute(statement)]
