"""Make LlamaIndex's multimodal response synthesizers with this package's prompts and prompt helper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llama_index.core import Settings
from llama_index.core.llms import LLM
from llama_index.core.response_synthesizers import BaseSynthesizer, ResponseMode, get_response_synthesizer
from llama_index.core.response_synthesizers.context_only import ContextOnly
from llama_index.core.response_synthesizers.generation import Generation
from llama_index.core.response_synthesizers.no_text import NoText

from llama_index_mm_zhipu.prompts.templates import ImagePromptTemplate, prompts_of
from llama_index_mm_zhipu.query.prompt_helper import WholeImagesPromptHelper
from llama_index_mm_zhipu.types import Language

TEXT_TEMPLATES = ("text_qa_template", "refine_template", "summary_template", "image_qa_template")
"""LlamaIndex's templates for texts, which a multimodal synthesizer never uses."""

# For these, LlamaIndex would create an LLM of OpenAI's if none is given.
_MODES_WITHOUT_LLM: dict[ResponseMode, type[BaseSynthesizer]] = {
    ResponseMode.NO_TEXT: NoText,
    ResponseMode.CONTEXT_ONLY: ContextOnly,
}


def image_synthesizer(
    llm: LLM,
    language: Language = "zh",
    response_mode: ResponseMode = ResponseMode.COMPACT,
    *,
    streaming: bool = False,
    **settings: Any,
) -> BaseSynthesizer:
    """Make the synthesizer of a response mode.

    Args:
        llm: A chat LLM that takes images.
        language: Language of the prompts.
        response_mode: One of LlamaIndex's response modes.
        streaming: Whether answers stream.
        **settings: Further arguments of ``get_response_synthesizer``; a template that is None is the package's.
    """
    if response_mode in _MODES_WITHOUT_LLM:
        return _MODES_WITHOUT_LLM[response_mode](llm=llm, streaming=streaming, multimodal=True)
    prompts = prompts_of(language)
    own = {
        "chat_content_qa_template": prompts.qa,
        "chat_content_refine_template": prompts.refine,
        "chat_summary_template": prompts.summary,
        "simple_template": prompts.simple,
    }
    for name, template in own.items():
        settings[name] = ImagePromptTemplate.of(settings.get(name) or template)
    return get_response_synthesizer(
        llm=llm,
        chat_prompt_helper=Settings._chat_prompt_helper or WholeImagesPromptHelper.from_llm_metadata(llm.metadata),
        response_mode=response_mode,
        streaming=streaming,
        multimodal=True,
        **settings,
    )


def asks_an_llm(synthesizer: BaseSynthesizer) -> bool:
    """Return whether a synthesizer asks a model at all."""
    return not isinstance(synthesizer, tuple(_MODES_WITHOUT_LLM.values()))


def looks_at_sources(synthesizer: BaseSynthesizer) -> bool:
    """Return whether a synthesizer uses sources, and not the question alone."""
    return not isinstance(synthesizer, Generation)


def without_text_templates(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without templates for texts, which LlamaIndex passes on as None.

    Raises:
        ValueError: A template for texts is given.
    """
    require_no_text_templates(name for name, value in options.items() if value is not None)
    return {name: value for name, value in options.items() if name not in TEXT_TEMPLATES}


def require_no_text_templates(names: Iterable[str]) -> None:
    """Raise an error for templates that would never be used.

    Raises:
        ValueError: One of the names belongs to a template for texts.
    """
    for name in names:
        if name in TEXT_TEMPLATES:
            raise ValueError(f"{name} is not for answers from images; give chat_content_qa_template or its siblings")
