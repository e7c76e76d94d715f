"""What is asked: words, an image, or both."""

from __future__ import annotations

from typing import TypeAlias

from llama_index.core.schema import QueryBundle

from llama_index_mm_zhipu.images import ImageSource, image_source

Question: TypeAlias = "str | QueryBundle | ImageSource"
"""Words; an image in any form but a string; or both in a ``QueryBundle``."""


def as_bundle(question: Question) -> QueryBundle:
    """Return a question in the form that may hold an image.

    Raises:
        ImageError: It is neither words nor an image.
    """
    if isinstance(question, QueryBundle):
        return question
    return QueryBundle(question) if isinstance(question, str) else as_image_bundle(question)


def as_image_bundle(image: QueryBundle | ImageSource) -> QueryBundle:
    """Return a question by an image alone; a string is the image's path or URL.

    Raises:
        ImageError: It is no image.
    """
    if isinstance(image, QueryBundle):
        return image
    image_source(image)
    # LlamaIndex declares a path, and hands it to the embedding model as it is.
    return QueryBundle("", image_path=image)  # type: ignore[arg-type]
