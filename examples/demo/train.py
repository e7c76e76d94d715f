"""Train the small Chinese-CLIP model of the demo from scratch on renderings of emoji.

Training takes about an hour on a CPU with bf16. This script needs the package and the requirements of ``render.py``::

    python examples/demo/train.py --bf16 --output examples/demo/model

It prints R@1 and R@5 of text-to-image retrieval: the queries are the names of all emoji, and the images are one new
rendering of each.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from cn_clip.clip.model import CLIP
from PIL import Image
from render import DEFAULT_FONT, chinese_names, load_font, render_glyph
from safetensors.torch import save_file
from torch.nn import functional

from llama_index_mm_zhipu.embedding.chinese_clip.vectors import pixels_of, token_batch, word_pieces

HERE = Path(__file__).parent

TEMPLATES = (
    "{}",
    "{}",
    "{}",
    "一个{}",
    "{}的图片",
    "一张{}的照片",
    "图里有{}",
    "{}图标",
    "这是{}",
    "图里有{}吗？",
    "{}是什么颜色？",
    "哪张图片是{}？",
    "图里有哪些{}？",
    "这是{}吗？",
)
"""Templates of the texts for an image: mostly its name alone, sometimes a caption or a question."""

PEAK_LEARNING_RATE = 1e-3
WARM_UP_STEPS = 100
WEIGHT_DECAY = 0.05
MAX_LOGIT_SCALE = math.log(100)
AVERAGING = 0.998
"""Decay of the moving average of the weights. The averaged weights are saved."""


Batch = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    """Train the model, save it, and print its recall."""
    arguments = _arguments()
    torch.manual_seed(arguments.seed)
    font = load_font(arguments.font)
    glyphs = {name: glyph for emoji, name in chinese_names().items() if (glyph := render_glyph(emoji, font))}
    config = json.loads((HERE / "model" / "config.json").read_text(encoding="utf-8"))
    model = CLIP(**config)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGING)
    )
    print(f"{len(glyphs)} emoji, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
    _train(model, averaged, glyphs, config["image_resolution"], arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    weights = {name: tensor.half().contiguous() for name, tensor in averaged.module.state_dict().items()}
    save_file(weights, arguments.output / "model.safetensors")
    _report("shipped", averaged.module, glyphs, config["image_resolution"])


def sample(glyph: Image.Image, side: int, source: random.Random) -> Image.Image:
    """Return a glyph on a light background with random position, size and, in 40 % of the cases, rotation."""
    if source.random() < 0.4:
        glyph = glyph.rotate(source.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
    scale = source.uniform(0.55, 0.98) * side / max(glyph.size)
    size = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
    glyph = glyph.resize(size, Image.Resampling.BILINEAR)
    white = source.random() < 0.3
    background = (255, 255, 255) if white else tuple(source.randint(190, 255) for _ in range(3))
    image = Image.new("RGB", (side, side), background)
    image.paste(glyph, (source.randint(0, side - size[0]), source.randint(0, side - size[1])), glyph)
    return image


def _train(
    model: CLIP,
    averaged: torch.optim.swa_utils.AveragedModel,
    glyphs: dict[str, Image.Image],
    side: int,
    arguments: argparse.Namespace,
) -> None:
    source = random.Random(arguments.seed)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_and_cosine(arguments.steps))
    started = time.perf_counter()
    batches = _prefetched(lambda: _batch(glyphs, side, source, arguments.batch), arguments.steps)
    for step, (images, texts) in enumerate(batches, start=1):
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            loss = _contrastive_loss(model, images, texts)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        averaged.update_parameters(model)
        if step % arguments.report_every == 0:
            speed = (time.perf_counter() - started) / step
            _report(f"step {step}, loss {loss.item():.3f}, {speed:.2f} s a step", averaged.module, glyphs, side)


def _batch(glyphs: dict[str, Image.Image], side: int, source: random.Random, size: int) -> Batch:
    names = source.sample(list(glyphs), size)
    images = np.stack([pixels_of(sample(glyphs[name], side, source), side) for name in names])
    texts = token_batch([word_pieces(source.choice(TEMPLATES).format(name)) for name in names])
    return torch.from_numpy(images), torch.from_numpy(texts)


def _prefetched(make: Callable[[], Batch], count: int) -> Iterator[Batch]:
    """Yield batches in order; a thread makes each one while the previous one is in use."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = worker.submit(make)
        for _ in range(count - 1):
            ready, coming = coming, worker.submit(make)
            yield ready.result()
        yield coming.result()


def _contrastive_loss(model: CLIP, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    image_vectors = functional.normalize(model.encode_image(images).float(), dim=-1)
    text_vectors = functional.normalize(model.encode_text(texts).float(), dim=-1)
    logits = model.logit_scale.exp() * image_vectors @ text_vectors.T
    own = torch.arange(len(logits))
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def _warm_up_and_cosine(steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        if step < WARM_UP_STEPS:
            return (step + 1) / WARM_UP_STEPS
        return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)))

    return factor


def _report(title: str, model: CLIP, glyphs: dict[str, Image.Image], side: int) -> None:
    first, fifth = recall(model, glyphs, side)
    print(f"{title}: R@1 {first:.3f}, R@5 {fifth:.3f}", flush=True)


def recall(model: CLIP, glyphs: dict[str, Image.Image], side: int, seed: int = 12345) -> tuple[float, float]:
    """Return R@1 and R@5 of text-to-image retrieval, on one rendering of each emoji that training has not used."""
    source = random.Random(seed)
    model.eval()
    with torch.inference_mode():
        images = [pixels_of(sample(glyph, side, source), side) for glyph in glyphs.values()]
        image_vectors = _in_batches(model.encode_image, [torch.from_numpy(image) for image in images])
        tokens = torch.from_numpy(token_batch([word_pieces(name) for name in glyphs]))
        text_vectors = _in_batches(model.encode_text, list(tokens))
    model.train()
    scores = text_vectors @ image_vectors.T
    ranks = (scores > scores.diagonal()[:, None]).sum(dim=1)
    return (ranks == 0).float().mean().item(), (ranks < 5).float().mean().item()


def _in_batches(encode: Callable[[torch.Tensor], torch.Tensor], items: Sequence[torch.Tensor]) -> torch.Tensor:
    batches = [encode(torch.stack(list(items[start : start + 256]))) for start in range(0, len(items), 256)]
    return functional.normalize(torch.cat(batches).float(), dim=-1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "output" / "model")
    parser.add_argument("--font", type=Path, default=DEFAULT_FONT, help="Noto Color Emoji")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=256, help="number of different emoji in a batch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-every", type=int, default=250, help="steps between measurements of recall")
    parser.add_argument("--bf16", action="store_true", help="compute in bf16, which is faster on CPUs with avx512_bf16")
    return parser.parse_args()


if __name__ == "__main__":
    main()
