"""An index works with any multimodal embedding of LlamaIndex, and uses the optional abilities of a model."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageNode, ImageType, TextNode
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.embedding import contract, embed_nodes
from llama_index_mm_zhipu.embedding.contract import (
    AdaptsToLongTexts,
    EmbedsImagesWithText,
    HasFingerprint,
    HasPrecision,
    KnowsText,
    RecommendsCaptionWeight,
    StreamsImageEmbeddings,
    Vector,
    stream_image_embeddings,
    unit,
    unit_embedding,
)
from llama_index_mm_zhipu.images import ImageError, ImageSource, node_of_image

COLOURS = {"红": "red", "绿": "lime", "蓝": "blue"}


class ColourEmbedding(MultiModalEmbedding):
    """Implements only the methods that LlamaIndex requires: images and texts by their shares of red, green and blue."""

    _images: list[ImageType] = PrivateAttr(default_factory=list)

    def _get_text_embedding(self, text: str) -> Embedding:
        return [float(text.count(colour)) for colour in COLOURS]

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    def _get_image_embedding(self, img_file_path: ImageType) -> Embedding:
        self._images.append(img_file_path)
        with Image.open(img_file_path) as image:
            red, green, blue = image.convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
        return [float(red), float(green), float(blue)]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return self._get_text_embedding(query)

    async def _aget_image_embedding(self, img_file_path: ImageType) -> Embedding:
        return self._get_image_embedding(img_file_path)


class StreamingEmbedding(ColourEmbedding):
    """Embeds images in a stream of its own."""

    def stream_image_embeddings(self, images: Iterable[ImageSource]) -> Generator[Vector | ImageError, None, None]:
        for _ in images:
            yield np.array([0, 0, 2], dtype=np.float32)


class JointEmbedding(ColourEmbedding):
    """Embeds an image together with its caption: the vector is the image's plus a fourth value for the caption."""

    joins_captions: bool = True
    _pairs: list[list[str]] = PrivateAttr(default_factory=list)

    def get_image_with_text_embeddings(
        self, images: Sequence[str | BytesIO], texts: Sequence[str]
    ) -> Sequence[Embedding]:
        self._pairs.append(list(texts))
        return [[*unit_embedding(self._get_image_embedding(image)), 1.0] for image in images]


class EquippedEmbedding(ColourEmbedding):
    """Has the abilities that take a single method or property."""

    fingerprint: str = "colours 1"
    effective_precision: str = "fp16"
    default_caption_weight: float = 0.2

    def knows_text(self, text: str) -> bool:
        return any(colour in text for colour in COLOURS)

    def for_long_texts(self) -> ColourEmbedding:
        return ColourEmbedding(model_name="colours of pages")


def colour_node(colour: str, caption: str = "") -> ImageNode:
    node = node_of_image(Image.new("RGB", (8, 8), COLOURS[colour]))
    return node.model_copy(update={"id_": colour, "text": caption})


@pytest.fixture
def nodes() -> list[ImageNode]:
    """A red image with a green caption, a green image without caption, and a blue one with a blue caption."""
    return [colour_node("红", "绿"), colour_node("绿"), colour_node("蓝", "蓝蓝")]


def test_an_index_works_with_the_methods_that_llama_index_requires(nodes: list[ImageNode], photos: list[Path]) -> None:
    index = build_index([*nodes, TextNode(id_="text", text="红绿")], ColourEmbedding(), caption_weight=0)
    retriever = index.as_retriever(similarity_top_k=1, vector_store_query_mode="default")
    for colour in COLOURS:
        text, image = retriever.retrieve(colour)
        assert text.node_id == "text"
        assert image.node_id == colour
        assert image.score == pytest.approx(1)
    (found,) = retriever.image_to_image_retrieve(Image.new("RGB", (5, 5), "blue"))
    assert found.node_id == "蓝"


def test_missing_abilities_have_defaults() -> None:
    model = ColourEmbedding(model_name="/home/somebody/colours")
    assert contract.fingerprint_of(model) == "base_component colours"
    assert contract.precision_of(model) is None
    assert contract.knows_text(model, "🐼")
    assert contract.for_long_texts(model) is model
    assert contract.default_caption_weight_of(model) == 0.5


def test_abilities_of_a_model_are_used() -> None:
    model = EquippedEmbedding()
    assert contract.fingerprint_of(model) == "colours 1"
    assert contract.precision_of(model) == "fp16"
    assert contract.knows_text(model, "红色")
    assert not contract.knows_text(model, "🐼")
    assert contract.for_long_texts(model).model_name == "colours of pages"
    assert contract.default_caption_weight_of(model) == 0.2


