"""The contenders of ``embedding.py``: the article's loop, Hugging Face's Chinese-CLIP, and this package.

Heavy modules are imported when a contender is created, in its own process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from measuring import peak_bytes
from PIL import Image

Pair = tuple[Path, str]
Vectors = npt.NDArray[np.float32]

ARTICLE = "the article's loop"
HUGGING_FACE = "Hugging Face, batched"
TORCH = "torch fp32"
ARTICLE_CUDA = f"{ARTICLE}, cuda"
FP32 = "OpenVINO fp32"
BF16 = "OpenVINO bf16"
INT8 = "OpenVINO int8"

OFFICIAL = "ViT-B-16"
_REFERENCE = Path(__file__).parents[1] / "tests" / "embedding"
_BATCHES = (8, 16, 32)
_CUDA_BATCHES = (32, 128, 512)
_CUDA_PRECISIONS = ("fp16", "bf16")


@dataclass(frozen=True)
class Weights:
    """The model that all contenders load.

    Attributes:
        name: ``ViT-B-16``, or the folder of a tiny model.
        folder: Folder of the official file and of models converted for OpenVINO.
    """

    name: str
    folder: str

    @property
    def checkpoint(self) -> Any:
        """The weights and their architecture."""
        from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint

        return find_checkpoint(self.name, download_root=self.folder)


@dataclass(frozen=True)
class Turn:
    """The result of a contender in one round.

    Attributes:
        seconds: Elapsed time.
        vectors: The vectors, for comparison with other contenders.
        waited: Time during which the model waited for decoded images, in seconds.
    """

    seconds: float
    vectors: Vectors
    waited: float = 0.0


class Contender:
    """Base class of the contenders."""

    imports: ClassVar[Sequence[str]] = ()

    def peak_bytes(self) -> int | None:
        """Return the peak memory of its process so far."""
        return peak_bytes()


class Article(Contender):
    """Embeds one pair after the other with cn_clip."""

    imports = ("torch", "cn_clip.clip")

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        from cn_clip import clip

        self._device, self._tokenize = device, clip.tokenize
        if weights.name == OFFICIAL:
            self._model, self._preprocess = clip.load_from_name(OFFICIAL, device, weights.folder)
        else:
            from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import load_model

            self._model = load_model(weights.checkpoint).to(device)
            self._model = self._model.float() if device == "cpu" else self._model
            self._preprocess = clip.image_transform(weights.checkpoint.input_resolution)
        self._model.eval()

    def pairs(self, pairs: Sequence[Pair]) -> Turn:
        """Embed images with captions to one vector each."""
        import torch

        start = time.perf_counter()
        with torch.no_grad():
            vectors = [((self._image(file) + self._text(caption)) / 2)[0].cpu().numpy() for file, caption in pairs]
        return Turn(time.perf_counter() - start, np.stack(vectors))

    def queries(self, texts: Sequence[str]) -> Turn:
        """Embed one query after the other."""
        import torch

        start = time.perf_counter()
        with torch.no_grad():
            vectors = [self._text(text)[0].cpu().numpy() for text in texts]
        return Turn(time.perf_counter() - start, np.stack(vectors))

    def _image(self, file: Path) -> Any:
        pixels = self._preprocess(Image.open(file)).unsqueeze(0).to(self._device)
        features = self._model.encode_image(pixels)
        return features / features.norm(dim=-1, keepdim=True)

    def _text(self, text: str) -> Any:
        features = self._model.encode_text(self._tokenize([text]).to(self._device))
        return features / features.norm(dim=-1, keepdim=True)


class HuggingFace(Contender):
    """``ChineseCLIPModel`` in torch, in batches, with texts padded to the longest of a batch."""

    imports = ("torch", "transformers")

    def __init__(self, weights: Weights) -> None:
        sys.path.insert(0, str(_REFERENCE))
        import torch
        from hf_reference import reference_model
        from transformers import BertTokenizer, ChineseCLIPImageProcessor

        from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import cn_clip_folder

        checkpoint = weights.checkpoint
        side = checkpoint.input_resolution
        tensors = torch.load(checkpoint.path, map_location="cpu", weights_only=True)["state_dict"]
        self._model = reference_model(checkpoint.config, tensors)
        self._processor = ChineseCLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False)
        self._tokenizer = BertTokenizer(str(cn_clip_folder() / "clip" / "vocab.txt"))
        self._batch = _BATCHES[-1]

    def choose_batch(self, pairs: Sequence[Pair]) -> int:
        """Choose the batch size that is fastest for these pairs, and return it."""

        def seconds(batch: int) -> float:
            self._batch = batch
            return self.pairs(pairs).seconds

        self.pairs(pairs[:2])
        self._batch = min(_BATCHES, key=seconds)
        return self._batch

    def pairs(self, pairs: Sequence[Pair]) -> Turn:
        """Embed images with captions to one vector each."""
        import torch

        start = time.perf_counter()
        batches = [pairs[first : first + self._batch] for first in range(0, len(pairs), self._batch)]
        with torch.inference_mode():
            vectors = [((self._images(batch) + self._texts([text for _, text in batch])) / 2) for batch in batches]
        return Turn(time.perf_counter() - start, torch.cat(vectors).numpy())

    def queries(self, texts: Sequence[str]) -> Turn:
        """Embed one query after the other."""
        import torch

        start = time.perf_counter()
        with torch.inference_mode():
            vectors = [self._texts([text])[0].numpy() for text in texts]
        return Turn(time.perf_counter() - start, np.stack(vectors))

    def _images(self, pairs: Sequence[Pair]) -> Any:
        images = [Image.open(file) for file, _ in pairs]
        return _unit(self._model.get_image_features(**self._processor(images=images, return_tensors="pt")))

    def _texts(self, texts: Sequence[str]) -> Any:
        tokens = self._tokenizer(texts, padding="longest", max_length=52, truncation=True, return_tensors="pt")
        return _unit(self._model.get_text_features(**tokens))


class Ours(Contender):
    """This package, as users call it."""

    imports = ("llama_index_mm_zhipu.embedding",)

    def __init__(self, weights: Weights, **settings: Any) -> None:
        from llama_index_mm_zhipu import ChineseClipEmbedding

        self._weights = weights
        folders = {"download_root": weights.folder, "cache_dir": weights.folder}
        self._embed = ChineseClipEmbedding(weights.name, **folders, **{"device": "cpu", **settings})
        self._clock = _WaitClock()

    def pairs(self, pairs: Sequence[Pair]) -> Turn:
        """Embed images with captions to one vector each, as an ingestion does."""
        from llama_index.core.schema import ImageNode

        nodes = [ImageNode(image_path=str(file), text=caption) for file, caption in pairs]
        self._clock.waited = 0.0
        start = time.perf_counter()
        embedded = self._embed(nodes)
        seconds = time.perf_counter() - start
        return Turn(seconds, np.array([node.embedding for node in embedded], np.float32), self._clock.waited)

    def queries(self, texts: Sequence[str]) -> Turn:
        """Embed one query after the other."""
        start = time.perf_counter()
        vectors = [self._embed.get_query_embedding(text) for text in texts]
        return Turn(time.perf_counter() - start, np.array(vectors, np.float32))

    def images(self, files: Sequence[Path]) -> float:
        """Embed images, and return the seconds."""
        start = time.perf_counter()
        self._embed.get_image_embedding_batch(files)
        return time.perf_counter() - start

    def model_alone(self, count: int) -> float:
        """Embed random pixels of as many images, and return the seconds."""
        from llama_index_mm_zhipu.embedding.chinese_clip.shared_models import ModelSettings, SharedModel

        checkpoint = self._weights.checkpoint
        settings = (self._embed.backend, self._embed.device, self._embed.precision, Path(self._weights.folder))
        # The same weights as those of the embedding: they are loaded once per process.
        backend = SharedModel(ModelSettings(checkpoint, *settings)).backend
        side = checkpoint.input_resolution
        pixels = np.random.default_rng(0).standard_normal((count, 3, side, side), np.float32)
        start = time.perf_counter()
        backend.image_vectors(pixels)
        return time.perf_counter() - start


class _WaitClock:
    """Measures the time that the model waits for the next decoded image.

    Attributes:
        waited: Seconds so far.
    """

    def __init__(self) -> None:
        from llama_index_mm_zhipu.embedding.chinese_clip import vectors

        self.waited = 0.0
        self._decode_ahead = vectors.decode_ahead
        vectors.decode_ahead = self._timed

    def _timed(self, *args: Any, **kwargs: Any) -> Generator[Any, None, None]:
        decoded = self._decode_ahead(*args, **kwargs)
        with closing(decoded):
            while True:
                start = time.perf_counter()
                image = next(decoded, None)
                self.waited += time.perf_counter() - start
                if image is None:
                    return
                yield image


def makers(weights: Weights, *, bf16: bool) -> dict[str, Callable[[], Contender]]:
    """Return the constructor of each contender on the CPU.

    Args:
        weights: The model.
        bf16: Whether this CPU has bf16.
    """
    precisions = {FP32: "fp32", **({BF16: "bf16"} if bf16 else {}), INT8: "int8"}
    return {
        ARTICLE: partial(Article, weights),
        HUGGING_FACE: partial(HuggingFace, weights),
        TORCH: partial(Ours, weights, backend="torch", precision="fp32"),
        **{name: partial(Ours, weights, backend="openvino", precision=each) for name, each in precisions.items()},
    }


def accelerated(weights: Weights) -> dict[str, Callable[[], Contender]]:
    """Return the constructor of each contender on a GPU: this package by default, and in batches of several sizes."""
    from llama_index_mm_zhipu.concurrency import available_threads

    ours = partial(Ours, weights, backend="torch", device="cuda")
    return {
        ARTICLE_CUDA: partial(Article, weights, "cuda"),
        **{f"torch {precision}, cuda": partial(ours, precision=precision) for precision in _CUDA_PRECISIONS},
        **{
            f"torch {precision} by {batch}, cuda, a thread per core": partial(
                ours, precision=precision, embed_batch_size=batch, decode_threads=available_threads()
            )
            for precision in _CUDA_PRECISIONS
            for batch in _CUDA_BATCHES
        },
    }


def _unit(features: Any) -> Any:
    tensor = getattr(features, "pooler_output", features)
    return tensor / tensor.norm(dim=-1, keepdim=True)
