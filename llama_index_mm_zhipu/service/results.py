"""Plain data that the service returns; every class has ``as_dict``, whose result JSON can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class SearchResult:
    """An image or a text that was found.

    Attributes:
        type: Whether it is an image or a text.
        number: Number of the image among the images of a result, from 1, by which answers cite it; None for texts.
        node_id: Id of the node.
        score: Score of the result; None if it was not searched for.
        score_type: ``"similarity"`` for cosines, ``"score"`` for other scores.
        caption: Caption of the image.
        text: What is written in the image, or the text of a text node.
        page: Page of the file, as its reader names it.
        time: Time of a video frame, such as ``00:01:23``.
        source: File or URL that it comes from; empty if that is not known.
        metadata: Metadata of the node without those of this package.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> [found] = ImageService(index).search("红苹果", similarity_top_k=1).results
        >>> found.type, found.number, found.caption, found.score_type, found.metadata
        ('image', 1, '红苹果', 'similarity', {'file_name': 'apple.jpg', '价格': 10})
    """

    type: Literal["image", "text"]
    number: int | None
    node_id: str
    score: float | None = None
    score_type: Literal["similarity", "score"] | None = None
    caption: str = ""
    text: str = ""
    page: str = ""
    time: str = ""
    source: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        Examples:
            >>> from llama_index_mm_zhipu.service.image_service import ImageService
            >>> [found] = ImageService(index).search("红苹果", similarity_top_k=1).results
            >>> {key: found.as_dict()[key] for key in ("type", "number", "caption")}
            {'type': 'image', 'number': 1, 'caption': '红苹果'}
        """
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """An answer with its sources.

    Attributes:
        question: The words of the question.
        text: The answer.
        citations: Node id of each cited image by its name in the answer (``图1``).
        unknown_citations: Names that the answer cites and no image has.
        sources: The images and texts that the model was given.
        skipped: Why images that were found were not sent, by node id.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> answer = ImageService(index, llm=llm).ask("红苹果", similarity_top_k=2).read()
        >>> list(answer.citations), answer.unknown_citations, [source.caption for source in answer.sources]
        (['图1', '图2'], [], ['红苹果', '男鞋'])
    """

    question: str
    text: str
    citations: dict[str, str] = field(default_factory=dict)
    unknown_citations: list[str] = field(default_factory=list)
    sources: list[SearchResult] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class StoredImage:
    """An image of the index, reduced for a screen or a model.

    Attributes:
        result: What is known of the image.
        data: The image as JPEG.
        width: Width in pixels.
        height: Height in pixels.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> image = ImageService(index).look(nodes[0].node_id)
        >>> image.result.caption, image.width, image.height, image.data[:2].hex()
        ('红苹果', 128, 128, 'ffd8')
    """

    result: SearchResult
    data: bytes = field(repr=False)
    width: int
    height: int

    mime_type = "image/jpeg"

    def as_dict(self) -> dict[str, Any]:
        """Return what is known of the image as JSON values, without the image."""
        return {**self.result.as_dict(), "width": self.width, "height": self.height}


@dataclass(frozen=True)
class TextLine:
    """A line of text that OCR found in an image.

    Attributes:
        text: The text.
        box: Left, top, right and bottom as shares of width and height, 0 to 1.
        score: How certain the OCR engine is, 0 to 1.
        is_match: Whether the line has any of the words that were searched for.
    """

    text: str
    box: tuple[float, float, float, float]
    score: float
    is_match: bool


@dataclass(frozen=True)
class ImageDetails:
    """What is known of an image.

    Attributes:
        result: The image as a result without a score.
        lines: The lines of text in it, in reading order; empty without OCR.
    """

    result: SearchResult
    lines: list[TextLine]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class FilterOption:
    """A metadata key that filters can use.

    Attributes:
        key: The key.
        types: Types of the values, or of the items of lists.
        values: The first texts in order, 20 at most.
        min: The smallest number; None if no value is a number.
        max: The largest number.
    """

    key: str
    types: list[Literal["text", "number"]]
    values: list[str]
    min: float | None
    max: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class IndexReport:
    """What indexing did.

    Attributes:
        images: Number of images in the index now.
        texts: Number of texts in the index now.
        new_images: How many more images there are than before.
        kept: How many images had not changed, so that they were not embedded again.
        removed: How many images and texts were deleted because their files are gone.
        skipped: Why images and files were left out, by name; only the first ones of a file with many.
        skipped_count: How many were left out.
        seconds: Duration in seconds.

    Examples:
        >>> from llama_index_mm_zhipu.service.image_service import ImageService
        >>> from llama_index_mm_zhipu.service.inputs import IndexInputs
        >>> service = ImageService(build_index("images", embed_model))
        >>> report = service.add(IndexInputs(["images", "query.jpg"]))
        >>> report.images, report.new_images, report.kept, report.removed
        (13, 1, 12, 0)
    """

    images: int
    texts: int
    new_images: int
    kept: int
    removed: int
    skipped: dict[str, str]
    skipped_count: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
