"""From texts and images to vectors: tokens and pixels as Chinese-CLIP was trained with, in batches and in order."""

from __future__ import annotations

import logging
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
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

from llama_index_mm_zhipu.concurrency import available_threads
from llama_index_mm_zhipu.embedding.backends import Backend, Vectors
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import cn_clip_folder
from llama_index_mm_zhipu.embedding.contract import Vector
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

LongText = Literal["truncate", "mean"]
"""How to embed texts of more than ``MAX_TOKENS`` tokens: cut them, or take the mean over windows."""

Pixels = npt.NDArray[np.float32]
"""Normalised images, of shape ``(3, side, side)`` or ``(n, 3, side, side)``."""

Source = TypeVar("Source")
Decoded = tuple[Source, "Pixels | ImageError"]
Embedded = tuple[Source, "Vector | ImageError"]

MAX_TOKENS = 50
"""Tokens of a text that the text encoder takes: 52 positions without [CLS] and [SEP]."""

PADDING = 0
"""Id of [PAD], which the attention mask of the text encoder hides."""

_UNKNOWN = "[UNK]"

# Mean and standard deviation of CLIP's training images, in RGB from 0 to 1 (Radford et al. 2021).
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)

# For each channel and each of the 256 values, computed in float32 and in the same order of steps as in torchvision.
_NORMALISED = ((np.arange(256, dtype=np.float32) / np.float32(255))[None] - _MEAN[:, None]) / _STD[:, None]

# While the model works on one batch, the threads decode the next one.
_BATCHES_AHEAD = 2


def text_vectors(backend: Backend, texts: Sequence[str], *, long_text: LongText, batch_size: int) -> Vectors:
    """Embed texts.

    Args:
        backend: The model.
        texts: Any number of texts of any length.
        long_text: Whether texts of more than ``MAX_TOKENS`` tokens are cut, or embedded as the mean over windows of
            that length.
        batch_size: Texts in one forward pass.

    Returns:
        Unit vectors of shape ``(len(texts), embed_dim)``.
    """
    tokens = [tokenize(text) for text in texts]
    if long_text == "mean":
        return _mean_over_windows(backend, tokens, batch_size)
    return _vectors_of_tokens(backend, [of_text[:MAX_TOKENS] for of_text in tokens], batch_size)


def warn_of_cut_texts(texts: Sequence[str]) -> None:
    """Log one warning with the number of texts that ``long_text="truncate"`` cuts, if there are any."""
    _warn_of_long(
        texts, '%d text(s) longer than %d tokens were cut; ChineseClipEmbedding(long_text="mean") embeds them whole'
    )


def warn_of_long_captions(captions: Sequence[str]) -> None:
    """Log one warning with the number of captions that are too long to be averaged into vectors, if there are any."""
    _warn_of_long(
        captions,
        "%d caption(s) longer than %d tokens are not in the vectors of their images; full text search finds them",
    )


def _warn_of_long(texts: Sequence[str], message: str) -> None:
    count = sum(not takes_whole(text) for text in texts)
    if count:
        logger.warning(message, count, MAX_TOKENS)


def tokenize(text: str) -> list[int]:
    """Return the ids of the BERT tokens (word pieces) of a text of any length, without [CLS] and [SEP]."""
    tokenizer = _tokenizer()
    ids: list[int] = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
    return ids


def takes_whole(text: str) -> bool:
    """Return whether a text has at most ``MAX_TOKENS`` tokens."""
    # A token has at least one character.
    return len(text) <= MAX_TOKENS or len(tokenize(text)) <= MAX_TOKENS


# A retriever asks once for each of its stores.
@lru_cache(maxsize=16)
def knows(text: str) -> bool:
    """Return whether the vocabulary has any part of a text, other than punctuation between unknown parts."""
    tokens: list[str] = _tokenizer().tokenize(text)
    known = [token for token in tokens if token != _UNKNOWN]
    if len(known) == len(tokens):
        return bool(tokens)
    # The tokenizer makes a token of each punctuation mark.
    return any(not unicodedata.category(token[-1]).startswith("P") for token in known)


def windows(tokens: Sequence[int]) -> list[Sequence[int]]:
    """Split the tokens of a text into runs of at most ``MAX_TOKENS``; an empty text gives one empty run."""
    return [tokens[start : start + MAX_TOKENS] for start in range(0, max(len(tokens), 1), MAX_TOKENS)]


