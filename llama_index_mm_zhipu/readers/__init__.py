"""Readers of picture sets."""

from llama_index_mm_zhipu.readers.folder import read_folder
from llama_index_mm_zhipu.readers.jsonl import read_jsonl

__all__ = ["read_folder", "read_jsonl"]
