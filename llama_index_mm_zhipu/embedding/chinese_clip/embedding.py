"""``ChineseClipEmbedding``: Chinese-CLIP as one of LlamaIndex's multimodal embeddings."""

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
from llama_index_mm_zhipu.embedding.backends import BackendName, Precision, PrecisionReport, Vectors, compare_precision
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import DEFAULT_DOWNLOAD_ROOT, DownloadSource
from llama_index_mm_zhipu.embedding.chinese_clip.shared_models import ModelSettings, SharedModel
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import (
    Embedded,
    LongText,
    Pixels,
    QueryCache,
    default_threads,
    image_pixels,
    image_vectors,
    in_given_order,
    knows,
    order_by_length,
    probabilities,
    stack_vectors,
    takes_whole,
    text_vectors,
    warn_of_cut_texts,
    warn_of_long_captions,
)
from llama_index_mm_zhipu.embedding.chinese_clip.weight_files import CONFIG
from llama_index_mm_zhipu.embedding.contract import DEFAULT_CAPTION_WEIGHT, Vector
from llama_index_mm_zhipu.embedding.nodes import compute_embeddings, image_bar, text_to_embed
from llama_index_mm_zhipu.images import ImageError, ImageSource, OnTruncated, UrlRules, caption_of, describe, has_image
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)