def test_chinese_clip_has_all_abilities_but_two(tiny_embedding: ChineseClipEmbedding) -> None:
    for protocol in (StreamsImageEmbeddings, HasFingerprint, HasPrecision, KnowsText, AdaptsToLongTexts):
        assert isinstance(tiny_embedding, protocol)
        assert not isinstance(ColourEmbedding(), protocol)
    for protocol in (RecommendsCaptionWeight, EmbedsImagesWithText):
        assert not isinstance(tiny_embedding, protocol)
    assert contract.for_long_texts(tiny_embedding).long_text == "mean"  # type: ignore[attr-defined]


def test_a_recommended_caption_weight_is_used_if_all_images_have_captions(nodes: list[ImageNode]) -> None:
    captioned = [nodes[0], nodes[2]]
    for embed_model, weight in ((EquippedEmbedding(), 0.2), (ColourEmbedding(), 0.5)):
        assert embed_nodes(captioned, embed_model).caption_weight == weight
        assert build_index(captioned, embed_model).caption_weight == weight
        assert embed_nodes(nodes, embed_model).caption_weight == 0


def test_models_without_a_stream_get_readable_images_as_paths_or_files(photos: list[Path], tmp_path: Path) -> None:
    model = ColourEmbedding(embed_batch_size=2)
    images = [photos[0], tmp_path / "gone.jpg", colour_node("红"), b"no image", Image.new("L", (4, 4), 255)]

    outcomes = list(stream_image_embeddings(model, images))

    assert [isinstance(outcome, ImageError) for outcome in outcomes] == [False, True, False, True, False]
    assert [outcome.tolist() for outcome in outcomes[2::2]] == [[255, 0, 0], [255, 255, 255]]  # type: ignore[union-attr]
    assert model._images[0] == str(photos[0])
    assert all(isinstance(image, BytesIO) for image in model._images[1:])


def test_a_stream_of_the_model_is_preferred(nodes: list[ImageNode]) -> None:
    model = StreamingEmbedding()
    embedded = embed_nodes(nodes, model, caption_weight=0)
    assert [node.embedding for node in embedded] == [[0, 0, 1]] * 3
    assert model._images == []


def test_captioned_images_are_embedded_together_with_their_captions(nodes: list[ImageNode], tmp_path: Path) -> None:
    gone = ImageNode(id_="gone", image_path=str(tmp_path / "gone.jpg"), text="红")
    model = JointEmbedding()

    embedded = embed_nodes([nodes[0], gone, nodes[2]], model, on_error="skip")

    assert model._pairs == [["绿", "蓝蓝"]]
    root = 0.5**0.5
    np.testing.assert_allclose(
        [node.embedding for node in embedded], [[root, 0, 0, root], [0, 0, root, root]], atol=1e-6
    )
    assert list(embedded.skipped) == ["gone"]


def test_images_without_captions_are_embedded_alone_by_a_joint_model(nodes: list[ImageNode]) -> None:
    model = JointEmbedding()
    embedded = embed_nodes(nodes, model, caption_weight=0.5)
    assert model._pairs == [["绿", "蓝蓝"]]
    assert embedded[1].embedding == [0, 1, 0]
    assert len(embedded[0].embedding or ()) == len(embedded[2].embedding or ()) == 4


@pytest.mark.parametrize(("joins_captions", "caption_weight"), [(True, 0), (False, 0.5)])
def test_a_joint_model_embeds_captions_apart_if_it_or_the_user_wants_it(
    joins_captions: bool, caption_weight: float, nodes: list[ImageNode]
) -> None:
    model = JointEmbedding(joins_captions=joins_captions)
    embedded = embed_nodes(nodes, model, caption_weight=caption_weight)
    assert model._pairs == []
    assert embedded[0].embedding == [1 - caption_weight, caption_weight, 0]
    assert embedded[2].embedding == [0, 0, 1]


def test_vectors_of_unit_length_and_of_zeros_stay_as_they_are() -> None:
    vectors = np.array([[1, 0], [0, 0], [0.6, 0.8005]])
    assert unit(vectors) is vectors
    embedding = [0.6, 0.8]
    assert unit_embedding(embedding) is embedding


def test_other_vectors_are_scaled_to_unit_length() -> None:
    np.testing.assert_allclose(unit(np.array([[3.0, 4], [0, 0], [0, 1]])), [[0.6, 0.8], [0, 0], [0, 1]])
    np.testing.assert_allclose(unit(np.array([0, 5.0])), [0, 1])
    assert unit_embedding([0.0, 2.0]) == [0, 1]
