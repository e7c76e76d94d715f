"""Embed the demo images with two processes on Ray, put the result into an index, and search it.

Runs offline, in less than a minute, with `pip install "llama-index-mm-zhipu[ray]"`. Interrupt it (Ctrl-C, or kill it)
and start it again: it continues. docs/en/guides/distributed.md walks through it.

    python examples/embed_on_ray.py
    python examples/embed_on_ray.py --source photos --model ViT-B-16 --output embedded
    python examples/embed_on_ray.py --source /mnt/share/photos --model ViT-B-16 --address 10.0.0.1:6379 --actors 32
"""

import argparse
from pathlib import Path

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, load_index
from llama_index_mm_zhipu.stores import import_index

try:
    from llama_index_mm_zhipu.distributed import embed_dataset
except ImportError as error:
    raise SystemExit(str(error)) from None

DEMO = Path(__file__).parent / "demo"


def main() -> None:
    """Embed, import and search."""
    settings = _settings()
    embed_model = ChineseClipEmbedding(settings.model)

    # 1. Parquet shards: actors embed parts of 64 images, this process stores each part once.
    shards = settings.output / "shards"
    report = embed_dataset(
        settings.source,
        embed_model,
        shards,
        num_actors=settings.actors,
        nodes_per_shard=64,
        address=settings.address,
    )
    print(f"{report.nodes:,} images in {report.shards} shards, {report.bytes / 1e6:.1f} MB, {report.seconds:.0f} s")
    print(f"{report.kept:,} of them were there before; {report.skipped.count} images were left out")

    # 2. An index: nothing is embedded again. Here it is an embedded one; docs/en/guides/scale.md has others.
    store = settings.output / "store"
    index = load_index(
        embed_model=embed_model,
        image_store=FaissMultiModalVectorStore(store, namespace="image"),
        text_store=FaissMultiModalVectorStore(store),
    )
    imported = import_index(shards, index.image_store)
    print(f"{imported.nodes - imported.kept:,} images added to {store}")

    # 3. Search.
    print(f"\n{settings.words}")
    for result in index.as_retriever(similarity_top_k=5).retrieve(settings.words):
        print(f"{result.score:7.4f}  {result.node.node_id}  {result.node.get_content()}")


def _settings() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Embed images with several processes, and search them.")
    parser.add_argument(
        "--source", default=DEMO / "test.jsonl", help="folder of images, or a jsonl file as in the demo"
    )
    parser.add_argument("--model", default=DEMO / "model", help="name such as ViT-B-16, or path of weights")
    parser.add_argument("--output", type=Path, default=DEMO / "output" / "ray", help="folder for shards and store")
    parser.add_argument("--actors", type=int, default=2, help="number of processes that embed")
    parser.add_argument("--address", help="address of a Ray cluster (default: this machine)")
    parser.add_argument("--words", default="绿色", help="words to search for")
    return parser.parse_args()


if __name__ == "__main__":
    main()
