"""An actor that counts attempts: Ray repeats the work of a process that died for ever, also if it is what ended it."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError

from llama_index_mm_zhipu.distributed.cluster import this_machine

# The actor gets the code by value. If it imported this module, with the package around it, each run would take two
# seconds of CPU time more.
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]


class Attempts:
    """Counts how often work on a part began, in a process of its own."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """Return how often work of this name has begun, this time included."""
        self._begun[name] += 1
        return self._begun[name]


@contextlib.contextmanager
def counted_attempts() -> Iterator[Any]:
    """Start the actor that counts attempts, and end its process with the block.

    Yields:
        Its handle.
    """
    # Actors and datasets hold its handle for longer, in the cluster of a user to the end of the session.
    handle: Any = ray.remote(Attempts).options(num_cpus=0, label_selector=this_machine()).remote()
    try:
        yield handle
    finally:
        with contextlib.suppress(RayError):
            ray.kill(handle)
