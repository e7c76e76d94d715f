"""The Ray dataset: parts are read by one task for each source, and pass through pools of actors to the driver."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata
from ray.exceptions import RayError

from llama_index_mm_zhipu.distributed.attempts import counted_attempts
from llama_index_mm_zhipu.distributed.checkpoint import stored_fingerprints
from llama_index_mm_zhipu.distributed.cluster import Nodes, this_machine
from llama_index_mm_zhipu.distributed.parts import Failure, Message, SourceEnd, StoredPart, cut_into_parts, dumps, loads
from llama_index_mm_zhipu.distributed.sources import DatasetSource
from llama_index_mm_zhipu.distributed.workers import MESSAGE, Worker
from llama_index_mm_zhipu.reporting import errors_only, report
from llama_index_mm_zhipu.stores.transfer.shards import MAX_INLINE_IMAGES

_READERS = 2
"""How many sources are read at a time."""

_PARTS_OF_ACTOR = 3
"""Parts in Ray's object store for each actor: the one in work, the next one, and the last one on its way."""

_MAX_INIT_DEATHS = 10
"""How many actors in a row may die while they start, before Ray gives up."""

_CHECK_SECONDS = 5.0
_PATIENCE_SECONDS = 120.0


class ProcessesLostError(RuntimeError):
    """Ray gave up because processes or machines were lost; what was embedded so far is stored.

    Attributes:
        summary: The beginning of the message, in one line.
    """

    def __init__(self, error: RayError) -> None:
        self.summary = f"Ray gave up ({type(error).__name__})"
        super().__init__(f"{self.summary}; run again, which continues: {error}")


class Pool(NamedTuple):
    """A pool of actors.

    Attributes:
        work: Pickled work, see ``Worker``.
        num_actors: How many actors; None for as many as fit.
        num_cpus: CPUs of each, and its number of threads.
        num_gpus: GPUs of each.
    """

    work: bytes
    num_actors: int | None
    num_cpus: float
    num_gpus: float

    @property
    def cpus(self) -> float:
        """CPUs of all actors, of at least one."""
        return (self.num_actors or 1) * self.num_cpus

    @property
    def gpus(self) -> float:
        """GPUs of all actors, of at least one."""
        return (self.num_actors or 1) * self.num_gpus


class PartReader:
    """Reads a source in a process on the driver's machine.

    Args:
        source: The source.
        max_nodes: Maximum number of records in a part.
        checkpoint: File of the checkpoint: parts that it has with the same fingerprint are not sent again.
    """

    def __init__(self, source: DatasetSource, max_nodes: int, checkpoint: Path) -> None:
        self._source = source
        self._max_nodes = max_nodes
        self._checkpoint = checkpoint.absolute()
        self._folder = str(Path.cwd())

    def __call__(self) -> Iterator[pa.Table]:
        """Yield a block for each message."""
        with _inside(self._folder):
            for message in self._messages():
                yield pa.table({MESSAGE: pa.array([dumps(message)], pa.binary())})

    def _messages(self) -> Iterator[Message]:
        source, parts = self._source.key, 0
        try:
            stored = stored_fingerprints(self._checkpoint, source)
            for part in cut_into_parts(source, self._source.iter_records(), self._max_nodes):
                parts += 1
                is_stored = stored.get(part.number) == part.fingerprint
                yield StoredPart(source, part.number) if is_stored else part
        except Exception as error:
            # The next stages and the driver see it in its turn.
            yield Failure(error)
            return
        yield SourceEnd(source, parts)


