"""Components for LlamaIndex's ingestion pipelines: captions for images, and repair of docstores."""

from llama_index_mm_zhipu.ingestion.captioner import CaptionCacheError, ImageCaptioner
from llama_index_mm_zhipu.ingestion.docstores import forget_missing

__all__ = ["CaptionCacheError", "ImageCaptioner", "forget_missing"]
