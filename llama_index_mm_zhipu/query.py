"""Retrieval by words and pictures, with pictures numbered and captioned for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from llama_index.core.base.embeddings.base import Embedding, mean_agg
from llama_index.core.indices.multi_modal.retriever import MultiModalVectorIndexRetriever
from llama_index.core.prompts import BasePromptTemplate, RichPromptTemplate
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.embedding.nodes import caption_of

PICTURE_KEY = "图片"
"""Metadata key of retrieved pictures: LlamaIndex's engines print it right before the picture."""

# Keys of LlamaIndex's file readers whose values are paths of the user's machine.
_PATH_KEYS = ("file_path", "file_dir")

PICTURE_QA_PROMPT: BasePromptTemplate = RichPromptTemplate(
    """
{% chat role="system" %}
你依据给出的图片和文字回答问题。每张图片之前写着它的编号（图1、图2……）和说明，提到图片时请写出编号。资料里没有答案时，请直接说明。
{% endchat %}

{% chat role="user" %}
资料：
{% for message in context_messages %}
{% for block in message.blocks %}
{% if block.block_type == 'text' %}
{{ block.text }}
{% elif block.block_type == 'image' %}
{{ block.inline_url() | image }}
{% endif %}
{% endfor %}
{% endfor %}
问题：{{ query_str }}
{% endchat %}
"""
)
"""The prompt of ``as_query_engine``: sources first, the question last, answers that cite pictures by number."""


class PictureRetriever(MultiModalVectorIndexRetriever):
    """Finds pictures and texts by words, by a picture, or by both.

    Pictures come as copies of the stored nodes with a number in rank order and their caption under ``PICTURE_KEY``,
    which LlamaIndex's engines show to the LLM; by themselves they would drop captions.
    """

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        texts = self._text_retrieve(query_bundle) if query_bundle.embedding_strs else []
        return [*texts, *self._find_pictures(query_bundle)]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        texts = await self._atext_retrieve(query_bundle) if query_bundle.embedding_strs else []
        return [*texts, *await self._afind_pictures(query_bundle)]

    def _text_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        # Core writes its vector into the bundle, where the next search would take it for the user's.
        return super()._text_retrieve(replace(query_bundle))

    async def _atext_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await super()._atext_retrieve(replace(query_bundle))

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return super()._text_to_image_retrieve(replace(query_bundle))

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await super()._atext_to_image_retrieve(replace(query_bundle))

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return super()._image_to_image_retrieve(replace(query_bundle))

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await super()._aimage_to_image_retrieve(replace(query_bundle))

    def _find_pictures(self, query: QueryBundle) -> list[NodeWithScore]:
        if not query.embedding_image:
            return self._text_to_image_retrieve(query) if query.embedding_strs else []
        if not query.embedding_strs:
            return self._image_to_image_retrieve(query)
        if self._index.is_image_vector_store_empty:
            return []
        words = self._image_embed_model.get_agg_embedding_from_queries(query.embedding_strs)
        picture = self._image_embed_model.get_image_embedding(query.embedding_image[0])
        return self._get_nodes_with_embeddings(
            _both(query, words, picture), self._image_similarity_top_k, self._image_vector_store
        )

    async def _afind_pictures(self, query: QueryBundle) -> list[NodeWithScore]:
        if not query.embedding_image:
            return await self._atext_to_image_retrieve(query) if query.embedding_strs else []
        if not query.embedding_strs:
            return await self._aimage_to_image_retrieve(query)
        if self._index.is_image_vector_store_empty:
            return []
        words = await self._image_embed_model.aget_agg_embedding_from_queries(query.embedding_strs)
        picture = await self._image_embed_model.aget_image_embedding(query.embedding_image[0])
        return await self._aget_nodes_with_embeddings(
            _both(query, words, picture), self._image_similarity_top_k, self._image_vector_store
        )

    def _get_nodes_with_embeddings(
        self, query_bundle_with_embeddings: QueryBundle, similarity_top_k: int, vector_store: BasePydanticVectorStore
    ) -> list[NodeWithScore]:
        return number_pictures(
            super()._get_nodes_with_embeddings(query_bundle_with_embeddings, similarity_top_k, vector_store)
        )

    async def _aget_nodes_with_embeddings(
        self, query_bundle_with_embeddings: QueryBundle, similarity_top_k: int, vector_store: BasePydanticVectorStore
    ) -> list[NodeWithScore]:
        return number_pictures(
            await super()._aget_nodes_with_embeddings(query_bundle_with_embeddings, similarity_top_k, vector_store)
        )


def number_pictures(results: Sequence[NodeWithScore]) -> list[NodeWithScore]:
    """Return results with each picture replaced by a copy that tells the LLM its number and caption."""
    numbered = []
    number = 0
    for result in results:
        node = result.node
        if isinstance(node, ImageNode):
            number += 1
            node = _with_label(node, number)
        numbered.append(NodeWithScore(node=node, score=result.score))
    return numbered


def _with_label(node: ImageNode, number: int) -> BaseNode:
    caption = caption_of(node)
    label = f"图{number}：{caption}" if caption else f"图{number}"
    # The label comes last, so that nothing stands between it and the picture.
    metadata: dict[str, Any] = {key: value for key, value in node.metadata.items() if key != PICTURE_KEY}
    hidden = [key for key in _PATH_KEYS if PurePath(str(metadata.get(key, ""))).is_absolute()]
    return node.model_copy(
        update={
            "metadata": {**metadata, PICTURE_KEY: label},
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, *hidden],
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, PICTURE_KEY],
        }
    )


def _both(query: QueryBundle, words: Embedding, picture: Embedding) -> QueryBundle:
    """Ask for what is near the words and near the picture: the mean of two cosines."""
    return replace(query, embedding=mean_agg([words, picture]))
