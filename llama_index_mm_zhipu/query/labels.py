"""Labels of retrieved images: number, score and caption as data, and the text that a model reads before an image.

Results carry their label twice in the metadata of a copied node: as data under ``IMAGE_LABEL``, which no model sees,
and as text under the language's label key, which LlamaIndex's own engines print directly before the image.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle

from llama_index_mm_zhipu.images import as_image_node, caption_of, has_image, page_text_of, with_hidden_metadata
from llama_index_mm_zhipu.prompts.wording import WORDING, as_quoted_lines, quoted, wording_of
from llama_index_mm_zhipu.readers.records import time_of
from llama_index_mm_zhipu.types import Language

IMAGE_LABEL = "image_label"
"""Metadata key of retrieved images: the fields of ``LabelledImage`` as a dictionary."""

RETRIEVAL_SCORES = "retrieval_scores"
"""Metadata key of retrieved images and texts: the fields of ``RetrievalScores`` as a dictionary."""

MAX_PAGE_TEXT = 4_000
"""Characters of a page text that models are shown with an image; pages of books have some 1,000."""

ScoreType = Literal["similarity", "score"]
"""What a score is: a cosine similarity, or a score of another scale, such as reciprocal ranks."""


@dataclass(frozen=True)
class RetrievalScores:
    """What the score of a result is made of.

    Attributes:
        cosine: Cosine with the question's vector (the mean of two for images whose captions are in their vectors); None
            if the search was by text alone.
        words_found: Share of the question's words that the text of the result has, 0 to 1; None if the search was by
            vector alone.
    """

    cosine: float | None = None
    words_found: float | None = None


@dataclass(frozen=True)
class LabelledImage:
    """What a label says about an image.

    Attributes:
        number: Position among the images of a result, from 1. Answers cite the image by it.
        score: Score that the image was found with; ``None`` if the retriever gave none.
        score_type: Whether the score is a similarity.
        caption: Caption of the image; empty if it has none.
        time: Time of a video frame, such as ``00:01:23``; empty for other images.
    """

    number: int
    score: float | None = None
    score_type: ScoreType = "score"
    caption: str = ""
    time: str = ""

    def text(self, language: Language) -> str:
        """Return the label as text, such as ``图1（相似度 0.83，00:01:23）：「红苹果」``."""
        wording = wording_of(language)
        label = wording.name.format(number=self.number)
        details = [self.time] if self.time else []
        if self.score is not None:
            template = wording.similarity if self.score_type == "similarity" else wording.score
            details.insert(0, template.format(score=f"{self.score:.3g}"))
        if details:
            label += wording.details.format(details=wording.details_comma.join(details))
        # The caption is quoted on one line: it could pass for a label, or for an instruction to the model.
        return label + wording.colon + quoted(self.caption, wording) if self.caption else label


def with_retrieval_scores(node: BaseNode, scores: RetrievalScores) -> BaseNode:
    """Return a copy of a node with the parts of its score as metadata, which no model sees."""
    return with_hidden_metadata(node, {RETRIEVAL_SCORES: asdict(scores)})


def label_results(
    results: Sequence[NodeWithScore],
    *,
    language: Language = "zh",
    metadata_keys: Collection[str] = (),
    scores_are_similarities: bool = False,
) -> list[NodeWithScore]:
    """Return copies of retrieved nodes: images with a label, and all other metadata hidden from models.

    Args:
        results: Best first. The nodes are not changed.
        language: Language of the labels.
        metadata_keys: Metadata that models see besides the label.
        scores_are_similarities: Whether the scores are cosine similarities.
    """
    score_type: ScoreType = "similarity" if scores_are_similarities else "score"
    with_hidden_texts = [
        result
        if has_image(result.node)
        else NodeWithScore(node=_with_hidden_metadata(result.node, metadata_keys), score=result.score)
        for result in results
    ]
    return _numbered(with_hidden_texts, lambda result: (result.score, score_type), language, metadata_keys)


def number_images(
    results: Sequence[NodeWithScore], *, language: Language = "zh", metadata_keys: Collection[str] = ()
) -> list[NodeWithScore]:
    """Return copies of results whose images are numbered in their present order.

    Labels show the present captions and the scores that the images were retrieved with.

    Args:
        results: Results of an ``ImageRetriever``, which may have been reordered, filtered, rewritten or mixed with
            others, or results of any other retriever. The nodes are not changed.
        language: ``"zh"`` or ``"en"``, the language of the labels.
        metadata_keys: Metadata of images that models see besides the label.

    Returns:
        Copies of all results in the same order; the label of an image is in its metadata.

    Examples:
        >>> from llama_index_mm_zhipu.query import number_images
        >>> found = index.as_retriever(similarity_top_k=2).retrieve("红苹果")
        >>> for result in number_images(found[::-1], language="en"):
        ...     print(result.node.metadata["retrieved picture"])
        Picture 1 (similarity 0.5...): “男鞋”
        Picture 2 (similarity 0.9...): “红苹果”
    """
    return _numbered(results, _score_of, language, metadata_keys)


def as_keys(metadata_keys: str | Collection[str]) -> tuple[str, ...]:
    """Return metadata keys as a tuple; a single key may be given as a string."""
    return (metadata_keys,) if isinstance(metadata_keys, str) else tuple(metadata_keys)


class ImageNumbering(BaseNodePostprocessor):
    """Postprocessor that numbers images for LlamaIndex's own engines.

    Put it last where other postprocessors reorder images or several retrievers are mixed. The engines of this package
    number images by themselves.

    Args:
        language: Language of the labels.

    Examples:
        >>> from llama_index_mm_zhipu.query import ImageNumbering
        >>> found = index.as_retriever(similarity_top_k=2).retrieve("红苹果")
        >>> reordered = ImageNumbering().postprocess_nodes(found[::-1])
        >>> [result.node.metadata["检索到的图片"] for result in reordered]
        ['图1（相似度 0.5...）：「男鞋」', '图2（相似度 0.9...）：「红苹果」']
    """

    language: Language = Field(default="zh", description="Language of the labels.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        # The name that stored JSON has; the class was called so before.
        return "PictureNumbering"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return number_images(nodes, language=self.language)


def _numbered(
    results: Sequence[NodeWithScore],
    score_of: Callable[[NodeWithScore], tuple[float | None, ScoreType]],
    language: Language,
    metadata_keys: Collection[str],
) -> list[NodeWithScore]:
    """Return results with labelled copies of their images, numbered in order.

    Args:
        results: The results.
        score_of: Returns the score for the label of a result, and its type.
        language: Language of the labels.
        metadata_keys: Metadata of images that models see besides the label.
    """
    numbered: list[NodeWithScore] = []
    number = 0
    for result in results:
        node = result.node
        if has_image(node):
            number += 1
            label = LabelledImage(number, *score_of(result), caption_of(node), time_of(node))
            node = _with_label(as_image_node(node), label, language, metadata_keys)
        numbered.append(NodeWithScore(node=node, score=result.score))
    return numbered


def _score_of(result: NodeWithScore) -> tuple[float | None, ScoreType]:
    """Return the score that an image was retrieved with: postprocessors may have replaced the result's score."""
    data: Any = result.node.metadata.get(IMAGE_LABEL)
    if isinstance(data, dict) and isinstance(data.get("score"), float):
        return data["score"], "similarity" if data.get("score_type") == "similarity" else "score"
    return result.score, "score"


