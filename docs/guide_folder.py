"""The folder in which the code of the documentation runs: small images, tables, PDF files, data sets, a mock of GLM.

``python docs/guide_folder.py samples`` writes it to ``samples``, for readers who want to run the code of a page. The
images are emoji of the demo, which the demo model distinguishes, so that the outputs below the code make sense.
"""

from __future__ import annotations

import base64
import csv
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pypdfium2
from outputs import SHOWN_FOLDER
from PIL import Image

from llama_index_mm_zhipu import read_jsonl
from llama_index_mm_zhipu.testing import MockGLMServer

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo"
CASES = ROOT / "examples" / "cases"
MODEL = DEMO / "model"

IMAGES = {
    "apple.jpg": "红苹果",
    "car.jpg": "汽车",
    "cat.jpg": "猫",
    "dog.jpg": "狗",
    "dress_084.jpg": "连衣裙",
    "flowers.jpg": "花束",
    "green_apple.jpg": "青苹果",
    "hat_036.jpg": "女帽",
    "plane.jpg": "飞机",
    "ship.jpg": "帆船",
    "shoes_108.jpg": "男鞋",
    "train.jpg": "火车",
}
"""Files in ``images/``, and the captions that the demo has for them."""

_PRICES = {"dress_084.jpg": 199, "hat_036.jpg": 89, "shoes_108.jpg": 359}
_NEEDS = {"hub": "pyarrow", "lesson.mp4": "av"}
"""What is left out without a package."""

_SLIDES = 4
_SLIDE_HEIGHT = 720


@contextmanager
def guide_folder(*, locale: str = "C.UTF-8", with_key: bool = True) -> Iterator[Path]:
    """Make the folder, and run the code of a ``with`` statement in it.

    It is also the home directory and LlamaIndex's cache, so that no guide sees what another one left.

    Args:
        locale: The locale, which decides about the language of commands.
        with_key: Whether there is a key, for a mock of the GLM API.

    Yields:
        The path of the folder.
    """
    before, variables = Path.cwd(), dict(os.environ)
    with TemporaryDirectory() as scratch, MockGLMServer() as server:
        # Links are resolved, so that outputs hold the same folder.
        folder = Path(scratch).resolve() / Path(SHOWN_FOLDER).name
        folder.mkdir()
        fill(folder)
        for name in variables:
            if name.startswith(("ZHIPUAI", "ZAI", "MMZHIPU", "LC_", "LANG", "COLUMNS")):
                del os.environ[name]
        os.environ |= {
            "HOME": str(folder),
            "USERPROFILE": str(folder),
            "LLAMA_INDEX_CACHE_DIR": str(folder / "cache"),
            "LC_ALL": locale,
        }
        if with_key:
            os.environ |= {"ZHIPUAI_API_KEY": "id.secret", "ZHIPUAI_BASE_URL": server.url}
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ.update(variables)


def fill(folder: Path) -> None:
    """Write what the pages assume to be there: a clone's examples and photographs, and small files of our own.

    Args:
        folder: An existing folder without files of these names.
    """
    for name in ("demo", "cases"):
        shutil.copytree(ROOT / "examples" / name, folder / "examples" / name, ignore=shutil.ignore_patterns("output"))
    shutil.copytree(ROOT / "tests" / "data" / "photos", folder / "photos")
    emoji = _emoji()
    (folder / "images").mkdir()
    for name, caption in IMAGES.items():
        (folder / "images" / name).write_bytes(emoji[caption])
    (folder / "car.jpg").write_bytes(emoji["汽车"])
    apple = Image.open(BytesIO(emoji["红苹果"]))
    apple.rotate(12, fillcolor="white").resize((96, 96)).save(folder / "query.jpg", quality=90)
    _write_table(folder / "goods.csv")
    for case in ("lecture", "car_maintenance"):
        shutil.copy(CASES / f"{case}.pdf", folder)
    _write_slides(folder / "slides")
    shutil.copy(DEMO / "test.jsonl", folder)
    _write_data_sets(folder, emoji)
    _write_video(folder)


def _emoji() -> dict[str, bytes]:
    """Return the JPEG files of the demo by their captions."""
    return {node.text: base64.b64decode(node.image or "") for node in read_jsonl(DEMO / "test.jsonl")}


def _write_table(file: Path) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["图片", "标题", "价格"])
        writer.writerows([name, caption, _PRICES.get(name, 10)] for name, caption in IMAGES.items())


def _write_slides(folder: Path) -> None:
    """Write the first pages of the lecture as images: their words are pixels."""
    folder.mkdir()
    document = pypdfium2.PdfDocument(CASES / "lecture.pdf")
    for number in range(_SLIDES):
        page = document[number]
        image = page.render(scale=_SLIDE_HEIGHT / page.get_height()).to_pil()
        image.convert("RGB").save(folder / f"{number + 1}.jpg", quality=85)
    document.close()


def _write_data_sets(folder: Path, emoji: dict[str, bytes]) -> None:
    """Write small data sets in published formats, with the writers of the tests."""
    with _helpers_of_tests():
        from published_forms import Example, chinese_clip, muge_retrieval, parquet
    examples = [Example(number, emoji[text], text) for number, text in enumerate(IMAGES.values(), 1)]
    muge_retrieval(folder / "MUGE", examples)
    chinese_clip(folder / "Flickr30k-CN", examples)
    row = "no\ttitle\ttext\tfile\tcategory\n7\t裙子\t红色\tdress_084.jpg\t服装\n"
    (folder / "goods.tsv").write_text(row, encoding="utf-8")
    if find_spec("pyarrow") is not None:
        parquet(folder / "hub", examples)


def _write_video(folder: Path) -> None:
    if find_spec("av") is None:
        return
    with _helpers_of_tests():
        from videos import scene, write_video
    write_video(folder / "lesson.mp4", [(scene(folder / "slides" / f"{number}.jpg"), 3) for number in (1, 2, 3)])


@contextmanager
def _helpers_of_tests() -> Iterator[None]:
    """Let modules beside the tests be imported."""
    folders = [str(ROOT / "tests"), str(ROOT / "tests" / "readers")]
    sys.path[:0] = folders
    try:
        yield
    finally:
        del sys.path[: len(folders)]


def main() -> None:
    """Write the folder for a reader."""
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/guide_folder.py FOLDER")
    folder = Path(sys.argv[1])
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        sys.exit(f"{folder} is there already; give the name of a new folder")
    fill(folder)
    print(f"Wrote {', '.join(sorted(path.name for path in folder.iterdir()))} to {folder}")
    missing = {name: package for name, package in _NEEDS.items() if not (folder / name).exists()}
    if missing:
        print(f"Left out {', '.join(missing)}; for them, pip install {' '.join(missing.values())}")


if __name__ == "__main__":
    main()
