"""``embed_dataset``: embed a data set in the processes of a Ray cluster, and store every image once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from llama_index.core.embeddings import MultiModalEmbedding

from llama_index_mm_zhipu.arguments import as_path, explicit_arguments, in_range, require_choice, require_positive
from llama_index_mm_zhipu.distributed.checkpoint import CHECKPOINT, LOCK, Checkpoint
from llama_index_mm_zhipu.distributed.pipeline import Pool
from llama_index_mm_zhipu.distributed.run import EmbedReport, Run
from llama_index_mm_zhipu.distributed.sinks import IndexSink, ShardSink, Sink
from llama_index_mm_zhipu.distributed.sources import SourceInput, sources_of
from llama_index_mm_zhipu.distributed.workers import Embed, Stage, Transform, pickled, require_shares
from llama_index_mm_zhipu.embedding.contract import fingerprint_of
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.settings import multimodal_or_default
from llama_index_mm_zhipu.shared_folders import make_folder, stale_files, write_lock
from llama_index_mm_zhipu.stores.transfer.manifest import Precision
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.contract import CAPTION_WEIGHT, MODEL
from llama_index_mm_zhipu.vector_store.errors import StoreError


@explicit_arguments
def embed_dataset(
    source: SourceInput,
    embed_model: MultiModalEmbedding | None,
    sink: str | Path | ImageIndex,
    *,
    stages: Sequence[Stage] = (),
    caption_weight: float | None = None,
    on_error: OnError = "skip",
    num_actors: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    nodes_per_shard: int = 256,
    vectors: Precision = "float32",
    checkpoint_dir: str | Path | None = None,
    retry_skipped: bool = False,
    address: str | None = None,
    show_progress: bool = True,
) -> EmbedReport:
    """Embed the images of data sets in many processes, on one machine or on a Ray cluster.

    The sources are read on this machine, part by part. Actors, each with its own copy of the model, embed the parts;
    this process stores them. If an actor or another machine dies, its parts are embedded again. If the run is
    interrupted or killed, the same call continues it: parts that are stored with the same content are not embedded
    again. Each image is stored once, however often that happens. docs/en/guides/distributed.md has the details.

    Args:
        source: A folder of images, a JSON Lines file, a ``DatasetSource`` (any reader with what it reads), or several
            of these. Images that are files must have the same path on all machines.
        embed_model: Model for images and captions, usually ``ChineseClipEmbedding``; by default
            ``Settings.embed_model`` if that is a multimodal one. Its weights must be on all machines, under the same
            path or official name.
        sink: A folder for Parquet shards, which ``import_index`` adds to any store, one file for each part; or an
            index, which stores the images at once. Parts of other sources that are there stay.
        stages: Transformations before embedding, each in actors of its own, such as ``Stage(ImageOcr())``.
        caption_weight: Share of the caption in a captioned image's vector, 0 to 1. None takes that of the index, or 0
            for shards and a new index, because it is not known beforehand whether all images have captions.
        on_error: ``"skip"`` images and records that cannot be read and list them, or ``"raise"`` at the first one.
        num_actors: How many processes embed; None takes as many as fit into the cluster. Each needs about 1 GB.
        num_cpus: CPUs of each, and its number of threads. Processes with one thread each are the fastest on CPUs.
        num_gpus: GPUs of each, such as 1, or 0.5 if two processes share one; give ``num_cpus`` some more, which decode
            images.
        nodes_per_shard: Maximum number of images in a part. A part is what is lost if an actor dies.
        vectors: Type of the numbers in shards; ``"float16"`` halves their size, and rounds to three digits.
        checkpoint_dir: For an index: folder that records which parts are stored. Without it, an interrupted run starts
            again. Shards have it in their folder.
        retry_skipped: Whether to embed parts again from which an earlier run left out images, such as URLs that could
            not be reached, or in which a stage failed.
        address: Address of a Ray cluster, such as ``"10.0.0.1:6379"``. None takes the one that this process is
            connected to, or that in ``RAY_ADDRESS``, or starts one on this machine.
        show_progress: Whether to show a progress bar.

    Returns:
        Numbers of stored, kept and skipped images.

    Raises:
        ConnectionError: There is no cluster at the address, or a machine was lost without which the actors do not fit.
        FileNotFoundError: A source does not exist, or the folder of its images is not on all machines.
        ImageError: An image cannot be read, with ``on_error="raise"``.
        ModelMismatchError: The parts that are stored, or the weights of a machine, are of another model.
        RecordError: A record cannot be used, with ``on_error="raise"``; or a source changed while it was read.
        StoreError: Another process writes to the folder, or the store cannot be written to.
        TypeError: An argument has another type, or something cannot be pickled.
        ValueError: There is nothing to embed, the parts that are stored were made with other settings, or the actors
            do not fit into the cluster.

    Examples:
        >>> from llama_index_mm_zhipu.distributed import embed_dataset
        >>> report = embed_dataset("images", embed_model, "shards", num_actors=1, show_progress=False)
        >>> report.nodes, report.shards, report.skipped.count
        (12, 1, 0)
    """
    require_choice(on_error, "on_error", "raise", "skip")
    require_choice(vectors, "vectors", "float32", "float16")
    in_range(caption_weight, "caption_weight", 0, 1)
    require_positive(nodes_per_shard, "nodes_per_shard")
    if num_actors is not None:
        require_positive(num_actors, "num_actors")
    require_shares(num_cpus, num_gpus)
    started = time.monotonic()
    sources = sources_of(source)
    model = multimodal_or_default(embed_model)
    weight = _caption_weight_for(sink, caption_weight)
    fingerprint = fingerprint_of(model)
    embed = Embed(model, fingerprint, weight, on_error)
    pools = [_pool_of(stage) for stage in stages]
    pools.append(Pool(pickled(embed, "embed_model"), num_actors, num_cpus, num_gpus))
    settings = {
        MODEL: fingerprint,
        CAPTION_WEIGHT: weight,
        "vectors": vectors,
        "nodes_per_shard": nodes_per_shard,
        "stages": [type(stage.transformation).__name__ for stage in stages],
    }
    target = _sink_of(sink, model, vectors, weight)
    folder = _checkpoint_folder(sink, checkpoint_dir)
    target.check()
    with _checkpoint_in(folder) as checkpoint:
        run = Run(sources, target, checkpoint, on_error, show_progress, retry_skipped)
        run.begin(settings)
        run.embed(pools, nodes_per_shard, address)
        return run.finish(started)


def _caption_weight_for(sink: str | Path | ImageIndex, given: float | None) -> float:
    recorded = sink.caption_weight if isinstance(sink, ImageIndex) else None
    if None not in (recorded, given) and recorded != given:
        raise ValueError(f"the index was built with caption_weight {recorded}, not {given}; leave the argument out")
    return recorded if recorded is not None else given or 0.0


def _pool_of(stage: Stage) -> Pool:
    name = type(stage.transformation).__name__
    return Pool(pickled(Transform(stage.transformation), name), stage.num_actors, stage.num_cpus, stage.num_gpus)


def _sink_of(
    sink: str | Path | ImageIndex, model: MultiModalEmbedding, vectors: Precision, caption_weight: float
) -> Sink:
    if isinstance(sink, ImageIndex):
        if vectors != "float32":
            raise ValueError('vectors="float16" is for shards; an index stores what its stores do')
        return IndexSink(sink, caption_weight)
    dimension = len(model.get_query_embedding("图"))
    return ShardSink(as_path(sink, "sink"), dimension, vectors)


def _checkpoint_folder(sink: str | Path | ImageIndex, given: str | Path | None) -> Path | None:
    """Return the folder of the checkpoint: that of the shards, or the given one, if any, for an index."""
    if isinstance(sink, ImageIndex):
        return None if given is None else as_path(given, "checkpoint_dir")
    if given is not None:
        raise ValueError("checkpoint_dir is for an index; shards have their checkpoint in their folder")
    return as_path(sink, "sink")


@contextmanager
def _checkpoint_in(folder: Path | None) -> Iterator[Checkpoint]:
    """Open the checkpoint in a folder, and lock the folder; without a folder, in a temporary one.

    Raises:
        StoreError: Another process writes to the folder.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_folder(folder)
        _require_unlocked(folder)
        stack.enter_context(write_lock(folder / LOCK))
        yield stack.enter_context(closing(Checkpoint(folder / CHECKPOINT)))


def _require_unlocked(folder: Path) -> None:
    with stale_files(folder, LOCK) as stale:
        if (folder / LOCK).exists() and not stale:
            raise StoreError(f"another process embeds into {folder}; wait until it ends, or choose another folder")
