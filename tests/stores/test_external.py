"""What ``ExternalVectorStore`` does itself, whichever store it is given."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from list_store import ListStore

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import ExternalVectorStore


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("slides", "was given a str; give a vector store of LlamaIndex, such as PGVectorStore"),
        (None, "was given a NoneType; give a vector store"),
        (ListStore, "was given the class ListStore; give a vector store"),
        (FaissMultiModalVectorStore(), "an index can use FaissMultiModalVectorStore as it is"),
        (ExternalVectorStore(ListStore()), "an index can use ExternalVectorStore as it is"),
    ],
    ids=str,
)
def test_only_stores_of_llama_index_are_wrapped_and_only_once(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ExternalVectorStore(given)


def test_no_form_of_a_store_holds_the_password_of_its_image_storage() -> None:
    store = ExternalVectorStore(ListStore(), image_storage="memory://user:geheim@bucket/folder")
    for form in (repr(store), str(store), store.to_json(), store.model_dump_json(), str(store.model_dump())):
        assert "geheim" not in form
    with pytest.raises(TypeError, match=r"ExternalVectorStore\(ListStore\) cannot be pickled.*in each process"):
        pickle.dumps(store)
