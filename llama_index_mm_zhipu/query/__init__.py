"""From a question to an answer that rests on images: retrieval, prompts, citations, engines."""

from llama_index_mm_zhipu.prompts.templates import PROMPTS, ImagePromptTemplate
from llama_index_mm_zhipu.query.chat import ImageCondensePlusContextChatEngine, ImageContextChatEngine
from llama_index_mm_zhipu.query.citations import citations_in
from llama_index_mm_zhipu.query.engine import ImageQueryEngine
from llama_index_mm_zhipu.query.labels import ImageNumbering, number_images
from llama_index_mm_zhipu.query.mcp_tools import with_image_blocks
from llama_index_mm_zhipu.query.rerank import ImageReranker
from llama_index_mm_zhipu.query.retriever import ImageRetriever
from llama_index_mm_zhipu.query.rewrite import QueryRewriter
from llama_index_mm_zhipu.query.tools import image_search_tool

__all__ = [
    "PROMPTS",
    "ImageCondensePlusContextChatEngine",
    "ImageContextChatEngine",
    "ImageNumbering",
    "ImagePromptTemplate",
    "ImageQueryEngine",
    "ImageReranker",
    "ImageRetriever",
    "QueryRewriter",
    "citations_in",
    "image_search_tool",
    "number_images",
    "with_image_blocks",
]
