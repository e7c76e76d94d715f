"""Compare the query engine with LlamaIndex's multimodal engines, and measure how fast images get captions.

    python benchmarks/rag.py
    python benchmarks/rag.py --quick --json rag.json

Contenders share index, LLM and images. Each round runs all of them in random order, and they are compared by round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import llm_asking
import numpy as np
from llama_index.core.indices.multi_modal.retriever import MultiModalVectorIndexRetriever
from llama_index.core.query_engine import RetrieverQueryEngine, SimpleMultiModalQueryEngine
from llama_index.core.schema import ImageNode
from measuring import shuffled_rounds, write_figures
from PIL import Image, ImageDraw, ImageFont

from llama_index_mm_zhipu import ChineseClipEmbedding, ImageCaptioner, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex

DEMO_MODEL = Path(__file__).parents[1] / "examples" / "demo" / "model"
OURS = "this package"
SIMPLE = "SimpleMultiModalQueryEngine"
RETRIEVER = "RetrieverQueryEngine(multimodal=True)"

_SLIDES = 5
_SLIDE_SIZE = (3840, 2880)
_QUESTION = "这几页幻灯片讲了什么？"
_ANSWER = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "见图1。"}, "finish_reason": "stop"}]}

Ask = Callable[[], object]


def main() -> None:
    """Measure queries and captions, and print the results."""
    settings = _parser().parse_args()
    rounds, images = (3, 20) if settings.quick else (30, 200)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        results["queries"] = _measure_queries(Path(folder), rounds, random.Random(settings.seed))
        print(_queries_table(results["queries"]), flush=True)
        results["captions"] = _measure_captions(Path(folder), images)
        print(_captions_line(results["captions"]), flush=True)
    if settings.json is not None:
        write_figures(settings.json, results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, to check that everything runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of contenders")
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser


# Queries


def _measure_queries(folder: Path, rounds: int, order: random.Random) -> dict[str, Any]:
    slides = [_slide(folder / f"slide{number}.jpg", number) for number in range(_SLIDES)]
    nodes = [ImageNode(id_=slide.name, image_path=str(slide), text=f"第{slide.stem[-1]}页") for slide in slides]
    index = build_index(nodes, embed_model=ChineseClipEmbedding(DEMO_MODEL))
    with _sink() as url:
        llm = ZhipuMultiModal(api_key="id.secret", api_base=url)
        engines = _engines(index, llm)
        for ask in engines.values():
            ask()
        times: dict[str, list[float]] = {name: [] for name in engines}
        for name, _ in shuffled_rounds(engines, range(rounds), order):
            start = time.perf_counter()
            engines[name]()
            times[name].append((time.perf_counter() - start) * 1000)
        llm.close()
    return {"slide_bytes": [slide.stat().st_size for slide in slides], "ms": times}


def _engines(index: ImageIndex, llm: ZhipuMultiModal) -> dict[str, Ask]:
    def core_retriever() -> MultiModalVectorIndexRetriever:
        return MultiModalVectorIndexRetriever(index, similarity_top_k=_SLIDES, image_similarity_top_k=_SLIDES)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        simple = SimpleMultiModalQueryEngine(core_retriever(), multi_modal_llm=llm)
    engines = {
        OURS: index.as_query_engine(llm=llm, image_similarity_top_k=_SLIDES),
        SIMPLE: simple,
        RETRIEVER: RetrieverQueryEngine.from_args(core_retriever(), llm=llm, multimodal=True),
    }
    return {name: lambda engine=engine: engine.query(_QUESTION) for name, engine in engines.items()}  # type: ignore[misc]


def _slide(path: Path, seed: int) -> Path:
    """Draw a slide that resembles a photographed screen: noise, and many lines of small text."""
    generator = np.random.default_rng(seed)
    grain = generator.normal(235, 6, (_SLIDE_SIZE[1], _SLIDE_SIZE[0], 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(grain)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(48)
    for line in range(40):
        words = " ".join("".join(map(chr, generator.integers(97, 123, 7))) for _ in range(14))
        draw.text((200, 150 + line * 65), words, fill="black", font=font)
    image.save(path, quality=88)
    return path


@contextmanager
def _sink() -> Iterator[str]:
    """Run a server that answers at once, in a separate process, so that only the work of the engines is measured."""
    context = multiprocessing.get_context("spawn")
    pipe, child_pipe = context.Pipe()
    process = context.Process(target=_serve, args=(child_pipe,), daemon=True)
    process.start()
    try:
        yield pipe.recv()
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            sent = body.count(b'"image_url": {') + body.count(b'"image_url":{')
            answer = json.dumps(_ANSWER).encode()
            self.send_response(200 if sent == _SLIDES else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        pipe.send(f"http://127.0.0.1:{server.server_port}")
        server.serve_forever()


def _queries_table(results: dict[str, Any]) -> str:
    ours = results["ms"][OURS]
    sizes = f"{min(results['slide_bytes']) / 1e6:.1f} to {max(results['slide_bytes']) / 1e6:.1f} MB"
    lines = [
        f"A query with {_SLIDES} slides of 3840 × 2880, JPEGs of {sizes}, {len(ours)} times, ms",
        "",
        "| engine | median (p95) | this package minus this engine, by round: median (p95) | target |",
        "|---|---|---|---|",
    ]
    for name, times in results["ms"].items():
        differences = [mine - other for mine, other in zip(ours, times, strict=True)]
        compared = ("–", "") if name == OURS else (_median_and_p95(differences), "≤ 20")
        lines.append(f"| {name} | {_median_and_p95(times)} | {compared[0]} | {compared[1]} |")
    return "\n".join([*lines, ""])


def _median_and_p95(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({statistics.quantiles(values, n=20, method='inclusive')[-1]:.1f})"


# Captions


def _measure_captions(folder: Path, images: int) -> dict[str, Any]:
    nodes = [ImageNode(image_path=str(_photo(folder / f"photo{number}.jpg", number))) for number in range(images)]
    with llm_asking.mock_server(latency=1.0) as server:
        llm = ZhipuMultiModal(api_key="id.secret", api_base=server.url)
        captioner = ImageCaptioner(llm=llm, cache_path=folder / "captions.sqlite3", num_workers=10)
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            captioned = captioner(nodes)
            seconds.append(time.perf_counter() - start)
            assert all(node.get_content() for node in captioned)
        llm.close()
    return {"images": images, "seconds": seconds[0], "seconds_again": seconds[1]}


def _photo(path: Path, seed: int) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((1280, 960), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def _captions_line(results: dict[str, Any]) -> str:
    ideal = results["images"] / 10
    return (
        f"Captions for {results['images']} images of 1280 × 960, 10 at a time, each answered after 1 s: "
        f"{results['seconds']:.1f} s (ideal {ideal:g} s, target ≤ {1.25 * ideal:g} s); again, from the cache: "
        f"{results['seconds_again']:.2f} s"
    )


if __name__ == "__main__":
    main()
