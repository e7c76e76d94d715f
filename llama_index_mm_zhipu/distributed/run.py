"""One run of ``embed_dataset`` in the driver: what is stored already, what comes from the actors, and the report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from llama_index_mm_zhipu.distributed.checkpoint import Checkpoint, PartEntry
from llama_index_mm_zhipu.distributed.cluster import actors_that_fit, connected, require_resources
from llama_index_mm_zhipu.distributed.parts import Failure, Part, SkippedImage, SourceEnd, StoredPart
from llama_index_mm_zhipu.distributed.pipeline import PartReader, Pool, ProcessesLostError, stream_messages
from llama_index_mm_zhipu.distributed.sinks import Sink, StoredParts
from llama_index_mm_zhipu.distributed.sources import DatasetSource
from llama_index_mm_zhipu.embedding.nodes import image_bar
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.reporting import Skipped, report, reported_when_slow
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.contract import CAPTION_WEIGHT, MODEL, PRECISION, TEXTS_APART
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError, StoreError

_MAX_LISTED = 20

_MAX_FAILURES = 3
"""How often in a row Ray may give up before a part is stored."""


@dataclass(frozen=True)
class EmbedReport:
    """What ``embed_dataset`` did.

    Attributes:
        nodes: How many images of the sources are stored now.
        kept: How many of these an earlier run had stored.
        skipped: Images that were left out, with reasons by node id or position: the first 20. ``skipped.count`` is the
            number of all; the file ``skipped.parquet`` beside the shards lists them.
        incomplete: Images that are stored without the result of a stage, such as those whose text could not be read: as
            ``skipped``. The column ``stage`` of the file names the transformation.
        shards: Number of files; 0 for an index.
        bytes: Size of the files in bytes.
        seconds: Duration in seconds, with starting the actors.

    Examples:
        >>> from llama_index_mm_zhipu.distributed import embed_dataset
        >>> report = embed_dataset("images", embed_model, "shards", num_actors=1, show_progress=False)
        >>> report.nodes, report.kept, report.shards, report.bytes > 0
        (12, 0, 1, True)
    """

    nodes: int
    kept: int
    skipped: Skipped
    incomplete: Skipped
    shards: int
    bytes: int
    seconds: float


@dataclass
class Run:
    """One run.

    Attributes:
        sources: What is read.
        sink: Where parts go.
        checkpoint: Which parts are stored.
        on_error: What to do with images that were left out.
        show_progress: Whether to show a progress bar.
        retry_skipped: Whether to embed parts again with images that were left out or are incomplete.
    """

    sources: Sequence[DatasetSource]
    sink: Sink
    checkpoint: Checkpoint
    on_error: OnError
    show_progress: bool
    retry_skipped: bool
    _kept: int = field(init=False, default=0)
    _ends: dict[str, int] = field(init=False, default_factory=dict)
    _stored_now: set[tuple[str, int]] = field(init=False, default_factory=set)

    @property
    def _keys(self) -> list[str]:
        return [source.key for source in self.sources]

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Compare the settings with those of stored parts, and forget parts that are no longer there.

        Raises:
            ModelMismatchError: The stored parts were embedded with another model.
            ValueError: They were made with other settings.
        """
        # A run that ended before its first part, such as one with too many actors, binds no later one.
        recorded = {} if self.checkpoint.is_empty() else self.checkpoint.settings()
        for key, value in settings.items():
            if recorded.get(key, value) == value:
                continue
            folder = self.checkpoint.path.parent
            if key == MODEL:
                raise ModelMismatchError(
                    f"the parts in {folder} were embedded with the model {recorded[key]}, not {value}; choose another "
                    "folder"
                )
            raise ValueError(f"the parts in {folder} were made with {key}={recorded[key]!r}, not {value!r}")
        self.checkpoint.set_settings(settings)
        if self.retry_skipped:
            self.checkpoint.remove([entry for entry in self._entries() if entry.skipped or entry.incomplete])
        entries = list(self.checkpoint.entries(self.checkpoint.sources()))
        with reported_when_slow(f"Checking {len(entries):,} stored parts …"):
            lost = [entry for entry in entries if not self.sink.has(entry.shard)]
        if not self.sink.has_nodes(sum(entry.nodes for entry in entries)):
            lost = entries
        if lost:
            report(f"Embedding again {len(lost):,} of {len(entries):,} parts, which are damaged or no longer stored")
            self.checkpoint.remove(lost)

    def embed(self, pools: Sequence[Pool], nodes_per_part: int, address: str | None) -> None:
        """Read, embed and store what is not stored yet.

        Args:
            pools: The actors of each stage; the last ones embed, and are as many as fit if that is not given.
            nodes_per_part: Maximum number of images in a part.
            address: Address of the Ray cluster, see ``embed_dataset``.
        """
        readers = [PartReader(source, nodes_per_part, self.checkpoint.path) for source in self.sources]
        with connected(address, sum(pool.cpus for pool in pools)):
            pools = _with_number_of_actors(pools)
            require_resources(sum(pool.cpus for pool in pools), sum(pool.gpus for pool in pools))
            self.checkpoint.begin_sources(self._keys)
            self._embed_stubbornly(readers, pools)

    def _embed_stubbornly(self, readers: Sequence[PartReader], pools: Sequence[Pool]) -> None:
        """Embed what is not stored yet, also if Ray gives up, as it does if an actor dies while it starts.

        Raises:
            ProcessesLostError: Ray gave up several times in a row before a part was stored.
        """
        failures = 0
        while True:
            stored = len(self._stored_now)
            try:
                self._embed_once(readers, pools)
                return
            except ProcessesLostError as error:
                failures = failures + 1 if len(self._stored_now) == stored else 1
                if failures == _MAX_FAILURES:
                    raise
                report(f"{error.summary}; continuing with what is not stored yet")

    def _embed_once(self, readers: Sequence[PartReader], pools: Sequence[Pool]) -> None:
        self._kept = 0
        messages = stream_messages(readers, pools)
        with closing(messages), image_bar(None, self.show_progress) as bar:
            for message in messages:
                bar.update(self._take(message))

    def finish(self, started: float) -> EmbedReport:
        """Complete the sink and return the report.

        Args:
            started: ``time.monotonic()`` at the beginning.

        Raises:
            RuntimeError: A part did not arrive.
            ValueError: There is no image.
        """
        entries = self._finished_entries()
        skipped, incomplete = self._skipped_and_incomplete()
        nodes = sum(entry.nodes for entry in entries)
        if not nodes:
            reason = next(iter(skipped.values()), f"no images in {', '.join(str(each.path) for each in self.sources)}")
            raise ValueError(f"nothing to embed: {reason}")
        self.sink.finish(self._stored_parts())
        if not self.sink.has_nodes(nodes):
            raise StoreError("the store has fewer images than were added: sources have the same ids, or it was changed")
        own = [entry.shard for entry in entries if entry.shard is not None]
        size, seconds = sum(shard.bytes for shard in own), time.monotonic() - started
        return EmbedReport(nodes, self._kept, skipped, incomplete, len(own), size, seconds)

    def _finished_entries(self) -> list[PartEntry]:
        """Return the parts of the sources, after recording that these are finished."""
        entries = [entry for entry in self._entries() if entry.number < self._ends[entry.source]]
        if len(entries) != sum(self._ends.values()):
            raise RuntimeError(f"{len(entries)} of {sum(self._ends.values())} parts are stored; run again")
        for source, parts in self._ends.items():
            self.checkpoint.end_source(source, parts)
        return entries

    def _stored_parts(self) -> StoredParts:
        checkpoint, sources = self.checkpoint, self.checkpoint.sources()
        shards = [entry.shard for entry in checkpoint.entries(sources) if entry.shard is not None]
        skipped, unfinished = checkpoint.skipped(sources), checkpoint.unfinished_sources()
        return StoredParts(shards, skipped, self._store_settings(), unfinished)

    def _entries(self) -> list[PartEntry]:
        return list(self.checkpoint.entries(self._keys))

    def _take(self, message: object) -> int:
        """Store a part; return the number of its images, skipped ones included.

        Raises:
            Exception: What went wrong in another process.
        """
        if isinstance(message, Part):
            self._store(message)
            return message.size
        if isinstance(message, SourceEnd):
            self._ends[message.source] = message.parts
        elif isinstance(message, Failure):
            raise _located(message)
        elif isinstance(message, StoredPart):
            entry = self.checkpoint.entry(message.source, message.number)
            if (entry.skipped or entry.incomplete) and self.on_error == "raise":
                raise _error_of(next(self.checkpoint.skipped([message.source])))
            if (message.source, message.number) not in self._stored_now:
                self._kept += entry.nodes
            return entry.nodes + entry.skipped
        return 0

    def _store(self, part: Part) -> None:
        if part.skipped and self.on_error == "raise":
            raise _error_of(part.skipped[0])
        shard = self.sink.write(part)
        found: dict[str, Any] = {PRECISION: part.precision} if part.precision else {}
        if part.has_texts_apart:
            found[TEXTS_APART] = True
        self.checkpoint.add(part, shard, found)
        self._stored_now.add((part.source, part.number))

    def _skipped_and_incomplete(self) -> tuple[Skipped, Skipped]:
        skipped, incomplete = Skipped(_MAX_LISTED), Skipped(_MAX_LISTED)
        for image in self.checkpoint.skipped(self._keys):
            (incomplete if image.stage else skipped).add(image.name, image.reason)
        return skipped, incomplete

    def _store_settings(self) -> dict[str, Any]:
        """Return what a store records of its vectors."""
        recorded = self.checkpoint.settings()
        return {key: recorded[key] for key in (MODEL, CAPTION_WEIGHT, PRECISION, TEXTS_APART) if key in recorded}


def _with_number_of_actors(pools: Sequence[Pool]) -> list[Pool]:
    """Return the pools with as many embedding actors as fit beside those of the stages, if none are given."""
    *stages, embedding = pools
    if embedding.num_actors is None:
        reserved = sum(pool.cpus for pool in stages)
        fitting = actors_that_fit(embedding.num_cpus, embedding.num_gpus, reserved)
        embedding = embedding._replace(num_actors=fitting)
    return [*stages, embedding]


def _error_of(image: SkippedImage) -> RecordError:
    return RecordError(image.name, f"{image.stage}: {image.reason}" if image.stage else image.reason)


def _located(failure: Failure) -> Exception:
    """Return the error of another process, whose message names the machine."""
    error = failure.error
    if failure.host and len(error.args) == 1:
        error.args = (f"{error.args[0]} (on {failure.host})",)
    return error
