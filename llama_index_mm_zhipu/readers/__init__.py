"""Readers of picture sets."""

from llama_index_mm_zhipu.readers.base import PictureReader
from llama_index_mm_zhipu.readers.chinese_clip import ChineseClipReader
from llama_index_mm_zhipu.readers.coco_cn import CocoCnReader
from llama_index_mm_zhipu.readers.columns import ColumnReader
from llama_index_mm_zhipu.readers.columns_old import PRODUCT1M, WUDAOMM, Columns
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.flickr8k_cn import Flickr8kCnReader
from llama_index_mm_zhipu.readers.flickr30k_cn import Flickr30kCnReader
from llama_index_mm_zhipu.readers.folder import FolderReader, read_folder
from llama_index_mm_zhipu.readers.jsonl import JsonlReader, read_jsonl
from llama_index_mm_zhipu.readers.muge import MugeCaptionReader, MugeRetrievalReader
from llama_index_mm_zhipu.readers.pages import PageReader
from llama_index_mm_zhipu.readers.wukong import WukongReader

__all__ = [
    "PRODUCT1M",
    "WUDAOMM",
    "ChineseClipReader",
    "CocoCnReader",
    "ColumnReader",
    "Columns",
    "Flickr8kCnReader",
    "Flickr30kCnReader",
    "FolderReader",
    "JsonlReader",
    "MugeCaptionReader",
    "MugeRetrievalReader",
    "PageReader",
    "PictureReader",
    "RecordError",
    "WukongReader",
    "read_folder",
    "read_jsonl",
]
