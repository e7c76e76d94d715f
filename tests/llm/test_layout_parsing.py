"""LayoutParser sends images and PDF files within the API's limits, and ends with a layout or the right error."""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.llm import (
    GLMAuthenticationError,
    GLMConnectionError,
    GLMError,
    GLMInvalidRequestError,
    GLMProtocolError,
    GLMRateLimitError,
    GLMTimeoutError,
    LayoutParser,
    layout_parsing,
)
from llama_index_mm_zhipu.llm.layout_parsing import MAX_PDF_BYTES
from llama_index_mm_zhipu.testing import (
    Cut,
    ErrorAnswer,
    Fault,
    GatewayError,
    MockGLMServer,
    RawAnswer,
    SentPage,
    Stall,
)

LECTURE = Path(__file__).parents[2] / "examples" / "cases" / "lecture.pdf"
JSON = "application/json"

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def parser(server: MockGLMServer, key: str) -> Iterator[LayoutParser]:
    """A client of the mock server."""
    client = LayoutParser(api_key=key, api_base=server.url)
    yield client
    client.close()


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def sent_file(server: MockGLMServer) -> tuple[str, bytes]:
    """Return MIME type and content of the file in the last request."""
    head, _, data = server.requests[-1]["file"].partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(data)


# Files


def test_a_png_and_a_jpeg_are_sent_unchanged(server: MockGLMServer, parser: LayoutParser, photos: list[Path]) -> None:
    png = encoded(Image.new("RGB", (60, 40), "red"), "PNG")
    assert "PNG 60×40" in parser.parse(png).markdown
    assert sent_file(server) == ("image/png", png)
    assert "JPEG 400×" in parser.parse(photos[0]).markdown
    assert sent_file(server) == ("image/jpeg", photos[0].read_bytes())
    assert server.requests[-1].keys() == {"model", "file", "request_id"}


@pytest.mark.parametrize("form", ["path", "string", "PIL", "base64", "data URI", "file object"])
def test_an_image_may_have_any_form(form: str, parser: LayoutParser, tmp_path: Path) -> None:
    png = encoded(Image.new("RGB", (60, 40), "red"), "PNG")
    text = base64.b64encode(png).decode()
    file = tmp_path / "scan.png"
    file.write_bytes(png)
    forms: dict[str, Any] = {
        "path": file,
        "string": str(file),
        "PIL": Image.new("RGB", (60, 40), "red"),
        "base64": text,
        "data URI": f"data:image/png;base64,{text}",
        "file object": io.BytesIO(png),
    }
    assert "PNG 60×40" in parser.parse(forms[form]).pages[0].text


def test_images_that_the_api_does_not_take_are_sent_as_jpeg(server: MockGLMServer, parser: LayoutParser) -> None:
    rotated = Image.new("RGB", (60, 40), "red").getexif()
    rotated[0x0112] = 6
    red = Image.new("RGB", (60, 40), "red")
    for data, size in (
        (encoded(red, "WEBP"), (60, 40)),
        (encoded(Image.new("RGBA", (60, 40), (255, 0, 0, 9)), "PNG"), (60, 40)),
        # Boxes must fit the upright image.
        (encoded(red, "JPEG", exif=rotated), (40, 60)),
    ):
        parser.parse(data)
        mime_type, sent = sent_file(server)
        assert mime_type == "image/jpeg"
        assert Image.open(io.BytesIO(sent)).size == size


def test_a_url_is_sent_as_it_is(server: MockGLMServer, parser: LayoutParser) -> None:
    assert len(parser.parse("https://example.com/scan.pdf?sign=1").pages) == 1
    assert server.requests[-1]["file"] == "https://example.com/scan.pdf?sign=1"


def test_a_pdf_file_is_sent_whole_and_its_pages_come_back(server: MockGLMServer, parser: LayoutParser) -> None:
    layout = parser.parse(LECTURE, page_count=10)
    assert sent_file(server) == ("application/pdf", LECTURE.read_bytes())
    assert [page.number for page in layout.pages] == [*range(1, 11)]
    assert "训练集用来拟合模型的参数" in layout.pages[1].text
    assert parser.parse(LECTURE.read_bytes()).pages == layout.pages


def test_a_range_of_pages_keeps_the_numbers_of_the_file(server: MockGLMServer, parser: LayoutParser) -> None:
    layout = parser.parse(LECTURE, start_page=2, end_page=3)
    assert (server.requests[-1]["start_page_id"], server.requests[-1]["end_page_id"]) == (2, 3)
    assert [page.number for page in layout.pages] == [2, 3]
    assert "训练集用来拟合模型的参数" in layout.pages[0].text
    assert [page.number for page in parser.parse(LECTURE, start_page=9).pages] == [9, 10]


