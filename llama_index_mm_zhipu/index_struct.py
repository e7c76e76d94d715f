"""How LlamaIndex's index stores know an index of this package, so that ``load_index_from_storage`` finds its class."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from llama_index.core.data_structs.data_structs import IndexStruct, MultiModelIndexDict
from llama_index.core.data_structs.registry import INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS
from llama_index.core.indices.base import BaseIndex
from llama_index.core.indices.registry import INDEX_STRUCT_TYPE_TO_INDEX_CLASS


class _StructType(str, Enum):
    # LlamaIndex's own enum cannot be extended; its registries take any key. Who reads a store of this index without
    # this package gets a KeyError that names it.
    IMAGE_INDEX = "llama_index_mm_zhipu"


@dataclass
class ImageIndexStruct(MultiModelIndexDict):
    """LlamaIndex's structure of a multimodal index, under a type of its own."""

    @classmethod
    def get_type(cls) -> _StructType:  # type: ignore[override]
        """Return the type by which the registries know this structure and its index."""
        return _StructType.IMAGE_INDEX


def register_index(index_class: type[BaseIndex[Any]]) -> None:
    """Have ``load_index_from_storage`` make an index of this class where a storage context holds our structure."""
    structs: dict[object, type[IndexStruct]] = INDEX_STRUCT_TYPE_TO_INDEX_STRUCT_CLASS  # type: ignore[assignment]
    indices: dict[object, type[BaseIndex[Any]]] = INDEX_STRUCT_TYPE_TO_INDEX_CLASS  # type: ignore[assignment]
    structs[_StructType.IMAGE_INDEX] = ImageIndexStruct
    indices[_StructType.IMAGE_INDEX] = index_class
