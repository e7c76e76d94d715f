"""Read the parameters and files of requests: queries, JSON and multipart forms, with limits on their sizes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from llama_index_mm_zhipu.server.errors import ServerError, bad_request
from llama_index_mm_zhipu.text import readable_size

MAX_IMAGE_BYTES = 64_000_000
"""Largest image, about the limit of downloads."""

MAX_FILE_BYTES = 500_000_000
"""Largest file that is not an image, such as a PDF file."""

MAX_FILES = 64
"""How many files a request may have."""

# Texts around the files.
_MARGIN = 1_000_000
_MAX_JSON_BYTES = MAX_IMAGE_BYTES * 4 // 3 + _MARGIN


@dataclass
class Form:
    """What a request holds.

    Attributes:
        fields: The values by name, in their order.
        files: The files by name.
    """

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[UploadFile]] = field(default_factory=dict, repr=False)

    async def close(self) -> None:
        """Close the files."""
        for files in self.files.values():
            for file in files:
                await file.close()


class _InMemory(MultiPartParser):
    """Never writes images of questions to disk."""

    spool_max_size = MAX_IMAGE_BYTES + _MARGIN


async def read_form(request: Request) -> Form:
    """Return the body of a POST request, JSON or a form whose files stay in memory; of other requests, the query.

    In JSON, a list repeats its name, and ``image`` is in base64.

    Raises:
        ServerError: The body is too large, of another type, or damaged.
    """
    if request.method != "POST":
        return Form({name: request.query_params.getlist(name) for name in request.query_params})
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        return Form(_fields_of_json(await _body(request, _MAX_JSON_BYTES)))
    if content_type == "multipart/form-data":
        return await _multipart(request, _InMemory, MAX_IMAGE_BYTES + _MARGIN, max_files=1)
    raise ServerError(415, "unsupported", "send multipart/form-data or application/json")


async def read_files(request: Request) -> Form:
    """Return a form with many files, of which large ones are in temporary files until the form is closed.

    Raises:
        ServerError: The body is too large, of another type, or damaged.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise ServerError(415, "unsupported", "send the files as multipart/form-data")
    return await _multipart(request, MultiPartParser, MAX_FILE_BYTES + _MARGIN, max_files=MAX_FILES)


async def _multipart(request: Request, parser: type[MultiPartParser], max_bytes: int, *, max_files: int) -> Form:
    stream = _limited(request, max_bytes)
    try:
        parsed = await parser(request.headers, stream, max_files=max_files).parse()
    except MultiPartException as error:
        raise bad_request(f"the form cannot be read: {error.message}") from None
    form = Form()
    for name, value in parsed.multi_items():
        if isinstance(value, UploadFile):
            form.files.setdefault(name, []).append(value)
        else:
            # Browsers send every line break as CR LF.
            form.fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return form


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the body of a request, up to a limit.

    Raises:
        ServerError: The body is larger.
    """
    error = ServerError(413, "too_large", f"the request is larger than {readable_size(max_bytes)}; send less at a time")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise error
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise error
        yield chunk


async def _body(request: Request, max_bytes: int) -> bytes:
    return b"".join([chunk async for chunk in _limited(request, max_bytes)])


def _fields_of_json(body: bytes) -> dict[str, list[str]]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("the body is not JSON") from None
    if not isinstance(values, dict):
        raise bad_request("the body is not a JSON object")
    return {name: texts for name, value in values.items() if value is not None and (texts := _texts(name, value))}


def _texts(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in values):
        raise bad_request(f"{name} is neither a text nor a number, nor a list of these")
    return [str(each) for each in values]
