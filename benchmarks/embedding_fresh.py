"""The parts of ``embedding.py`` that run in fresh processes: ``embedding_fresh.py PART '{"argument": …}'`` prints JSON.

Modules whose import is measured are not imported before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

DEMO_MODEL = Path(__file__).parents[1] / "examples" / "demo" / "model"
WAYS = ("build_index", "stream_image_embeddings", "get_image_embedding_batch")

_IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_TIMED_IMPORT = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def fresh(what: str, **arguments: Any) -> Figures:
    """Call a function of this file in a fresh process."""
    command = [sys.executable, __file__, what, json.dumps(arguments)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: Figures = json.loads(said.splitlines()[-1])
    return found


def import_seconds(statement: str) -> float:
    """Return how long an import takes in a fresh interpreter."""
    command = [sys.executable, "-c", _TIMED_IMPORT.format(statement)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _prepare(folder: str, tiny: bool, seed: int) -> Figures:
    """Write random weights of ViT-B-16 or a tiny model, and report what this machine can do."""
    import torch
    from embedding_contenders import OFFICIAL

    from llama_index_mm_zhipu.embedding.backends.openvino_runtime import import_openvino
    from llama_index_mm_zhipu.testing import tiny_checkpoint

    tiny_checkpoint(folder, "tiny" if tiny else OFFICIAL, seed=seed)
    capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"bf16": "BF16" in capabilities, "cuda": torch.cuda.is_available()}


def _start(contender: str, name: str, folder: str) -> Figures:
    """Load a model and embed a query."""
    times = [time.perf_counter()]
    import embedding_contenders
    from measuring import peak_bytes

    maker = embedding_contenders.makers(embedding_contenders.Weights(name, folder), bf16=True)[contender]
    for module in maker.func.imports:  # type: ignore[attr-defined]
        import_module(module)
    times.append(time.perf_counter())
    made = maker()
    times.append(time.perf_counter())
    made.queries(["飞机"])
    times.append(time.perf_counter())
    seconds = [later - earlier for earlier, later in pairwise(times)]
    names = ("importing", "constructing", "first_query")
    found = {"torch_imported": "torch" in sys.modules, "peak_bytes": peak_bytes()}
    return {**dict(zip(names, seconds, strict=True)), **found}


def _memory(way: str, images: str, count: int) -> Figures:
    """Embed many images, and report the peak memory before and after."""
    from llama_index.core.schema import ImageNode
    from measuring import peak_bytes

    from llama_index_mm_zhipu import ChineseClipEmbedding, build_index

    embed = ChineseClipEmbedding(str(DEMO_MODEL), device="cpu")
    embed.warmup()
    returned: list[list[float]] = []
    files = sorted(entry.path for entry in os.scandir(images))[:count]
    before = peak_bytes()
    if way == "build_index":
        nodes = [ImageNode(image_path=file, text=f"第{number}张图") for number, file in enumerate(files)]
        with tempfile.TemporaryDirectory() as folder:
            build_index(nodes, embed_model=embed, persist_dir=folder).close()
    elif way == "stream_image_embeddings":
        done = sum(1 for _ in embed.stream_image_embeddings(files))
        assert done == len(files)
    else:
        returned = embed.get_image_embedding_batch(files)
    of_returned = sum(sys.getsizeof(vector) + sum(map(sys.getsizeof, vector)) for vector in returned)
    return {"before_bytes": before, "peak_bytes": peak_bytes(), "returned_bytes": of_returned}


def _preprocess(photos: str) -> Figures:
    """Compare the vectors of photographs from fast preprocessing with those from cn_clip's exact pixels."""
    import numpy as np

    from llama_index_mm_zhipu import ChineseClipEmbedding

    files = sorted(file for file in Path(photos).iterdir() if file.suffix.lower() in _IMAGES)
    fast, exact = (
        np.array(
            ChineseClipEmbedding(str(DEMO_MODEL), device="cpu", exact_preprocess=exact).get_image_embedding_batch(files)
        )
        for exact in (False, True)
    )
    cosines = (fast * exact).sum(axis=1)
    return {"photos": len(files), "mean": float(cosines.mean()), "min": float(cosines.min())}


_CALLS: dict[str, Callable[..., Figures]] = {
    "prepare": _prepare,
    "start": _start,
    "memory": _memory,
    "preprocess": _preprocess,
}


if __name__ == "__main__":
    print("\n" + json.dumps(_CALLS[sys.argv[1]](**json.loads(sys.argv[2]))))
