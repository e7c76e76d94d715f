"""For LlamaIndex's ingestion pipelines: captions for pictures that have none, docstores that know what is stored."""

from llama_index_mm_zhipu.ingestion.caption_cache import CaptionCacheError
from llama_index_mm_zhipu.ingestion.captioner import ImageCaptioner
from llama_index_mm_zhipu.ingestion.docstores import forget_missing

__all__ = ["CaptionCacheError", "ImageCaptioner", "forget_missing"]
