"""``ChineseClipEmbedding``: Chinese-CLIP as LlamaIndex expects a multimodal embedding."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any, Literal

import numpy as np
from llama_index.core.base.embeddings.base import Embedding, SimilarityMode
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.embedding import nodes as node_vectors
from llama_index_mm_zhipu.embedding.checkpoint import (
    DEFAULT_DOWNLOAD_ROOT,
    Checkpoint,
    DownloadSource,
    find_checkpoint,
)
from llama_index_mm_zhipu.embedding.preprocess import (
    MAX_WORD_PIECES,
    pixels_of,
    token_batch,
    windows,
    word_pieces,
)
from llama_index_mm_zhipu.embedding.torch_backend import TorchBackend, Vectors
from llama_index_mm_zhipu.images import ImageSource, load_image

logger = logging.getLogger(__name__)

_cut_texts: ContextVar[list[int] | None] = ContextVar("_cut_texts", default=None)


class ChineseClipEmbedding(MultiModalEmbedding):
    """Chinese-CLIP embeddings of pictures and Chinese texts in one space.

    Vectors have unit length, so inner products are cosines. Pictures are whatever ``llama_index_mm_zhipu.images``
    takes: paths, addresses, base64, ``bytes``, ``PIL.Image`` objects.

    As an ingestion transformation it gives ``ImageNode`` objects picture vectors, averaged with their captions, and
    text nodes text vectors.

    Args:
        model_name: One of ``RN50``, ``ViT-B-16``, ``ViT-L-14``, ``ViT-L-14-336``, ``ViT-H-14``, or the path of a
            directory or ``.pt`` file with other weights.
        device: ``"auto"`` takes CUDA, else MPS, else the CPU. Weights are fp16 on CUDA and fp32 elsewhere.
        download_root: Folder that holds, or receives, official checkpoints.
        download_source: ``"huggingface"`` (mirrors by ``HF_ENDPOINT``) or ``"modelscope"``.
        long_text: What to do with texts of more than 50 word pieces: ``"truncate"`` them, with a warning that says
            how many, or take the ``"mean"`` of the vectors of windows of 50.
        caption_weight: Share of the caption in the vector of a captioned picture, 0 to 1.
        vision_model_name: cn_clip's name of the picture tower, for ``.pt`` files of other weights.
        text_model_name: cn_clip's name of the text tower, for ``.pt`` files of other weights.
        input_resolution: Side of the pictures in pixels, where it differs from the tower's own.
        embed_batch_size: Pictures or texts in one forward pass, 32 by default.

    Raises:
        CheckpointError: The name is unknown, or the weights cannot be found, fetched or loaded.

    Examples:
        >>> embed = ChineseClipEmbedding(model_name="examples/demo/model")
        >>> len(embed.get_text_embedding("飞机"))
        256
    """

    model_name: str = Field(default="ViT-B-16", description="Official name, or path of other weights.")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps.")
    download_root: str = Field(default=DEFAULT_DOWNLOAD_ROOT, description="Folder of official checkpoints.")
    download_source: DownloadSource = Field(default="huggingface", description="huggingface or modelscope.")
    long_text: Literal["truncate", "mean"] = Field(
        default="truncate", description="Texts of more than 50 word pieces: cut, or mean over windows."
    )
    caption_weight: float = Field(default=0.5, ge=0, le=1, description="Share of the caption in a vector.")
    vision_model_name: str | None = Field(default=None, description="Picture tower of other weights.")
    text_model_name: str | None = Field(default=None, description="Text tower of other weights.")
    input_resolution: int | None = Field(default=None, description="Side of the pictures in pixels.")
    embed_batch_size: int = Field(default=32, gt=0, le=2048, description="Items in one forward pass.")

    _checkpoint: Checkpoint = PrivateAttr()
    _backend: TorchBackend = PrivateAttr()
    _fingerprint: str | None = PrivateAttr(default=None)

    def __init__(self, model_name: str = "ViT-B-16", **kwargs: Any) -> None:
        super().__init__(model_name=model_name, **kwargs)
        self._checkpoint = find_checkpoint(
            self.model_name,
            download_root=self.download_root,
            download_source=self.download_source,
            vision_model_name=self.vision_model_name,
            text_model_name=self.text_model_name,
            input_resolution=self.input_resolution,
        )
        self._backend = TorchBackend(self._checkpoint, self.device)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings only: unpickling calls the constructor, which loads the weights."""
        return {**super().__getstate__(), "__pydantic_private__": None}

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "ChineseClipEmbedding"

    @property
    def embed_dim(self) -> int:
        """Dimension of the vectors."""
        return self._backend.embed_dim

    @property
    def fingerprint(self) -> str:
        """Struct and hash of the weights, by which a store recognises the model; no path is in it."""
        if self._fingerprint is None:
            self._fingerprint = self._checkpoint.fingerprint()
        return self._fingerprint

    def similarity(self, images: Any, texts: Any, mode: SimilarityMode = SimilarityMode.DEFAULT) -> Any:
        """Return how probable each text is for each picture: softmax over the texts, with the model's logit scale.

        Two vectors instead of pictures and texts are compared as in the base class, which LlamaIndex's own parts
        (the semantic splitter, evaluators) rely on.

        Args:
            images: One picture or a sequence of them (or a vector).
            texts: One text or a sequence of them (or a vector).
            mode: Measure for two vectors; without effect on pictures.

        Returns:
            Array of shape ``(images, texts)`` whose rows sum to 1 (or a float for two vectors).
        """
        if _is_vector(images):
            return super().similarity(images, texts, mode)
        pictures: Sequence[ImageSource] = images if isinstance(images, (list, tuple)) else [images]
        labels = [texts] if isinstance(texts, str) else list(texts)
        cosines = self._image_vectors(pictures) @ self._text_vectors(labels).T
        logits = self._backend.logit_scale * cosines
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)

    def __call__(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """Set the embedding of every node, pictures as pictures and texts as texts, and return the nodes."""
        with self._one_warning_for_cut_texts():
            embeddings = node_vectors.embed_nodes(
                self, nodes, caption_weight=self.caption_weight, show_progress=show_progress
            )
        for node, embedding in zip(nodes, embeddings, strict=True):
            node.embedding = embedding
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """As ``__call__``, in a worker thread."""
        return await asyncio.to_thread(self.__call__, nodes, show_progress=show_progress, **kwargs)

    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """Embed texts in batches of ``embed_batch_size``."""
        with self._one_warning_for_cut_texts():
            return super().get_text_embedding_batch(texts, show_progress=show_progress, **kwargs)

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Embed texts in batches of ``embed_batch_size``, in worker threads."""
        with self._one_warning_for_cut_texts():
            return await super().aget_text_embedding_batch(texts, show_progress=show_progress, **kwargs)

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        embeddings: list[Embedding] = self._text_vectors(texts).tolist()
        return embeddings

    def _get_image_embedding(self, img_file_path: ImageSource) -> Embedding:
        return self._get_image_embeddings([img_file_path])[0]

    def _get_image_embeddings(self, img_file_paths: Sequence[ImageSource]) -> list[Embedding]:
        embeddings: list[Embedding] = self._image_vectors(img_file_paths).tolist()
        return embeddings

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_image_embedding(self, img_file_path: ImageSource) -> Embedding:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: Sequence[ImageSource]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    def _image_vectors(self, images: Sequence[ImageSource]) -> Vectors:
        side = self._checkpoint.input_resolution
        # Each picture is decoded and shrunk before the next: a batch of large ones never lies in memory whole.
        return self._backend.image_vectors(np.stack([pixels_of(load_image(image), side) for image in images]))

    def _text_vectors(self, texts: Sequence[str]) -> Vectors:
        pieces = [word_pieces(text) for text in texts]
        if self.long_text == "mean":
            return self._mean_over_windows(pieces)
        cut = sum(len(text) > MAX_WORD_PIECES for text in pieces)
        if cut:
            with self._one_warning_for_cut_texts() as counts:
                counts.append(cut)
        return self._backend.text_vectors(token_batch([text[:MAX_WORD_PIECES] for text in pieces]))

    def _mean_over_windows(self, pieces: Sequence[Sequence[int]]) -> Vectors:
        runs = [list(windows(text)) for text in pieces]
        flat = [run for text in runs for run in text]
        vectors = np.concatenate(
            [
                self._backend.text_vectors(token_batch(flat[start : start + self.embed_batch_size]))
                for start in range(0, len(flat), self.embed_batch_size)
            ]
        )
        first_runs = np.cumsum([0, *map(len, runs)])[:-1]
        sums = np.add.reduceat(vectors, first_runs, axis=0)
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)

    @contextmanager
    def _one_warning_for_cut_texts(self) -> Iterator[list[int]]:
        """Collect how many texts each batch cut, and warn once when the outermost call is done."""
        counts = _cut_texts.get()
        if counts is not None:
            yield counts
            return
        counts = []
        token = _cut_texts.set(counts)
        try:
            yield counts
        finally:
            _cut_texts.reset(token)
            if counts:
                logger.warning(
                    "%d text(s) longer than %d word pieces were cut; "
                    'ChineseClipEmbedding(long_text="mean") embeds them whole',
                    sum(counts),
                    MAX_WORD_PIECES,
                )


def _is_vector(value: object) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and len(value) > 0 and isinstance(value[0], Real)