def test_optional_fields_are_those_of_the_api(server: MockGLMServer, key: str) -> None:
    parser = LayoutParser(
        api_key=key,
        api_base=server.url,
        model="GLM-OCR",
        user_id="user-123",
        return_crop_images=True,
        need_layout_visualization=True,
    )
    parser.parse(Image.new("RGB", (60, 40)))
    sent = {name: value for name, value in server.requests[-1].items() if name not in ("file", "request_id")}
    assert sent == {
        "model": "GLM-OCR",
        "user_id": "user-123",
        "return_crop_images": True,
        "need_layout_visualization": True,
    }
    parser.close()


# Limits


def test_a_pdf_file_that_is_too_large_is_not_sent(server: MockGLMServer, parser: LayoutParser, tmp_path: Path) -> None:
    file = tmp_path / "large.pdf"
    with file.open("wb") as stream:
        stream.write(LECTURE.read_bytes())
        stream.truncate(MAX_PDF_BYTES + 1)
    with pytest.raises(GLMInvalidRequestError, match=r"large\.pdf has 50\.0 MB, and the API reads 50 MB; split"):
        parser.parse(file)
    with pytest.raises(GLMInvalidRequestError, match=r"a PDF file given as 52428801 bytes has 50\.0 MB"):
        parser.parse(file.read_bytes())
    assert server.requests == []


def test_more_than_100_pages_are_not_sent(server: MockGLMServer, parser: LayoutParser) -> None:
    for pages in ({"page_count": 101}, {"start_page": 1, "end_page": 101}):
        with pytest.raises(
            GLMInvalidRequestError, match=r"lecture\.pdf has 101 pages to read.*start_page and end_page"
        ):
            parser.parse(LECTURE, **pages)
    assert server.requests == []


def test_an_image_that_is_too_large_is_compressed_or_refused(
    server: MockGLMServer, parser: LayoutParser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout_parsing, "MAX_IMAGE_BYTES", 22_000)
    file = tmp_path / "noise.png"
    noise = Image.effect_noise((160, 160), 90).convert("RGB")
    file.write_bytes(encoded(noise, "PNG"))
    assert file.stat().st_size > 22_000
    parser.parse(file)
    mime_type, sent = sent_file(server)
    assert mime_type == "image/jpeg"
    assert len(sent) <= 22_000

    monkeypatch.setattr(layout_parsing, "MAX_IMAGE_BYTES", 10_000)
    with pytest.raises(GLMInvalidRequestError, match=r"noise\.png has 0\.0 MB, and the API reads 0 MB; shrink"):
        parser.parse(file)
    assert len(server.requests) == 1


@pytest.mark.parametrize("pages", [{"start_page": 0}, {"end_page": 0}, {"start_page": 3, "end_page": 2}])
def test_an_empty_range_of_pages_is_refused(pages: dict[str, int], parser: LayoutParser) -> None:
    with pytest.raises(ValueError, match="pages are numbered from 1"):
        parser.parse(LECTURE, **pages)


def test_a_range_of_pages_is_for_pdf_files(parser: LayoutParser) -> None:
    with pytest.raises(ValueError, match="is an image; start_page and end_page are for PDF files"):
        parser.parse(Image.new("RGB", (60, 40)), start_page=1)


def test_files_that_cannot_be_read_are_errors(parser: LayoutParser, tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no image")
    with pytest.raises(ImageError, match=r"note\.png"):
        parser.parse(tmp_path / "note.png")
    with pytest.raises(ImageError, match=r"missing\.pdf"):
        parser.parse(tmp_path / "missing.pdf")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"timeout": 0}, "timeout is 0"),
        ({"deadline": -1}, "deadline is -1"),
        ({"max_retries": -1}, "max_retries is -1"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"api_base": "u:hunter2@h"}, "api_base '…@h' is not a URL"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], reason: str, key: str) -> None:
    with pytest.raises(ValueError, match=reason):
        LayoutParser(**{"api_key": key, **settings})


def test_an_unknown_argument_suggests_a_known_one(key: str) -> None:
    with pytest.raises(TypeError, match="did you mean 'api_base'"):
        LayoutParser(api_key=key, base_url="http://h")  # type: ignore[call-arg]


def test_without_a_key_the_error_says_where_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZHIPUAI_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="no API key: give api_key=…"):
        LayoutParser()


