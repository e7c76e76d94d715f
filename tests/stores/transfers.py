"""What tests of moving between stores share: nodes, calls, and looks at stores and shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import (
    BaseNode,
    TextNode,
)

from llama_index_mm_zhipu.stores import (
    TransferReport,
    export_index,
    import_index,
)

SETTINGS = {"caption_weight": 0.5, "precision": "bf16", "texts_apart": True, "own": {"a": [1, "二"]}}
DIMENSION = 6
SHARDS = ["nodes-00000.parquet", "nodes-00001.parquet", "nodes-00002.parquet"]


def vector(number: int) -> list[float]:
    return np.float32(np.cos(np.arange(1, DIMENSION + 1) * (number + 1))).tolist()


def texts(count: int, start: int = 0) -> list[BaseNode]:
    return [
        TextNode(id_=f"n{i}", text=f"第{i}页 飞机", embedding=vector(i), metadata={"page": i})
        for i in range(start, start + count)
    ]


def export(store: Any, folder: Path, nodes_per_shard: int = 10, **options: Any) -> TransferReport:
    return export_index(store, folder, nodes_per_shard=nodes_per_shard, show_progress=False, **options)


def import_(folder: Path, store: Any, batch_size: int = 4, **options: Any) -> TransferReport:
    return import_index(folder, store, batch_size=batch_size, show_progress=False, **options)


def content_of(store: Any) -> list[tuple[type[BaseNode], dict[str, Any]]]:
    """Return class and fields of all nodes, with their vectors, in the order of addition."""
    return [(type(node), node.model_dump()) for batch in store.iter_nodes() for node in batch]


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def edit_manifest(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")
