"""For LlamaIndex's ingestion pipelines: captions for images that have none, docstores that know what is stored."""

from llama_index_mm_zhipu.ingestion.captioner import CaptionCacheError, ImageCaptioner
from llama_index_mm_zhipu.ingestion.docstores import forget_missing

__all__ = ["CaptionCacheError", "ImageCaptioner", "forget_missing"]
