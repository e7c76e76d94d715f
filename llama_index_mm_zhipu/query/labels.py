"""Labels of retrieved pictures: number, similarity and caption, as metadata that LLMs see right before the picture."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from llama_index.core.bridge.pydantic import Field
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle

from llama_index_mm_zhipu.images import has_image
from llama_index_mm_zhipu.picture_nodes import as_image_node, caption_of
from llama_index_mm_zhipu.wording import Language, Wording, wording_of


def label_results(
    results: Sequence[NodeWithScore],
    *,
    language: Language = "zh",
    metadata_keys: Collection[str] = (),
    scores_are_similarities: bool = False,
) -> list[NodeWithScore]:
    """Replace retrieved nodes by copies that show an LLM no more than they should.

    A picture's copy carries its label, such as ``图1（相似度 0.83）：红苹果``, under one metadata key (``图片``, in
    English ``picture``), which LlamaIndex's engines print right before the picture. All other metadata is hidden from
    LLMs, of texts too.

    Args:
        results: Best first; the nodes stay as they were.
        language: Of the labels.
        metadata_keys: Metadata to show all the same.
        scores_are_similarities: Whether scores are cosines, and may be called so.
    """
    wording = wording_of(language)
    shown = {wording.metadata_key, *metadata_keys}
    labelled: list[NodeWithScore] = []
    number = 0
    for result in results:
        node = as_image_node(result.node) if has_image(result.node) else result.node
        metadata = {key: value for key, value in node.metadata.items() if key != wording.metadata_key}
        if isinstance(node, ImageNode):
            number += 1
            score = wording.similarity if scores_are_similarities else wording.score
            # The label comes last, so that nothing stands between it and the picture.
            metadata[wording.metadata_key] = _label(node, number, result.score, score, wording)
        hidden = [key for key in metadata if key not in shown]
        labelled.append(NodeWithScore(node=_showing(node, metadata, hidden, wording), score=result.score))
    return labelled


def number_pictures(
    results: Sequence[NodeWithScore], *, language: Language = "zh", metadata_keys: Collection[str] = ()
) -> list[NodeWithScore]:
    """Number pictures in the order in which they stand now; labels keep the similarity that they were found with.

    Args:
        results: Of ``PictureRetriever``, reordered, thinned out or mixed; or of other retrievers, whose pictures get
            a label. The nodes stay as they were.
        language: Of labels.
        metadata_keys: Metadata to show of nodes that have no label yet.
    """
    wording = wording_of(language)
    numbered: list[NodeWithScore] = []
    number = 0
    for result in results:
        if not has_image(result.node):
            numbered.append(result)
            continue
        number += 1
        if label_of(result.node, language) is None:
            (result,) = label_results([result], language=language, metadata_keys=metadata_keys)
        name = wording.name.format(number=number)
        label = _NAMES[language].sub(name, str(result.node.metadata[wording.metadata_key]), count=1)
        node = result.node.model_copy(update={"metadata": {**result.node.metadata, wording.metadata_key: label}})
        numbered.append(NodeWithScore(node=node, score=result.score))
    return numbered


def label_of(node: BaseNode, language: Language) -> str | None:
    """Return the label of a retrieved picture, or None where it has none."""
    label = node.metadata.get(wording_of(language).metadata_key)
    return label if isinstance(label, str) and _NAMES[language].match(label) else None


class PictureNumbering(BaseNodePostprocessor):
    """A node postprocessor for LlamaIndex's own engines: the last one, where others reorder or mix pictures.

    The engines of this package number pictures by themselves.

    Args:
        language: Of labels.
    """

    language: Language = Field(default="zh", description="Of labels.")

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "PictureNumbering"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return number_pictures(nodes, language=self.language)


_NAMES: dict[Language, re.Pattern[str]] = {"zh": re.compile(r"图\d+"), "en": re.compile(r"Picture \d+")}


def _label(node: ImageNode, number: int, score: float | None, score_words: str, wording: Wording) -> str:
    name = wording.name.format(number=number)
    in_brackets = "" if score is None else score_words.format(score=score)
    caption = caption_of(node)
    return f"{name}{in_brackets}{wording.colon}{caption}" if caption else f"{name}{in_brackets}"


def _showing(node: BaseNode, metadata: dict[str, object], hidden: list[str], wording: Wording) -> BaseNode:
    return node.model_copy(
        update={
            "metadata": metadata,
            "excluded_llm_metadata_keys": hidden,
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, wording.metadata_key],
        }
    )
