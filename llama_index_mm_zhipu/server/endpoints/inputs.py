"""What a search or a question is given: parameters, and an image."""

from __future__ import annotations

from starlette.requests import Request

from llama_index_mm_zhipu.images import decode_base64
from llama_index_mm_zhipu.server.errors import ServerError, bad_request
from llama_index_mm_zhipu.server.forms import MAX_IMAGE_BYTES, Form, read_form
from llama_index_mm_zhipu.server.parameters import ParametersT
from llama_index_mm_zhipu.text import readable_size

IMAGE = "image"
"""Name of the image in forms and in JSON."""


async def read_inputs(request: Request, parameters: type[ParametersT]) -> tuple[ParametersT, bytes | None]:
    """Return the parameters of a request, and its image; None without one.

    Args:
        request: A query, a form or JSON.
        parameters: The type of the parameters.

    Raises:
        ImageError: An image in JSON is not base64.
        ServerError: The request cannot be read or a parameter is not allowed; there are several images or other
            files; or the image is empty or too large.
    """
    form = await read_form(request)
    try:
        image = await _image_in(form)
    finally:
        await form.close()
    return parameters.parse(form.fields), image


async def _image_in(form: Form) -> bytes | None:
    """Return the image of a form, taken out of its fields."""
    # Forms of pages send empty fields and files for what was not filled in.
    given = [text for text in form.fields.pop(IMAGE, []) if text]
    if unknown := form.files.keys() - {IMAGE}:
        raise bad_request(f"unknown file {min(unknown)!r}; give the image as {IMAGE!r}")
    files = [file for file in form.files.get(IMAGE, []) if file.filename or file.size]
    if len(given) + len(files) > 1:
        raise bad_request("give one image")
    if given:
        # Never a path or a URL: a client may live on another machine.
        return _checked(decode_base64(given[0], "the image"))
    return _checked(await files[0].read()) if files else None


def _checked(image: bytes) -> bytes:
    if not image:
        raise bad_request("the image is empty")
    if len(image) > MAX_IMAGE_BYTES:
        raise ServerError(413, "too_large", f"the image is larger than {readable_size(MAX_IMAGE_BYTES)}; reduce it")
    return image