def _with_label(node: ImageNode, label: LabelledImage, language: Language, metadata_keys: Collection[str]) -> ImageNode:
    label_key = wording_of(language).label_key
    # A node that was labelled before may have a label in another language.
    old_keys = {wording.label_key for wording in WORDING.values()} if IMAGE_LABEL in node.metadata else {label_key}
    metadata = {key: value for key, value in node.metadata.items() if key not in old_keys}
    metadata[IMAGE_LABEL] = asdict(label)
    # The label comes last, so that nothing stands between it and the image.
    metadata[label_key] = "\n".join([*_lines_of_page_text(node, label.number, language), label.text(language)])
    return node.model_copy(
        update={
            "metadata": metadata,
            "excluded_llm_metadata_keys": [key for key in metadata if key not in {label_key, *metadata_keys}],
            "excluded_embed_metadata_keys": list(
                dict.fromkeys([*node.excluded_embed_metadata_keys, IMAGE_LABEL, label_key])
            ),
        }
    )


def _lines_of_page_text(node: ImageNode, number: int, language: Language) -> list[str]:
    """Return what is written in an image as quoted lines, which cannot pass for labels; empty if that is not known."""
    text, wording = page_text_of(node), wording_of(language)
    if not text:
        return []
    shown = text if len(text) <= MAX_PAGE_TEXT else f"{text[:MAX_PAGE_TEXT]}…"
    return [wording.page_text.format(name=wording.name.format(number=number)), as_quoted_lines(shown)]


def _with_hidden_metadata(node: BaseNode, metadata_keys: Collection[str]) -> BaseNode:
    return node.model_copy(
        update={"excluded_llm_metadata_keys": [key for key in node.metadata if key not in metadata_keys]}
    )
