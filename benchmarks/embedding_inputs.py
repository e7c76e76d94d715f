"""The inputs of ``embedding.py``: generated images, Chinese captions and queries, all different."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Size = tuple[int, int]

SMALL: Size = (640, 480)
LARGE: Size = (4000, 3000)
SLIDE: Size = (3840, 2880)
THUMBNAIL: Size = (240, 180)

# Side of the features of each layer, in pixels of an image 640 wide, and its opacity over the layers before.
_LAYERS = ((160, 1.0), (40, 0.45), (10, 0.25), (3, 0.12))
_GRAIN = (0.03, 0.08)


def _words(line: str) -> list[str]:
    return line.split()


_COLOURS = _words("红色 白色 蓝色 黑色 绿色 黄色 灰色 紫色 粉色 银色 旧 新 小 大 空 长")
_THINGS = _words("飞机 汽车 连衣裙 帽子 自行车 猫 狗 花 书包 台灯 沙发 手机 雨伞 皮鞋 衬衫 苹果 火车 桥 钟楼 船")
_THINGS += _words("马 鸟 茶壶 椅子 围巾 眼镜 相机 蛋糕 风筝 路牌 水杯 钢琴")
_PLACES = _words("机场的跑道上 雨后的街道旁 公园的草地上 商场的橱窗里 老房子的门口 海边的沙滩上 图书馆的角落里")
_DOINGS = _words("静静地停着 正被几个人围着看 在阳光下闪闪发亮 旁边站着一位老人 被摆放得整整齐齐 看上去已经很旧了")
_ENDINGS = ["", *_words("，远处有几座高楼 ，背景是蓝天白云 ，地上落满了树叶 ，照片的右下角印着拍摄的日期")]


def photo(size: Size, noise: np.random.Generator) -> Image.Image:
    """Return an image with features of several sizes and grain, like a photograph."""
    image = Image.new("RGB", size)
    for side, share in _LAYERS:
        grid = (max(2, 640 // side), max(2, 480 // side))
        image = Image.blend(image, _colours(grid, noise).resize(size, Image.Resampling.BICUBIC), share)
    grain = noise.integers(0, 256, size[::-1], dtype=np.uint8)
    return Image.blend(image, Image.fromarray(grain).convert("RGB"), noise.uniform(*_GRAIN))


def slide(noise: np.random.Generator) -> Image.Image:
    """Return a slide with flat areas, lines of character-sized shapes, and an image; opaque, with an alpha channel."""
    width, height = SLIDE
    page = Image.new("RGBA", SLIDE, (*noise.integers(225, 256, 3).tolist(), 255))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, width, height // 9), fill=(*noise.integers(20, 120, 3).tolist(), 255))
    for line in range(12):
        _draw_line(draw, 160, height // 7 + line * 190, int(noise.integers(8, 17)), noise)
    image = photo((1440, 1080), noise)
    page.paste(image, (width - 1600, int(noise.integers(height // 7, height - 1200))))
    return page


def _colours(grid: Size, noise: np.random.Generator) -> Image.Image:
    return Image.fromarray(noise.integers(0, 256, (grid[1], grid[0], 3), dtype=np.uint8))


def _draw_line(draw: ImageDraw.ImageDraw, left: int, top: int, characters: int, noise: np.random.Generator) -> None:
    """Draw squares of strokes, which have as many edges as Chinese characters."""
    for position in range(characters):
        corner = left + position * 120
        for _ in range(6):
            start, across = noise.integers(0, 70, 2).tolist()
            end = start + int(noise.integers(20, 40))
            upright = noise.random() < 0.5
            box = (across, start, across + 9, end) if upright else (start, across, end, across + 9)
            draw.rectangle((corner + box[0], top + box[1], corner + box[2], top + box[3]), fill=(30, 30, 40, 255))


def write_photos(folder: Path, size: Size, count: int, seed: int) -> list[Path]:
    """Write JPEGs of different images."""
    # Cameras save images in higher quality than web pages show them.
    quality = 88 if size == SMALL else 93
    return _written(folder, count, seed, ".jpg", lambda noise: photo(size, noise), quality=quality)


def write_slides(folder: Path, count: int, seed: int) -> list[Path]:
    """Write RGBA PNGs of different slides."""
    return _written(folder, count, seed, ".png", slide)


def write_thumbnails(folder: Path, count: int, seed: int) -> list[Path]:
    """Write many small JPEGs, different parts of one large image, which takes only a millisecond for each."""
    noise = np.random.default_rng(seed)
    whole = photo(LARGE, noise)
    room = (LARGE[0] - THUMBNAIL[0], LARGE[1] - THUMBNAIL[1])

    def part(noise: np.random.Generator) -> Image.Image:
        left, top = (int(noise.integers(0, side)) for side in room)
        return whole.crop((left, top, left + THUMBNAIL[0], top + THUMBNAIL[1]))

    return _written(folder, count, seed, ".jpg", part, quality=85)


def _written(
    folder: Path,
    count: int,
    seed: int,
    suffix: str,
    make: Callable[[np.random.Generator], Image.Image],
    **options: int,
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed)
    files = [folder / f"{number:05}{suffix}" for number in range(count)]
    for file in files:
        make(noise).save(file, **options)
    return files


def captions(count: int, order: random.Random) -> list[str]:
    """Return different sentences of 12 to 40 characters about images."""
    parts = product(("", *(f"{place}，" for place in _PLACES)), _COLOURS, _THINGS, _DOINGS, _ENDINGS)
    known = (f"{place}{colour}的{thing}{doing}{ending}" for place, colour, thing, doing, ending in parts)
    return order.sample([caption for caption in known if 12 <= len(caption) <= 40], count)


def queries(count: int, order: random.Random) -> list[str]:
    """Return different queries of at most 6 characters."""
    known = [f"{colour}{joint}{thing}" for colour, joint, thing in product(_COLOURS, ("", "的"), _THINGS)]
    return order.sample([query for query in known if len(query) <= 6], count)


def sizes(files: Sequence[Path]) -> str:
    """Return the range of file sizes, such as ``"67–97 kB"``."""
    found = [file.stat().st_size / 1000 for file in files]
    return f"{min(found):,.0f}–{max(found):,.0f} kB"
