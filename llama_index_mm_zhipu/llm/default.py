"""The LLM of those who name none."""

from __future__ import annotations

from llama_index.core import Settings
from llama_index.core.llms import LLM
from llama_index.core.llms.utils import LLMType, resolve_llm

_NAMES_OF_LLAMA_INDEX = ("default", "local")


def llm_or_default(llm: LLMType | None) -> LLM:
    """Return the given LLM, else that of ``Settings`` if one was set, else ``ZhipuMultiModal()``.

    Raises:
        TypeError: What was given is no LLM.
        ValueError: None was given or set, and there is no API key; or a serialised one was given.
    """
    if isinstance(llm, dict):
        raise ValueError("an LLM holds a key and is not made from a dict: give it anew, as in from_dict(data, llm=…)")
    if isinstance(llm, str) and llm.partition(":")[0] not in _NAMES_OF_LLAMA_INDEX:
        raise TypeError(f"llm is {llm!r:.60}; give an LLM, such as ZhipuMultiModal({llm!r:.60})")
    if llm is not None:
        try:
            return resolve_llm(llm)
        except AssertionError:
            given = type(llm).__name__
            raise TypeError(f"llm is a {given}; give an LLM of LlamaIndex, such as ZhipuMultiModal(…)") from None
    # Settings.llm would make one of OpenAI's when nobody set it.
    if Settings._llm is not None:
        return Settings._llm
    from llama_index_mm_zhipu.llm.llm import ZhipuMultiModal

    return ZhipuMultiModal()
