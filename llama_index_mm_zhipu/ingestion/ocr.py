"""``ImageOcr``: the text that is written in images, read by an OCR engine on this machine."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_serializer, field_validator
from llama_index.core.schema import BaseNode, TransformComponent
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import KnownFields
from llama_index_mm_zhipu.images import UrlRules, has_image, page_text_of, read_bytes, with_page_text
from llama_index_mm_zhipu.ingestion.cache import CacheError, ResultCache
from llama_index_mm_zhipu.ingestion.ocr_engines import OcrEngine, OcrLine, RapidOcrEngine, fingerprint_of
from llama_index_mm_zhipu.ingestion.ocr_workers import OcrEngineError, Recognition, WorkerProcess, recognize_bytes
from llama_index_mm_zhipu.ingestion.page_orientation import turned_lines
from llama_index_mm_zhipu.ingestion.reading_order import text_of_lines
from llama_index_mm_zhipu.llm.errors import ACCOUNT_ERRORS
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

LONGEST_SIDE = 1600
"""Default for the longer side in pixels of the image that the engine gets; larger ones take longer and are not better
read, as long as characters are at least 12 pixels high."""

MIN_SCORE = 0.85
"""Default for the score that a line needs: nearly all lines of text reach it, and little of what is seen in photos."""

OCR = "ocr"
"""Source of page texts that ``ImageOcr`` read."""

# A box that covers more of the image is no line of text.
_MAX_AREA = 0.8

# An image with so many lines of text is no photograph.
_MANY_LINES = 5

# Part of cache keys: to be changed when ``Recognition`` gets another form.
_FORMAT = 1


class OcrCacheError(CacheError):
    """The file of cached OCR results cannot be read or written.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("ocr.sqlite3").write_text("not a database")
        >>> ImageOcr(engine=lambda image: [], cache_path="ocr.sqlite3")(read_folder("slides"))
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.ingestion.ocr.OcrCacheError: the cache of ocr at ocr.sqlite3 cannot be used: file
        is not a database; give another path
    """


# Readers are iterators that a user gives to an index: no argument tells them what the index does with their images.
_follows: ContextVar[bool] = ContextVar("ocr_to_follow", default=False)

# Errors that would recur for every image.
_FATAL_ERRORS = (OcrCacheError, OcrEngineError, ImportError, *ACCOUNT_ERRORS)


class ImageOcr(KnownFields, TransformComponent):
    """An ingestion transformation that reads the text in images, so that full text search finds them.

    Place it before the embedding. The text becomes the page text of an image: full text search and prompts use it, and
    no vector contains it. The metadata ``page_text_lines`` hold its lines with boxes and scores. Photographs and other
    images without text stay as they are. Every result is cached on disk as soon as it is there, by the content of the
    image, the engine and ``longest_side``: an interrupted run continues where it stopped.

    Args:
        engine: Returns the lines of an RGB image, see ``OcrEngine``; the default is ``RapidOcrEngine()``, which needs
            the extra ``ocr``.
        longest_side: Longer side in pixels to which larger images are shrunk first, 1,600 by default.
        min_score: Lines with a lower score are dropped, 0 to 1; 0.85 by default.
        num_workers: 1, the default, reads image after image in this process. More are processes, each with its own
            engine (about 1 GB for RapidOCR), or threads if the engine is thread-safe.
        overwrite: Whether to read images that have a page text, such as the text layer of a PDF file.
        on_error: ``"skip"``, the default, leaves images that fail without a page text and lists them in ``skipped``;
            ``"raise"`` raises the first error. A cache that cannot be used and a missing extra are always raised. Use
            ``"raise"`` in a pipeline with a docstore, which would regard skipped images as done.
        cache_path: SQLite file of results; the default is ``llama_index_mm_zhipu/ocr.sqlite3`` in LlamaIndex's cache
            folder.
        allow_urls: Whether images may be fetched from http(s) URLs.
        allow_private_urls: Whether these URLs may point into this machine or a private network.
        show_progress: Whether to show a progress bar.

    Raises:
        ImportError: No engine is given, and the extra ``ocr`` is not installed.

    Examples:
        >>> from llama_index_mm_zhipu.images import page_text_of
        >>> from llama_index_mm_zhipu.ingestion import OcrLine
        >>> ocr = ImageOcr(engine=lambda image: [OcrLine("胎压", (0.1, 0.1, 0.4, 0.2))])
        >>> [page] = ocr(read_folder("slides")[:1])
        >>> page_text_of(page), page.metadata["page_text_lines"]
        ('胎压', [{'text': '胎压', 'box': [0.1, 0.1, 0.4, 0.2], 'score': 1.0}])
    """

    engine: OcrEngine = Field(description="Returns the lines of an image.")
    longest_side: int = Field(default=LONGEST_SIDE, ge=32, description="Longer side in pixels of what is read.")
    min_score: float = Field(default=MIN_SCORE, ge=0, le=1, description="Lines with a lower score are dropped.")
    num_workers: int = Field(default=1, gt=0, description="Number of processes, or of threads.")
    overwrite: bool = Field(default=False, description="Whether to read images that have a page text.")
    on_error: OnError = Field(default="skip", description="What to do with images that fail: skip or raise.")
    cache_path: str | None = Field(default=None, description="SQLite file of results.")
    allow_urls: bool = Field(default=False, description="Whether images may be fetched from URLs.")
    allow_private_urls: bool = Field(default=False, description="Whether these URLs may be private.")
    show_progress: bool = Field(default=False, description="Whether to show a progress bar.")

    _skipped: Skipped = PrivateAttr(default_factory=Skipped)

    def __init__(self, engine: OcrEngine | None = None, cache_path: str | Path | None = None, **kwargs: Any) -> None:
        self._require_known_fields(kwargs)
        super().__init__(
            engine=engine if engine is not None else RapidOcrEngine(),
            cache_path=str(cache_path) if cache_path is not None else None,
            **kwargs,
        )

    @field_validator("engine", mode="before")
    @classmethod
    def _require_engine(cls, engine: Any) -> Any:
        if isinstance(engine, str):
            raise ValueError("give the engine itself; it is not stored: pass it again, as in from_dict(data, engine=…)")
        return engine

    @field_serializer("engine")
    def _serialized_engine(self, engine: OcrEngine) -> str | None:
        """Return the fingerprint; None for the default engine, which can be made again."""
        is_default = isinstance(engine, RapidOcrEngine) and engine.is_default
        return None if is_default else fingerprint_of(engine)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serializes this component."""
        return "ImageOcr"

    @property
    def skipped(self) -> Skipped:
        """Images that could not be read in the last run of this object, with reasons by node id."""
        return self._skipped

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Read the images among nodes.

        Args:
            nodes: Nodes of any kind; texts, and by default images with a page text, are returned as they are.
            **kwargs: ``show_progress`` overrides the setting; LlamaIndex may pass further ones, which are ignored.

        Returns:
            All nodes in the same order; images with text as copies.

        Raises:
            ImageError: An image cannot be read, and ``on_error="raise"``.
            OcrCacheError: The cache cannot be used.
            OcrEngineError: The engine cannot be used in worker processes.
        """
        run = self._new_run(nodes)
        run.read_all(show_progress=kwargs.get("show_progress", self.show_progress))
        return run.nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """As ``__call__``, in a worker thread; cancelling it stops the run after the images in work."""
        run = self._new_run(nodes)
        read_all = partial(run.read_all, show_progress=kwargs.get("show_progress", self.show_progress))
        running = asyncio.get_running_loop().run_in_executor(None, read_all)
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            run.stop()
            await asyncio.wait([running])
            raise
        return run.nodes

    def _new_run(self, nodes: Sequence[BaseNode]) -> _Run:
        run = _Run(self, nodes)
        self._skipped = run.skipped
        return run


class _Run:
    """One run over a list of nodes.

    Attributes:
        nodes: The nodes, with page texts as far as the run has come.
        skipped: Images that failed, with reasons by node id.
    """

    def __init__(self, ocr: ImageOcr, nodes: Sequence[BaseNode]) -> None:
        self.nodes = list(nodes)
        self.skipped = Skipped()
        self._ocr = ocr
        self._positions = [
            position
            for position, node in enumerate(nodes)
            if has_image(node) and (ocr.overwrite or not page_text_of(node))
        ]
        self._fingerprint = fingerprint_of(ocr.engine)
        self._urls = UrlRules(allowed=ocr.allow_urls, allow_private=ocr.allow_private_urls)
        self._stopped = threading.Event()
        self._processes: list[WorkerProcess] = []
        # Locks by cache key: a second equal image waits for the result of the first.
        self._locks: dict[str, threading.Lock] = {}

    def read_all(self, *, show_progress: bool) -> None:
        """Read the images with ``num_workers`` workers; their errors end the run."""
        if not self._positions:
            return
        self._cache = ResultCache(self._ocr.cache_path, name="ocr", column="lines", error=OcrCacheError)
        remaining = iter(self._positions)
        count = min(self._ocr.num_workers, len(self._positions))
        with tqdm(total=len(self._positions), desc="Reading text", unit="image", disable=not show_progress) as bar:
            if count == 1:
                self._work(remaining, self._in_this_process, bar)
            else:
                self._work_concurrently(remaining, count, bar)
        if self.skipped:
            logger.warning("%s", self.skipped.summary(len(self._positions)))

    def stop(self) -> None:
        """End the run: no further image is begun, and worker processes are killed."""
        self._stopped.set()
        for process in self._processes:
            process.kill()

    def _work_concurrently(self, remaining: Iterator[int], count: int, bar: tqdm[None]) -> None:
        engine, side = self._ocr.engine, self._ocr.longest_side
        if getattr(engine, "thread_safe", False):
            calls = [self._in_this_process] * count
        else:
            share = engine.for_workers(count) if hasattr(engine, "for_workers") else engine
            self._processes = [WorkerProcess(share, side) for _ in range(count)]
            calls = [process.recognize for process in self._processes]
        pool = ThreadPoolExecutor(count, thread_name_prefix="ImageOcr")
        try:
            working = [pool.submit(self._work, remaining, call, bar) for call in calls]
            for done in wait(working, return_when=FIRST_EXCEPTION).done:
                done.result()
        finally:
            # After an error or Ctrl-C too. Processes that have nothing more to do are idle.
            self.stop()
            pool.shutdown()
            for process in self._processes:
                process.close()

    def _work(self, remaining: Iterator[int], recognize: Any, bar: tqdm[None]) -> None:
        """Take positions from an iterator that all workers share, until none is left."""
        for position in remaining:
            if self._stopped.is_set():
                return
            node = self.nodes[position]
            try:
                self.nodes[position] = self._with_text(node, self._recognition(node, recognize))
            except _FATAL_ERRORS:
                raise
            # Engines raise errors of their own classes.
            except Exception as error:
                if self._stopped.is_set():
                    return
                if self._ocr.on_error == "raise":
                    raise
                self.skipped.add(node.node_id, f"{type(error).__name__}: {one_line(str(error))}")
            bar.update()

    def _recognition(self, node: BaseNode, recognize: Any) -> Recognition:
        """Return what is in an image from the cache, or read it and cache it, also if nothing is there."""
        content = read_bytes(node, urls=self._urls)
        key = self._key(content)
        with self._locks.setdefault(key, threading.Lock()):
            cached = self._cached(key)
            if cached is None:
                cached = recognize(content)
                self._cache.put(key, cached.to_json())
            return cached

    def _cached(self, key: str) -> Recognition | None:
        text = self._cache.get(key)
        try:
            return Recognition.from_json(text) if text is not None else None
        except ValueError:
            # A damaged entry is read again.
            return None

    def _key(self, content: bytes) -> str:
        """Return the cache key: a hash of the image's content, the engine, and what changes its result."""
        settings = f"longest_side={self._ocr.longest_side} format={_FORMAT}"
        parts = [hashlib.sha256(content).hexdigest(), self._fingerprint, settings]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _in_this_process(self, content: bytes) -> Recognition:
        return recognize_bytes(content, self._ocr.engine, self._ocr.longest_side)

    def _with_text(self, node: BaseNode, recognition: Recognition) -> BaseNode:
        """Return a copy of a node with the text of its image; the node itself if there is none."""
        lines = [line for line in recognition.lines if line.score >= self._ocr.min_score]
        if getattr(self._ocr.engine, "in_reading_order", False):
            text = "\n".join(line.text for line in lines)
        else:
            lines = _without_noise(lines)
            width, height = recognition.width, recognition.height
            if recognition.turn in (90, 270):
                width, height = height, width
            text = text_of_lines(turned_lines(lines, recognition.turn), width, height)
        if not text.strip():
            return node
        return with_page_text(node, text, OCR, [{**asdict(line), "box": list(line.box)} for line in lines])


