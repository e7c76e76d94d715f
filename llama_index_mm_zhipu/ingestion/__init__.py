"""Ingestion transformations: captions for pictures that have none."""

from llama_index_mm_zhipu.ingestion.captioner import ImageCaptioner

__all__ = ["ImageCaptioner"]
