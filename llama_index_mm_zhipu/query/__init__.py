"""From a question to an answer that rests on pictures: retrieval, prompts, citations, engines."""

from llama_index_mm_zhipu.prompts.templates import PROMPTS, PicturePromptTemplate
from llama_index_mm_zhipu.query.chat import PictureCondensePlusContextChatEngine, PictureContextChatEngine
from llama_index_mm_zhipu.query.engine import PictureQueryEngine
from llama_index_mm_zhipu.query.labels import PictureNumbering, number_pictures
from llama_index_mm_zhipu.query.rerank import GLMRerank
from llama_index_mm_zhipu.query.retriever import PictureRetriever
from llama_index_mm_zhipu.query.sources import citations_in

__all__ = [
    "PROMPTS",
    "GLMRerank",
    "PictureCondensePlusContextChatEngine",
    "PictureContextChatEngine",
    "PictureNumbering",
    "PicturePromptTemplate",
    "PictureQueryEngine",
    "PictureRetriever",
    "citations_in",
    "number_pictures",
]