def token_batch(texts: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Enclose tokens in [CLS] and [SEP] and pad them to the length of the longest text.

    Padding to all 52 positions, as in cn_clip, would give the same vectors more slowly.

    Args:
        texts: Tokens of each text, at most ``MAX_TOKENS``.

    Returns:
        Array of shape ``(len(texts), max_length + 2)``.
    """
    start, end = (_tokenizer().vocab[token] for token in ("[CLS]", "[SEP]"))
    batch = np.full((len(texts), max(map(len, texts)) + 2), PADDING, dtype=np.int64)
    for row, tokens in zip(batch, texts, strict=True):
        row[: len(tokens) + 2] = [start, *tokens, end]
    return batch


def order_by_length(texts: Sequence[str]) -> list[int]:
    """Return the indices of texts in an order in which equal texts, and texts of similar length, are neighbours."""
    return sorted(range(len(texts)), key=lambda index: (len(texts[index]), texts[index]))


def in_given_order(embeddings: Sequence[Embedding], order: Sequence[int]) -> list[Embedding]:
    """Return the embeddings of texts that were sorted by ``order_by_length`` in the original order of the texts."""
    return [embedding for _, embedding in sorted(zip(order, embeddings, strict=True), key=itemgetter(0))]


class QueryCache:
    """Vectors of the most recently used queries. Threads may share it; copies and pickles start empty.

    Args:
        size: Number of vectors to keep.
    """

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._vectors: LRUCache[Hashable, Embedding] = LRUCache(size)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[QueryCache], tuple[int]]:
        """Copy and pickle as an empty cache."""
        return QueryCache, (self._size,)

    def get(self, key: Hashable, compute: Callable[[], Embedding]) -> Embedding:
        """Return a vector, computed if it is not cached, as a list that the caller may change."""
        with self._lock:
            vector = self._vectors.get(key)
        if vector is None:
            vector = compute()
            with self._lock:
                self._vectors[key] = vector
        return list(vector)


def image_vectors(
    sources: Iterable[Source],
    decode: Callable[[Source], Pixels],
    embed: Callable[[Sequence[Source], Pixels], Vectors],
    *,
    batch_size: int,
    threads: int,
) -> Generator[list[Embedded[Source]], None, None]:
    """Embed images in batches, in order; at most two batches of decoded images are in memory.

    Args:
        sources: Images; consumed only as far as needed.
        decode: Returns the pixels of an image, of shape ``(3, side, side)``; called in threads.
        embed: Returns the vectors of a batch, given its sources and their pixels of shape ``(n, 3, side, side)``.
        batch_size: Images in a batch. All batches but the last are full, also if some images cannot be read, unless
            these are more than the readable ones.
        threads: Number of threads that decode.

    Yields:
        For each batch, the sources with their vectors, or with the ``ImageError`` that they caused.
    """
    with closing(decode_ahead(sources, decode, ahead=_BATCHES_AHEAD * batch_size, threads=threads)) as decoded_images:
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


def stack_vectors(batches: Generator[list[Embedded[Source]], None, None]) -> Vectors:
    """Return the vectors of all images of ``image_vectors`` in one array.

    Raises:
        ImageError: An image cannot be read.
    """
    vectors = []
    with closing(batches):
        for _, outcome in chain.from_iterable(batches):
            if isinstance(outcome, ImageError):
                raise outcome
            vectors.append(outcome)
    return np.stack(vectors)


def probabilities(logits: Vectors) -> Vectors:
    """Return the softmax of each row."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)


def image_pixels(
    source: ImageSource,
    side: int,
    *,
    exact: bool = False,
    urls: UrlRules = NO_URLS,
    on_truncated: OnTruncated = "warn",
) -> Pixels:
    """Resize an image to a square, without keeping its proportions, and normalise it.

    Args:
        source: An image in any form that ``images.load_image`` takes.
        side: Side of the square in pixels.
        exact: Whether to compute exactly the pixels of cn_clip. The whole image is decoded, and as in cn_clip the EXIF
            orientation is ignored, transparency is dropped, 16-bit greys are clipped, and palettes are resized to the
            nearest pixel.
        urls: Which URLs may be fetched.
        on_truncated: What to do with incomplete files, as in ``images.load_image``.

    Returns:
        Array of shape ``(3, side, side)``.

    Raises:
        ImageError: There is no such image, or it cannot be decoded.
    """
    if not exact:
        return _normalised(load_resized(source, side, urls=urls, on_truncated=on_truncated))
    with open_image(source, urls=urls, on_truncated=on_truncated) as image:
        return _normalised(image.resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))


