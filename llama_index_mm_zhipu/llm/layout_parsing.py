"""``LayoutParser``: GLM-OCR, the part of Zhipu's API that reads pages (``layout_parsing``)."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import SecretStr

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.concurrency import arun, run
from llama_index_mm_zhipu.images import ImageSource, describe, encode_image, load_image, read_bytes, resolve_source
from llama_index_mm_zhipu.images.sources import describe_resolved
from llama_index_mm_zhipu.llm.client import ClientHolder, ClientSettings
from llama_index_mm_zhipu.llm.endpoint import DEFAULT_API_BASE, is_http_url, key_and_base, without_credentials
from llama_index_mm_zhipu.llm.errors import GLMError, GLMInvalidRequestError, GLMProtocolError, new_error
from llama_index_mm_zhipu.llm.images import is_sendable
from llama_index_mm_zhipu.llm.layout import Layout
from llama_index_mm_zhipu.llm.transport import Body
from llama_index_mm_zhipu.llm.usage import Usage, UsageMeter

PATH = "layout_parsing"
"""Path of GLM-OCR below the URL of the API."""

MAX_IMAGE_BYTES = 10 * 1024 * 1024
"""The API's limit for an image file."""

MAX_PDF_BYTES = 50 * 1024 * 1024
"""The API's limit for a PDF file."""

MAX_PAGES = 100
"""The API's limit for the pages of a request."""

_PDF_MARK = b"%PDF-"
_PNG_MARK = b"\x89PNG"
# Readers of PDF files accept other bytes before the mark.
_MARK_WITHIN = 1024
# The documentation names no limit for the sides of an image.
_ANY_SIDE = 1_000_000


