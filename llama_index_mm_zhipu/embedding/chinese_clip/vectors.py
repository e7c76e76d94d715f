"""Any number of images to vectors: decoded ahead by threads, embedded in full batches, in order."""

from __future__ import annotations

import logging
import os
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache
from llama_index.core.base.embeddings.base import Embedding
from PIL import Image

from llama_index_mm_zhipu.embedding.backends import Backend, Vectors
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import cn_clip_folder
from llama_index_mm_zhipu.images import (
    NO_URLS,
    ImageError,
    ImageSource,
    OnTruncated,
    UrlRules,
    load_resized,
    open_image,
)

logger = logging.getLogger(__name__)

MAX_WORD_PIECES = 50
"""What the text tower takes of a text: 52 positions less [CLS] and [SEP]."""

PADDING = 0
"""Id of [PAD]: the text tower's attention mask hides it."""

_UNKNOWN = "[UNK]"


def word_pieces(text: str) -> list[int]:
    """Split a text into the ids of its BERT word pieces, without [CLS] and [SEP] and of any length."""
    tokenizer = _tokenizer()
    ids: list[int] = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    return ids


# A retriever asks for each of its stores.
@lru_cache(maxsize=16)
def knows(text: str) -> bool:
    """Whether the vocabulary has any part of a text; beside parts that it does not have, punctuation does not count."""
    tokens: list[str] = _tokenizer().tokenize(text)
    known = [token for token in tokens if token != _UNKNOWN]
    if len(known) == len(tokens):
        return bool(tokens)
    # The tokenizer makes a token of each punctuation mark.
    return any(not unicodedata.category(token[-1]).startswith("P") for token in known)


def windows(pieces: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut word pieces into runs that the text tower takes; an empty text is one empty run."""
    for start in range(0, max(len(pieces), 1), MAX_WORD_PIECES):
        yield pieces[start : start + MAX_WORD_PIECES]


def token_batch(texts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Frame word pieces with [CLS] and [SEP] and pad them to the longest of the batch.

    A batch need not be padded to all 52 positions.

    Args:
        texts: Word pieces of each text, at most ``MAX_WORD_PIECES`` each.

    Returns:
        Array of shape ``(len(texts), longest + 2)``.
    """
    start, end = (_tokenizer().vocab[token] for token in ("[CLS]", "[SEP]"))
    batch = np.full((len(texts), max(map(len, texts)) + 2), PADDING, dtype=np.int64)
    for row, pieces in zip(batch, texts, strict=True):
        row[: len(pieces) + 2] = [start, *pieces, end]
    return batch


@cache
def _tokenizer() -> Any:
    """Load cn_clip's own tokenizer from its file: importing the package around it would load torch."""
    spec = spec_from_file_location(f"{__name__}.of_cn_clip", cn_clip_folder() / "clip" / "bert_tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FullTokenizer()


Pixels = npt.NDArray[np.float32]

# The mean and standard deviation of CLIP's training images, in RGB from 0 to 1 (Radford et al. 2021).
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)

# Of each channel and each of the 256 values. In float32 and in this order of steps, as torchvision computes them.
_NORMALISED = ((np.arange(256, dtype=np.float32) / np.float32(255))[None] - _MEAN[:, None]) / _STD[:, None]


def image_pixels(
    source: ImageSource,
    side: int,
    *,
    exact: bool = False,
    urls: UrlRules = NO_URLS,
    on_truncated: OnTruncated = "warn",
) -> Pixels:
    """Squash an image to a square and normalise it.

    Args:
        source: An image in any form that ``images.load_image`` takes.
        side: Side of the square in pixels.
        exact: Give cn_clip's pixels bit for bit: whole images are decoded, and as there EXIF orientation is ignored,
            transparency dropped, 16-bit greys clipped, and palettes resized to the nearest pixel.
        urls: Which addresses may be fetched.
        on_truncated: What to do with files that lack their end, as of ``images.load_image``.

    Returns:
        Array of shape ``(3, side, side)``.

    Raises:
        ImageError: There is no such image, or it cannot be decoded.
    """
    if not exact:
        return normalised(load_resized(source, side, urls=urls, on_truncated=on_truncated))
    with open_image(source, urls=urls, on_truncated=on_truncated) as image:
        return normalised(image.resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))


