"""The folder in which the examples of docstrings run: that of the guides, with a data set for each reader."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figure_files import slide_image, slide_text, write_slides
from guide_folder import IMAGES, guide_folder
from published_forms import (
    Example,
    coco,
    flickr8k,
    flickr30k,
    muge_captions,
    product1m,
    write_lines,
    wudaomm,
    wukong,
)


@contextmanager
def docstring_folder() -> Iterator[Path]:
    """Make the folder, and run the code of a ``with`` statement in it."""
    home = {name: os.environ[name] for name in ("HOME", "USERPROFILE") if name in os.environ}
    with guide_folder() as folder:
        # Ray keeps files in the home directory, and does not start again in a process that has another one.
        os.environ |= home
        named = enumerate(IMAGES.items(), 1)
        examples = [
            Example(number, (folder / "images" / name).read_bytes(), caption) for number, (name, caption) in named
        ]
        write_lines(folder / "goods.jsonl", [_line(example) for example in examples])
        muge_captions(folder / "ECommerce-IC", examples)
        flickr8k(folder / "flickr8kcn", examples)
        flickr30k(folder / "flickr30kcn", examples)
        coco(folder / "coco-cn", examples)
        wukong(folder / "wukong", examples)
        wudaomm(folder / "WuDaoMM", examples)
        product1m(folder / "Product1M", examples)
        slide = slide_image("apple", (60, 150, 240, 160)) + slide_text("图 1 红苹果", (60, 320, 240, 20))
        write_slides(folder / "slides.pptx", [slide], {"apple": examples[0].image})
        # Ray reports its use to its makers otherwise, and runs with a low priority.
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        yield folder


def _line(example: Example) -> dict[str, str]:
    return {"image_id": str(example.number), "image_base64": example.base64, "caption": example.caption}