class LayoutParser:
    """Reads images and PDF files with GLM-OCR: text, tables and formulas as Markdown, with boxes.

    It has its own connections, retries as ``ZhipuMultiModal`` does, and may be used by several threads and event loops
    at a time. GLM-OCR is not free of charge.

    Args:
        api_key: Key of Zhipu or Z.ai. By default ``ZHIPUAI_API_KEY``, else ``ZAI_API_KEY``. It appears in no ``repr``
            or error, but pickles of this object contain it.
        api_base: URL of the API, with the same defaults as for ``ZhipuMultiModal``.
        model: Name of the model.
        timeout: Seconds to wait for each part of an answer.
        deadline: Seconds for a call with all its attempts.
        max_retries: Number of attempts after the first, for failures that may pass.
        max_concurrency: Maximum number of concurrent calls; further calls wait. None for no limit.
        user_id: Id of your end user for the API, 6 to 128 characters.
        return_crop_images: Whether answers name cut-outs of images and tables, see ``Layout.responses``.
        need_layout_visualization: Whether answers name images of the pages with the boxes drawn on them.

    Raises:
        TypeError: An argument is unknown; the message suggests a known one.
        ValueError: There is no key, the key has invalid characters, or an argument is out of range.

    Examples:
        >>> from llama_index_mm_zhipu.llm import LayoutParser
        >>> layout = LayoutParser().parse("lecture.pdf", start_page=1, end_page=2)
        >>> [(page.number, page.text.splitlines()[0]) for page in layout.pages]
        [(1, '什么是机器学习'), (2, '训练集与测试集')]
    """

    @explicit_arguments
    def __init__(
        self,
        *,
        api_key: str | SecretStr | None = None,
        api_base: str | None = None,
        model: str = "glm-ocr",
        timeout: float = 300.0,
        deadline: float = 900.0,
        max_retries: int = 3,
        max_concurrency: int | None = 10,
        user_id: str | None = None,
        return_crop_images: bool = False,
        need_layout_visualization: bool = False,
    ) -> None:
        self._api_key, self._api_base = key_and_base(api_key, api_base)
        if not is_http_url(self._api_base):
            raise ValueError(
                f"api_base {without_credentials(self._api_base)!r} is not a URL such as {DEFAULT_API_BASE}"
            )
        for name, value, minimum in (
            ("timeout", timeout, 0.001),
            ("deadline", deadline, 0.001),
            ("max_retries", max_retries, 0),
            ("max_concurrency", 1 if max_concurrency is None else max_concurrency, 1),
        ):
            if not value >= minimum:
                raise ValueError(f"{name} is {value!r}; it must be at least {minimum:g}")
        self.model = model
        self.timeout = timeout
        self.deadline = deadline
        self.max_retries = max_retries
        self.max_concurrency = max_concurrency
        self.user_id = user_id
        self.return_crop_images = return_crop_images
        self.need_layout_visualization = need_layout_visualization
        self._client = ClientHolder()
        self._meter = UsageMeter()

    def __repr__(self) -> str:
        return f"LayoutParser(model={self.model!r}, api_base={without_credentials(self._api_base)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle and copy the settings only, without connections and usage."""
        return {name: value for name, value in vars(self).items() if name not in ("_client", "_meter")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the settings; the new object opens its own connections and counts its usage from zero."""
        vars(self).update(state, _client=ClientHolder(), _meter=UsageMeter())

    @property
    def usage(self) -> Usage:
        """Tokens of this object's calls since it was created or ``usage.reset()`` was called."""
        return self._meter.read({})

    def parse(
        self,
        file: ImageSource,
        *,
        start_page: int | None = None,
        end_page: int | None = None,
        page_count: int | None = None,
    ) -> Layout:
        """Read an image or a PDF file.

        Args:
            file: An image in any form that ``images`` reads, or a PDF file as a path, URL, data URI, base64 or bytes.
                URLs are sent as they are. JPEG and PNG files are sent unchanged unless they are rotated by their
                metadata, transparent, damaged or too large; other images are sent as JPEG.
            start_page: Number of the first page of a PDF file to read, from 1; by default the first.
            end_page: Number of the last page to read; by default the last.
            page_count: How many pages the API is to read, if the caller knows it. An answer about another number of
                pages is an error. With ``start_page`` and ``end_page`` the number is known.

        Returns:
            The layout. Its pages have the numbers that they have in the file.

        Raises:
            GLMInvalidRequestError: The file is larger than the API accepts, or there are more than 100 pages.
            GLMError: The call failed. The message names the file.
            ImageError: The file cannot be read.
            ValueError: The range of pages is empty, or is given for an image.

        Examples:
            >>> from llama_index_mm_zhipu.llm import LayoutParser
            >>> layout = LayoutParser().parse("lecture.pdf", start_page=2, end_page=2)
            >>> layout.pages[0].number, layout.markdown.splitlines()[0]
            (2, '训练集与测试集')
        """
        return run(self._parse(file, start_page, end_page, page_count))

    async def aparse(
        self,
        file: ImageSource,
        *,
        start_page: int | None = None,
        end_page: int | None = None,
        page_count: int | None = None,
    ) -> Layout:
        """Read an image or a PDF file as ``parse`` does."""
        return await arun(self._parse(file, start_page, end_page, page_count))

    def close(self) -> None:
        """Close the connections; the next call opens new ones.

        Examples:
            >>> from llama_index_mm_zhipu.llm import LayoutParser
            >>> parser = LayoutParser()
            >>> parser.close()
        """
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections as ``close`` does."""
        await self._client.aclose()

    async def _parse(
        self, file: ImageSource, start_page: int | None, end_page: int | None, page_count: int | None
    ) -> Layout:
        first = 1 if start_page is None else start_page
        if first < 1 or (end_page is not None and end_page < first):
            raise ValueError(f"start_page is {start_page} and end_page is {end_page}; pages are numbered from 1")
        # Images are decoded and encoded here; all calls share the event loop.
        sent = await asyncio.to_thread(_SentFile.of, file)
        expected = end_page - first + 1 if end_page is not None else page_count
        if sent.is_image:
            expected = 1
            if start_page is not None or end_page is not None:
                raise ValueError(f"{sent.name} is an image; start_page and end_page are for PDF files")
        if expected is not None and expected > MAX_PAGES:
            raise _refusal(
                f"{sent.name} has {expected} pages to read, and the API reads {MAX_PAGES} in a request",
                "read it in parts, with start_page and end_page",
            )
        body = {
            "model": self.model,
            "file": sent.value,
            "start_page_id": start_page,
            "end_page_id": end_page,
            "user_id": self.user_id,
            "return_crop_images": self.return_crop_images or None,
            "need_layout_visualization": self.need_layout_visualization or None,
        }
        body = {name: value for name, value in body.items() if value is not None}
        client = await self._client.get(self._settings())
        try:
            return await client.post(PATH, body, partial(self._read, first, expected))
        except GLMError as error:
            error.args = (f"{sent.name}: {error}",)
            raise

    def _read(self, first: int, expected: int | None, response: Body) -> Layout:
        # Answers that cannot be used are billed as well.
        usage = response.get("usage")
        self._meter.add(self.model, usage if isinstance(usage, dict) else {})
        layout = Layout.of([response], first=first)
        if expected is not None and len(layout.pages) != expected:
            raise new_error(
                GLMProtocolError,
                f"the API answered with {len(layout.pages)} pages for {expected}",
                advice="whose text is which page's is not known; read the pages one at a time",
            )
        return layout

    def _settings(self) -> ClientSettings:
        return ClientSettings(
            api_key=self._api_key.get_secret_value(),
            api_base=self._api_base,
            # The part of the API exists in Zhipu's form only.
            style="glm",
            timeout=self.timeout,
            deadline=self.deadline,
            max_retries=self.max_retries,
            max_concurrency=self.max_concurrency,
            require_finish_reason=True,
        )


@dataclass(frozen=True)
class _SentFile:
    """A file in the form in which it is sent.

    Attributes:
        value: A URL or a data URI: the service was reported to refuse bare base64.
        name: Name of the file for errors.
        is_image: Whether it is certainly an image; a URL may lead to a PDF file.
    """

    value: str = field(repr=False)
    name: str
    is_image: bool

    @classmethod
    def of(cls, file: ImageSource) -> _SentFile:
        """Read a file, and check its size.

        Raises:
            GLMInvalidRequestError: The file is too large.
            ImageError: The file cannot be read.
        """
        source = resolve_source(file)
        if isinstance(source, str):
            return cls(source, describe(source), is_image=False)
        name = describe_resolved(file, source)
        if isinstance(source, Path):
            _require_small_file(source, name)
        data = read_bytes(source)
        if _PDF_MARK in data[:_MARK_WITHIN]:
            name = name if isinstance(source, Path) else f"a PDF file given as {len(data)} bytes"
            _require_small(len(data), MAX_PDF_BYTES, name, "split the file, or make its images smaller")
            return cls(_data_uri("application/pdf", data), name, is_image=False)
        max_encoded_bytes = (MAX_IMAGE_BYTES + 2) // 3 * 4 + 1
        if not is_sendable(data, max_side=_ANY_SIDE, max_encoded_bytes=max_encoded_bytes):
            data = encode_image(load_image(source))
        _require_small(len(data), MAX_IMAGE_BYTES, name, "shrink the image")
        return cls(_data_uri("image/png" if data.startswith(_PNG_MARK) else "image/jpeg", data), name, is_image=True)


def _require_small_file(path: Path, name: str) -> None:
    """Refuse a file that is too large for any type, without reading it. Other errors are left to the reading."""
    with suppress(OSError, ValueError):
        _require_small(path.stat().st_size, MAX_PDF_BYTES, name, "split the file, or make its images smaller")


def _require_small(size: int, limit: int, name: str, advice: str) -> None:
    if size > limit:
        megabytes = f"{size / 2**20:.1f} MB, and the API reads {limit // 2**20} MB"
        raise _refusal(f"{name} has {megabytes}", advice)


def _refusal(what: str, advice: str) -> GLMInvalidRequestError:
    return new_error(GLMInvalidRequestError, what, advice=advice)


def _data_uri(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode('ascii')}"
