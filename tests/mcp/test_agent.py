"""An agent of LlamaIndex uses the server through LlamaIndex's own client, and its model sees the images found."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.tools.mcp import BasicMCPClient, McpToolSpec
from outline import images_of
from pydantic import create_model

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.mcp.server import SEARCH_SIDE, build_server
from llama_index_mm_zhipu.mcp.serving import http_app
from llama_index_mm_zhipu.query import with_image_blocks
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.wire import text_of

# The client of LlamaIndex asks instances of pydantic for old names of their fields.
pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning"),
]


async def test_the_model_of_an_agent_sees_the_images_found(
    opened: Future[ImageService],
    service: ImageService,
    serve: Callable[[Any], str],
    connect: Callable[..., ZhipuMultiModal],
    server: MockGLMServer,
) -> None:
    url = serve(http_app(build_server(opened, allow_paths=False), host="127.0.0.1", token="s3cr3t"))
    client = BasicMCPClient(url, headers={"Authorization": "Bearer s3cr3t"})
    specification = McpToolSpec(client, allowed_tools=["search_images"])
    tools = with_image_blocks(await specification.to_tool_list_async())
    assert [tool.metadata.name for tool in tools] == ["search_images"]

    output = await tools[0].acall(words="飞机", limit=1)
    assert output.blocks[-2].text.splitlines()[-1].startswith("[图1] (similarity ")

    # The mock of the model fills in all arguments that there are.
    tools[0].metadata.fn_schema = create_model("Search", words=(str, ...))
    agent = FunctionAgent(tools=tools, llm=connect(model="glm-4.6v-flash"))
    answer = str(await agent.run("飞机"))
    request = server.requests[-1]
    sent = images_of(request)
    shown = [result.node_id for result in service.search("飞机", similarity_top_k=5).results if result.type == "image"]
    assert sent == [base64.b64encode(service.look(node_id, max_side=SEARCH_SIDE).data).decode() for node_id in shown]
    assert not any(data in text_of(message) for message in request["messages"] for data in sent)
    assert "说明：[图1] (similarity " in answer
