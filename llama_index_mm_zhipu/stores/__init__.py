"""Other vector stores behind an index: Postgres, Qdrant, Milvus, and any store of LlamaIndex; moving between stores."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from llama_index_mm_zhipu.stores.external import ExternalVectorStore

if TYPE_CHECKING:
    from llama_index_mm_zhipu.stores.shards import nodes_to_table, write_manifest
    from llama_index_mm_zhipu.stores.transfer import TransferReport, export_index, import_index

_NEED_PYARROW = {
    "TransferReport": "transfer",
    "export_index": "transfer",
    "import_index": "transfer",
    "nodes_to_table": "shards",
    "write_manifest": "shards",
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
