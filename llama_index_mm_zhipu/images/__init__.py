"""One door for every picture: whatever a user calls a picture in, a safe picture out.

Paths, ``file://`` and ``http(s)://`` addresses, data URIs, base64, ``bytes``, file objects, ``PIL.Image`` objects
and LlamaIndex nodes become an upright RGB ``PIL.Image`` or the encoded bytes, here and nowhere else.
"""

from __future__ import annotations

from llama_index_mm_zhipu.images.base64_text import decode_base64
from llama_index_mm_zhipu.images.encoding import encode_image, read_bytes
from llama_index_mm_zhipu.images.errors_old import ImageError
from llama_index_mm_zhipu.images.formats import sniff_format
from llama_index_mm_zhipu.images.loading_old import load_image
from llama_index_mm_zhipu.images.errors import describe
from llama_index_mm_zhipu.images.opening import open_image
from llama_index_mm_zhipu.images.orientation import orientation_of
from llama_index_mm_zhipu.images.sources import IMAGE_TYPES, ImageSource, has_image, image_source
from llama_index_mm_zhipu.images.loading import load_squashed
from llama_index_mm_zhipu.images.truncation import OnTruncated
from llama_index_mm_zhipu.images.url_rules import MAX_DOWNLOAD_BYTES, NO_URLS, UrlRules

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
    "image_source",
    "load_image",
    "load_squashed",
    "open_image",
    "orientation_of",
    "read_bytes",
    "sniff_format",
]
