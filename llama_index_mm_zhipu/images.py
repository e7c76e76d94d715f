"""One door for every picture: whatever a user calls a picture in, a safe picture out.

Paths, ``file://`` and ``http(s)://`` addresses, data URIs, base64, ``bytes``, file objects, ``PIL.Image`` objects
and LlamaIndex nodes become an upright RGB ``PIL.Image`` or the encoded bytes, here and nowhere else.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from io import BytesIO, IOBase
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx
import numpy as np
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.schema import BaseNode, ImageNode, MediaResource
from PIL import Image, ImageOps, UnidentifiedImageError

ImageSource: TypeAlias = "str | Path | bytes | bytearray | IOBase | Image.Image | BaseNode | ImageBlock"
"""Everything that the functions of this module take for a picture."""

MAX_DOWNLOAD_BYTES = 64 * 1024 * 1024
"""Larger answers to an ``http(s)`` address are refused."""

_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

_DATA_URI = re.compile(r"data:[^,;]*(?:;[^,;]+)*?;base64,")
_LONGEST_PATH = 4096

_loading = threading.Lock()


class ImageError(ValueError):
    """A picture could not be found, fetched or decoded. The message names it and says what to do."""


def load_image(source: ImageSource) -> Image.Image:
    """Decode a picture into an upright RGB image.

    EXIF orientation is applied, transparency is laid on white, the first frame of an animation is taken.

    Args:
        source: A path, ``file://`` or ``http(s)://`` address, data URI, base64 string, ``bytes``, binary file object,
            ``PIL.Image`` or LlamaIndex node.

    Returns:
        A new image of mode ``RGB``; a given ``PIL.Image`` is left as it is.

    Raises:
        ImageError: There is no such picture, or it cannot be decoded.
    """
    source = image_source(source)
    name = describe(source)
    if isinstance(source, Image.Image):
        return _upright_rgb(_loaded(source, name), name)
    opened: BytesIO | Path = source if isinstance(source, Path) else BytesIO(read_bytes(source))
    try:
        with Image.open(opened) as image:
            return _upright_rgb(image, name)
    except FileNotFoundError:
        raise ImageError(f"no such picture: {name}; check the path") from None
    except UnidentifiedImageError:
        raise ImageError(f"{name} is not a picture that Pillow can read; replace the file or leave it out") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large to decode: {error}; shrink it first") from None
    except OSError as error:
        raise ImageError(f"cannot read the picture {name}: {error.strerror or error}") from None


def read_bytes(source: ImageSource) -> bytes:
    """Return the encoded bytes of a picture as they are; a ``PIL.Image`` is encoded as PNG.

    Raises:
        ImageError: There is no such file, or the address did not answer with a picture.
    """
    source = image_source(source)
    if isinstance(source, (bytes, bytearray)):
        return bytes(source)
    if isinstance(source, Image.Image):
        return encode_image(_loaded(source, describe(source)), "PNG")
    if isinstance(source, Path):
        try:
            return source.read_bytes()
        except OSError as error:
            raise ImageError(f"cannot read the picture {source}: {error.strerror}") from None
    if isinstance(source, str):
        return _download(source)
    raise ImageError(f"not a picture: an object of type {type(source).__name__}")


def encode_image(image: Image.Image, image_format: str = "JPEG", *, quality: int = 90) -> bytes:
    """Encode an image.

    Args:
        image: Converted to RGB for JPEG, and for PNG where that has no such mode.
        image_format: ``"JPEG"`` or ``"PNG"``.
        quality: JPEG quality, 1 to 95.
    """
    buffer = BytesIO()
    if image_format == "JPEG":
        image.convert("RGB").save(buffer, "JPEG", quality=quality)
    else:
        (image if image.mode in _PNG_MODES else load_image(image)).save(buffer, image_format)
    return buffer.getvalue()


def sniff_format(data: bytes) -> str | None:
    """Return Pillow's name of the format that the bytes are in (``"JPEG"``, ``"PNG"``, …), or None."""
    try:
        with Image.open(BytesIO(data)) as image:
            return image.format
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None