class _Sources(Datasource):
    """All sources, with a read task for each."""

    def __init__(self, readers: Sequence[PartReader]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._readers = readers

    def get_name(self) -> str:
        """Return the name in Ray's messages."""
        return "Images"

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is not known before reading."""
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return the read tasks."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(reader, unknown) for reader in self._readers]


def stream_messages(readers: Sequence[PartReader], pools: Sequence[Pool]) -> Generator[Message, None, None]:
    """Read, transform and embed parts, and yield them in the order in which they are done.

    Args:
        readers: The sources.
        pools: The actors of each stage, in order.

    Raises:
        ConnectionError: A machine was lost, and its actors have no room on the others.
        ProcessesLostError: Ray gave up. Another attempt may succeed.
    """
    nodes = Nodes(sum(pool.cpus for pool in pools), sum(pool.gpus for pool in pools))
    waited = 0.0
    with (
        errors_only("ray", "ray.data"),
        counted_attempts() as attempts,
        _Iteration(_dataset(readers, pools, attempts)) as rows,
    ):
        while (row := rows.next(_CHECK_SECONDS)) is not _Iteration.END:
            if isinstance(row, RayError):
                # It may take a moment until a lost machine is known to be lost.
                time.sleep(_CHECK_SECONDS)
                nodes.require_all()
                raise ProcessesLostError(row) from None
            if row is not None:
                waited = 0.0
                yield loads(row[MESSAGE])
                continue
            nodes.require_all()
            waited += _CHECK_SECONDS
            if waited == _PATIENCE_SECONDS:
                report(
                    f"No part was embedded for {waited:.0f} seconds: the actors may wait for CPUs that other jobs of "
                    "the Ray cluster use (see `ray status`)"
                )


def _dataset(readers: Sequence[PartReader], pools: Sequence[Pool], attempts: Any) -> Dataset:
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # While a machine is lost, Ray may give new actors to it, which die before they start.
    context.max_consecutive_actor_init_deaths = _MAX_INIT_DEATHS
    # A part is a row, and each row is a block of its own: blocks are what Ray distributes and repeats.
    context.target_max_block_size = 1
    limits = context.execution_options.resource_limits
    context.execution_options.resource_limits = limits.copy(object_store_memory=_store_bytes(pools))
    with DataContext.current(context):
        dataset: Dataset = ray.data.read_datasource(
            _Sources(readers),
            num_cpus=0,
            concurrency=min(_READERS, len(readers)),
            override_num_blocks=len(readers),
            label_selector=this_machine(),
        )
        for pool in pools:
            dataset = dataset.map_batches(
                Worker,
                fn_constructor_args=(pool.work, str(Path.cwd()), attempts),
                batch_size=1,
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus or None,
                compute=ActorPoolStrategy(size=pool.num_actors, max_tasks_in_flight_per_actor=2),
            )
    return dataset


class _Iteration:
    """The rows of a dataset, iterated in a thread, so that the driver can look after the cluster meanwhile."""

    END: Any = object()

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        # Finished parts wait in Ray's object store, not here.
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray-rows", daemon=True)
        self._threads_before: set[threading.Thread] = set()

    def __enter__(self) -> _Iteration:
        self._threads_before = set(threading.enumerate())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(_CHECK_SECONDS)
        if self._thread.is_alive():
            self._end_execution()
            self._thread.join(_CHECK_SECONDS)

    def _end_execution(self) -> None:
        """End Ray's thread that executes the dataset, while ours waits for a row that may never come.

        There is no public way. If it went on after ``ray.shutdown``, its next call would connect to the cluster again.
        """
        with contextlib.suppress(Exception):
            # Imported here, so that a version of Ray that moves it costs no more than this.
            from ray.data._internal.execution.streaming_executor import StreamingExecutor

            for thread in set(threading.enumerate()) - self._threads_before:
                if isinstance(thread, StreamingExecutor):
                    thread.shutdown(force=True)

    def next(self, seconds: float) -> Any:
        """Return the next row, ``END``, the error with which Ray gave up, or None if there is none within this time."""
        try:
            row = self._queue.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(row, BaseException) and not isinstance(row, RayError):
            raise row
        return row

    def _run(self) -> None:
        try:
            for row in self._dataset.iter_rows():
                if not self._put(row):
                    return
            self._put(self.END)
        except BaseException as error:
            self._put(error)

    def _put(self, row: Any) -> bool:
        """Hand a row over; return whether more are wanted."""
        while not self._stopped.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(row, timeout=0.5)
                return True
        return False


def _store_bytes(pools: Sequence[Pool]) -> int:
    """Return the bytes in the object store beyond which nothing more is read; Ray exceeds them by some parts."""
    return _PARTS_OF_ACTOR * MAX_INLINE_IMAGES * sum(pool.num_actors or 1 for pool in pools)


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    """Make a folder the current one during the block. The process runs nothing else."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