# Faults


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (ErrorAnswer(401, "1002", "no"), GLMAuthenticationError, "code 1002"),
        (ErrorAnswer(400, "1211", "模型不存在"), GLMInvalidRequestError, "code 1211"),
        (ErrorAnswer(429, "1302", "速率限制"), GLMRateLimitError, "code 1302"),
        (GatewayError(500, "down"), GLMError, "down"),
        (RawAnswer("<html>"), GLMProtocolError, "."),
        (RawAnswer("", content_type=JSON), GLMProtocolError, "."),
        (RawAnswer("[]", content_type=JSON), GLMProtocolError, "."),
        (RawAnswer("{}", content_type=JSON), GLMProtocolError, "neither layout_details nor md_results"),
        (RawAnswer('{"layout_details": [[3]]}', content_type=JSON), GLMProtocolError, "not of the form"),
        (RawAnswer('{"layout_details": [[], []]}', content_type=JSON), GLMProtocolError, "2 pages for 1"),
        (Cut(), GLMConnectionError, "."),
        (Cut(after=0), GLMConnectionError, "."),
        (Cut(after=0, reset=True), GLMConnectionError, "."),
        (Stall(after=0), GLMTimeoutError, "."),
    ],
    ids=repr,
)
def test_a_fault_is_an_error_that_names_the_file(
    fault: Fault, error: type[GLMError], reason: str, server: MockGLMServer, key: str, photos: list[Path]
) -> None:
    parser = LayoutParser(api_key=key, api_base=server.url, max_retries=0, timeout=0.5 if fault == Stall(0) else 60)
    server.script(fault)
    with pytest.raises(error, match=reason) as caught:
        parser.parse(photos[0])
    assert str(caught.value).startswith(str(photos[0]))
    assert caught.value.__context__ is None
    parser.close()


def test_failures_that_may_pass_are_retried_with_a_new_request_id(server: MockGLMServer, parser: LayoutParser) -> None:
    server.script(
        ErrorAnswer(429, "1302", "速率限制", retry_after=0), Cut(after=0), ErrorAnswer(500, "1234", "网络错误")
    )
    assert len(parser.parse(Image.new("RGB", (60, 40))).pages) == 1
    assert len({request["request_id"] for request in server.requests}) == 4


def test_a_refused_key_is_not_retried(server: MockGLMServer, parser: LayoutParser) -> None:
    server.fail_next(401, "1002", "no", times=2)
    with pytest.raises(GLMAuthenticationError):
        parser.parse(Image.new("RGB", (60, 40)))
    assert len(server.requests) == 1


def test_a_server_of_another_kind_has_no_such_path(key: str) -> None:
    with MockGLMServer(api_style="openai") as other:
        parser = LayoutParser(api_key=key, api_base=other.url)
        with pytest.raises(GLMInvalidRequestError, match="check api_base"):
            parser.parse(Image.new("RGB", (60, 40)))
        parser.close()


def test_a_long_page_comes_whole(key: str) -> None:
    def read(page: SentPage) -> list[dict[str, Any]]:
        return [{"content": f"{number:05d}" + "字" * 95} for number in range(200)]

    with MockGLMServer(layout=read) as server:
        parser = LayoutParser(api_key=key, api_base=server.url)
        text = parser.parse(Image.new("RGB", (60, 40))).pages[0].text
        parser.close()
    assert len(text.replace("\n", "")) == 20_000


# Use from threads, event loops and other objects


def test_threads_share_a_client(server: MockGLMServer, parser: LayoutParser) -> None:
    images = [Image.new("RGB", (10 + number, 20)) for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        texts = [layout.markdown for layout in pool.map(parser.parse, images)]
    assert all(f"{10 + number}×20" in text for number, text in enumerate(texts))
    assert server.connections <= 6


async def test_calls_of_an_event_loop_are_concurrent(server: MockGLMServer, parser: LayoutParser) -> None:
    layouts = await asyncio.gather(*(parser.aparse(Image.new("RGB", (10 + n, 20))) for n in range(4)))
    assert all(f"{10 + n}×20" in layout.markdown for n, layout in enumerate(layouts))
    await parser.aclose()


def test_tokens_are_counted(parser: LayoutParser) -> None:
    parser.parse(Image.new("RGB", (60, 40)))
    parser.parse(LECTURE)
    used = parser.usage.models["glm-ocr"]
    assert (used.calls, used.prompt_tokens) == (2, 11_000)
    parser.usage.reset()
    assert parser.usage.calls == 0


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda parser: pickle.loads(pickle.dumps(parser))])
def test_copies_have_the_same_settings_and_their_own_connections(
    copied: Callable[[LayoutParser], LayoutParser], parser: LayoutParser
) -> None:
    parser.parse(Image.new("RGB", (60, 40)))
    other = copied(parser)
    assert repr(other) == repr(parser)
    assert other.usage.calls == 0
    assert len(other.parse(Image.new("RGB", (60, 40))).pages) == 1
    other.close()


# Secrets


def test_key_password_and_content_appear_nowhere(
    server: MockGLMServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    parser = LayoutParser(api_key=key, api_base=server.url.replace("http://", "http://user:hunter2@"), max_retries=1)
    image = Image.effect_noise((60, 40), 90).convert("RGB")
    content = base64.b64encode(encoded(image, "PNG")).decode()
    server.script(ErrorAnswer(429, "1302", f"{key} hunter2 {content}", retry_after=0))
    with pytest.raises(GLMError) as caught:
        parser.parse(image)
    shown = "".join([repr(parser), str(parser), caplog.text, *traceback.format_exception(caught.value)])
    assert "hunter2" not in shown
    assert key.split(".")[1] not in shown
    assert content[:80] not in shown
    parser.close()
