"""Embedding of large data sets by many processes or machines, on Ray Data.

``embed_dataset`` reads a data set part by part, embeds the parts in Ray actors, and stores each part once.
"""

try:
    import ray  # noqa: F401
except ImportError:
    raise ImportError('llama_index_mm_zhipu.distributed needs Ray: pip install "llama-index-mm-zhipu[ray]"') from None

from llama_index_mm_zhipu.distributed.embed import embed_dataset
from llama_index_mm_zhipu.distributed.run import EmbedReport
from llama_index_mm_zhipu.distributed.sources import DatasetSource
from llama_index_mm_zhipu.distributed.workers import Stage

__all__ = ["DatasetSource", "EmbedReport", "Stage", "embed_dataset"]
