"""``ChineseClipEmbedding``: Chinese-CLIP as LlamaIndex expects a multimodal embedding."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.base.embeddings.base import Embedding, SimilarityMode
from llama_index.core.bridge.pydantic import Field, PrivateAttr, field_validator
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.arguments import KnownFields, require_known
from llama_index_mm_zhipu.embedding.backends import Backend, BackendName, Precision, Vectors
from llama_index_mm_zhipu.embedding.backends.precision import PrecisionReport, compare_precision
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import DEFAULT_DOWNLOAD_ROOT, DownloadSource
from llama_index_mm_zhipu.embedding.chinese_clip.shared_models import ModelSettings, SharedModel
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import (
    Embedded,
    LongText,
    Pixels,
    QueryCache,
    Vector,
    by_length,
    default_threads,
    image_pixels,
    image_vectors,
    in_given_order,
    knows,
    one_warning_for_cut_texts,
    text_vectors,
)
from llama_index_mm_zhipu.embedding.nodes import embed_nodes, image_bar, list_failures
from llama_index_mm_zhipu.images import ImageError, ImageSource, OnTruncated, UrlRules, describe, has_image
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)


class ChineseClipEmbedding(KnownFields, MultiModalEmbedding):
    """Chinese-CLIP embeddings of images and Chinese texts in one space.

    Vectors have unit length, so inner products are cosines. Images are whatever ``llama_index_mm_zhipu.images``
    takes: paths, addresses, base64, ``bytes``, ``PIL.Image`` objects.

    As an ingestion transformation it gives ``ImageNode`` objects image vectors, averaged with their captions, and
    text nodes text vectors.

    The weights lie in memory once per process, however many objects name them. Objects pickle, copy and serialise
    without weights, and may be shared by threads.

    Args:
        model_name: One of ``RN50``, ``ViT-B-16``, ``ViT-L-14``, ``ViT-L-14-336``, ``ViT-H-14``, its repository
            (``OFA-Sys/chinese-clip-vit-base-patch16``) or another spelling (``ViT-B/16``); or the path of other
            weights: a directory in the form of transformers or of cn_clip, or a file. A path that exists is taken
            before a name.
        device: ``"auto"`` takes CUDA, else MPS, else the CPU.
        backend: ``"auto"`` takes OpenVINO on a CPU where it is installed (extra ``openvino``), which is faster at
            full precision, and torch elsewhere. OpenVINO converts the weights once, for which torch is needed.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` (GPUs) or ``"int8"`` (OpenVINO). None takes fp16 on CUDA and fp32
            elsewhere. ``check_precision`` says what it changes. Vectors of all precisions may be mixed.
        cache_dir: Folder of models converted for OpenVINO; by default the one that holds the weights.
        exact_preprocess: Give cn_clip's pixels bit for bit: slower on large images, without EXIF orientation, and
            with whatever lies under transparency.
        download_root: Folder that holds, or receives, official checkpoints.
        download_source: Where an official checkpoint is fetched from: ``"huggingface"`` (mirrors by ``HF_ENDPOINT``) or
            ``"modelscope"``. The other one is tried where the first cannot be reached.
        long_text: What to do with texts of more than 50 word pieces: ``"truncate"`` them, with a warning that says
            how many, or take the ``"mean"`` of the vectors of windows of 50.
        caption_weight: Share of the caption in the vector of a captioned image, 0 to 1.
        on_error: ``"raise"`` at the first image that cannot be read, or ``"skip"`` such images: a warning lists
            them, a transformation leaves their nodes out, and a batch holds None in their places.
        on_truncated: ``"warn"`` of each file that lacks its end and embed what is there of it, as viewers show it, or
            ``"raise"``, which makes it one that cannot be read.
        allow_urls: Whether images may be fetched from http(s) addresses.
        allow_private_urls: Whether these may be of one's own machine or network.
        decode_threads: Threads that decode images ahead of the model, by default one per core, at most 8.
        vision_model_name: cn_clip's name of the image encoder, for files of other weights without ``config.json``.
        text_model_name: cn_clip's name of the text encoder, for files of other weights without ``config.json``.
        input_resolution: Side of the images in pixels, where it differs from the tower's own.
        embed_batch_size: Images or texts in one forward pass, 32 by default.

    Raises:
        CheckpointError: The name is unknown, the weights cannot be found, fetched or loaded, or they hold NaN or Inf.
        BackendError: This machine cannot run them with this backend, device and precision.

    Examples:
        >>> embed = ChineseClipEmbedding(model_name="examples/demo/model", backend="torch")
        >>> len(embed.get_text_embedding("飞机"))
        256
    """

    model_name: str = Field(
        default="ViT-B-16", frozen=True, description="Official name or repository, or path of weights."
    )
    device: str = Field(default="auto", frozen=True, description="auto, cpu, cuda, cuda:1, mps.")
    backend: BackendName = Field(default="auto", frozen=True, description="auto, torch or openvino.")
    precision: Precision | None = Field(default=None, frozen=True, description="fp32, bf16, fp16 or int8.")
    cache_dir: str | None = Field(default=None, frozen=True, description="Folder of models converted for OpenVINO.")
    exact_preprocess: bool = Field(default=False, description="Pixels as cn_clip's, bit for bit.")
    download_root: str = Field(
        default=DEFAULT_DOWNLOAD_ROOT, frozen=True, description="Folder of official checkpoints."
    )
    download_source: DownloadSource = Field(
        default="huggingface", frozen=True, description="huggingface or modelscope."
    )
    long_text: LongText = Field(
        default="truncate", description="Texts of more than 50 word pieces: cut, or mean over windows."
    )
    caption_weight: float = Field(default=0.5, ge=0, le=1, description="Share of the caption in a vector.")
    on_error: OnError = Field(default="raise", description="Images that cannot be read: raise or skip.")
    on_truncated: OnTruncated = Field(default="warn", description="Files that lack their end: warn or raise.")
    allow_urls: bool = Field(default=False, description="Whether images may be fetched from addresses.")
    allow_private_urls: bool = Field(default=False, description="Whether these may be private ones.")
    decode_threads: int | None = Field(default=None, gt=0, description="Threads that decode images.")
    vision_model_name: str | None = Field(default=None, frozen=True, description="Image tower of other weights.")
    text_model_name: str | None = Field(default=None, frozen=True, description="Text tower of other weights.")
    input_resolution: int | None = Field(default=None, frozen=True, description="Side of the images in pixels.")
    embed_batch_size: int = Field(default=32, gt=0, le=2048, description="Items in one forward pass.")

    _model: SharedModel = PrivateAttr()
    _queries: QueryCache = PrivateAttr(default_factory=QueryCache)

    @field_validator("model_name", "cache_dir", "download_root", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    def __init__(self, model_name: str | Path = "ViT-B-16", **kwargs: Any) -> None:
        super().__init__(model_name=model_name, **kwargs)
        checkpoint = find_checkpoint(
            self.model_name,
            download_root=self.download_root,
            download_source=self.download_source,
            vision_model_name=self.vision_model_name,
            text_model_name=self.text_model_name,
            input_resolution=self.input_resolution,
        )
        cache_dir = Path(self.cache_dir).expanduser() if self.cache_dir else None
        self._model = SharedModel(ModelSettings(checkpoint, self.backend, self.device, self.precision, cache_dir))
        # Now rather than at first use: damaged weights are refused where they are named.
        _ = self._loaded

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
        return self._model.settings.checkpoint.embed_dim

    @property
    def fingerprint(self) -> str:
        """Struct and hash of the weights, by which a store recognises the model; no path is in it.

        Raises:
            CheckpointError: The file of the weights is not the one any more that was loaded.
        """
        self._model.require_unchanged()
        return self._model.settings.checkpoint.fingerprint()

    @property
    def effective_precision(self) -> Precision:
        """What vectors are computed in, also where ``precision`` is None."""
        return self._loaded.precision

    @property
    def running_on(self) -> str:
        """What computes the vectors, in words: backend, device and precision."""
        return f"{self._loaded.name} on {self._loaded.device} in {self._loaded.precision}"

    def knows_text(self, text: str) -> bool:
        """Return whether the model's vocabulary has any part of a text.

        All other texts have nearly the same vector: the model takes each emoji and each rare Chinese character (𠮷) for
        the same unknown token.

        Args:
            text: A query or caption.

        Returns:
            False for a text of unknown tokens, also with punctuation between them, and for an empty one.
        """
        return knows(text)

    def warmup(self) -> None:
        """Load the model if need be and embed an image and a text: the first query is then as fast as others."""
        side = self._model.settings.checkpoint.input_resolution
        self._loaded.image_vectors(np.zeros((1, 3, side, side), dtype=np.float32))
        self._text_vectors(["预热"])

    def close(self) -> None:
        """Give up the weights, for copies of this object too: they leave the memory unless another object uses them.

        The next use loads them anew.
        """
        self._model.release()

    def similarity(self, images: Any, texts: Any, mode: SimilarityMode = SimilarityMode.DEFAULT) -> Any:
        """Return how probable each text is for each image: softmax over the texts, with the model's logit scale.

        Two vectors instead of images and texts are compared as in the base class, which LlamaIndex's own parts
        (the semantic splitter, evaluators) rely on.

        Args:
            images: One image or a sequence of them (or a vector).
            texts: One text or a sequence of them (or a vector).
            mode: Measure for two vectors; without effect on images.

        Returns:
            Array of shape ``(images, texts)`` whose rows sum to 1 (or a float for two vectors).
        """
        if _is_vector(images):
            return super().similarity(images, texts, mode)
        sources: Sequence[ImageSource] = images if isinstance(images, (list, tuple)) else [images]
        labels = [texts] if isinstance(texts, str) else list(texts)
        if not sources or not labels:
            raise ValueError("similarity needs at least one image and one text")
        cosines = self._image_vectors(sources) @ self._text_vectors(labels).T
        logits = self._loaded.logit_scale * cosines
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)

    def check_precision(
        self, images: Sequence[ImageSource], texts: Sequence[str], *, top_k: int = 10
    ) -> PrecisionReport:
        """Compare this object's vectors with those of torch in fp32, to decide on a backend and precision.

        Args:
            images: Images of your own; some hundred say more than ten. All must be readable.
            texts: Queries of your own.
            top_k: How many images to find for each text.

        Returns:
            Cosines of images and texts, and the share of images that both find for a text. ``print`` it.

        Raises:
            ValueError: There are no images or no texts, or ``top_k`` is below 1.
            ImageError: An image cannot be read.
        """
        if not images or not texts:
            raise ValueError("check_precision needs at least one image and one text")
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be at least 1")
        reference = SharedModel(ModelSettings(self._model.settings.checkpoint, "torch", "cpu", "fp32")).backend

        def both(_: Sequence[ImageSource], pixels: Pixels) -> Vectors:
            return np.concatenate([self._loaded.image_vectors(pixels), reference.image_vectors(pixels)], axis=1)

        image_pairs = np.split(self._image_vectors(images, both), 2, axis=1)
        text_pairs = [self._text_vectors(texts), self._text_vectors(texts, reference)]
        return compare_precision(self.running_on, image_pairs, text_pairs, top_k)

    def __call__(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """Set the embedding of every node, images as images and texts as texts.

        Returns:
            The nodes, without those whose images were skipped.
        """
        with one_warning_for_cut_texts():
            embeddings, failures = embed_nodes(
                self, nodes, caption_weight=self.caption_weight, on_error=self.on_error, show_progress=show_progress
            )
        if failures:
            logger.warning("%s", list_failures(failures, sum(map(has_image, nodes))))
        for node, embedding in zip(nodes, embeddings, strict=True):
            node.embedding = embedding
        return [node for node in nodes if node.embedding is not None]

    async def acall(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """As ``__call__``, in a worker thread."""
        return await asyncio.to_thread(self.__call__, nodes, show_progress=show_progress, **kwargs)

    def stream_image_embeddings(
        self, images: Iterable[ImageSource], show_progress: bool = False
    ) -> Generator[Vector | ImageError, None, None]:
        """Embed any number of images one batch after the other, in order.

        Threads decode ahead of the model; two batches lie in memory.

        Args:
            images: Images; read only as far as needed.
            show_progress: Show a progress bar.

        Yields:
            The vector of each image, of shape ``(embed_dim,)``, or the ``ImageError`` that it caused.
        """
        for batch in self._image_batches(images, show_progress):
            yield from (outcome for _, outcome in batch)

    def get_image_embedding_batch(
        self, img_file_paths: Sequence[ImageSource], show_progress: bool = False
    ) -> list[Embedding]:
        """Embed images in batches of ``embed_batch_size``.

        Args:
            img_file_paths: Images in any form.
            show_progress: Show a progress bar.

        Returns:
            A vector for each image; with ``on_error="skip"`` None for one that cannot be read.

        Raises:
            ImageError: An image cannot be read.
        """
        return self._image_embeddings(img_file_paths, show_progress, threading.Event())

    async def aget_image_embedding_batch(
        self, img_file_paths: Sequence[ImageSource], show_progress: bool = False
    ) -> list[Embedding]:
        """As ``get_image_embedding_batch``, in a worker thread; it stops after a batch when it is cancelled."""
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._image_embeddings, img_file_paths, show_progress, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """Embed texts in batches of ``embed_batch_size``, those of about one length together.

        Raises:
            TypeError: An argument is not known.
        """
        require_known("ChineseClipEmbedding.get_text_embedding_batch", kwargs, ("texts", "show_progress"))
        order = by_length(texts)
        with one_warning_for_cut_texts():
            embeddings = super().get_text_embedding_batch(
                [texts[index] for index in order], show_progress=show_progress
            )
        return in_given_order(embeddings, order)

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """As ``get_text_embedding_batch``, in worker threads."""
        require_known("ChineseClipEmbedding.aget_text_embedding_batch", kwargs, ("texts", "show_progress"))
        order = by_length(texts)
        with one_warning_for_cut_texts():
            embeddings = await super().aget_text_embedding_batch(
                [texts[index] for index in order], show_progress=show_progress
            )
        return in_given_order(embeddings, order)

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> Embedding:
        compute = partial(self._get_text_embedding, query)
        return self._queries.get((query, self.long_text, self._model.loaded_state), compute)

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        embeddings: list[Embedding] = self._text_vectors(texts).tolist()
        return embeddings

    def _get_image_embedding(self, img_file_path: ImageSource) -> Embedding:
        embedding: Embedding = self._image_vectors([img_file_path])[0].tolist()
        return embedding

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_image_embedding(self, img_file_path: ImageSource) -> Embedding:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    @property
    def _loaded(self) -> Backend:
        return self._model.backend

    def _image_embeddings(
        self, images: Sequence[ImageSource], show_progress: bool, cancelled: threading.Event
    ) -> list[Embedding]:
        embeddings: list[Any] = []
        failures: list[tuple[str, str]] = []
        batches = self._image_batches(images, show_progress)
        with closing(batches):
            for batch in batches:
                for _, outcome in batch:
                    if not isinstance(outcome, ImageError):
                        embeddings.append(outcome.tolist())
                    elif self.on_error == "raise":
                        raise outcome
                    else:
                        failures.append((f"number {len(embeddings)}", str(outcome)))
                        embeddings.append(None)
                if cancelled.is_set():
                    break
        if failures:
            logger.warning("%s", list_failures(failures, len(embeddings)))
        return embeddings

    def _image_batches(
        self, images: Iterable[ImageSource], show_progress: bool = False
    ) -> Generator[list[Embedded[ImageSource]], None, None]:
        total = len(images) if isinstance(images, Sequence) else None
        batches = self._bare_image_batches(images, self._embed_in_event)
        with closing(batches), image_bar(total, show_progress) as bar:
            for batch in batches:
                yield batch
                bar.update(len(batch))

    def _bare_image_batches(
        self, images: Iterable[ImageSource], embed: Callable[[Sequence[ImageSource], Pixels], Vectors]
    ) -> Generator[list[Embedded[ImageSource]], None, None]:
        if isinstance(images, (str, bytes, Path)):
            raise TypeError("this takes a list of images; give [image] for a single one")
        decode = partial(
            image_pixels,
            side=self._model.settings.checkpoint.input_resolution,
            exact=self.exact_preprocess,
            urls=UrlRules(allowed=self.allow_urls, private=self.allow_private_urls),
            on_truncated=self.on_truncated,
        )
        threads = self.decode_threads or default_threads()
        return image_vectors(images, decode, embed, batch_size=self.embed_batch_size, threads=threads)

    def _embed_in_event(self, sources: Sequence[ImageSource], pixels: Pixels) -> Vectors:
        """Embed a batch as LlamaIndex's callbacks see it: images by name, their bytes never."""
        with self.callback_manager.event(
            CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: self.to_payload()}
        ) as event:
            vectors = self._loaded.image_vectors(pixels)
            chunks = [describe(source) for source in sources]
            event.on_end(payload={EventPayload.CHUNKS: chunks, EventPayload.EMBEDDINGS: vectors.tolist()})
        return vectors

    def _image_vectors(
        self,
        images: Sequence[ImageSource],
        embed: Callable[[Sequence[ImageSource], Pixels], Vectors] | None = None,
    ) -> Vectors:
        """Embed images that must all be readable, outside of LlamaIndex's events."""
        rows = []
        batches = self._bare_image_batches(images, embed or (lambda _, pixels: self._loaded.image_vectors(pixels)))
        with closing(batches):
            for batch in batches:
                for _, outcome in batch:
                    if isinstance(outcome, ImageError):
                        raise outcome
                    rows.append(outcome)
        return np.stack(rows)

    def _text_vectors(self, texts: Sequence[str], backend: Backend | None = None) -> Vectors:
        vectors, cut = text_vectors(
            backend or self._loaded, texts, long_text=self.long_text, batch_size=self.embed_batch_size
        )
        with one_warning_for_cut_texts() as counts:
            counts.append(cut)
        return vectors


def _is_vector(value: object) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and len(value) > 0 and isinstance(value[0], Real)
