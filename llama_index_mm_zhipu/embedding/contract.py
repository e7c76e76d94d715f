"""What an index needs of an embedding model, and what it uses in addition if the model offers it.

An index takes any ``MultiModalEmbedding`` of LlamaIndex. It calls ``get_query_embedding`` and ``get_image_embedding``
for the text and the image of a question, and ``get_text_embedding_batch`` and ``get_image_embedding_batch`` for the
nodes to store. All these vectors must lie in one space; ``unit`` scales them to unit length before they are stored or
compared. Images reach the model as file paths or as binary files.

A model that knows three colours is enough:

    >>> from llama_index.core.embeddings import MultiModalEmbedding
    >>> from llama_index_mm_zhipu.embedding import embed_nodes
    >>> from llama_index_mm_zhipu.images import node_of_image
    >>> from PIL import Image
    >>> class ColourEmbedding(MultiModalEmbedding):
    ...     def _get_text_embedding(self, text):
    ...         return [float(text.count(colour)) for colour in "红绿蓝"]
    ...     def _get_image_embedding(self, img_file_path):
    ...         return list(map(float, Image.open(img_file_path).resize((1, 1)).getpixel((0, 0))))
    ...     def _get_query_embedding(self, query):
    ...         return self._get_text_embedding(query)
    ...     async def _aget_query_embedding(self, query):
    ...         return self._get_text_embedding(query)
    ...     async def _aget_image_embedding(self, img_file_path):
    ...         return self._get_image_embedding(img_file_path)
    >>> [node] = embed_nodes([node_of_image(Image.new("RGB", (8, 8), "blue"))], ColourEmbedding())
    >>> node.embedding
    [0.0, 0.0, 1.0]

The protocols below are optional abilities. A model has an ability if it has the members of the protocol; it need not
inherit from it. The functions below use the abilities of a model, and fall back to a default if it lacks them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.images import ImageError, ImageSource, caption_of, load_image, read_bytes, resolve_source

Vector: TypeAlias = npt.NDArray[np.float32]
"""The embedding of one text or image, of shape ``(dimension,)``."""

ImageArgument: TypeAlias = "str | BytesIO"
"""The two forms in which every ``MultiModalEmbedding`` takes an image: the path of a file, or its content."""

DEFAULT_CAPTION_WEIGHT = 0.5
"""Share of captions in the vectors of captioned images, for models that recommend none."""

Floats: TypeAlias = npt.NDArray[np.floating]

# Vectors whose length is this close to 1 are left as they are: models round.
_LENGTH_TOLERANCE = 1e-3


@runtime_checkable
class StreamsImageEmbeddings(Protocol):
    """A model that takes images in any form, embeds them in batches of its own, and reports unreadable ones singly.

    Its ``get_image_embedding`` takes images in any form, too.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import StreamsImageEmbeddings
        >>> isinstance(embed_model, StreamsImageEmbeddings)
        True
        >>> [vector.shape for vector in embed_model.stream_image_embeddings(["images/apple.jpg"])]
        [(256,)]
    """

    def stream_image_embeddings(self, images: Iterable[ImageSource]) -> Generator[Vector | ImageError, None, None]:
        """Yield the vector of each image in order, or the ``ImageError`` that it caused.

        Args:
            images: Images in any form that ``llama_index_mm_zhipu.images`` takes, nodes among them; consumed as needed.
        """


@runtime_checkable
class HasFingerprint(Protocol):
    """A model that identifies its weights, so that a store refuses the vectors of other weights.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import HasFingerprint
        >>> isinstance(embed_model, HasFingerprint)
        True
        >>> store = FaissMultiModalVectorStore(model=embed_model.fingerprint)
    """

    @property
    def fingerprint(self) -> str:
        """Architecture and hash of the weights: equal for models whose vectors may be compared."""


@runtime_checkable
class HasReference(Protocol):
    """A model that can be made again from a few settings, which an index records to find its model again.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import HasReference
        >>> isinstance(embed_model, HasReference), embed_model.reference()["class_name"]
        (True, 'ChineseClipEmbedding')
    """

    def reference(self) -> dict[str, Any]:
        """Return the settings that choose the weights, JSON values without secrets, with the key ``class_name``."""


@runtime_checkable
class HasPrecision(Protocol):
    """A model that computes in one of several precisions; their vectors may be mixed in a store.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import HasPrecision
        >>> isinstance(embed_model, HasPrecision), embed_model.effective_precision
        (True, 'fp32')
    """

    @property
    def effective_precision(self) -> str:
        """The precision in use, such as ``"fp32"``."""


@runtime_checkable
class KnowsText(Protocol):
    """A model that can tell whether its vocabulary covers a text.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import KnowsText
        >>> isinstance(embed_model, KnowsText), embed_model.knows_text("𠮷")
        (True, False)
    """

    def knows_text(self, text: str) -> bool:
        """Return whether the vocabulary has any part of a text; if not, the vector of the text has no meaning."""


@runtime_checkable
class LimitsTexts(Protocol):
    """A model that embeds only the beginning of long texts, and can tell which texts it takes whole."""

    def takes_whole(self, text: str) -> bool:
        """Return whether the vector of a text is made of all of it."""


@runtime_checkable
class AdaptsToLongTexts(Protocol):
    """A model whose settings suit captions and queries, and that has others for the text of whole pages.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import AdaptsToLongTexts
        >>> isinstance(embed_model, AdaptsToLongTexts), embed_model.for_long_texts().long_text
        (True, 'mean')
    """

    def for_long_texts(self) -> BaseEmbedding:
        """Return a model that embeds all of a long text, in the same space."""


@runtime_checkable
class RecommendsCaptionWeight(Protocol):
    """A model for which captions should have another share than ``DEFAULT_CAPTION_WEIGHT``.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import RecommendsCaptionWeight
        >>> class CaptionsInVectors(ChineseClipEmbedding):
        ...     @property
        ...     def default_caption_weight(self) -> float:
        ...         return 0.3
        >>> embed_model = CaptionsInVectors("ViT-B-16")
        >>> isinstance(embed_model, RecommendsCaptionWeight), embed_nodes(nodes, embed_model).caption_weight
        (True, 0.3)
    """

    @property
    def default_caption_weight(self) -> float:
        """Share of captions in the vectors of images, 0 to 1, for collections whose images all have captions."""


@runtime_checkable
class EmbedsImagesWithText(Protocol):
    """A model that can embed an image together with its caption into one vector.

    Examples:
        >>> from llama_index_mm_zhipu.embedding.contract import EmbedsImagesWithText
        >>> class CaptionsOnly(ChineseClipEmbedding):
        ...     @property
        ...     def joins_captions(self) -> bool:
        ...         return True
        ...     def get_image_with_text_embeddings(self, images, texts):
        ...         return self.get_text_embedding_batch(list(texts))
        >>> isinstance(CaptionsOnly("ViT-B-16"), EmbedsImagesWithText)
        True
        >>> apple = embed_nodes(nodes, CaptionsOnly("ViT-B-16"))[0]
        >>> f"{embed_model.similarity(apple.embedding, embed_model.get_text_embedding('红苹果')):.2f}"
        '1.00'
    """

    @property
    def joins_captions(self) -> bool:
        """Whether such vectors are better than the weighted mean of the vectors of image and caption.

        If so, a captioned image gets one wherever captions belong in the vectors (``caption_weight`` above 0).
        """

    def get_image_with_text_embeddings(
        self, images: Sequence[ImageArgument], texts: Sequence[str]
    ) -> Sequence[Embedding]:
        """Return one vector for each pair of image and text.

        Args:
            images: Readable images, as paths or binary files, at most ``embed_batch_size``.
            texts: The caption of each image.
        """


def stream_image_embeddings(
    model: MultiModalEmbedding, images: Sequence[ImageSource]
) -> Generator[Vector | ImageError, None, None]:
    """Embed images in order, with the model's own stream or else in batches of ``embed_batch_size``.

    Other models raise errors of their own for unreadable images, and for the whole batch: they get only images that can
    be decoded.

    Args:
        model: Embeds the images.
        images: Images in any form that ``llama_index_mm_zhipu.images`` takes.

    Returns:
        A generator of the vector of each image, of whatever length the model makes it, or of its ``ImageError``.
    """
    if isinstance(model, StreamsImageEmbeddings):
        return model.stream_image_embeddings(images)
    return _stream_in_batches(model, images)


def embed_image(model: MultiModalEmbedding, image: ImageSource) -> Embedding:
    """Return the embedding of one image, such as that of a question, with unit length.

    Raises:
        ImageError: The image cannot be read.
    """
    if isinstance(model, StreamsImageEmbeddings):
        # Such a model takes images in any form.
        return unit_embedding(model.get_image_embedding(image))  # type: ignore[arg-type]
    argument = image_argument(image)
    if isinstance(argument, ImageError):
        raise argument
    return unit_embedding(model.get_image_embedding(argument))


def image_argument(image: ImageSource) -> ImageArgument | ImageError:
    """Return an image in a form that every ``MultiModalEmbedding`` takes, or the error that reading it causes."""
    try:
        # Decoded once to be sure that the model can read it.
        load_image(image)
        source = resolve_source(image)
        return str(source) if isinstance(source, Path) else BytesIO(read_bytes(source))
    except ImageError as error:
        return error


def fingerprint_of(model: BaseEmbedding) -> str:
    """Return the string by which a store recognises the model of its vectors; by default its class and model name."""
    known = model.fingerprint if isinstance(model, HasFingerprint) else ""
    return str(known) if known else f"{model.class_name()} {Path(model.model_name).name}"


def reference_of(model: BaseEmbedding) -> dict[str, Any] | None:
    """Return the settings from which ``references.model_of`` makes a model again; None if it cannot."""
    return model.reference() if isinstance(model, HasReference) else None


def precision_of(model: BaseEmbedding) -> str | None:
    """Return the precision that a model computes in; None if it does not say."""
    return model.effective_precision if isinstance(model, HasPrecision) else None


def knows_text(model: BaseEmbedding, text: str) -> bool:
    """Return whether a model's vocabulary has any part of a text; a model that cannot tell is taken to know it."""
    return not isinstance(model, KnowsText) or model.knows_text(text)


