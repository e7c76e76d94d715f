"""``Exporter``: writes the nodes of a store into shards, and continues where an interrupted run ended."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice, takewhile
from pathlib import Path

from llama_index.core.schema import BaseNode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.reporting import Skipped, report
from llama_index_mm_zhipu.shared_folders import TEMPORARY, make_folder
from llama_index_mm_zhipu.stores.image_storage import missing_image_of
from llama_index_mm_zhipu.stores.transfer.manifest import MANIFEST, Manifest, Precision, Shard, read_manifest
from llama_index_mm_zhipu.stores.transfer.shards import last_node_id, write_shard
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.contract import MovableStore
from llama_index_mm_zhipu.vector_store.errors import StoreError

logger = logging.getLogger(__name__)

_SHARDS = "nodes-*.parquet"

_LISTED_AT_A_TIME = 32
"""Nodes in one batch of the store. Each may hold an image of megabytes."""


@dataclass
class Exporter:
    """One run of ``export_index``.

    Attributes:
        source: The store.
        folder: Folder of the shards.
        vectors: Type of the numbers of vectors.
        nodes_per_shard: Maximum number of nodes in a shard.
        on_error: What to do with nodes whose images are missing.
        show_progress: Whether to show a progress bar.
        kept: Number of nodes in shards of an earlier run.
    """

    source: MovableStore
    folder: Path
    vectors: Precision
    nodes_per_shard: int
    on_error: OnError
    show_progress: bool
    kept: int = 0
    _skipped: dict[str, str] = field(init=False, default_factory=dict)

    def run(self) -> Manifest:
        """Write the missing shards; return the manifest."""
        manifest = self._begin()
        self.kept = manifest.nodes
        self._skipped = dict(manifest.skipped)
        if not manifest.is_complete:
            manifest = self._write(manifest)
        if self._skipped:
            logger.warning("%s", skipped_nodes(manifest).summary(manifest.nodes + len(self._skipped), "nodes"))
        return manifest

    # The folder

    def _begin(self) -> Manifest:
        """Return a manifest with the shards of an earlier run that can be kept, after removing the others."""
        new = Manifest(self.vectors, self.source.dimension(), self.source.settings(), self.source.state_id())
        found = read_manifest(self.folder)
        if found is None:
            self._require_empty()
        elif (reason := self._difference(found, new)) is None:
            new = self._intact(found)
            if new.is_complete:
                return new
        elif found.is_complete:
            raise ValueError(
                f"{self.folder} holds a finished export, and {reason}; choose another folder, or remove this one"
            )
        else:
            report(f"Starting again: {self.folder} holds an unfinished export, and {reason}")
        make_folder(self.folder)
        new.save(self.folder)
        self._remove_all_but(new.shards)
        return new

    def _require_empty(self) -> None:
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds other files, and no {MANIFEST} of an export; choose another folder")

    def _difference(self, found: Manifest, new: Manifest) -> str | None:
        """Return why the shards that are there are not the first ones of a new export; None if they are."""
        if found.source_state is None:
            return "the store cannot tell whether it has changed since"
        if (found.source_state, found.settings) != (new.source_state, new.settings):
            return "the store has changed since"
        if found.vectors != new.vectors:
            return f"its vectors are {found.vectors}"
        if found.skipped and self.on_error == "raise":
            return "it lacks nodes whose images are missing"
        return None

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

    # The nodes

    def _write(self, manifest: Manifest) -> Manifest:
        total = self.source.count()
        # The listing is a transaction in some stores, which must not outlive an error.
        with closing(self._nodes_after(manifest)) as nodes, self._bar(total) as bar:
            bar.update(manifest.nodes)
            while (first := next(nodes, None)) is not None:
                part = _counted(chain([first], islice(nodes, self.nodes_per_shard - 1)), bar)
                manifest = self._with_shard(manifest, part, len(first.embedding or ()))
        self._require_unchanged(manifest.source_state)
        listed = manifest.nodes + len(self._skipped)
        if listed != total:
            raise _changed(f"it had {total:,} nodes, and listed {listed:,}")
        manifest = replace(manifest, skipped=self._skipped, is_complete=True)
        manifest.save(self.folder)
        return manifest

    def _bar(self, total: int) -> tqdm[None]:
        return tqdm(total=total, desc="Exporting nodes", unit="node", disable=not self.show_progress)

    def _nodes_after(self, manifest: Manifest) -> Generator[BaseNode, None, None]:
        """Yield the nodes after those of the shards, with their images."""
        after = last_node_id(self.folder, manifest.shards[-1]) if manifest.shards else None
        for batch in self.source.iter_nodes(_LISTED_AT_A_TIME, after=after):
            for node in self.source.with_images_inline(batch):
                if node.embedding is None:
                    raise StoreError("the store lists its nodes without vectors: it cannot be exported")
                if self._is_whole(node):
                    yield node

    def _is_whole(self, node: BaseNode) -> bool:
        """Return whether a node has its image; list it as skipped if not.

        Raises:
            StoreError: It has not, and ``on_error`` is ``"raise"``.
        """
        # An image may have been restored since an earlier run.
        self._skipped.pop(node.node_id, None)
        missing = missing_image_of(node)
        if missing is None:
            return True
        if self.on_error == "raise":
            raise StoreError(
                f'the image of node {one_line(node.node_id)} cannot be exported: {missing}; or give on_error="skip", '
                "which leaves such nodes out"
            )
        self._skipped[node.node_id] = missing
        return False

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
        shards = (*manifest.shards, shard)
        manifest = replace(manifest, dimension=dimension, shards=shards, skipped=dict(self._skipped))
        manifest.save(self.folder)
        return manifest

    def _require_unchanged(self, state: str | None) -> None:
        if self.source.state_id() != state:
            raise _changed("its nodes are no longer those of the shards before")


def skipped_nodes(manifest: Manifest) -> Skipped:
    """Return the nodes that an export left out, with the reason for each."""
    skipped = Skipped()
    for node_id, reason in manifest.skipped.items():
        skipped.add(node_id, reason)
    return skipped


def _changed(what: str) -> StoreError:
    return StoreError(
        f"the store was changed while it was exported: {what}; export again while nothing writes to it, or export a "
        "copy of it"
    )


def _counted(nodes: Iterable[BaseNode], bar: tqdm[None]) -> Iterator[BaseNode]:
    for node in nodes:
        yield node
        bar.update()
