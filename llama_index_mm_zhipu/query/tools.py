"""``image_search_tool``: a tool with which agents search an index and see the images that it finds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.bridge.pydantic import BaseModel, Field, create_model
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import BaseNode, NodeWithScore
from llama_index.core.tools import FunctionTool, ToolOutput
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from llama_index_mm_zhipu.arguments import explicit_arguments, require_positive
from llama_index_mm_zhipu.images import ImageError, ResolvedSource, has_image
from llama_index_mm_zhipu.llm.images import small_bytes
from llama_index_mm_zhipu.prompts.wording import Wording, in_one_line, wording_of
from llama_index_mm_zhipu.query.compose import Composer
from llama_index_mm_zhipu.query.labels import IMAGE_LABEL, as_keys
from llama_index_mm_zhipu.query.retriever import ImageRetriever
from llama_index_mm_zhipu.query.sources import Source, Sources, file_name_of, readable_source
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import Language

logger = logging.getLogger(__name__)

MAX_TOP_K = 10
"""Most images that a model may ask for at once, unless ``similarity_top_k`` is larger."""


@explicit_arguments
def image_search_tool(
    index: MultiModalVectorStoreIndex,
    *,
    similarity_top_k: int = 3,
    filters: MetadataFilters | None = None,
    node_ids: list[str] | None = None,
    doc_ids: list[str] | None = None,
    similarity_cutoff: float | None = None,
    vector_store_query_mode: VectorStoreQueryMode | str = VectorStoreQueryMode.DEFAULT,
    alpha: float | None = None,
    mmr_threshold: float | None = None,
    metadata_keys: Collection[str] = (),
    include_images: bool = True,
    language: Language = "zh",
    name: str = "search_images",
    description: str | None = None,
) -> FunctionTool:
    """Return a tool for agents that searches an index by words and returns the images found, not only their captions.

    The model fills in ``query`` and, if it wants another number of images, ``top_k`` (at most 10, or
    ``similarity_top_k`` if that is more). For each image, the output has its node id and file name, its label
    (``图1（相似度 0.83）：「红苹果」``), and right after the label the image as an ``ImageBlock``. Texts that were
    found come first. An image that can no longer be read is replaced by a text.

    Image files and URLs are passed on as paths and URLs. An image that the index holds inline is passed on as bytes of
    at most 2,048 pixels on its longer side. The output's ``raw_output`` lists node ids, file names, scores and numbers.

    Args:
        index: An index from ``build_index`` or ``load_index``, or LlamaIndex's own multimodal index.
        similarity_top_k: How many images, and how many texts, to find if the model does not say.
        filters: Metadata filters that all results must match, whatever the model asks.
        node_ids: Ids of the nodes to search; None searches all.
        doc_ids: Ids of the documents to search; None searches all.
        similarity_cutoff: Minimum cosine of a result, see ``ImageRetriever``.
        vector_store_query_mode: ``"default"``, ``"mmr"``, ``"text_search"`` or ``"hybrid"``.
        alpha: Share of the vectors in mode ``"hybrid"``, 0 to 1.
        mmr_threshold: For mode ``"mmr"``: 1 is relevance alone, 0 variety alone.
        metadata_keys: Metadata of results that the model sees besides.
        include_images: False returns labels with captions alone.
        language: ``"zh"`` or ``"en"``, the language of labels and of the default description.
        name: Name of the tool.
        description: What the tool is for; the model decides by it when to call the tool.

    Returns:
        The tool, for agents of LlamaIndex.

    Raises:
        TypeError: An argument is not known; the message names the likely one.
        ValueError: A number, mode or language is not possible. When the tool is called: no node has the key of a
            filter.

    Examples:
        >>> tool = image_search_tool(index, similarity_top_k=1)
        >>> output = tool(query="红苹果")
        >>> [block.block_type for block in output.blocks]
        ['text', 'text', 'text', 'image']
        >>> [(found["file_name"], f"{found['score']:.2f}") for found in output.raw_output]
        [('apple.jpg', '0.96')]
    """
    require_positive(similarity_top_k, "similarity_top_k")
    wording = wording_of(language)

    def retriever_of(top_k: int) -> ImageRetriever:
        return ImageRetriever(
            index,
            similarity_top_k=top_k,
            filters=filters,
            node_ids=node_ids,
            doc_ids=doc_ids,
            similarity_cutoff=similarity_cutoff,
            vector_store_query_mode=vector_store_query_mode,
            alpha=alpha,
            mmr_threshold=mmr_threshold,
            language=language,
            metadata_keys=metadata_keys,
        )

    # Wrong arguments are errors here, not when a model calls the tool.
    retriever_of(similarity_top_k)
    max_top_k = max(MAX_TOP_K, similarity_top_k)
    composer = Composer(language, include_images, as_keys(metadata_keys))
    search = _ImageSearch(name, retriever_of, similarity_top_k, max_top_k, composer)
    return FunctionTool.from_defaults(
        search.run,
        async_fn=search.arun,
        name=name,
        description=description or wording.search_tool,
        fn_schema=_arguments(wording, similarity_top_k, max_top_k),
        callback=made_output,
    )


def made_output(result: Any) -> ToolOutput | None:
    """Return the result of a tool's function if it is an output already, as callback of a ``FunctionTool``.

    The output that ``FunctionTool`` makes itself would hold every image twice: in its blocks and in ``raw_output``.
    """
    return result if isinstance(result, ToolOutput) else None


def _arguments(wording: Wording, top_k: int, max_top_k: int) -> type[BaseModel]:
    return create_model(
        "ImageSearch",
        query=(str, Field(description=wording.search_query)),
        top_k=(int, Field(default=top_k, ge=1, le=max_top_k, description=wording.search_top_k)),
    )


@dataclass(frozen=True)
class _ImageSearch:
    """The function of the tool.

    Attributes:
        name: Name of the tool.
        retriever_of: Returns the retriever for a number of results. Parallel calls may ask for different numbers.
        top_k: Number of results if the model gives none.
        max_top_k: Maximum number of results.
        composer: Makes the blocks of a result.
    """

    name: str
    retriever_of: Callable[[int], ImageRetriever]
    top_k: int
    max_top_k: int
    composer: Composer

    def run(self, query: str, top_k: int | None = None) -> ToolOutput:
        """Search, and return the output of the tool."""
        return self._output(query, top_k, self._retriever(top_k).retrieve(query))

    async def arun(self, query: str, top_k: int | None = None) -> ToolOutput:
        """As ``run``."""
        found = await self._retriever(top_k).aretrieve(query)
        return await asyncio.to_thread(self._output, query, top_k, found)

    def _retriever(self, top_k: int | None) -> ImageRetriever:
        # Models do not always keep to the schema.
        return self.retriever_of(min(max(int(top_k or self.top_k), 1), self.max_top_k))

    def _output(self, query: str, top_k: int | None, found: Sequence[NodeWithScore]) -> ToolOutput:
        # Images are read below, one by one, so that those that cannot be read stay in their places.
        sources = Sources.of(
            found,
            language=self.composer.language,
            metadata_keys=self.composer.metadata_keys,
            needs_images=False,
            expects_answer=False,
        ).sent
        intro = TextBlock(text=wording_of(self.composer.language).search_results)
        blocks: list[Any] = [block for source in sources for block in self._blocks_of(source)]
        return ToolOutput(
            blocks=[intro, *blocks] if blocks else [*self.composer.blocks_without_sources()],
            tool_name=self.name,
            raw_input={"args": (), "kwargs": {"query": query, **({} if top_k is None else {"top_k": top_k})}},
            raw_output=[_entry(source.result) for source in sources],
        )

    def _blocks_of(self, source: Source) -> list[TextBlock | ImageBlock]:
        wording = wording_of(self.composer.language)
        gone: list[TextBlock] = []
        node = source.result.node
        if self.composer.include_images and has_image(node):
            try:
                source = replace(source, image=_image_of(node))
            except ImageError as error:
                logger.warning("the image of node %s is left out of a tool result: %s", one_line(node.node_id), error)
                gone = [TextBlock(text=wording.gone)]
        return [TextBlock(text=_origin(node, wording)), *self.composer.blocks_of_source(source), *gone]


def _image_of(node: BaseNode) -> ResolvedSource:
    """Return where the image of a node is; an inline image is made small enough for an agent's memory.

    Raises:
        ImageError: The image cannot be read.
    """
    image = readable_source(node)
    return image if isinstance(image, Path | str) else small_bytes(image)


def _origin(node: BaseNode, wording: Wording) -> str:
    names = [f"{wording.node}{wording.colon}{in_one_line(node.node_id)}"]
    if (file_name := file_name_of(node)) is not None:
        names.append(f"{wording.file}{wording.colon}{in_one_line(file_name)}")
    # Quoted, because node ids and file names may come from anybody.
    return f"> {wording.details_comma.join(names)}"


def _entry(result: NodeWithScore) -> dict[str, Any]:
    label = result.node.metadata.get(IMAGE_LABEL) if has_image(result.node) else None
    return {
        "node_id": result.node.node_id,
        "file_name": file_name_of(result.node),
        "score": result.score,
        "number": label["number"] if label else None,
    }
