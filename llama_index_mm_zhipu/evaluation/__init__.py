"""How well an index finds images by words, and words by images."""

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