class ChineseClipEmbedding(KnownFields, MultiModalEmbedding):
    """Embeds images and Chinese texts in one space with Chinese-CLIP.

    Vectors are lists of ``embed_dim`` numbers and have unit length, so inner products are cosines. Images may be given
    in any form that ``llama_index_mm_zhipu.images`` takes: paths, URLs, base64, ``bytes``, ``PIL.Image`` objects,
    nodes.

    As a transformation of an ingestion pipeline it sets the embeddings of nodes: the mean of image and caption for
    image nodes, the vector of the text for text nodes.

    Weights are loaded once per process, however many objects use them. Objects can be pickled, copied and serialised
    without the weights, and shared by threads.

    Args:
        model_name: One of ``RN50``, ``ViT-B-16``, ``ViT-L-14``, ``ViT-L-14-336``, ``ViT-H-14``, its repository
            (``OFA-Sys/chinese-clip-vit-base-patch16``) or another spelling (``ViT-B/16``); or the path of other
            weights: a directory in the format of transformers or of cn_clip, or a file. An existing path takes
            precedence over a name.
        device: ``"auto"``, the default, chooses CUDA, else MPS, else the CPU.
        backend: ``"auto"``, the default, chooses OpenVINO on a CPU if it is installed (extra ``openvino``), where it is
            faster at full precision, and otherwise torch. The first use with OpenVINO converts the weights, which needs
            torch.
        precision: ``"fp32"``, ``"bf16"``, ``"fp16"`` (GPUs) or ``"int8"`` (OpenVINO). None, the default, chooses fp16
            on CUDA and fp32 elsewhere. ``check_precision`` measures the difference. Vectors of all precisions may be
            mixed.
        cache_dir: Folder for models converted for OpenVINO; by default the folder of the weights.
        exact_preprocess: Whether to compute exactly the pixels of cn_clip, which is slower on large images, ignores the
            EXIF orientation, and shows the colours of transparent pixels.
        download_root: Folder of the official checkpoints, ``~/.cache/clip`` by default, which is that of cn_clip;
            missing ones are downloaded to it.
        download_source: Source of official checkpoints: ``"huggingface"``, the default (or the mirror in
            ``HF_ENDPOINT``), or ``"modelscope"``. The other one is tried if the first fails.
        long_text: How to embed texts of more than 50 tokens, for which the text encoder has positions: ``"truncate"``,
            the default, cuts them and logs a warning with their number, ``"mean"`` takes the mean of the vectors of
            windows of 50 tokens.
        caption_weight: Share of the caption in the vector of a captioned image, 0 to 1, in ingestion pipelines; 0.5 by
            default.
        on_error: ``"raise"``, the default, at the first image that cannot be read, or ``"skip"`` such images: a warning
            lists them, an ingestion pipeline drops their nodes, and a batch has None in their places.
        on_truncated: ``"warn"``, the default, about an incomplete image file and embed its readable part, as viewers
            show it, or ``"raise"``, which treats it as an image that cannot be read.
        allow_urls: Whether images may be fetched from http(s) URLs; False by default.
        allow_private_urls: Whether these URLs may point into this machine or a private network; False by default.
        decode_threads: Threads that decode images ahead of the model, by default one per core, at most 8, or fewer with
            ``OMP_NUM_THREADS``, which OpenVINO follows, too.
        vision_model_name: cn_clip's name of the image encoder, for weight files without ``config.json``.
        text_model_name: cn_clip's name of the text encoder, for weight files without ``config.json``.
        input_resolution: Side of the images in pixels, if it differs from the encoder's default.
        embed_batch_size: Images or texts in one forward pass, 32 by default.

    Raises:
        CheckpointError: The name is unknown, the weights cannot be found, downloaded or loaded, or contain NaN or Inf.
        BackendError: This machine cannot run the model with this backend, device and precision.

    Examples:
        >>> embed_model = ChineseClipEmbedding("ViT-B-16")
        >>> image = embed_model.get_image_embedding("images/apple.jpg")
        >>> texts = embed_model.get_text_embedding_batch(["红苹果", "帆船"])
        >>> [f"{embed_model.similarity(image, text):.2f}" for text in texts]
        ['0.93', '0.24']
    """

    model_name: str = Field(default="ViT-B-16", frozen=True, description="Official name, or path of weights.")
    device: str = Field(default="auto", frozen=True, description="auto, cpu, cuda, cuda:1, mps.")
    backend: BackendName = Field(default="auto", frozen=True, description="auto, torch or openvino.")
    precision: Precision | None = Field(default=None, frozen=True, description="fp32, bf16, fp16 or int8.")
    cache_dir: str | None = Field(default=None, frozen=True, description="Folder for models converted for OpenVINO.")
    exact_preprocess: bool = Field(default=False, description="Whether to compute exactly the pixels of cn_clip.")
    download_root: str = Field(default=DEFAULT_DOWNLOAD_ROOT, frozen=True, description="Folder of official weights.")
    download_source: DownloadSource = Field(default="huggingface", frozen=True, description="huggingface, modelscope.")
    long_text: LongText = Field(default="truncate", description="Texts of more than 50 tokens: truncate or mean.")
    caption_weight: float = Field(default=DEFAULT_CAPTION_WEIGHT, ge=0, le=1, description="Share of the caption.")
    on_error: OnError = Field(default="raise", description="Images that cannot be read: raise or skip.")
    on_truncated: OnTruncated = Field(default="warn", description="Incomplete image files: warn or raise.")
    allow_urls: bool = Field(default=False, description="Whether images may be fetched from URLs.")
    allow_private_urls: bool = Field(default=False, description="Whether these URLs may be private.")
    decode_threads: int | None = Field(default=None, gt=0, description="Threads that decode images.")
    vision_model_name: str | None = Field(default=None, frozen=True, description="Image encoder of other weights.")
    text_model_name: str | None = Field(default=None, frozen=True, description="Text encoder of other weights.")
    input_resolution: int | None = Field(default=None, frozen=True, description="Side of the images in pixels.")
    embed_batch_size: int = Field(default=32, gt=0, le=2048, description="Images or texts in one forward pass.")

    _model: SharedModel = PrivateAttr()
    _queries: QueryCache = PrivateAttr(default_factory=QueryCache)
    _warns_of_cut_texts: bool = PrivateAttr(default=True)

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
        # Load now, not at first use: the error for damaged weights then points to where they are named.
        _ = self._model.backend

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings only: unpickling calls the constructor, which loads the weights."""
        return {**super().__getstate__(), "__pydantic_private__": None}

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "ChineseClipEmbedding"

    @property
    def embed_dim(self) -> int:
        """Dimension of the vectors.

        It is 1024 for ``RN50`` and ``ViT-H-14``, 512 for ``ViT-B-16``, 768 for ``ViT-L-14`` and ``ViT-L-14-336``.
        """
        return self._model.settings.checkpoint.embed_dim

    @property
    def fingerprint(self) -> str:
        """Architecture and hash of the weights, by which a store recognises the model; contains no path.

        Raises:
            CheckpointError: The weights on disk have changed since they were loaded.
        """
        self._model.require_unchanged()
        return self._model.settings.checkpoint.fingerprint()

    def reference(self) -> dict[str, Any]:
        """Return the settings that choose the weights, from which an index makes this model again.

        Paths are absolute. Device, backend and precision are left out, because they depend on the machine.

        Examples:
            >>> reference = embed_model.reference()
            >>> reference["class_name"], reference["model_name"].endswith("model")
            ('ChineseClipEmbedding', True)
        """
        given = Path(self.model_name).expanduser().absolute()
        is_path = self._model.settings.checkpoint.path.is_relative_to(given.parent if given.name == CONFIG else given)
        chosen = {
            "model_name": str(given) if is_path else self.model_name,
            "download_root": str(Path(self.download_root).expanduser().absolute()),
            "vision_model_name": self.vision_model_name,
            "text_model_name": self.text_model_name,
            "input_resolution": self.input_resolution,
        }
        if is_path or self.download_root == DEFAULT_DOWNLOAD_ROOT:
            del chosen["download_root"]
        return {"class_name": self.class_name(), **{key: value for key, value in chosen.items() if value is not None}}

    @property
    def effective_precision(self) -> Precision:
        """The precision in use, also if ``precision`` is None."""
        return self._model.backend.precision

    @property
    def running_on(self) -> str:
        """Backend, device and precision in use, such as ``"torch on cpu in fp32"``."""
        return f"{self._model.backend.name} on {self._model.backend.device} in {self._model.backend.precision}"

    def knows_text(self, text: str) -> bool:
        """Return whether the model's vocabulary has any part of a text.

        All other texts have nearly the same vector: the model represents each emoji and each rare Chinese character
        (𠮷) by the same unknown token.

        Args:
            text: A query or caption.

        Returns:
            False for an empty text and for a text of unknown tokens, even with punctuation between them.

        Examples:
            >>> [embed_model.knows_text(text) for text in ("苹果", "𠮷", "")]
            [True, False, False]
        """
        return knows(text)

    def takes_whole(self, text: str) -> bool:
        """Return whether a text has at most 50 tokens, which ``long_text="truncate"`` leaves whole.

        Examples:
            >>> embed_model.takes_whole("一个红苹果"), embed_model.takes_whole("苹果" * 50)
            (True, False)
        """
        return takes_whole(text)

    def for_long_texts(self) -> ChineseClipEmbedding:
        """Return a copy with ``long_text="mean"``: text chunks of LlamaIndex are ten times what Chinese-CLIP takes.

        Examples:
            >>> embed_model.for_long_texts().long_text
            'mean'
        """
        return self.model_copy(update={"long_text": "mean"})

    def warmup(self) -> None:
        """Load the model if necessary and embed an image and a text, so that the first query is not slower.

        Examples:
            >>> embed_model = ChineseClipEmbedding("ViT-B-16", backend="torch", device="cpu")
            >>> embed_model.warmup()
            >>> embed_model.running_on
            'torch on cpu in fp32'
        """
        side = self._model.settings.checkpoint.input_resolution
        self._model.backend.image_vectors(np.zeros((1, 3, side, side), dtype=np.float32))
        self._text_vectors(["预热"])

    def close(self) -> None:
        """Release the weights, also for copies of this object, unless others use them. The next use reloads them.

        Examples:
            >>> embed_model.close()
            >>> len(embed_model.get_text_embedding("飞机"))
            256
        """
        self._model.release()

    def similarity(self, images: Any, texts: Any, mode: SimilarityMode = SimilarityMode.DEFAULT) -> Any:
        """Return the probability of each text for each image, as cn_clip does.

        That is the softmax over the texts of ``logit_scale * cosine``; the model has learned the scale.

        Two vectors are compared as in the base class: LlamaIndex's semantic splitter and evaluators rely on it.

        Args:
            images: One image or a sequence of images (or a vector).
            texts: One text or a sequence of texts (or a vector).
            mode: Similarity measure for two vectors; ignored for images.

        Returns:
            Array of float32, shape ``(images, texts)``, whose rows sum to 1 (or a float for two vectors).

        Raises:
            ImageError: An image cannot be read.

        Examples:
            >>> probabilities = embed_model.similarity("images/apple.jpg", ["红苹果", "青苹果", "帆船"])
            >>> probabilities.shape, [f"{probability:.2f}" for probability in probabilities[0]]
            ((1, 3), ['1.00', '0.00', '0.00'])
            >>> vectors = embed_model.get_text_embedding_batch(["红苹果", "青苹果"])
            >>> f"{embed_model.similarity(*vectors):.2f}"
            '-0.33'
        """
        if _is_vector(images):
            return super().similarity(images, texts, mode)
        sources: Sequence[ImageSource] = images if isinstance(images, (list, tuple)) else [images]
        labels = [texts] if isinstance(texts, str) else list(texts)
        if not sources or not labels:
            raise ValueError("similarity needs at least one image and one text")
        cosines = self._image_vectors(sources) @ self._text_vectors(labels).T
        self._warn_of_cut_texts(labels)
        return probabilities(self._model.backend.logit_scale * cosines)

    def check_precision(
        self, images: Sequence[ImageSource], texts: Sequence[str], *, top_k: int = 10
    ) -> PrecisionReport:
        """Compare this object's vectors with those of torch in fp32, to help choose a backend and precision.

        Args:
            images: Images of your own, better hundreds than ten. All must be readable.
            texts: Queries of your own.
            top_k: Number of images to find for each text.

        Returns:
            Cosines of images and texts, and the share of images that both find for a text. ``print`` it.

        Raises:
            ValueError: There are no images or no texts, or ``top_k`` is below 1.
            ImageError: An image cannot be read.

        Examples:
            >>> report = embed_model.check_precision([node.image_path for node in nodes], ["红苹果", "帆船"], top_k=3)
            >>> report.images, f"{report.min_image_cosine:.2f}", report.overlap
            (12, '1.00', 1.0)
        """
        if not images or not texts:
            raise ValueError("check_precision needs at least one image and one text")
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be at least 1")
        reference = self.model_copy()
        reference._model = SharedModel(ModelSettings(self._model.settings.checkpoint, "torch", "cpu", "fp32"))
        image_pairs = [model._image_vectors(images) for model in (self, reference)]
        text_pairs = [model._text_vectors(texts) for model in (self, reference)]
        self._warn_of_cut_texts(texts)
        return compare_precision(self.running_on, image_pairs, text_pairs, top_k)

    def __call__(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """Set the embedding of each node: images as images, texts as texts.

        Returns:
            The same nodes, without those whose images were skipped.
        """
        # The copy does not warn after each batch: one warning counts those of all nodes.
        silent = self.model_copy()
        silent._warns_of_cut_texts = False
        embeddings, _ = compute_embeddings(
            nodes,
            silent,
            text_embed_model=silent,
            caption_weight=self.caption_weight,
            on_error=self.on_error,
            show_progress=show_progress,
        )
        self._warn_of_cut_texts([text_to_embed(node) for node in nodes if not has_image(node)])
        if self.caption_weight:
            warn_of_long_captions([caption_of(node) for node in nodes if has_image(node)])
        for node, embedding in zip(nodes, embeddings, strict=True):
            node.embedding = embedding
        return [node for node in nodes if node.embedding is not None]

    async def acall(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> Sequence[BaseNode]:
        """As ``__call__``, in a worker thread."""
        return await asyncio.to_thread(self.__call__, nodes, show_progress=show_progress, **kwargs)

    def stream_image_embeddings(
        self, images: Iterable[ImageSource], show_progress: bool = False
    ) -> Generator[Vector | ImageError, None, None]:
        """Embed any number of images, batch after batch and in order.

        Threads decode images ahead of the model; at most two batches of decoded images are in memory.

        Args:
            images: Images in any form; an iterator is consumed only as far as needed.
            show_progress: Show a progress bar.

        Yields:
            The vector of each image, float32 of shape ``(embed_dim,)``, or the ``ImageError`` that it caused.

        Examples:
            >>> for vector in embed_model.stream_image_embeddings(["images/apple.jpg", "images/ship.jpg"]):
            ...     print(vector.shape, vector.dtype)
            (256,) float32
            (256,) float32
        """
        batches = self._embedded_batches(images, self._embed_in_event)
        total = len(images) if isinstance(images, Sequence) else None
        with closing(batches), image_bar(total, show_progress) as bar:
            for batch in batches:
                yield from (outcome for _, outcome in batch)
                bar.update(len(batch))

    def get_image_embedding_batch(
        self, img_file_paths: Sequence[ImageSource], show_progress: bool = False
    ) -> list[Embedding]:
        """Embed images in batches of ``embed_batch_size``.

        Args:
            img_file_paths: Images in any form.
            show_progress: Show a progress bar.

        Returns:
            A list of ``embed_dim`` numbers for each image; with ``on_error="skip"`` None for an image that cannot be
            read.

        Raises:
            ImageError: An image cannot be read.

        Examples:
            >>> skipping = ChineseClipEmbedding("ViT-B-16", on_error="skip")
            >>> vectors = skipping.get_image_embedding_batch(["images/apple.jpg", "goods.csv"])
            >>> [vector and len(vector) for vector in vectors]
            [256, None]
        """
        return self._image_embeddings(img_file_paths, show_progress, threading.Event())

    async def aget_image_embedding_batch(
        self, img_file_paths: Sequence[ImageSource], show_progress: bool = False
    ) -> list[Embedding]:
        """As ``get_image_embedding_batch``, in a worker thread; cancelling it ends the work after the current batch."""
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._image_embeddings, img_file_paths, show_progress, cancelled)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Embedding]:
        """Embed texts in batches of ``embed_batch_size``, texts of similar length together.

        Args:
            texts: The texts.
            show_progress: Show a progress bar.
            **kwargs: Unknown arguments are errors.

        Returns:
            A list of ``embed_dim`` numbers for each text, in the order of ``texts``.

        Raises:
            TypeError: An argument is unknown.

        Examples:
            >>> vectors = embed_model.get_text_embedding_batch(["红苹果", "帆船"])
            >>> len(vectors), len(vectors[0])
            (2, 256)
        """
        require_known("ChineseClipEmbedding.get_text_embedding_batch", kwargs, ("texts", "show_progress"))
        order = order_by_length(texts)
        embeddings = super().get_text_embedding_batch([texts[index] for index in order], show_progress=show_progress)
        self._warn_of_cut_texts(texts)
        return in_given_order(embeddings, order)

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """As ``get_text_embedding_batch``, in worker threads."""
        require_known("ChineseClipEmbedding.aget_text_embedding_batch", kwargs, ("texts", "show_progress"))
        order = order_by_length(texts)
        embeddings = await super().aget_text_embedding_batch(
            [texts[index] for index in order], show_progress=show_progress
        )
        await asyncio.to_thread(self._warn_of_cut_texts, texts)
        return in_given_order(embeddings, order)

    def _get_text_embedding(self, text: str) -> Embedding:
        self._warn_of_cut_texts([text])
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> Embedding:
        compute = partial(self._get_text_embedding, query)
        return self._queries.get((query, self.long_text, self._model.loaded_state), compute)

    # Called for each batch of get_text_embedding_batch, which warns of the cut texts of all batches.
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

    def _image_embeddings(
        self, images: Sequence[ImageSource], show_progress: bool, cancelled: threading.Event
    ) -> list[Embedding]:
        embeddings: list[Any] = []
        skipped = Skipped()
        outcomes = self.stream_image_embeddings(images, show_progress)
        with closing(outcomes):
            for outcome in outcomes:
                if cancelled.is_set():
                    break
                if not isinstance(outcome, ImageError):
                    embeddings.append(outcome.tolist())
                elif self.on_error == "raise":
                    raise outcome
                else:
                    skipped.add(f"number {len(embeddings)}", str(outcome))
                    embeddings.append(None)
        if skipped:
            logger.warning("%s", skipped.summary(len(embeddings)))
        return embeddings

    def _image_vectors(self, images: Sequence[ImageSource]) -> Vectors:
        """Embed images that must all be readable, without events for LlamaIndex's callbacks."""
        return stack_vectors(
            self._embedded_batches(images, lambda _, pixels: self._model.backend.image_vectors(pixels))
        )

    def _embedded_batches(
        self, images: Iterable[ImageSource], embed: Callable[[Sequence[ImageSource], Pixels], Vectors]
    ) -> Generator[list[Embedded[ImageSource]], None, None]:
        if isinstance(images, (str, bytes, Path)):
            raise TypeError("this takes a list of images; give [image] for a single one")
        decode = partial(
            image_pixels,
            side=self._model.settings.checkpoint.input_resolution,
            exact=self.exact_preprocess,
            urls=UrlRules(allowed=self.allow_urls, allow_private=self.allow_private_urls),
            on_truncated=self.on_truncated,
        )
        return image_vectors(
            images, decode, embed, batch_size=self.embed_batch_size, threads=self.decode_threads or default_threads()
        )

    def _embed_in_event(self, sources: Sequence[ImageSource], pixels: Pixels) -> Vectors:
        """Embed a batch within an event for LlamaIndex's callbacks, which see names of images but not their bytes."""
        with self.callback_manager.event(
            CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: self.to_payload()}
        ) as event:
            vectors = self._model.backend.image_vectors(pixels)
            names = [describe(source) for source in sources]
            event.on_end(payload={EventPayload.CHUNKS: names, EventPayload.EMBEDDINGS: vectors.tolist()})
        return vectors

    def _text_vectors(self, texts: Sequence[str]) -> Vectors:
        return text_vectors(self._model.backend, texts, long_text=self.long_text, batch_size=self.embed_batch_size)

    def _warn_of_cut_texts(self, texts: Sequence[str]) -> None:
        if self.long_text == "truncate" and self._warns_of_cut_texts:
            warn_of_cut_texts(texts)


def _is_vector(value: object) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and len(value) > 0 and isinstance(value[0], Real)
