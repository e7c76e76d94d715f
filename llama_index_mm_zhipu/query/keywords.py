"""Keyword arguments that are passed on, as in LlamaIndex: whoever knows one takes it, nobody minds the others."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

_NEAR = 0.85


def require_no_typos(given: Iterable[str], *takers: Callable[..., Any], known: Iterable[str] = ()) -> None:
    """Refuse names that nobody takes and that look like one that somebody takes.

    Args:
        given: Names of keyword arguments.
        takers: Functions that the arguments are passed on to.
        known: Names that are looked at besides.

    Raises:
        TypeError: There is such a name: left alone, ``include_image=False`` would send pictures.
    """
    taken = {name for taker in takers for name in inspect.signature(taker).parameters}.union(known)
    for name in set(given) - taken:
        if near := difflib.get_close_matches(name, taken - {"self", "kwargs"}, n=1, cutoff=_NEAR):
            raise TypeError(f"unknown argument {name!r}; did you mean {near[0]!r}?")
