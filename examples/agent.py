"""An agent that searches the images by itself and looks at what it finds.

Runs offline over the demo images. Without a key, the mock of the GLM API answers: it calls the tool once for each
question and describes what it got. docs/en/guides/engines.md has more on agents.

    python examples/agent.py
    python examples/agent.py --store mmzhipu_store --model ViT-B-16 --glm glm-4.6v 有红色的裙子吗？
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.memory import Memory

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, image_search_tool, load_index, read_jsonl
from llama_index_mm_zhipu.index import ImageIndex, has_index
from llama_index_mm_zhipu.testing import connect_glm

DEMO = Path(__file__).parent / "demo"
MOCK = "（本地模拟服务，不是模型）"
PROMPT = "你负责一个图片库。先用工具搜索，必要时换个说法再搜，然后根据看到的图片回答。"


async def converse(agent: FunctionAgent, questions: Sequence[str]) -> None:
    """Ask one question after the other, and print the tool calls and the answers."""
    # The memory holds the conversation, so that a question may refer to an earlier one.
    memory = Memory.from_defaults()
    for question in questions:
        print(f"\n{question}")
        running = agent.run(question, memory=memory)
        async for happened in running.stream_events():
            if isinstance(happened, ToolCallResult):
                found = happened.tool_output.raw_output
                print(f"  {happened.tool_name}({happened.tool_kwargs}): {[each['node_id'] for each in found]}")
        print(without_tool_results(str(await running)))


def without_tool_results(answer: str) -> str:
    """Return an answer; that of the mock, which repeats the results of tools, without these."""
    first, *lines = answer.splitlines()
    if not first.startswith(MOCK):
        return answer
    return "\n".join([first, *(line for line in lines if line.startswith(("收到", "第")))])


def open_index(store: Path, model: str) -> ImageIndex:
    """Open an index; if there is none, index the demo images first."""
    embed_model = ChineseClipEmbedding(model)
    if not has_index(store):
        build_index(read_jsonl(DEMO / "test.jsonl", id_prefix=""), embed_model, persist_dir=store).close()
    return load_index(store, embed_model)


def main() -> None:
    """Open the index and ask the questions of the command line."""
    parser = argparse.ArgumentParser(description="Ask an agent that searches images.")
    parser.add_argument(
        "questions", nargs="*", default=["有红色的水果吗？", "有消防车吗？"], help="what to ask, in turn"
    )
    parser.add_argument("--store", type=Path, default=DEMO / "output" / "agent", help="folder of the index")
    parser.add_argument("--model", default=str(DEMO / "model"), help="name such as ViT-B-16, or path of weights")
    parser.add_argument("--glm", default="glm-4.6v-flash", help="GLM model; it must be one that calls functions")
    settings = parser.parse_args()
    index, llm = open_index(settings.store, settings.model), connect_glm(settings.glm)
    try:
        agent = FunctionAgent(tools=[image_search_tool(index, similarity_top_k=3)], llm=llm, system_prompt=PROMPT)
        asyncio.run(converse(agent, settings.questions))
    finally:
        llm.close()
        index.close()


if __name__ == "__main__":
    main()
