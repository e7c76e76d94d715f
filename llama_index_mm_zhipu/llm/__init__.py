"""LLM part: Zhipu's GLM vision models, with their errors, limits, prices and usage."""

from llama_index_mm_zhipu.llm.errors import (
    EmptyAnswerError,
    GLMAuthenticationError,
    GLMBudgetError,
    GLMConnectionError,
    GLMContentFilteredError,
    GLMContextTooLongError,
    GLMError,
    GLMInvalidRequestError,
    GLMProtocolError,
    GLMQuotaError,
    GLMRateLimitError,
    GLMServerError,
    GLMTimeoutError,
    GLMToolCallError,
)
from llama_index_mm_zhipu.llm.layout import Layout, LayoutElement, LayoutPage
from llama_index_mm_zhipu.llm.layout_parsing import LayoutParser
from llama_index_mm_zhipu.llm.llm import ZhipuMultiModal
from llama_index_mm_zhipu.llm.models import MODELS
from llama_index_mm_zhipu.llm.structured_answers import UnreadableAnswerError
from llama_index_mm_zhipu.llm.usage import ModelUsage, Price, Usage

__all__ = [
    "MODELS",
    "EmptyAnswerError",
    "GLMAuthenticationError",
    "GLMBudgetError",
    "GLMConnectionError",
    "GLMContentFilteredError",
    "GLMContextTooLongError",
    "GLMError",
    "GLMInvalidRequestError",
    "GLMProtocolError",
    "GLMQuotaError",
    "GLMRateLimitError",
    "GLMServerError",
    "GLMTimeoutError",
    "GLMToolCallError",
    "Layout",
    "LayoutElement",
    "LayoutPage",
    "LayoutParser",
    "ModelUsage",
    "Price",
    "UnreadableAnswerError",
    "Usage",
    "ZhipuMultiModal",
]
