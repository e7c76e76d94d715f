"""What is asked: words, or words and a picture."""

from __future__ import annotations

from llama_index.core.schema import QueryBundle, QueryType


def as_bundle(query: QueryType) -> QueryBundle:
    """Return a question in the form that may hold a picture."""
    return query if isinstance(query, QueryBundle) else QueryBundle(query)
