"""Questions: words, images, or both."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import IOBase
from pathlib import Path
from typing import Any, TypeAlias

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.schema import QueryBundle

from llama_index_mm_zhipu.images import ImageSource, describe, resolve_source
from llama_index_mm_zhipu.text import replace_lone_surrogates

Question: TypeAlias = "str | QueryBundle | ChatMessage | ImageSource"
"""Words; an image in any form but a string; or both in a ``QueryBundle`` or in a ``ChatMessage``."""

_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})
"""Unicode categories of spaces, line ends, control characters and zero-width characters."""


@dataclass(repr=False)
class ImageQuestion(QueryBundle):
    """A ``QueryBundle`` with all images of a question; its ``repr`` shows none of their bytes.

    Attributes:
        images: Images that the LLM sees as the question's own, in this order. ``image_path`` is the one to search by,
            or None.
    """

    images: Sequence[ImageSource] = field(default_factory=tuple)

    def __repr__(self) -> str:
        """Name the images without their content."""
        names = ", ".join(map(describe, self.images))
        return f"ImageQuestion({self.query_str!r}, images=[{names}])"


def has_words(text: str) -> bool:
    """Return whether a text holds visible characters: not only spaces, line ends and zero-width characters."""
    return any(unicodedata.category(character) not in _INVISIBLE for character in text)


def images_of(question: QueryBundle) -> Sequence[ImageSource]:
    """Return the images of a question."""
    if isinstance(question, ImageQuestion):
        return question.images
    return [question.image_path] if question.image_path else []


def as_bundle(question: Question) -> QueryBundle:
    """Convert a question to a ``QueryBundle``, which may hold images.

    Halves of surrogate pairs in the words are replaced.

    Raises:
        ImageError: The question is neither words nor an image.
        ValueError: A message holds something other than text and images.
    """
    if isinstance(question, QueryBundle):
        whole = replace(question, query_str=replace_lone_surrogates(question.query_str))
        # Only the author of a subclass knows how to copy it.
        if type(question) is QueryBundle and question.image_path:
            asked = image_question(whole.query_str, [question.image_path])
            return replace(asked, custom_embedding_strs=whole.custom_embedding_strs, embedding=whole.embedding)
        return whole
    if isinstance(question, ChatMessage):
        return _bundle_of_message(question)
    return QueryBundle(replace_lone_surrogates(question)) if isinstance(question, str) else as_image_bundle(question)


def as_image_bundle(image: QueryBundle | ImageSource) -> QueryBundle:
    """Convert an image to a question by this image alone; a string is the image's path or URL.

    Raises:
        ImageError: The object is no image.
    """
    if isinstance(image, QueryBundle):
        return image
    if not isinstance(image, IOBase):
        resolve_source(image)
    return image_question("", [image])


def image_question(words: str, images: Sequence[ImageSource]) -> ImageQuestion:
    """Return a question with images; retrieval uses the first."""
    # A stream may be readable only once, but its image is read to embed it, to show it and to keep it.
    kept = [resolve_source(image) if isinstance(image, IOBase) else image for image in images]
    # LlamaIndex declares ``image_path`` as a path, and hands any value on to the embedding model.
    searched_by: Any = kept[0]
    return ImageQuestion(words, image_path=searched_by, images=kept)


def as_query(question: Question) -> QueryBundle:
    """Return a copy of a question to search by, in which a blank text is no text.

    Raises:
        ImageError: The question is neither words nor an image.
    """
    query = as_bundle(question)
    custom = query.custom_embedding_strs
    return replace(
        query,
        query_str=query.query_str if has_words(query.query_str) else "",
        custom_embedding_strs=None if custom is None else [text for text in custom if has_words(text)],
    )


def _bundle_of_message(message: ChatMessage) -> QueryBundle:
    words: list[str] = []
    images: list[ImageSource] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            words.append(replace_lone_surrogates(block.text))
        elif isinstance(block, ImageBlock):
            source = resolve_source(block)
            images.append(str(source) if isinstance(source, Path) else source)
        else:
            raise ValueError(f"a question takes text and images, not a {type(block).__name__}; leave it out")
    text = "\n".join(words)
    return image_question(text, images) if images else QueryBundle(text)
