"""Other vector stores behind an index: Postgres, Qdrant, Milvus, and any store of LlamaIndex; moving between stores."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llama_index_mm_zhipu.stores.external import ExternalVectorStore

if TYPE_CHECKING:
    from llama_index_mm_zhipu.stores.transfer.moving import TransferReport, export_index, import_index
    from llama_index_mm_zhipu.stores.transfer.shards import nodes_to_table, write_manifest

_NEED_PYARROW = {
    "TransferReport": "transfer.moving",
    "export_index": "transfer.moving",
    "import_index": "transfer.moving",
    "nodes_to_table": "transfer.shards",
    "write_manifest": "transfer.shards",
}

__all__ = [
    "ExternalVectorStore",
    "TransferReport",
    "export_index",
    "import_index",
    "nodes_to_table",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    """Import a name that needs pyarrow, an extra, at first use (PEP 562)."""
    if name not in _NEED_PYARROW:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEED_PYARROW[name]}"), name)
