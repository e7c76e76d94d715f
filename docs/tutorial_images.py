"""Draw the images of ``start.md``, the tutorials and the guide to galleries, from the same folder and calls as on them.

Run with ``python docs/tutorial_images.py``. It needs Chromium. Answers come from the mock of GLM, which they say.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

from guide_folder import MODEL, guide_folder
from matplotlib.figure import Figure
from page_screenshots import save
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    ZhipuMultiModal,
    build_index,
    plot_results,
    read_folder,
    read_jsonl,
    show,
)
from llama_index_mm_zhipu.display import Gallery
from llama_index_mm_zhipu.readers import PageReader

IMAGES = Path(__file__).parent / "images" / "tutorials"

_CARD_WIDTH = 292
_MARGIN = 8
_DPI = 80
_COLOURS = 128


def save_gallery(browser: Browser, gallery: Gallery, file: Path, columns: int = 3) -> None:
    """Save what a browser shows of a gallery, in its full height, with so many images in a row."""
    width = columns * _CARD_WIDTH + 2 * _MARGIN
    page = browser.new_context(viewport={"width": width, "height": 100}).new_page()
    page.goto(gallery.save("gallery.html").resolve().as_uri())
    height: int = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": height})
    save(page, file)


def save_in_both_schemes(browser: Browser, gallery: Gallery, file: Path) -> None:
    """Save a gallery in a light and a dark browser, side by side, after a click on the second citation."""
    shown = []
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 620, "height": 660}, color_scheme=scheme)
        page = context.new_page()
        page.goto(gallery.save("gallery.html").resolve().as_uri())
        page.get_by_role("link", name="图2").click()
        page.evaluate("scrollTo(0, 0)")
        shown.append(Image.open(BytesIO(page.screenshot())).convert("RGB"))
    both = Image.new("RGB", (sum(image.width for image in shown), shown[0].height))
    both.paste(shown[0])
    both.paste(shown[1], (shown[0].width, 0))
    both.quantize(_COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


def save_plot(figure: Figure, file: Path) -> None:
    """Save a plot with a palette of few colours."""
    drawn = BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    Image.open(drawn).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


def draw(browser: Browser, folder: Path) -> None:
    """Build the indexes of the pages in the current folder, and write the images into another."""
    embed_model, llm = ChineseClipEmbedding(str(MODEL)), ZhipuMultiModal()

    # The usual ids contain a hash of the folder's path, which differs from run to run.
    index = build_index(read_folder("images", id_prefix="images"), embed_model)
    question = "图里的飞机是什么颜色？"
    answer = index.as_query_engine(llm=llm, similarity_top_k=3).query(question)
    save_gallery(browser, show(question, answer), folder / "start.png")

    words = "红色的水果"
    found = index.as_retriever(similarity_top_k=4).retrieve(words)
    save_plot(plot_results(words, found), folder / "photos.png")

    pages = build_index(PageReader().load_data("lecture.pdf", "pages"), embed_model)
    question = "学习率设得太大，损失曲线会变成什么样？"
    answer = pages.as_query_engine(llm=llm, similarity_top_k=2).query(question)
    save_gallery(browser, show(question, answer), folder / "lecture.png", columns=2)

    goods = read_folder("images", captions="goods.csv", name_column="图片", caption_column="标题")
    image = Path("query.jpg")
    found = build_index(goods, embed_model).as_retriever(similarity_top_k=4).retrieve(image)
    save_plot(plot_results(image, found), folder / "catalogue.png")

    manual = build_index(PageReader(figures=True).load_data("car_maintenance.pdf", "manual"), embed_model)
    question = "千斤顶应该放在车身的哪个位置？"
    answer = manual.as_query_engine(llm=llm, similarity_top_k=3).query(question)
    save_gallery(browser, show(question, answer), folder / "car_manual.png")

    emoji = build_index(read_jsonl("test.jsonl"), embed_model)
    question = "图里有消防车吗？"
    answer = emoji.as_query_engine(llm=llm, similarity_top_k=3).query(question)
    save_in_both_schemes(browser, show(question, answer), folder.parent / "gallery.png")


def main() -> None:
    """Write all images."""
    IMAGES.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(guide_folder())
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        stack.callback(browser.close)
        draw(browser, IMAGES)


if __name__ == "__main__":
    main()