def decode_base64(text: str | bytes, name: str = "the text") -> bytes:
    """Decode base64 strictly; a data URI's head, the URL-safe alphabet, white space and missing padding are accepted.

    Args:
        text: Base64 with or without ``data:image/…;base64,``.
        name: What to call it in an error.

    Raises:
        ImageError: It is not base64, or empty.
    """
    characters = text if isinstance(text, str) else text.decode("ascii", "replace")
    if match := _DATA_URI.match(characters):
        characters = characters[match.end() :]
    compact = "".join(characters.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ImageError(f"{name} is neither a path nor base64") from None
    if not data:
        raise ImageError(f"{name} holds no picture")
    return data


def image_source(source: ImageSource) -> Path | str | bytes | Image.Image:
    """Reduce any picture source to the one of four kinds that says where its bytes are.

    Returns:
        A ``Path``, an ``http(s)`` address, encoded ``bytes`` or a ``PIL.Image``.

    Raises:
        ImageError: A string is neither of these, or a node holds no picture.
    """
    if isinstance(source, (Path, bytes, Image.Image)):
        return source
    if isinstance(source, bytearray):
        return bytes(source)
    if isinstance(source, str):
        return _source_of_string(source)
    if isinstance(source, (BaseNode, ImageBlock)):
        return _source_of_node(source)
    if hasattr(source, "read"):
        if source.seekable():
            source.seek(0)
        content = source.read()
        if isinstance(content, bytes):
            return content
    raise ImageError(f"not a picture: an object of type {type(source).__name__}")


def has_image(node: BaseNode) -> bool:
    """Whether a LlamaIndex node or document holds a picture."""
    if isinstance(node, ImageNode):
        return True
    return getattr(node, "image_resource", None) is not None


def describe(source: object) -> str:
    """Name a picture source for messages: a path, an address or a size, never the picture's bytes."""
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, str):
        if _is_http(source):
            return source
        return source if len(source) <= 200 else f"a string of {len(source)} characters"
    if isinstance(source, (bytes, bytearray)):
        return f"a picture given as {len(source)} bytes"
    if isinstance(source, Image.Image):
        return f"a PIL image of {source.width}×{source.height}"
    if isinstance(source, BaseNode):
        return f"the picture of node {source.node_id}"
    return f"an object of type {type(source).__name__}"


def _source_of_string(text: str) -> Path | str | bytes:
    if _is_http(text):
        return text
    if text.startswith("file://"):
        return Path(url2pathname(unquote(urlsplit(text).path)))
    if _DATA_URI.match(text):
        return decode_base64(text, "a data URI")
    if len(text) <= _LONGEST_PATH:
        # A JPEG in base64 begins with "/9j/", which reads as an absolute path: what exists is a path.
        path = Path(text).expanduser()
        if _exists(path) or not _looks_like_base64_picture(text):
            return path
    return decode_base64(text, f"a string of {len(text)} characters")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # A name that no file can have.
        return False


def _looks_like_base64_picture(text: str) -> bool:
    try:
        return sniff_format(decode_base64(text, "")) is not None
    except ImageError:
        return False


def _source_of_node(node: BaseNode | ImageBlock) -> Path | str | bytes | Image.Image:
    resource: Any = getattr(node, "image_resource", None)
    if isinstance(resource, MediaResource):
        inline, path, url = resource.data, resource.path, resource.url
    else:
        inline = getattr(node, "image", None)
        path = getattr(node, "image_path", None) or getattr(node, "path", None)
        url = getattr(node, "image_url", None) or getattr(node, "url", None)
    if isinstance(inline, IOBase):
        return image_source(inline)
    if inline:
        # LlamaIndex keeps inline pictures as base64, in str or bytes.
        return decode_base64(inline, describe(node))
    if path:
        return image_source(path)
    if url:
        return image_source(str(url))
    raise ImageError(f"{describe(node)} is missing: it has no image, image_path or image_url")


def _is_http(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


def _download(url: str) -> bytes:
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60.0) as response:
            response.raise_for_status()
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > MAX_DOWNLOAD_BYTES:
                    raise ImageError(
                        f"{url} is larger than {MAX_DOWNLOAD_BYTES >> 20} MiB; download and shrink it first"
                    )
            return bytes(data)
    except httpx.HTTPStatusError as error:
        raise ImageError(f"{url} answered {error.response.status_code}; check the address") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ImageError(f"cannot fetch the picture {url}: {type(error).__name__} {error}".rstrip()) from None


def _loaded(image: Image.Image, name: str) -> Image.Image:
    """Read what ``Image.open`` left for later: two threads must not do so at once."""
    try:
        with _loading:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} is damaged: {error}; replace the file or leave it out") from None
    return image


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "RGB":
            return upright.copy() if upright is image else upright
        if upright.mode.startswith("I") or upright.mode == "F":
            return _to_eight_bits(upright).convert("RGB")
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            white = Image.new("RGBA", rgba.size, "white")
            return Image.alpha_composite(white, rgba).convert("RGB")
        return upright.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"{name} is damaged: {error}; replace the file or leave it out") from None


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16- and 32-bit greys to 0…255: Pillow's own conversion clips them to white."""
    values = np.asarray(image, dtype=np.float64)
    white = 65535.0 if values.max(initial=0) > 255 else 255.0
    return Image.fromarray((values.clip(0, white) * (255.0 / white)).astype(np.uint8))
