"""``Exporter``: writes the nodes of a store into shards, and continues where an interrupted run ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, takewhile
from pathlib import Path

from llama_index.core.schema import BaseNode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.reporting import report
from llama_index_mm_zhipu.shared_folders import TEMPORARY, make_folder
from llama_index_mm_zhipu.stores.transfer.manifest import MANIFEST, Manifest, Precision, Shard, read_manifest
from llama_index_mm_zhipu.stores.transfer.shards import ROWS_AT_A_TIME, last_node_id, write_shard
from llama_index_mm_zhipu.vector_store.contract import MovableStore
from llama_index_mm_zhipu.vector_store.errors import StoreError

_SHARDS = "nodes-*.parquet"


@dataclass
class Exporter:
    """One run of ``export_index``.

    Attributes:
        source: The store.
        folder: Folder of the shards.
        vectors: Type of the numbers of vectors.
        nodes_per_shard: Maximum number of nodes in a shard.
        show_progress: Whether to show a progress bar.
    """

    source: MovableStore
    folder: Path
    vectors: Precision
    nodes_per_shard: int
    show_progress: bool

    def run(self) -> tuple[int, Manifest]:
        """Write the missing shards; return how many nodes were there before, and the manifest."""
        manifest = self._begin()
        kept = manifest.nodes
        return kept, manifest if manifest.is_complete else self._write(manifest)

    def _begin(self) -> Manifest:
        """Return a manifest with the shards of an earlier run that can be kept, after removing the others."""
        new = Manifest(self.vectors, self.source.dimension(), self.source.settings(), self.source.state_id())
        found = read_manifest(self.folder)
        if found is None:
            self._require_empty()
        elif found.is_part_of(new):
            new = self._intact(found)
            if new.is_complete:
                return new
        elif found.is_complete:
            raise ValueError(f"{self.folder} holds a finished export; choose another folder, or remove this one")
        else:
            reason = "has changed since" if found.source_state else "cannot tell whether it has changed since"
            report(f"Starting again: {self.folder} holds an unfinished export, and the store {reason}")
        make_folder(self.folder)
        new.save(self.folder)
        self._remove_all_but(new.shards)
        return new

    def _require_empty(self) -> None:
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds other files, and no {MANIFEST} of an export; choose another folder")

    def _intact(self, found: Manifest) -> Manifest:
        """Return the manifest with the shards before the first one that is damaged or missing."""
        intact = tuple(takewhile(lambda shard: shard.is_intact(self.folder), found.shards))
        is_complete = found.is_complete and len(intact) == len(found.shards)
        return replace(found, shards=intact, is_complete=is_complete)

    def _remove_all_but(self, shards: Sequence[Shard]) -> None:
        listed = {shard.file for shard in shards}
        for path in chain(self.folder.glob(_SHARDS), self.folder.glob(TEMPORARY)):
            if path.name not in listed:
                path.unlink(missing_ok=True)

    def _write(self, manifest: Manifest) -> Manifest:
        total = self.source.count()
        after = last_node_id(self.folder, manifest.shards[-1]) if manifest.shards else None
        nodes = chain.from_iterable(self.source.iter_nodes(ROWS_AT_A_TIME, after=after))
        with tqdm(total=total, desc="Exporting nodes", unit="node", disable=not self.show_progress) as bar:
            bar.update(manifest.nodes)
            while (first := next(nodes, None)) is not None:
                if first.embedding is None:
                    raise StoreError("the store lists its nodes without vectors: it cannot be exported")
                part = _counted(chain([first], islice(nodes, self.nodes_per_shard - 1)), bar)
                manifest = self._with_shard(manifest, part, len(first.embedding))
        self._require_unchanged(manifest.source_state)
        if manifest.nodes != total:
            raise _changed(f"it had {total:,} nodes, and listed {manifest.nodes:,}")
        manifest = replace(manifest, is_complete=True)
        manifest.save(self.folder)
        return manifest

    def _with_shard(self, manifest: Manifest, nodes: Iterable[BaseNode], dimension: int) -> Manifest:
        dimension = manifest.dimension or dimension
        name = _SHARDS.replace("*", f"{len(manifest.shards):05}")
        try:
            shard = write_shard(self.folder, name, nodes, dimension, self.vectors)
        except ValueError:
            # A node that was replaced meanwhile may be listed twice.
            self._require_unchanged(manifest.source_state)
            raise
        # A change is noticed at the next shard, not after hours at the end.
        self._require_unchanged(manifest.source_state)
        manifest = replace(manifest, dimension=dimension, shards=(*manifest.shards, shard))
        manifest.save(self.folder)
        return manifest

    def _require_unchanged(self, state: str | None) -> None:
        if self.source.state_id() != state:
            raise _changed("its nodes are no longer those of the shards before")


def _changed(what: str) -> StoreError:
    return StoreError(
        f"the store was changed while it was exported: {what}; export again while nothing writes to it, or export a "
        "copy (persist)"
    )


def _counted(nodes: Iterable[BaseNode], bar: tqdm[None]) -> Iterator[BaseNode]:
    for node in nodes:
        yield node
        bar.update()