def normalised(image: Image.Image) -> Pixels:
    """Return the channels of an RGB image, each with mean 0 and deviation 1 over CLIP's training images."""
    values = np.asarray(image)
    return np.stack([_NORMALISED[channel][values[..., channel]] for channel in range(3)])


_counts: ContextVar[list[int] | None] = ContextVar("_counts", default=None)


@contextmanager
def one_warning_for_cut_texts() -> Iterator[list[int]]:
    """Give a list to which each batch adds how many texts it cut; the outermost call warns when it is done."""
    counts = _counts.get()
    if counts is not None:
        yield counts
        return
    counts = []
    token = _counts.set(counts)
    try:
        yield counts
    finally:
        _counts.reset(token)
        if any(counts):
            logger.warning(
                "%d text(s) longer than %d word pieces were cut; "
                'ChineseClipEmbedding(long_text="mean") embeds them whole',
                sum(counts),
                MAX_WORD_PIECES,
            )


Job = TypeVar("Job")


def default_threads() -> int:
    """Return how many threads decode: one per core, at most 8. Pillow decodes without Python's lock."""
    return min(os.cpu_count() or 1, 8)


def decode_ahead(
    sources: Iterable[Job], decode: Callable[[Job], Pixels], *, ahead: int, threads: int
) -> Generator[tuple[Job, Pixels | ImageError], None, None]:
    """Decode images in threads, in order and at most ``ahead`` at a time, whether taken or not.

    Args:
        sources: Images; read only as far as needed.
        decode: Turns one of them into pixels; called in threads.
        ahead: Bounds the memory: images being decoded, or decoded and waiting.
        threads: How many threads decode.

    Yields:
        Each source with its pixels, or with the ``ImageError`` that it caused.
    """
    sources = iter(sources)
    first = list(islice(sources, 2))
    if len(first) < 2:
        # A query's one image is not worth a thread.
        yield from ((source, _attempt(decode, source)) for source in first)
        return
    waiting: deque[tuple[Job, Future[Pixels | ImageError]]] = deque()
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


def _attempt(decode: Callable[[Job], Pixels], source: Job) -> Pixels | ImageError:
    try:
        return decode(source)
    except ImageError as error:
        # Without its traceback, which holds the pixels decoded so far.
        return ImageError(*error.args)


def _taken(
    waiting: deque[tuple[Job, Future[Pixels | ImageError]]],
) -> tuple[Job, Pixels | ImageError]:
    source, future = waiting.popleft()
    return source, future.result()


Source = TypeVar("Source")
Vector = npt.NDArray[np.float32]
Decoded = tuple[Source, "Pixels | ImageError"]
Embedded = tuple[Source, "Vector | ImageError"]

# While the model has one batch, the threads work on the next.
_BATCHES_AHEAD = 2


def image_vectors(
    sources: Iterable[Source],
    decode: Callable[[Source], Pixels],
    embed: Callable[[Sequence[Source], Pixels], Vectors],
    *,
    batch_size: int,
    threads: int,
) -> Generator[list[Embedded[Source]], None, None]:
    """Embed images in batches, in order; of all there are, two batches lie in memory.

    Args:
        sources: Images; read only as far as needed.
        decode: Turns one of them into pixels of shape ``(3, side, side)``; called in threads.
        embed: Turns the sources of a batch and their pixels, of shape ``(n, 3, side, side)``, into vectors.
        batch_size: Images in a batch: all but the last are full, also where some of the images cannot be read,
            as long as these are not more than the others.
        threads: How many threads decode.

    Yields:
        Per batch each source with its vector, or with the ``ImageError`` that it caused.
    """
    decoded_images = decode_ahead(sources, decode, ahead=_BATCHES_AHEAD * batch_size, threads=threads)
    try:
        batch: list[Decoded[Source]] = []
        readable = 0
        for source, decoded in decoded_images:
            batch.append((source, decoded))
            readable += not isinstance(decoded, ImageError)
            if readable == batch_size or len(batch) == _BATCHES_AHEAD * batch_size:
                yield _embedded(batch, embed)
                batch, readable = [], 0
        if batch:
            yield _embedded(batch, embed)
    finally:
        decoded_images.close()


