"""Images from any source, opened safely: the only place where bytes become images and images become bytes.

Paths, ``file://`` and ``http(s)://`` URLs, data URIs, base64, ``bytes``, file objects, ``PIL.Image`` objects and
LlamaIndex nodes are loaded as upright RGB ``PIL.Image`` objects or read as encoded bytes.
"""

from __future__ import annotations

from llama_index_mm_zhipu.images.errors import ImageError, describe, is_url
from llama_index_mm_zhipu.images.formats import FORMATS, is_image_file, sniff_format
from llama_index_mm_zhipu.images.loading import (
    CELL_SIDE,
    contact_sheet,
    encode_image,
    load_image,
    load_resized,
    load_within,
    read_bytes,
)
from llama_index_mm_zhipu.images.nodes import (
    PAGE_TEXT_LINES,
    as_image_node,
    caption_of,
    node_of_image,
    page_text_of,
    searchable_text_of,
    with_caption,
    with_hidden_metadata,
    with_page_text,
    without_hidden_metadata,
)
from llama_index_mm_zhipu.images.opening import OnTruncated, open_image
from llama_index_mm_zhipu.images.pixels import orientation_of
from llama_index_mm_zhipu.images.sources import (
    IMAGE_TYPES,
    MAX_DOWNLOAD_BYTES,
    MISSING_IMAGE,
    NO_URLS,
    STORED_IMAGE,
    ImageSource,
    ResolvedSource,
    UrlRules,
    decode_base64,
    has_image,
    is_data_uri,
    resolve_source,
)
from llama_index_mm_zhipu.images.streams import is_folder, read_file, require_valid_path

__all__ = [
    "CELL_SIDE",
    "FORMATS",
    "IMAGE_TYPES",
    "MAX_DOWNLOAD_BYTES",
    "MISSING_IMAGE",
    "NO_URLS",
    "PAGE_TEXT_LINES",
    "STORED_IMAGE",
    "ImageError",
    "ImageSource",
    "OnTruncated",
    "ResolvedSource",
    "UrlRules",
    "as_image_node",
    "caption_of",
    "contact_sheet",
    "decode_base64",
    "describe",
    "encode_image",
    "has_image",
    "is_data_uri",
    "is_folder",
    "is_image_file",
    "is_url",
    "load_image",
    "load_resized",
    "load_within",
    "node_of_image",
    "open_image",
    "orientation_of",
    "page_text_of",
    "read_bytes",
    "read_file",
    "require_valid_path",
    "resolve_source",
    "searchable_text_of",
    "sniff_format",
    "with_caption",
    "with_hidden_metadata",
    "with_page_text",
    "without_hidden_metadata",
]
