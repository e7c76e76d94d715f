"""Readers of picture sets."""

from llama_index_mm_zhipu.readers.base import PictureReader
from llama_index_mm_zhipu.readers.chinese_clip import ChineseClipReader
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.folder import read_folder
from llama_index_mm_zhipu.readers.jsonl import JsonlReader, read_jsonl

__all__ = ["ChineseClipReader", "JsonlReader", "PictureReader", "RecordError", "read_folder", "read_jsonl"]