def as_ocr(value: object, **settings: Any) -> ImageOcr | None:
    """Return the OCR that an argument ``ocr`` asks for; None for False.

    Args:
        value: False, True or ``"auto"`` for ``ImageOcr`` with the settings, or an ``ImageOcr``.
        **settings: Fields of ``ImageOcr``.

    Raises:
        ImportError: The extra ``ocr`` is not installed.
        TypeError: The value is something else.
    """
    if value is False or isinstance(value, ImageOcr):
        return value if isinstance(value, ImageOcr) else None
    if value is True or value == "auto":
        return ImageOcr(**settings)
    raise TypeError(f"ocr is {value!r:.60}; give True, False or an ImageOcr")


@contextmanager
def ocr_to_follow(follows: bool) -> Iterator[None]:
    """Tell readers that are iterated inside the block whether OCR reads the text in the images that they yield.

    Args:
        follows: Whether it does. Readers then log no warnings of images without text.
    """
    token = _follows.set(follows)
    try:
        yield
    finally:
        _follows.reset(token)


def is_ocr_to_follow() -> bool:
    """Return whether OCR reads the text in images that are yielded now."""
    return _follows.get()


def _without_noise(lines: Sequence[OcrLine]) -> list[OcrLine]:
    """Return lines without what engines see in photographs: boxes of the whole image, and single characters.

    Single characters between many lines are numbers of pages and in tables.
    """
    lines = [line for line in lines if line.text and _area(line) <= _MAX_AREA]
    longer = [line for line in lines if len(line.text) > 1]
    return lines if len(longer) >= _MANY_LINES else longer


def _area(line: OcrLine) -> float:
    left, top, right, bottom = line.box
    return (right - left) * (bottom - top)
