"""Evaluates groups of conditions that are too large for one SQL statement, one condition after another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, AnyCondition, Condition, of_row_ids
from llama_index_mm_zhipu.vector_store.sessions import Ids, Reader

_STEPS_PER_TEST = 20
"""Steps of SQLite's virtual machine in which one node is tested, about: listing may take as long as testing would."""

_RARE_STEPS = 2_000
"""Steps in which the nodes that meet a condition are listed if they are few."""

_WAITING_IDS = 100_000
"""Ids that are collected before duplicates are removed."""

_NO_IDS = np.empty(0, np.int64)


def resolved(condition: AnyCondition, reader: Reader) -> Condition:
    """Return a condition that one SQL statement can hold, and that the same nodes meet in the reader's state."""
    if isinstance(condition, Condition):
        return condition
    return of_row_ids(_meeting(condition, None, reader).tolist())


def _meeting(condition: AnyCondition, within: Ids | None, reader: Reader) -> Ids:
    """Return the row ids, ascending, that meet a condition, among all nodes or within some."""
    if condition.inverse is not None:
        return _except(within, _meeting(condition.inverse, within, reader), reader)
    if isinstance(condition, Condition):
        return _meeting_one(condition, within, reader)
    if condition.holding == "all":
        return _meeting_all(condition.parts, within, reader)
    return _meeting_any(condition.parts, within, reader)


def _meeting_one(condition: Condition, within: Ids | None, reader: Reader) -> Ids:
    if within is None:
        return reader.select_ids(condition)
    listed = reader.select_ids_within(condition, _STEPS_PER_TEST * (len(within) + 1))
    if listed is None:
        listed = np.array(sorted(reader.select_those_that_meet(within.tolist(), condition)), dtype=np.int64)
    return _in_both(listed, within)


def _meeting_all(parts: Sequence[AnyCondition], within: Ids | None, reader: Reader) -> Ids:
    positive, negated = _divided(parts)
    if within is None:
        # Beginning with a condition that few nodes meet saves listing all nodes that meet the others.
        rare = next((part for part in positive if _is_rare(part, reader)), None)
        positive.sort(key=lambda part: part is not rare)
    for part in positive:
        within = _meeting(part, within, reader)
        if not len(within):
            return within
    # Few nodes fail one of many inequalities: these are listed, rather than the many that pass each.
    return _except(within, _meeting_any(negated, within, reader), reader)


def _meeting_any(parts: Sequence[AnyCondition], within: Ids | None, reader: Reader) -> Ids:
    positive, negated = _divided(parts)
    found, waiting = [_NO_IDS], 0
    for part in positive:
        ids = _meeting(part, within, reader)
        found.append(ids)
        waiting += len(ids)
        if waiting > _WAITING_IDS:
            # What was found need not be looked for again.
            found, waiting = [_united(found)], 0
            within = _except(within, found[0], reader)
            if not len(within):
                return found[0]
    if negated:
        found.append(_except(within, _meeting_all(negated, within, reader), reader))
    return _united(found)


def _is_rare(condition: AnyCondition, reader: Reader) -> bool:
    return isinstance(condition, Condition) and reader.select_ids_within(condition, _RARE_STEPS) is not None


def _divided(parts: Sequence[AnyCondition]) -> tuple[list[AnyCondition], list[AnyCondition]]:
    """Return the parts that negate nothing, and what the others negate."""
    positive = [part for part in parts if part.inverse is None]
    return positive, [part.inverse for part in parts if part.inverse is not None]


def _except(within: Ids | None, ids: Ids, reader: Reader) -> Ids:
    every = reader.select_ids(EVERY_NODE) if within is None else within
    return np.setdiff1d(every, ids, assume_unique=True) if len(ids) else every


def _in_both(some: Ids, others: Ids) -> Ids:
    """Return the common ids of two ascending arrays, in time proportional to the shorter one."""
    short, long = (some, others) if len(some) < len(others) else (others, some)
    if not len(short):
        return short
    places = np.minimum(np.searchsorted(long, short), len(long) - 1)
    common: Ids = short[long[places] == short]
    return common


def _united(found: Sequence[Ids]) -> Ids:
    return np.unique(np.concatenate(found))
