"""Measures how well an index finds images by text and texts by image."""

from llama_index_mm_zhipu.evaluation.dataset import PUBLISHED, PublishedRecall, RetrievalDataset, RetrievalQuery
from llama_index_mm_zhipu.evaluation.retrieval import DirectionScores, RetrievalReport, evaluate_retrieval

__all__ = [
    "PUBLISHED",
    "DirectionScores",
    "PublishedRecall",
    "RetrievalDataset",
    "RetrievalQuery",
    "RetrievalReport",
    "evaluate_retrieval",
]
