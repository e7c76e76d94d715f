"""Tools of MCP servers return images as images: to agents, in the order of the result, without base64 in texts."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool, ToolOutput
from llama_index.core.workflow import Context
from outline import images_of
from PIL import Image

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.query import with_image_blocks
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.testing.wire import text_of

mcp_tools = pytest.importorskip("llama_index.tools.mcp")
mcp_client = pytest.importorskip("mcp.client")
mcp_server = pytest.importorskip("mcp.server.mcpserver")
types = pytest.importorskip("mcp.types")

Connect = Callable[..., ZhipuMultiModal]


def encoded(colour: str = "red", side: int = 30, image_format: str = "PNG") -> str:
    buffer = BytesIO()
    Image.new("RGB", (side, 20), colour).save(buffer, image_format)
    return base64.b64encode(buffer.getvalue()).decode()


def image(data: str, mime_type: str = "image/png") -> Any:
    return types.ImageContent(type="image", data=data, mime_type=mime_type)


def text(content: str) -> Any:
    return types.TextContent(type="text", text=content)


def resource(**contents: Any) -> Any:
    kind = types.TextResourceContents if "text" in contents else types.BlobResourceContents
    return types.EmbeddedResource(type="resource", resource=kind(**contents))


RED, BLUE = encoded(), encoded("blue")

RESULTS: dict[str, Any] = {
    "photo": types.CallToolResult(content=[text("图1：门口"), image(RED), text("图2：窗外"), image(BLUE)]),
    "image": types.CallToolResult(content=[image(RED)]),
    "large": types.CallToolResult(content=[image(encoded(side=3000, image_format="WEBP"), "image/webp")]),
    "nothing": types.CallToolResult(content=[]),
    "structured": types.CallToolResult(content=[], structured_content={"价格": 5}),
    "failed": types.CallToolResult(content=[text("相机没有电了")], is_error=True),
    "others": types.CallToolResult(
        content=[
            resource(uri="file:///a.txt", text="说明书"),
            resource(uri="file:///a.png", blob=RED, mime_type="image/png"),
            resource(uri="file:///a.zip", blob=BLUE, mime_type="application/zip"),
            types.AudioContent(type="audio", data=BLUE, mime_type="audio/wav"),
            types.ResourceLink(type="resource_link", name="手册", uri="https://example.org/a.pdf"),
            types.ResourceLink(type="resource_link", name="图", uri=f"data:image/png;base64,{RED}"),
        ]
    ),
    "broken": types.CallToolResult(
        content=[image("!"), image(base64.b64encode(b"no image").decode()), image(RED), text("完")]
    ),
}


def returning(result: Any) -> Callable[[str], Any]:
    """Return the function of a tool of the server, which returns the result."""

    def call(place: str) -> types.CallToolResult:  # type: ignore[name-defined]
        return result

    return call


@asynccontextmanager
async def connected() -> AsyncIterator[dict[str, FunctionTool]]:
    """Connect to an MCP server with one tool for each result; yield its tools by name, as LlamaIndex makes them."""
    server = mcp_server.MCPServer("camera")
    for name, result in RESULTS.items():
        server.add_tool(returning(result), name=name)

    @server.resource("camera://last", name="last", mime_type="image/png")
    def last() -> bytes:
        return base64.b64decode(RED)

    async with mcp_client.Client(server) as client:
        made = await mcp_tools.McpToolSpec(client, include_resources=True).to_tool_list_async()
        yield {tool.metadata.name: tool for tool in made}


async def output_of(name: str) -> ToolOutput:
    """Call a tool of the server through the converter."""
    async with connected() as tools:
        (converted,) = with_image_blocks([tools[name]])
        return await converted.acall(**({} if name == "last" else {"place": "门口"}))


def outline(output: ToolOutput) -> list[str]:
    """Return texts, and images as their colours."""
    names = {(254, 0, 0): "red", (255, 0, 0): "red", (0, 0, 255): "blue"}
    return [
        f"<{names[load_image(block).getpixel((0, 0))]}>" if isinstance(block, ImageBlock) else block.text
        for block in output.blocks
        if isinstance(block, ImageBlock | TextBlock)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo", ["图1：门口", "<red>", "图2：窗外", "<blue>"]),
        ("image", ["<red>"]),
        ("nothing", []),
        ("structured", ['{"价格": 5}']),
        (
            "others",
            [
                "说明书",
                "<red>",
                "（file:///a.zip application/zip，未显示）",
                "（audio/wav，未显示）",
                "（手册 https://example.org/a.pdf resource_link，未显示）",
                "（图 resource_link，未显示）",
            ],
        ),
        ("broken", ["[图片已无法读取]", "[图片已无法读取]", "<red>", "完"]),
        ("last", ["<red>"]),
    ],
)
async def test_content_becomes_blocks_in_its_order(name: str, expected: list[str]) -> None:
    output = await output_of(name)
    assert outline(output) == expected
    assert not output.is_error
    assert not any(data in printed for data in (RED, BLUE) for printed in (repr(output), str(output)))


async def test_an_error_stays_an_error() -> None:
    output = await output_of("failed")
    assert (outline(output), output.is_error) == (["相机没有电了"], True)


async def test_the_base64_is_kept_once() -> None:
    output = await output_of("photo")
    assert output.raw_output == "图1：门口\n图2：窗外"
    assert [output.model_dump_json().count(data) for data in (RED, BLUE)] == [1, 1]
    assert (await output_of("structured")).raw_output == {"价格": 5}


async def test_large_images_become_small_jpeg_files() -> None:
    (block,) = (await output_of("large")).blocks
    assert isinstance(block, ImageBlock)
    assert (load_image(block).width, block.image_mimetype) == (2048, "image/jpeg")


async def test_name_description_arguments_and_fixed_parameters_stay() -> None:
    sent: list[dict[str, Any]] = []

    async def call(**arguments: Any) -> Any:
        sent.append(arguments)
        return RESULTS["photo"]

    async with connected() as tools:
        metadata = tools["photo"].metadata
    original = FunctionTool(async_fn=call, metadata=metadata, partial_params={"camera": 2})
    (converted,) = with_image_blocks([original])
    assert converted.metadata == metadata
    output = await converted.acall(place="门口")
    assert sent == [{"camera": 2, "place": "门口"}]
    assert output.tool_name == "photo"


def test_sync_calls_convert_as_well() -> None:
    def photo(place: str) -> Any:
        """Take a photo."""
        return RESULTS["photo"]

    (converted,) = with_image_blocks([FunctionTool.from_defaults(photo)])
    assert outline(converted(place="门口")) == ["图1：门口", "<red>", "图2：窗外", "<blue>"]


def test_results_of_version_1_of_mcp_are_understood() -> None:
    def photo() -> Any:
        """Take a photo."""
        content = [SimpleNamespace(type="image", data=RED, mimeType="image/png")]
        return SimpleNamespace(content=content, structuredContent=None, isError=True)

    (converted,) = with_image_blocks([FunctionTool.from_defaults(photo)])
    assert (outline(converted()), converted().is_error) == (["<red>"], True)


def test_texts_can_be_english() -> None:
    def sound() -> Any:
        """Record a sound."""
        return types.CallToolResult(content=[types.AudioContent(type="audio", data=RED, mime_type="audio/wav")])

    (converted,) = with_image_blocks([FunctionTool.from_defaults(sound)], language="en")
    assert outline(converted()) == ["(audio/wav, not shown)"]


async def test_other_tools_stay_as_they_are() -> None:
    async def price(ctx: Context, name: str) -> float:
        """Price of a product."""
        return 1.5

    # LlamaIndex does not resolve the texts that annotations are in this module.
    price.__annotations__["ctx"] = Context
    original = FunctionTool.from_defaults(price)
    (converted,) = with_image_blocks([original])
    assert (converted.requires_context, converted.ctx_param_name) == (True, "ctx")
    context = SimpleNamespace()
    assert await converted.acall(ctx=context, name="苹果") == await original.acall(ctx=context, name="苹果")
    with pytest.raises(TypeError, match="a str is not a FunctionTool; give the tools of McpToolSpec"):
        with_image_blocks(["photo"])  # type: ignore[list-item]


async def test_an_agent_sees_the_images_of_an_mcp_server(connect: Connect, server: MockGLMServer) -> None:
    async with connected() as tools:
        agent = FunctionAgent(tools=with_image_blocks([tools["photo"]]), llm=connect(model="glm-4.6v-flash"))
        answer = str(await agent.run("门口有人吗？"))
    request = server.requests[-1]
    assert [message["role"] for message in request["messages"]] == ["user", "assistant", "tool", "user"]
    assert images_of(request) == [RED, BLUE]
    assert not any(data in text_of(message) for message in request["messages"] for data in (RED, BLUE))
    assert "平均颜色 #ff0000；说明：图1：门口" in answer
    assert "平均颜色 #0000ff；说明：图2：窗外" in answer
