"""The API for examples: the real one where there is a key, a stand-in where there is none."""

from __future__ import annotations

import atexit

from llama_index_mm_zhipu.llm import ZhipuMultiModal
from llama_index_mm_zhipu.llm.addresses import without_password
from llama_index_mm_zhipu.llm.endpoint import has_key_in_environment
from llama_index_mm_zhipu.testing.mock_server import GLMStandIn


def connect_glm(model: str = "glm-4v-flash") -> ZhipuMultiModal:
    """Connect to Zhipu's API if there is a key in the environment, else to a stand-in on this machine; print which.

    Args:
        model: That answers.

    Returns:
        A client; the stand-in runs until the process ends.
    """
    if has_key_in_environment():
        llm = ZhipuMultiModal(model)
        print(f"Asking {llm.model} at {without_password(llm.api_base)}.")
        return llm
    server = GLMStandIn()
    server.__enter__()
    atexit.register(server.__exit__, None, None, None)
    print("ZHIPUAI_API_KEY is not set: asking the local stand-in, which describes what it was sent.")
    return ZhipuMultiModal(model, api_key="demo.key", api_base=server.url)
