"""Pictures decoded by threads, ahead of the model that embeds them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

from llama_index_mm_zhipu.embedding.preprocess import Pixels
from llama_index_mm_zhipu.images import ImageError

Source = TypeVar("Source")


def default_threads() -> int:
    """Return how many threads decode: one per core, at most 8. Pillow decodes without Python's lock."""
    return min(os.cpu_count() or 1, 8)


def decode_ahead(
    sources: Iterable[Source], decode: Callable[[Source], Pixels], *, ahead: int, threads: int
) -> Generator[tuple[Source, Pixels | ImageError], None, None]:
    """Decode pictures in threads, in order and at most ``ahead`` at a time, whether taken or not.

    Args:
        sources: Pictures; read only as far as needed.
        decode: Turns one of them into pixels; called in threads.
        ahead: Bounds the memory: pictures being decoded, or decoded and waiting.
        threads: How many threads decode.

    Yields:
        Each source with its pixels, or with the ``ImageError`` that it caused.
    """
    sources = iter(sources)
    first = list(islice(sources, 2))
    if len(first) < 2:
        # A query's one picture is not worth a thread.
        yield from ((source, _attempt(decode, source)) for source in first)
        return
    waiting: deque[tuple[Source, Future[Pixels | ImageError]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for source in chain(first, sources):
                waiting.append((source, pool.submit(_attempt, decode, source)))
                if len(waiting) >= ahead:
                    yield _taken(waiting)
            while waiting:
                yield _taken(waiting)
        finally:
            for _, future in waiting:
                future.cancel()


def _attempt(decode: Callable[[Source], Pixels], source: Source) -> Pixels | ImageError:
    try:
        return decode(source)
    except ImageError as error:
        # Without its traceback, which holds the pixels decoded so far.
        return ImageError(*error.args)


def _taken(
    waiting: deque[tuple[Source, Future[Pixels | ImageError]]],
) -> tuple[Source, Pixels | ImageError]:
    source, future = waiting.popleft()
    return source, future.result()
