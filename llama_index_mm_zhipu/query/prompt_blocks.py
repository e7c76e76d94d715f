"""What of a retrieved node goes into a prompt: label, metadata that was asked for, text and picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from llama_index_mm_zhipu.images import image_source, read_bytes
from llama_index_mm_zhipu.llm.numbered_picture import ASKED_ABOUT, NumberedImageBlock
from llama_index_mm_zhipu.picture_nodes import caption_of
from llama_index_mm_zhipu.query.labels import label_of
from llama_index_mm_zhipu.query.sources import require_readable
from llama_index_mm_zhipu.wording import Language, wording_of

Blocks = list[TextBlock | ImageBlock]


@dataclass(frozen=True)
class PromptBlocks:
    """Makes the content blocks of prompts.

    Args:
        language: Of labels.
        include_images: Whether pictures go out, the question's too; else labels alone.
        metadata_keys: Metadata that goes out besides.
    """

    language: Language = "zh"
    include_images: bool = True
    metadata_keys: Collection[str] = ()

    def of_results(self, results: Sequence[NodeWithScore]) -> list[NodeWithScore]:
        """Return nodes whose content blocks are what the prompt shows of numbered results, for a synthesizer."""
        number = 0
        nodes = []
        for result in results:
            number += isinstance(result.node, ImageNode)
            nodes.append(NodeWithScore(node=_PromptNode(result.node, self.of_node(result.node, number))))
        return nodes

    def of_node(self, node: BaseNode, number: int) -> Blocks:
        """Return the blocks of a node.

        Args:
            node: A numbered picture, or a text.
            number: Of the picture.
        """
        metadata = [f"{key}: {node.metadata[key]}" for key in self.metadata_keys if key in node.metadata]
        if not isinstance(node, ImageNode):
            return [TextBlock(text="\n".join([*metadata, node.get_content(metadata_mode=MetadataMode.NONE)]))]
        wording = wording_of(self.language)
        label = label_of(node, self.language) or wording.name.format(number=number)
        if not self.include_images and not caption_of(node):
            label += wording.colon + wording.no_caption
        text = TextBlock(text="\n".join([*metadata, label]))
        return [text, _picture_block(node, number)] if self.include_images else [text]

    def of_question(self, query: QueryBundle) -> Blocks:
        """Return the picture that a question is about, marked as such; nothing where there is none.

        Raises:
            ImageError: It cannot be read.
        """
        if not query.image_path or not self.include_images:
            return []
        node = ImageNode(image_path=query.image_path)
        require_readable(node)
        return [TextBlock(text=wording_of(self.language).own_picture), _picture_block(node, ASKED_ABOUT)]


class _PromptNode(TextNode):
    """A node that knows its content blocks."""

    _blocks: Blocks = PrivateAttr()

    def __init__(self, node: BaseNode, blocks: Blocks) -> None:
        super().__init__(id_=node.node_id, metadata=node.metadata)
        self._blocks = blocks

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[Any]:
        return list(self._blocks)


def _picture_block(node: ImageNode, number: int) -> NumberedImageBlock:
    source = image_source(node)
    if isinstance(source, Path):
        return NumberedImageBlock(path=source, number=number)
    if isinstance(source, str):
        return NumberedImageBlock(url=source, number=number)
    return NumberedImageBlock(image=read_bytes(source), number=number)
