"""The way of the article that many users come from, written anew for comparison: one pair at a time, cn_clip and faiss.

Its classes are described in ``docs/en/coming_from/article.md``.
"""

from __future__ import annotations

import base64
import json
import os
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cn_clip.clip
import faiss
import numpy as np
import numpy.typing as npt
import torch
from cn_clip.clip.model import CLIP
from guide_folder import MODEL
from PIL import Image
from safetensors.torch import load_file
from zhipuai import ZhipuAI

Vector = npt.NDArray[np.float32]


class Pair(NamedTuple):
    """An image of the demo set and its caption."""

    id: str
    data: bytes
    caption: str


class Found(NamedTuple):
    """A result of the article's search: the number of a pair, and its score."""

    number: int
    score: float


def demo_pairs(file: Path, count: int) -> list[Pair]:
    """Return the first pairs of a file in the article's format."""
    lines = file.read_text(encoding="utf-8").splitlines()[:count]
    return [
        Pair(record["image_id"], base64.b64decode(record["image_base64"]), record["caption"])
        for record in map(json.loads, lines)
    ]


class ArticleSearch:
    """Searches pairs by the mean of the unit vectors of image and caption.

    Args:
        model: Folder with ``config.json``, the arguments of cn_clip's ``CLIP``, and ``model.safetensors``.
    """

    def __init__(self, model: Path) -> None:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        self._clip = CLIP(**config)
        self._clip.load_state_dict(load_file(model / "model.safetensors"))
        self._clip.float().eval()
        self._preprocess = cn_clip.clip.image_transform(config["image_resolution"])
        self.vectors: list[Vector] = []
        self.pairs: list[tuple[Image.Image, str | None]] = []
        self._index = faiss.IndexFlatIP(config["embed_dim"])

    def add(self, image: Image.Image, caption: str | None) -> None:
        """Embed one pair and add it."""
        parts = [self._of_image(image)] if caption is None else [self._of_image(image), self._of_text(caption)]
        self.vectors.append(np.mean(parts, axis=0))
        self._index.add(self.vectors[-1])
        self.pairs.append((image, caption))

    def search(self, query: str | Image.Image, top_k: int) -> list[Found]:
        """Return the best pairs for words or an image."""
        vector = self._of_text(query) if isinstance(query, str) else self._of_image(query)
        scores, numbers = self._index.search(vector, min(top_k, len(self.pairs)))
        return [Found(int(number), float(score)) for number, score in zip(numbers[0], scores[0], strict=True)]

    def save(self, folder: Path) -> None:
        """Write the files that the article's class writes."""
        folder.mkdir(parents=True, exist_ok=True)
        documents = np.array(self.pairs, dtype=object)
        np.savez(folder / "multimodal.vecstore", embeddings=np.array(self.vectors), documents=documents)
        faiss.write_index(self._index, str(folder / "multimodal.index"))

    def _of_image(self, image: Image.Image) -> Vector:
        return self._unit(self._clip.encode_image, self._preprocess(image).unsqueeze(0))

    def _of_text(self, text: str) -> Vector:
        return self._unit(self._clip.encode_text, cn_clip.clip.tokenize([text]))

    @torch.inference_mode()
    def _unit(self, encode: Any, inputs: torch.Tensor) -> Vector:
        features = encode(inputs)
        vector: Vector = (features / features.norm(dim=-1, keepdim=True)).numpy()
        return vector


class ArticleAnswers:
    """Asks GLM about the pairs found: all images, then one text that lists captions and scores.

    Args:
        search: The pairs.
        url: URL of the API.
        top_k: How many pairs are sent.
    """

    def __init__(self, search: ArticleSearch, url: str, top_k: int = 3) -> None:
        self._search = search
        self._client = ZhipuAI(api_key="id.secret", base_url=url)
        self._top_k = top_k

    def ask(self, question: str, own_image: Path | None = None) -> str:
        """Return the answer to a question, about an image of the user's own if one is given, which is sent first."""
        found = self._search.search(question, self._top_k)
        images = [_image_part(_as_jpeg(self._search.pairs[each.number][0])) for each in found]
        text = {"type": "text", "text": self._prompt(found, question)}
        content = [*images, text] if own_image is None else [_image_part(own_image.read_bytes()), text, *images]
        answer = self._client.chat.completions.create(
            model="glm-4v-plus", messages=[{"role": "user", "content": content}]
        )
        return str(answer.choices[0].message.content)

    def _prompt(self, found: list[Found], question: str) -> str:
        lines = [f"{rank}. {self._search.pairs[each.number][1]} {each.score:.2f}" for rank, each in enumerate(found, 1)]
        return "\n".join([*lines, question])


class MultimodalRetrieverConfig:
    """Takes the arguments of the article's class of this name; the demo model is loaded whatever they are."""

    def __init__(self, model_name: str, *, dim: int, index_path: str) -> None:
        self.names = (model_name, dim)
        self.index_path = Path(index_path)

    def validate(self) -> None:
        """Check that the model has a name and a dimension."""
        assert all(self.names)


class MultimodalRetriever(ArticleSearch):
    """The article's calls over ``ArticleSearch``, so that the article's code on the page can be run."""

    def __init__(self, config: MultimodalRetrieverConfig) -> None:
        super().__init__(MODEL)
        self._folder = config.index_path

    def convert_base642image(self, image_base64: str) -> Image.Image:
        """Return an image from base64."""
        return Image.open(BytesIO(base64.b64decode(image_base64)))

    def build_from_pairs(self, pairs: list[tuple[str, str | None]]) -> None:
        """Embed and add pairs of base64 and caption."""
        for image_base64, caption in pairs:
            self.add(self.convert_base642image(image_base64), caption)

    def save_index(self) -> None:
        """Write the files."""
        self.save(self._folder)

    def load_index(self) -> None:
        """Read what was saved."""
        data = np.load(self._folder / "multimodal.vecstore.npz", allow_pickle=True)
        self.pairs = [(image, text) for image, text in data["documents"]]
        self._index = faiss.read_index(str(self._folder / "multimodal.index"))

    def retrieve(self, query: str | Image.Image, top_k: int = 5) -> list[dict[str, Any]]:
        """Return image, text and score of the best pairs."""
        return [
            {"image": self.pairs[number][0], "text": self.pairs[number][1], "score": score}
            for number, score in self.search(query, top_k)
        ]

    def plot_results(self, query: str | Image.Image, results: list[dict[str, Any]], font_path: str) -> None:
        """Draw nothing: what is drawn is not compared."""


class MultimodalRAG:
    """The article's calls over ``ArticleAnswers``."""

    def __init__(self, api_key: str, retriever_config: MultimodalRetrieverConfig, top_k: int = 3) -> None:
        self.retriever = MultimodalRetriever(retriever_config)
        self._answers = ArticleAnswers(self.retriever, os.environ["ZHIPUAI_BASE_URL"], top_k)
        self._top_k = top_k

    def chat(self, question: str) -> tuple[list[dict[str, Any]], str]:
        """Return the results for a question, and the answer to it."""
        return self.retriever.retrieve(question, self._top_k), self._answers.ask(question)

    def chat_with_image(self, question: str, image_path: str) -> str:
        """Return the answer to a question about an image."""
        return self._answers.ask(question, Path(image_path))


def _as_jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.convert("RGB").save(buffer, format="JPEG")
    return buffer.getvalue()


def _image_part(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": base64.b64encode(data).decode()}}
