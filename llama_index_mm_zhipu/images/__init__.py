"""One door for every image: whatever a user calls an image in, a safe image out.

Paths, ``file://`` and ``http(s)://`` addresses, data URIs, base64, ``bytes``, file objects, ``PIL.Image`` objects
and LlamaIndex nodes become an upright RGB ``PIL.Image`` or the encoded bytes, here and nowhere else.
"""

from __future__ import annotations

from llama_index_mm_zhipu.images.errors import ImageError, describe
from llama_index_mm_zhipu.images.fetch import MAX_DOWNLOAD_BYTES, NO_URLS, UrlRules
from llama_index_mm_zhipu.images.formats import sniff_format
from llama_index_mm_zhipu.images.loading import encode_image, load_image, load_resized, read_bytes
from llama_index_mm_zhipu.images.opening import OnTruncated, open_image
from llama_index_mm_zhipu.images.pixels import orientation_of
from llama_index_mm_zhipu.images.sources import IMAGE_TYPES, ImageSource, decode_base64, has_image, resolve_source

__all__ = [
    "IMAGE_TYPES",
    "MAX_DOWNLOAD_BYTES",
    "NO_URLS",
    "ImageError",
    "ImageSource",
    "OnTruncated",
    "UrlRules",
    "decode_base64",
    "describe",
    "encode_image",
    "has_image",
    "load_image",
    "load_resized",
    "open_image",
    "orientation_of",
    "read_bytes",
    "resolve_source",
    "sniff_format",
]
