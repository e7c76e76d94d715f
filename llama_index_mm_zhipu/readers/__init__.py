"""Readers for folders, tables, published data sets, PDF files, slides, Word documents and videos."""

from llama_index_mm_zhipu.readers.base import ImageReader
from llama_index_mm_zhipu.readers.caption_datasets import (
    CocoCnReader,
    Flickr8kCnReader,
    Flickr30kCnReader,
    WukongReader,
)
from llama_index_mm_zhipu.readers.columns import PRODUCT1M, WUDAOMM, ColumnReader, Columns
from llama_index_mm_zhipu.readers.figures_office import FigureReader
from llama_index_mm_zhipu.readers.folder import FolderReader, read_folder
from llama_index_mm_zhipu.readers.jsonl import JsonlReader, read_jsonl
from llama_index_mm_zhipu.readers.layout import LayoutReader
from llama_index_mm_zhipu.readers.pages import PageReader
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.readers.tsv_datasets import (
    ChineseClipReader,
    MugeCaptionReader,
    MugeRetrievalReader,
)
from llama_index_mm_zhipu.readers.video import VideoReader

__all__ = [
    "PRODUCT1M",
    "WUDAOMM",
    "ChineseClipReader",
    "CocoCnReader",
    "ColumnReader",
    "Columns",
    "FigureReader",
    "Flickr8kCnReader",
    "Flickr30kCnReader",
    "FolderReader",
    "ImageReader",
    "JsonlReader",
    "LayoutReader",
    "MugeCaptionReader",
    "MugeRetrievalReader",
    "PageReader",
    "RecordError",
    "VideoReader",
    "WukongReader",
    "read_folder",
    "read_jsonl",
]
