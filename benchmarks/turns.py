"""Contenders take turns, so that what slows the machine for a while slows all of them."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def in_random_turns(names: Collection[str], rounds: Iterable[T], order: random.Random) -> Iterator[tuple[str, T]]:
    """Yield each round once with every name, in random order."""
    for this_round in rounds:
        for name in order.sample(list(names), len(names)):
            yield name, this_round
