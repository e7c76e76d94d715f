"""How well an index finds pictures by words, and words by pictures."""

from llama_index_mm_zhipu.evaluation.dataset import RetrievalDataset, RetrievalQuery
from llama_index_mm_zhipu.evaluation.published import PUBLISHED, PublishedRecall
from llama_index_mm_zhipu.evaluation.report import DirectionScores, RetrievalReport
from llama_index_mm_zhipu.evaluation.retrieval import evaluate_retrieval

__all__ = [
    "PUBLISHED",
    "DirectionScores",
    "PublishedRecall",
    "RetrievalDataset",
    "RetrievalQuery",
    "RetrievalReport",
    "evaluate_retrieval",
]