def _embedded(
    batch: Sequence[Decoded[Source]], embed: Callable[[Sequence[Source], Pixels], Vectors]
) -> list[Embedded[Source]]:
    readable = [(source, decoded) for source, decoded in batch if not isinstance(decoded, ImageError)]
    vectors: Iterator[Vector] = iter(())
    if readable:
        vectors = iter(embed([source for source, _ in readable], np.stack([pixels for _, pixels in readable])))
    return [(source, decoded if isinstance(decoded, ImageError) else next(vectors)) for source, decoded in batch]


LongText = Literal["truncate", "mean"]


def text_vectors(
    backend: Backend, texts: Sequence[str], *, long_text: LongText, batch_size: int
) -> tuple[Vectors, int]:
    """Embed texts.

    Args:
        backend: The model.
        texts: Any number of them, of any length.
        long_text: Whether texts of more than ``MAX_WORD_PIECES`` word pieces are cut, or embedded as the mean over
            windows of so many.
        batch_size: Texts in one forward pass.

    Returns:
        Unit vectors of shape ``(len(texts), embed_dim)``, and how many texts were cut.
    """
    pieces = [word_pieces(text) for text in texts]
    if long_text == "mean":
        return _mean_over_windows(backend, pieces, batch_size), 0
    vectors = _vectors_of_runs(backend, [text[:MAX_WORD_PIECES] for text in pieces], batch_size)
    return vectors, sum(len(text) > MAX_WORD_PIECES for text in pieces)


def by_length(texts: Sequence[str]) -> list[int]:
    """Return the order of texts in which equal ones, and those of about one length, stand together."""
    return sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))


def in_given_order(embeddings: Sequence[Embedding], order: Sequence[int]) -> list[Embedding]:
    """Bring the embeddings of texts that ``by_length`` sorted back into the order that these were given in."""
    return [embedding for _, embedding in sorted(zip(order, embeddings, strict=True), key=itemgetter(0))]


def _mean_over_windows(backend: Backend, pieces: Sequence[Sequence[int]], batch_size: int) -> Vectors:
    runs = [list(windows(text)) for text in pieces]
    vectors = _vectors_of_runs(backend, [run for text in runs for run in text], batch_size)
    first_runs = np.cumsum([0, *map(len, runs)])[:-1]
    sums = np.add.reduceat(vectors, first_runs, axis=0)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)


def _vectors_of_runs(backend: Backend, runs: Sequence[Sequence[int]], batch_size: int) -> Vectors:
    """Embed runs of word pieces: padding to the longest of a batch costs time, hence like beside like."""
    distinct = sorted({tuple(run) for run in runs}, key=len)
    vectors = np.concatenate(
        [
            backend.text_vectors(token_batch(distinct[start : start + batch_size]))
            for start in range(0, len(distinct), batch_size)
        ]
    )
    row_of = {run: row for row, run in enumerate(distinct)}
    return vectors[[row_of[tuple(run)] for run in runs]]


class QueryCache:
    """The least recently asked leave first. Threads may share it; copies begin empty."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._vectors: LRUCache[Hashable, Embedding] = LRUCache(size)
        self._turn = threading.Lock()

    def __reduce__(self) -> tuple[type[QueryCache], tuple[int]]:
        """Copy and pickle an empty one."""
        return QueryCache, (self._size,)

    def get(self, key: Hashable, compute: Callable[[], Embedding]) -> Embedding:
        """Return a vector that the caller may change."""
        with self._turn:
            known = self._vectors.get(key)
        if known is None:
            known = compute()
            with self._turn:
                self._vectors[key] = known
        return list(known)
