"""The whole way on the demo pictures: index, search by words and by picture, ask; offline unless a key is set.

Run it with ``make demo``, or ``python examples/demo/run.py`` in an environment that holds the package with its ``plot``
extra. It uses the small demo model; see README.md beside this file for what that knows and what it does not.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, plot_results, read_jsonl
from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.testing import GLMStandIn

HERE = Path(__file__).parent
WORDS = "飞机"
PICTURE_OF = "红苹果"
QUESTION = "图里有消防车吗？"


def main() -> None:
    """Run the demo and say where its pictures are."""
    output = _arguments().output
    output.mkdir(parents=True, exist_ok=True)

    nodes = read_jsonl(HERE / "test.jsonl")
    print(f"Loaded {len(nodes)} pictures with Chinese captions.")

    embed_model = ChineseClipEmbedding(model_name=str(HERE / "model"))
    with _timed(f"Indexed {len(nodes)} pictures into {output / 'store'}"):
        index = build_index(nodes, embed_model=embed_model, persist_dir=output / "store", show_progress=True)

    retriever = index.as_retriever(image_similarity_top_k=5)
    found = retriever.retrieve(WORDS)
    _print_results(f"Pictures for the words {WORDS}", found)
    _save_plot(WORDS, found, output / "by_words.png")

    picture = _query_picture(nodes, output / "query.jpg")
    found = retriever.retrieve(QueryBundle(query_str="", image_path=str(picture)))
    _print_results(f"Pictures like {picture} ({PICTURE_OF}, turned and shrunk)", found)
    _save_plot(picture, found, output / "by_picture.png")

    with _glm() as llm:
        response = index.as_query_engine(llm=llm, image_similarity_top_k=3).query(QUESTION)
    print(f"\nQuestion: {QUESTION}\nAnswer: {response}")
    _print_results("Sources of the answer", response.source_nodes)
    index.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "output", help="folder for the store and the pictures")
    return parser.parse_args()


@contextmanager
def _timed(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    print(f"{what} in {time.perf_counter() - started:.1f} s.")


@contextmanager
def _glm() -> Iterator[ZhipuMultiModal]:
    """The real API if there is a key, else a stand-in on this machine."""
    if os.environ.get("ZHIPUAI_API_KEY"):
        llm = ZhipuMultiModal()
        print(f"\nAsking {llm.model} at {llm.api_base}.")
        yield llm
        return
    with GLMStandIn() as server:
        print("\nZHIPUAI_API_KEY is not set: asking the local stand-in, which describes what it was sent.")
        yield ZhipuMultiModal(api_key="demo.key", api_base=server.url)


def _query_picture(nodes: list[ImageNode], path: Path) -> Path:
    """Save a picture that is not in the set: one of the set, turned and shrunk."""
    node = next(node for node in nodes if node.text == PICTURE_OF)
    original = load_image(node)
    turned = original.rotate(12, fillcolor="white").resize((original.width * 3 // 4, original.height * 3 // 4))
    turned.save(path, quality=90)
    return path


def _print_results(title: str, results: list[NodeWithScore]) -> None:
    print(f"\n{title}\n{'score':>7}  {'id':>5}  caption")
    for result in results:
        print(f"{result.score:7.4f}  {result.node.node_id:>5}  {result.node.get_content()}")


def _save_plot(query: str | Path, results: list[NodeWithScore], path: Path) -> None:
    plot_results(query, results).savefig(path, dpi=120)
    print(f"Saved {path}")


if __name__ == "__main__":
    main()
