"""Chinese multimodal RAG for LlamaIndex.

Importing this package is cheap: torch, faiss and zhipuai are loaded by the part that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_index_mm_zhipu.display import plot_results, show
    from llama_index_mm_zhipu.embedding import ChineseClipEmbedding, embed_nodes
    from llama_index_mm_zhipu.evaluation import evaluate_retrieval
    from llama_index_mm_zhipu.index import build_index, load_index, read_nodes
    from llama_index_mm_zhipu.ingestion import ImageCaptioner, ImageOcr
    from llama_index_mm_zhipu.llm import GLMError, ZhipuMultiModal
    from llama_index_mm_zhipu.query import ImageQueryEngine, ImageReranker, image_search_tool
    from llama_index_mm_zhipu.readers import read_folder, read_jsonl
    from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

__version__ = "0.1.0"

_HOME_OF = {
    "ChineseClipEmbedding": "embedding",
    "FaissMultiModalVectorStore": "vector_store",
    "GLMError": "llm",
    "ImageReranker": "query",
    "ImageCaptioner": "ingestion",
    "ImageOcr": "ingestion",
    "ImageQueryEngine": "query",
    "ZhipuMultiModal": "llm",
    "build_index": "index",
    "embed_nodes": "embedding",
    "evaluate_retrieval": "evaluation",
    "image_search_tool": "query",
    "load_index": "index",
    "plot_results": "display",
    "read_folder": "readers",
    "read_jsonl": "readers",
    "read_nodes": "index",
    "show": "display",
}

__all__ = [
    "ChineseClipEmbedding",
    "FaissMultiModalVectorStore",
    "GLMError",
    "ImageCaptioner",
    "ImageOcr",
    "ImageQueryEngine",
    "ImageReranker",
    "ZhipuMultiModal",
    "build_index",
    "embed_nodes",
    "evaluate_retrieval",
    "image_search_tool",
    "load_index",
    "plot_results",
    "read_folder",
    "read_jsonl",
    "read_nodes",
    "show",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its part at first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
