"""Labels of retrieved pictures: number, similarity and caption, as metadata that LLMs see right before the image."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle

from llama_index_mm_zhipu.images import has_image
from llama_index_mm_zhipu.images.nodes import as_image_node, caption_of
from llama_index_mm_zhipu.prompts.templates import quoted
from llama_index_mm_zhipu.prompts.wording import WORDING, Wording, wording_of
from llama_index_mm_zhipu.types import Language


def label_results(
    results: Sequence[NodeWithScore],
    *,
    language: Language = "zh",
    metadata_keys: Collection[str] = (),
    scores_are_similarities: bool = False,
) -> list[NodeWithScore]:
    """Replace retrieved nodes by copies that show an LLM no more than they should.

    An image's copy carries its label, such as ``图1（相似度 0.83）：「红苹果」``, under one metadata key
    (``检索到的图片``, in English ``retrieved picture``), which LlamaIndex's engines print right before the image. All
    other metadata is hidden from LLMs, of texts too.

    Args:
        results: Best first; the nodes stay as they were.
        language: Of the labels.
        metadata_keys: Metadata to show all the same.
        scores_are_similarities: Whether scores are cosines, and may be called so.
    """
    labelled: list[NodeWithScore] = []
    number = 0
    for result in results:
        node = result.node
        label = None
        if has_image(node):
            node = as_image_node(node)
            number += 1
            label = _label(node, number, _scored(result.score, scores_are_similarities), language)
        labelled.append(NodeWithScore(node=_showing(node, label, metadata_keys, language), score=result.score))
    return labelled


def number_images(
    results: Sequence[NodeWithScore], *, language: Language = "zh", metadata_keys: Collection[str] = ()
) -> list[NodeWithScore]:
    """Label images by the order in which they stand now, and by the captions that they have now.

    Args:
        results: Of ``ImageRetriever``, reordered, thinned out, rewritten or mixed: labels keep the similarity that
            the images were found with. Or of other retrievers. The nodes stay as they were.
        language: Of labels.
        metadata_keys: Metadata to show of images besides.
    """
    numbered: list[NodeWithScore] = []
    number = 0
    for result in results:
        node = result.node
        if has_image(node):
            number += 1
            node = as_image_node(node)
            label = _label(node, number, _known_score(node) or _scored(result.score, False), language)
            node = _showing(node, label, metadata_keys, language)
        numbered.append(NodeWithScore(node=node, score=result.score))
    return numbered


def label_of(node: BaseNode, language: Language) -> str | None:
    """Return the label of a retrieved picture, or None where it has none."""
    found = _label_in(node, wording_of(language))
    return found.string if found else None


def as_keys(metadata_keys: str | Collection[str]) -> tuple[str, ...]:
    """Return names of metadata, of which one may be given by itself."""
    return (metadata_keys,) if isinstance(metadata_keys, str) else tuple(metadata_keys)


class ImageNumbering(BaseNodePostprocessor):
    """A node postprocessor for LlamaIndex's own engines: the last one, where others reorder or mix images.

    The engines of this package number images by themselves.

    Args:
        language: Of labels.
    """

    language: Language = Field(default="zh", description="Of labels.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "ImageNumbering"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return number_images(nodes, language=self.language)


class _Score(NamedTuple):
    text: str
    is_similarity: bool


def _scored(score: float | None, is_similarity: bool) -> _Score | None:
    return None if score is None else _Score(f"{score:.3g}", is_similarity)


def _known_score(node: BaseNode) -> _Score | None:
    """Read what an image was found with off its label, of whatever language."""
    for wording in WORDING.values():
        found = _label_in(node, wording)
        if found is not None and (text := found.group(1) or found.group(2)):
            return _Score(text, found.group(1) is not None)
    return None


def _label_in(node: BaseNode, wording: Wording) -> re.Match[str] | None:
    label = node.metadata.get(wording.metadata_key)
    return wording.label.fullmatch(label) if isinstance(label, str) else None


def _label(node: ImageNode, number: int, score: _Score | None, language: Language) -> str:
    wording = wording_of(language)
    in_brackets = ""
    if score is not None:
        in_brackets = (wording.similarity if score.is_similarity else wording.score).format(score=score.text)
    # On one line and quoted: a caption could pass for a label, or for what is asked of the LLM.
    caption = caption_of(node)
    quotation = wording.colon + quoted(caption, wording) if caption.strip() else ""
    return wording.name.format(number=number) + in_brackets + quotation


def _showing(node: BaseNode, label: str | None, metadata_keys: Collection[str], language: Language) -> BaseNode:
    """Copy a node: the label comes last, so that nothing stands between it and the image."""
    stale = [wording.metadata_key for wording in WORDING.values() if _label_in(node, wording)]
    metadata = {key: value for key, value in node.metadata.items() if key not in stale}
    label_key = wording_of(language).metadata_key
    shown = set(metadata_keys)
    if label is not None:
        metadata.pop(label_key, None)
        metadata[label_key] = label
        shown.add(label_key)
    return node.model_copy(
        update={
            "metadata": metadata,
            "excluded_llm_metadata_keys": [key for key in metadata if key not in shown],
            "excluded_embed_metadata_keys": list(dict.fromkeys([*node.excluded_embed_metadata_keys, label_key])),
        }
    )
