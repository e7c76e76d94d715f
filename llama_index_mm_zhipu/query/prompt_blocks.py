"""What of a retrieved node goes into a prompt: label, metadata that was asked for, text and image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from llama_index_mm_zhipu.images import ImageSource, image_source, read_bytes
from llama_index_mm_zhipu.images.nodes import caption_of, node_of_image
from llama_index_mm_zhipu.llm.images import ASKED_ABOUT, NumberedImageBlock
from llama_index_mm_zhipu.prompts.templates import as_quoted_lines, in_one_line
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.query.labels import label_of
from llama_index_mm_zhipu.query.question import images_of
from llama_index_mm_zhipu.query.sources import require_readable
from llama_index_mm_zhipu.types import Language

Blocks = list[TextBlock | ImageBlock]


@dataclass(frozen=True)
class PromptBlocks:
    """Makes the content blocks of prompts.

    Args:
        language: Of labels.
        include_images: Whether images go out, the question's too; else labels alone.
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
            node = _PromptNode(result.node.node_id, self.of_node(result.node, number))
            nodes.append(NodeWithScore(node=node, score=result.score))
        return nodes

    def of_no_results(self) -> list[NodeWithScore]:
        """Return what stands in place of sources where there are none."""
        return [NodeWithScore(node=_PromptNode("", [TextBlock(text=wording_of(self.language).no_sources)]))]

    def of_node(self, node: BaseNode, number: int) -> Blocks:
        """Return the blocks of a node.

        Args:
            node: A numbered image, or a text.
            number: Of the image.
        """
        wording = wording_of(self.language)
        asked = [key for key in self.metadata_keys if key in node.metadata and key != wording.metadata_key]
        # As quotations, too: who fills in metadata may be anybody.
        metadata = [f"> {in_one_line(key)}: {in_one_line(str(node.metadata[key]))}" for key in asked]
        if not isinstance(node, ImageNode):
            lines = as_quoted_lines(node.get_content(metadata_mode=MetadataMode.NONE))
            return [TextBlock(text="\n".join([wording.text, *metadata, lines]))]
        label = label_of(node, self.language) or wording.name.format(number=number)
        if not self.include_images and not caption_of(node):
            label += wording.colon + wording.no_caption
        text = TextBlock(text="\n".join([*metadata, label]))
        return [text, self._image_block(node, number)] if self.include_images else [text]

    def of_question(self, query: QueryBundle) -> Blocks:
        """Return the images that a question is about, marked as such; nothing where there are none.

        Raises:
            ImageError: One of them cannot be read.
        """
        if not self.include_images:
            return []
        return [block for image in images_of(query) for block in self.of_own_image(image)]

    def of_own_image(self, image: ImageSource) -> Blocks:
        """Return an image of the user, marked as such.

        Raises:
            ImageError: It cannot be read.
        """
        node = node_of_image(image)
        require_readable(node)
        return [TextBlock(text=wording_of(self.language).own_image), self._image_block(node, ASKED_ABOUT)]

    def _image_block(self, node: ImageNode, number: int) -> NumberedImageBlock:
        source = image_source(node)
        if isinstance(source, Path):
            return NumberedImageBlock(path=source, number=number, language=self.language)
        if isinstance(source, str):
            return NumberedImageBlock(url=source, number=number, language=self.language)
        return NumberedImageBlock(image=read_bytes(source), number=number, language=self.language)


class _PromptNode(TextNode):
    """What LlamaIndex's synthesizers, and whoever traces them, see of a source: content blocks and their text."""

    _blocks: Blocks = PrivateAttr()

    def __init__(self, node_id: str, blocks: Blocks) -> None:
        super().__init__(id_=node_id, text="\n".join(block.text for block in blocks if isinstance(block, TextBlock)))
        self._blocks = blocks

    def get_content_blocks(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> list[Any]:
        return list(self._blocks)
