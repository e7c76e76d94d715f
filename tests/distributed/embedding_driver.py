"""A driver for the tests that kill processes: embeds a JSON Lines file into shards or into an index."""

from __future__ import annotations

import sys
from pathlib import Path

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, load_index
from llama_index_mm_zhipu.distributed import embed_dataset

IMAGES_PER_PART = 8


def main(source: str, model: str, kind: str, folder: str) -> None:
    """Embed a source; print how many images are stored and how many of them an earlier run had stored."""
    embed_model = ChineseClipEmbedding(model, backend="torch")
    options = {"num_actors": 2, "nodes_per_shard": IMAGES_PER_PART, "show_progress": False}
    if kind == "shards":
        report = embed_dataset(source, embed_model, folder, **options)
    else:
        stores = {
            "image_store": FaissMultiModalVectorStore(Path(folder, "index"), namespace="image"),
            "text_store": FaissMultiModalVectorStore(Path(folder, "index")),
        }
        index = load_index(embed_model=embed_model, **stores)
        report = embed_dataset(source, embed_model, index, checkpoint_dir=folder, **options)
    print(report.nodes, report.kept)


if __name__ == "__main__":
    main(*sys.argv[1:])