def takes_whole(model: BaseEmbedding, text: str) -> bool:
    """Return whether a model takes all of a text; a model that cannot tell is taken to do so."""
    return not isinstance(model, LimitsTexts) or model.takes_whole(text)


def caption_to_embed(model: BaseEmbedding, node: BaseNode) -> str:
    """Return the caption of an image that may be averaged into its vector; empty if there is none.

    A caption that the model would cut is found by full text alone: its beginning says little about the rest.
    """
    caption = caption_of(node)
    return caption if caption and takes_whole(model, caption) else ""


def for_long_texts(model: BaseEmbedding) -> BaseEmbedding:
    """Return the model to use for the texts of documents; by default the model itself."""
    return model.for_long_texts() if isinstance(model, AdaptsToLongTexts) else model


def default_caption_weight_of(model: BaseEmbedding) -> float:
    """Return the share of captions that suits a model where all images have captions."""
    return model.default_caption_weight if isinstance(model, RecommendsCaptionWeight) else DEFAULT_CAPTION_WEIGHT


def unit(vectors: Floats) -> Floats:
    """Return vectors of unit length, whose inner products are cosines.

    Args:
        vectors: Shape ``(dimension,)`` or ``(n, dimension)``.

    Returns:
        The given array if all of its vectors have unit length (within 0.001) or are zero, otherwise a new array.
    """
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    needs_scaling = (np.abs(lengths - 1) > _LENGTH_TOLERANCE) & (lengths > 0)
    return vectors / np.where(needs_scaling, lengths, 1) if needs_scaling.any() else vectors


def unit_embedding(embedding: Embedding) -> Embedding:
    """Return an embedding of unit length, as ``unit`` does, for the lists of floats that LlamaIndex uses."""
    vector = np.asarray(embedding)
    scaled = unit(vector)
    return embedding if scaled is vector else scaled.tolist()


def _stream_in_batches(
    model: MultiModalEmbedding, images: Sequence[ImageSource]
) -> Generator[Vector | ImageError, None, None]:
    for start in range(0, len(images), model.embed_batch_size):
        arguments = [image_argument(image) for image in images[start : start + model.embed_batch_size]]
        readable = [argument for argument in arguments if not isinstance(argument, ImageError)]
        vectors = iter(model.get_image_embedding_batch(readable) if readable else ())
        for argument in arguments:
            yield argument if isinstance(argument, ImageError) else np.asarray(next(vectors), dtype=np.float32)