def default_threads() -> int:
    """Return the number of threads that decode: one per available thread, at most 8. Pillow decodes without the GIL."""
    return min(available_threads(), 8)


def decode_ahead(
    sources: Iterable[Source], decode: Callable[[Source], Pixels], *, ahead: int, threads: int
) -> Generator[Decoded[Source], None, None]:
    """Decode images in threads and yield them in order.

    Args:
        sources: Images; consumed only as far as needed.
        decode: Returns the pixels of an image; called in threads.
        ahead: Maximum number of images that are being decoded or wait to be taken, which bounds the memory.
        threads: Number of threads.

    Yields:
        Each source with its pixels, or with the ``ImageError`` that it caused.
    """
    sources = iter(sources)
    first = list(islice(sources, 2))
    if len(first) < 2:
        # The one image of a query is decoded here: starting a thread would only take longer.
        yield from ((source, _pixels_or_error(decode, source)) for source in first)
        return
    waiting: deque[tuple[Source, Future[Pixels | ImageError]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for source in chain(first, sources):
                waiting.append((source, pool.submit(_pixels_or_error, decode, source)))
                if len(waiting) >= ahead:
                    yield _next_decoded(waiting)
            while waiting:
                yield _next_decoded(waiting)
        finally:
            for _, future in waiting:
                future.cancel()


@cache
def _tokenizer() -> Any:
    """Load cn_clip's own tokenizer from its file, because importing the package around it would load torch."""
    spec = spec_from_file_location(f"{__name__}.of_cn_clip", cn_clip_folder() / "clip" / "bert_tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FullTokenizer()


def _mean_over_windows(backend: Backend, texts: Sequence[Sequence[int]], batch_size: int) -> Vectors:
    windows_of_texts = [windows(tokens) for tokens in texts]
    vectors = _vectors_of_tokens(backend, list(chain.from_iterable(windows_of_texts)), batch_size)
    first_windows = np.cumsum([0, *map(len, windows_of_texts)])[:-1]
    sums = np.add.reduceat(vectors, first_windows, axis=0)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)


def _vectors_of_tokens(backend: Backend, texts: Sequence[Sequence[int]], batch_size: int) -> Vectors:
    """Embed each distinct text once; sorted by length, because texts are padded to the longest of their batch."""
    distinct = sorted({tuple(tokens) for tokens in texts}, key=len)
    batches = [distinct[start : start + batch_size] for start in range(0, len(distinct), batch_size)]
    vectors = np.concatenate([backend.text_vectors(token_batch(batch)) for batch in batches])
    rows = {tokens: row for row, tokens in enumerate(distinct)}
    return vectors[[rows[tuple(tokens)] for tokens in texts]]


def _embedded(
    batch: Sequence[Decoded[Source]], embed: Callable[[Sequence[Source], Pixels], Vectors]
) -> list[Embedded[Source]]:
    readable = [(source, decoded) for source, decoded in batch if not isinstance(decoded, ImageError)]
    vectors = (
        iter(embed([source for source, _ in readable], np.stack([pixels for _, pixels in readable])))
        if readable
        else iter(())
    )
    return [(source, decoded if isinstance(decoded, ImageError) else next(vectors)) for source, decoded in batch]


def _pixels_or_error(decode: Callable[[Source], Pixels], source: Source) -> Pixels | ImageError:
    try:
        return decode(source)
    except ImageError as error:
        # A new error without the traceback, which would keep the pixels decoded so far in memory.
        return ImageError(*error.args)


def _next_decoded(waiting: deque[tuple[Source, Future[Pixels | ImageError]]]) -> Decoded[Source]:
    source, future = waiting.popleft()
    return source, future.result()


def _normalised(image: Image.Image) -> Pixels:
    """Return the channels of an RGB image, normalised to mean 0 and deviation 1 over CLIP's training images."""
    values = np.asarray(image)
    return np.stack([_NORMALISED[channel][values[..., channel]] for channel in range(3)])
