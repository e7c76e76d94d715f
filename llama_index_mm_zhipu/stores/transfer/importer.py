"""``Importer``: adds the nodes of shards to a store, and leaves out what the store has already."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import BaseNode
from tqdm.auto import tqdm

from llama_index_mm_zhipu.images import as_image_node, has_image
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.stores.transfer.manifest import MANIFEST, Manifest, Shard, read_manifest
from llama_index_mm_zhipu.stores.transfer.shards import ShardRow, read_shard
from llama_index_mm_zhipu.text import counted
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store.contract import CAPTION_WEIGHT, MODEL, PRECISION, MovableStore
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError, StoreError
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

logger = logging.getLogger(__name__)


@dataclass
class Importer:
    """One run of ``import_index``.

    Attributes:
        folder: Folder of the shards.
        manifest: What the folder holds.
        target: The store.
        batch_size: How many nodes are written together.
        on_error: What to do with nodes that cannot be read or stored.
        show_progress: Whether to show a progress bar.
        written: Number of nodes that were written.
        kept: Number of nodes that the store had already.
        new: How many of the written nodes had ids that the store did not have.
        skipped: Nodes that were left out.
    """

    folder: Path
    manifest: Manifest
    target: MovableStore
    batch_size: int
    on_error: OnError
    show_progress: bool
    written: int = 0
    kept: int = 0
    new: int = 0
    skipped: Skipped = field(default_factory=Skipped)
    _is_fresh: bool = field(init=False, default=False)
    _settings: dict[str, Any] = field(init=False, default_factory=dict)

    def check(self) -> None:
        """Compare vectors and settings of the shards with those of the store; nothing is written.

        Raises:
            ModelMismatchError: The store has vectors of another model or dimension.
            ValueError: The images in the store have another caption weight.
        """
        self._require_same_vectors()
        self._is_fresh = self.target.is_empty()
        self._settings = self._settings_to_record()

    def run(self) -> None:
        """Write the nodes of all shards, after ``check``."""
        # Stores that do not list nodes do not count them either.
        is_countable = self.target.lists_nodes
        before = self.target.count() if is_countable else 0
        # This may record the model in the store, so it comes after all checks.
        if (model := self.manifest.settings.get(MODEL)) is not None:
            self.target.require_model(model)
        try:
            self._write_shards()
        except KeyboardInterrupt:
            logger.warning("interrupted: %s nodes are stored; import again to continue", self.written + self.kept)
            raise
        if is_countable:
            self._require_all(before + self.new)
        self.target.checkpoint()
        if self.skipped:
            logger.warning("%s", self.skipped.summary(self.manifest.nodes, "nodes"))

    def _write_shards(self) -> None:
        total, is_hidden = self.manifest.nodes, not self.show_progress
        with tqdm(total=total, desc="Importing nodes", unit="node", disable=is_hidden) as bar:
            for shard in self.manifest.shards:
                for rows in read_shard(self.folder, shard, self.manifest.dimension, self.batch_size):
                    self._put(self._nodes_of(rows, shard), shard)
                    bar.update(len(rows))

    def _require_same_vectors(self) -> None:
        dimension, theirs = self.target.dimension(), self.manifest.dimension
        if None not in (dimension, theirs) and dimension != theirs:
            raise ModelMismatchError(
                f"the vectors in {self.folder} have dimension {theirs}, the store's {dimension}; import into another "
                "store"
            )
        model, recorded = self.manifest.settings.get(MODEL), self.target.get_setting(MODEL)
        if None not in (model, recorded) and model != recorded:
            raise ModelMismatchError(
                f"the vectors in {self.folder} were made by the model {model}, the store is that of {recorded}; import "
                "into another store, or clear() this one"
            )
        if model is None and recorded is not None:
            logger.warning("%s does not say which model made the vectors; the store has %s", self.folder, recorded)

    def _settings_to_record(self) -> dict[str, Any]:
        """Return the settings of the shards that the store lacks.

        Raises:
            ValueError: The images in the store have another caption weight.
        """
        theirs = {key: value for key, value in self.manifest.settings.items() if key != MODEL}
        if self._is_fresh:
            return theirs
        own = {key: value for key in theirs if (value := self.target.get_setting(key)) is not None}
        differing = {key for key in theirs if own.get(key, theirs[key]) != theirs[key]}
        if CAPTION_WEIGHT in differing:
            raise ValueError(
                f"the vectors in {self.folder} have caption_weight {theirs[CAPTION_WEIGHT]}, those in the store "
                f"{own[CAPTION_WEIGHT]}: they would not rank side by side; import into another store"
            )
        if PRECISION in differing:
            logger.warning("the new vectors are in %s, the store's first in %s", theirs[PRECISION], own[PRECISION])
        return {key: value for key, value in theirs.items() if key not in own}

    def _nodes_of(self, rows: Iterable[ShardRow], shard: Shard) -> list[BaseNode]:
        nodes = []
        for row in rows:
            try:
                nodes.append(row.node())
            except ValueError as error:
                if self.on_error == "raise":
                    raise _of_shard(error, shard) from None
                self._skip(row.node_id, error)
        return nodes

    def _put(self, nodes: list[BaseNode], shard: Shard) -> None:
        """Write the nodes of a batch that the store does not have like this."""
        if self._is_fresh:
            self._add(nodes, set(), shard)
            return
        found = self.target.get_nodes([node.node_id for node in nodes], include_embeddings=True)
        stored = {each.node_id: each for each in self.target.with_images_inline(found)}
        # Settings are recorded together with nodes.
        is_kept = [not self._settings and _are_equal(node, stored.get(node.node_id)) for node in nodes]
        self.kept += sum(is_kept)
        self._add([node for node, kept in zip(nodes, is_kept, strict=True) if not kept], set(stored), shard)

    def _add(self, nodes: Sequence[BaseNode], known: set[str], shard: Shard) -> None:
        """Add nodes; with ``on_error="skip"``, without those that the store refuses.

        Args:
            nodes: The nodes, which may be none.
            known: Ids that the store has.
            shard: Where the nodes come from.
        """
        if not nodes:
            return
        try:
            self.target.add(nodes, settings=self._settings)
        except ModelMismatchError:
            raise
        except ValueError as error:
            if self.on_error == "raise":
                raise _of_shard(error, shard) from None
            if len(nodes) == 1:
                self._skip(nodes[0].node_id, error)
                return
            # A store takes all nodes of a call or none.
            middle = len(nodes) // 2
            self._add(nodes[:middle], known, shard)
            self._add(nodes[middle:], known, shard)
            return
        self._settings = {}
        self.written += len(nodes)
        self.new += sum(node.node_id not in known for node in nodes)

    def _skip(self, node_id: str, error: ValueError) -> None:
        self.skipped.add(node_id, _reason(error))

    def _require_all(self, expected: int) -> None:
        count = self.target.count()
        if count < expected:
            raise StoreError(
                f"the store has {count:,} nodes after the import, {expected:,} were expected: an id is in the shards "
                "twice, or nodes were deleted meanwhile; import again to add what is missing"
            )


def finished_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder with shards.

    Raises:
        FileNotFoundError: There is none.
        StoreError: The export is not finished, or the manifest cannot be read.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise FileNotFoundError(
            f"no {MANIFEST} in {folder}: export_index writes one, and write_manifest for shards of other programs"
        )
    if not manifest.is_complete:
        raise StoreError(
            f"{folder} holds an unfinished export of {counted(manifest.nodes, 'node')}; run export_index or "
            "embed_dataset again"
        )
    return manifest


def _of_shard(error: ValueError, shard: Shard) -> ValueError:
    return ValueError(f'{_reason(error)} (in shard {shard.file}; on_error="skip" leaves such nodes out)')


def _reason(error: ValueError) -> str:
    # What a store says of one call: the nodes of other calls were added.
    return re.sub("[;,] nothing was added$", "", str(error))


def _are_equal(node: BaseNode, stored: BaseNode | None) -> bool:
    if stored is None or not np.array_equal(_vector_of(stored), _vector_of(node)):
        return False
    return _json_of(stored) == _json_of(node)


def _json_of(node: BaseNode) -> str:
    # Other stores keep documents with images as image nodes.
    return (as_image_node(node) if has_image(node) else node).model_dump_json(exclude={"embedding"})


def _vector_of(node: BaseNode) -> Vectors:
    return np.asarray(node.embedding or (), dtype=np.float32)
