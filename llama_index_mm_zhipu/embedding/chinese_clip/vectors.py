"""Any number of pictures to vectors: decoded ahead by threads, embedded in full batches, in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.embedding.backend import Vectors
from llama_index_mm_zhipu.embedding.decode_ahead import decode_ahead
from llama_index_mm_zhipu.embedding.preprocess import Pixels
from llama_index_mm_zhipu.images import ImageError

Source = TypeVar("Source")
Vector = npt.NDArray[np.float32]
Decoded = tuple[Source, "Pixels | ImageError"]
Embedded = tuple[Source, "Vector | ImageError"]

# While the model has one batch, the threads work on the next.
_BATCHES_AHEAD = 2


def picture_vectors(
    sources: Iterable[Source],
    decode: Callable[[Source], Pixels],
    embed: Callable[[Sequence[Source], Pixels], Vectors],
    *,
    batch_size: int,
    threads: int,
) -> Generator[list[Embedded[Source]], None, None]:
    """Embed pictures in batches, in order; of all there are, two batches lie in memory.

    Args:
        sources: Pictures; read only as far as needed.
        decode: Turns one of them into pixels of shape ``(3, side, side)``; called in threads.
        embed: Turns the sources of a batch and their pixels, of shape ``(n, 3, side, side)``, into vectors.
        batch_size: Pictures in a batch: all but the last are full, also where some of the pictures cannot be read,
            as long as these are not more than the others.
        threads: How many threads decode.

    Yields:
        Per batch each source with its vector, or with the ``ImageError`` that it caused.
    """
    decoded_pictures = decode_ahead(sources, decode, ahead=_BATCHES_AHEAD * batch_size, threads=threads)
    try:
        batch: list[Decoded[Source]] = []
        readable = 0
        for source, decoded in decoded_pictures:
            batch.append((source, decoded))
            readable += not isinstance(decoded, ImageError)
            if readable == batch_size or len(batch) == _BATCHES_AHEAD * batch_size:
                yield _embedded(batch, embed)
                batch, readable = [], 0
        if batch:
            yield _embedded(batch, embed)
    finally:
        decoded_pictures.close()


def _embedded(
    batch: Sequence[Decoded[Source]], embed: Callable[[Sequence[Source], Pixels], Vectors]
) -> list[Embedded[Source]]:
    readable = [(source, decoded) for source, decoded in batch if not isinstance(decoded, ImageError)]
    vectors: Iterator[Vector] = iter(())
    if readable:
        vectors = iter(embed([source for source, _ in readable], np.stack([pixels for _, pixels in readable])))
    return [(source, decoded if isinstance(decoded, ImageError) else next(vectors)) for source, decoded in batch]
