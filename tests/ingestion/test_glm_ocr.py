"""GLM-OCR reads images for ImageOcr: text without Markdown, boxes, threads, cache, failures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gates import Together
from llama_index.core.schema import ImageNode
from PIL import Image
from waiting import PATIENCE

from llama_index_mm_zhipu.images import page_text_of
from llama_index_mm_zhipu.ingestion import GlmOcrEngine, ImageOcr
from llama_index_mm_zhipu.llm import GLMAuthenticationError, GLMError, GLMQuotaError, LayoutParser
from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer, RawAnswer, SentPage

TABLE = "<table><tr><td>前轮</td><td>2.3 bar</td></tr><tr><td>后轮</td><td>2.5 bar</td></tr></table>"


def read_manual(page: SentPage) -> list[dict[str, Any]]:
    """Return the elements of a page of a manual, with boxes in pixels, and one without a box."""
    width, height = page.width, page.height
    return [
        {"content": "## 胎压", "bbox_2d": [0, 0, width // 2, height // 10]},
        {"label": "image", "bbox_2d": [0, height // 10, width, height // 2]},
        {"label": "table", "content": TABLE, "bbox_2d": [0, height // 2, width, height]},
        {"content": "冷车时测量", "bbox_2d": None},
    ]


@pytest.fixture
def manual(key: str) -> Iterator[MockGLMServer]:
    """A server that reads the same page in each image."""
    with MockGLMServer(layout=read_manual) as running:
        yield running


@pytest.fixture
def engine_of(key: str) -> Iterator[Callable[..., GlmOcrEngine]]:
    """A function that returns an engine for a server, which is closed after the test."""
    parsers: list[LayoutParser] = []

    def build(server: MockGLMServer, **settings: Any) -> GlmOcrEngine:
        parsers.append(LayoutParser(**{"api_key": key, "api_base": server.url, "max_retries": 0, **settings}))
        return GlmOcrEngine(parsers[-1])

    yield build
    for parser in parsers:
        parser.close()


EngineOf = Callable[..., GlmOcrEngine]


def nodes_in(folder: Path, count: int) -> list[ImageNode]:
    """Return nodes of different images."""
    for number in range(count):
        Image.new("RGB", (200 + number, 100), "white").save(folder / f"{number}.png")
    return [ImageNode(id_=str(number), image_path=str(folder / f"{number}.png")) for number in range(count)]


def test_lines_have_text_without_markdown_and_boxes_as_fractions(manual: MockGLMServer, engine_of: EngineOf) -> None:
    lines = engine_of(manual)(Image.new("RGB", (200, 100), "white"))
    assert [(line.text, line.box, line.score) for line in lines] == [
        ("胎压", (0.0, 0.0, 0.5, 0.1), 1.0),
        ("前轮 2.3 bar", (0.0, 0.5, 1.0, 0.75), 1.0),
        ("后轮 2.5 bar", (0.0, 0.75, 1.0, 1.0), 1.0),
        # Without a box, the whole image.
        ("冷车时测量", (0.0, 0.0, 1.0, 1.0), 1.0),
    ]


def test_the_text_becomes_the_page_text_in_the_order_of_the_answer(
    manual: MockGLMServer, engine_of: EngineOf, tmp_path: Path
) -> None:
    ocr = ImageOcr(engine=engine_of(manual), cache_path=tmp_path / "cache.sqlite3")
    (node,) = ocr(nodes_in(tmp_path, 1))
    assert page_text_of(node) == "胎压\n前轮 2.3 bar\n后轮 2.5 bar\n冷车时测量"
    assert node.metadata["page_text_lines"][0] == {"text": "胎压", "box": [0.0, 0.0, 0.5, 0.1], "score": 1.0}


def test_images_are_read_by_several_threads_and_only_once(
    manual: MockGLMServer, engine_of: EngineOf, tmp_path: Path
) -> None:
    nodes = nodes_in(tmp_path, 4)
    ocr = ImageOcr(engine=engine_of(manual), num_workers=4, cache_path=tmp_path / "cache.sqlite3")
    # No answer is sent before all four requests are there.
    barrier = threading.Barrier(4, timeout=PATIENCE)
    manual.script(*[Together(barrier)] * 4)
    assert all(page_text_of(node).startswith("胎压") for node in ocr(nodes))
    assert ocr(nodes)[0] == ocr(nodes)[0]
    assert len(manual.requests) == 4


def test_an_image_without_text_stays_without(key: str, engine_of: EngineOf, tmp_path: Path) -> None:
    with MockGLMServer(layout=lambda page: []) as server:
        ocr = ImageOcr(engine=engine_of(server), cache_path=tmp_path / "cache.sqlite3")
        nodes = nodes_in(tmp_path, 1)
        assert ocr(nodes) == nodes
        assert ocr(nodes) == nodes
        assert len(server.requests) == 1


def test_a_failed_image_is_skipped_and_the_others_are_read(
    manual: MockGLMServer, engine_of: EngineOf, tmp_path: Path
) -> None:
    ocr = ImageOcr(engine=engine_of(manual), cache_path=tmp_path / "cache.sqlite3")
    manual.script(None, RawAnswer("<html>"), ErrorAnswer(429, "1302", "速率限制"))
    read = ocr(nodes_in(tmp_path, 4))
    assert [bool(page_text_of(node)) for node in read] == [True, False, False, True]
    assert [*ocr.skipped] == ["1", "2"]
    assert "GLMRateLimitError" in ocr.skipped["2"]
    ocr.on_error = "raise"
    manual.script(RawAnswer("<html>"))
    with pytest.raises(GLMError):
        ocr(nodes_in(tmp_path, 4))


@pytest.mark.parametrize(
    ("code", "error"), [("1002", GLMAuthenticationError), ("1113", GLMQuotaError)], ids=["key", "balance"]
)
def test_a_wrong_key_or_an_empty_account_ends_the_run(
    code: str, error: type[GLMError], manual: MockGLMServer, engine_of: EngineOf, tmp_path: Path
) -> None:
    ocr = ImageOcr(engine=engine_of(manual), cache_path=tmp_path / "cache.sqlite3")
    manual.fail_next(401, code, "no", times=4)
    with pytest.raises(error):
        ocr(nodes_in(tmp_path, 4))
    assert len(manual.requests) == 1


def test_the_key_is_not_in_what_is_shown_or_stored(
    manual: MockGLMServer, engine_of: EngineOf, key: str, tmp_path: Path
) -> None:
    ocr = ImageOcr(engine=engine_of(manual), cache_path=tmp_path / "cache.sqlite3")
    ocr(nodes_in(tmp_path, 1))
    shown = f"{ocr!r} {ocr.to_dict()} {ocr.engine!r} {(tmp_path / 'cache.sqlite3').read_bytes()!r}"
    assert "layout_parsing glm-ocr" in shown
    assert key.split(".")[1] not in shown


def test_the_default_client_takes_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("ZHIPUAI_API_KEY", key)
    assert GlmOcrEngine().parser.model == "glm-ocr"
    monkeypatch.delenv("ZHIPUAI_API_KEY")
    monkeypatch.delenv("ZAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="no API key"):
        GlmOcrEngine()
