"""``embed_nodes`` and ingestion pipelines embed images as images and texts as texts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import ImageDocument, ImageNode, MediaResource, Node, TextNode

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.embedding import embed_nodes
from llama_index_mm_zhipu.images import ImageError, with_caption, with_page_text


def test_captioned_images_get_the_mean_of_image_and_caption(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    node = photo_nodes[0]
    image = np.array(tiny_embedding.get_image_embedding(str(node.image_path)))
    caption = np.array(tiny_embedding.get_text_embedding(node.text))

    for weight in (0.5, 0.2, 0.0):
        tiny_embedding.model_copy(update={"caption_weight": weight})(photo_nodes)
        assert node.embedding is not None
        np.testing.assert_allclose(node.embedding, (1 - weight) * image + weight * caption, atol=1e-5)


def test_mixed_nodes_keep_their_order(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], photos: list[Path]
) -> None:
    plain = ImageNode(image_path=str(photos[1]))
    document = ImageDocument(image_path=str(photos[2]))
    text = TextNode(text="说明书第一页", metadata={"page": 1})

    nodes = tiny_embedding([text, photo_nodes[0], plain, document])

    expected = [
        tiny_embedding.get_text_embedding("page: 1\n\n说明书第一页"),
        0.5 * np.array(tiny_embedding.get_image_embedding(str(photos[0])))
        + 0.5 * np.array(tiny_embedding.get_text_embedding(photo_nodes[0].text)),
        tiny_embedding.get_image_embedding(str(photos[1])),
        tiny_embedding.get_image_embedding(str(photos[2])),
    ]
    np.testing.assert_allclose([node.embedding for node in nodes], expected, atol=1e-5)


async def test_async_calls_and_pipelines_give_the_same_vectors(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    vectors = [node.embedding for node in tiny_embedding([node.model_copy() for node in photo_nodes])]

    called = await tiny_embedding.acall([node.model_copy() for node in photo_nodes])
    piped = IngestionPipeline(transformations=[tiny_embedding]).run(nodes=[node.model_copy() for node in photo_nodes])

    np.testing.assert_allclose([node.embedding for node in called], vectors, atol=1e-5)
    np.testing.assert_allclose([node.embedding for node in piped], vectors, atol=1e-5)


def test_nodes_without_image_and_text_are_refused(tiny_embedding: ChineseClipEmbedding) -> None:
    sound = Node(id_="sound", audio_resource=MediaResource(data=b"UklGRg=="))
    with pytest.raises(TypeError, match=r"node sound .* holds neither an image nor a text"):
        tiny_embedding([sound])


def test_the_error_for_an_unreadable_image_names_its_node(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    broken = ImageNode(id_="broken", image="bm8gcGljdHVyZQ==")
    with pytest.raises(ImageError, match=r"node broken: .* is not an image"):
        tiny_embedding([*photo_nodes, broken])


def test_line_breaks_in_node_ids_are_escaped_in_messages(
    tiny_embedding: ChineseClipEmbedding, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [ImageNode(id_="a\nb", image_path="/gone.jpg")] * 2
    with pytest.raises(ImageError, match=r"^node a\\nb: no such image"):
        tiny_embedding(nodes)
    assert not tiny_embedding.model_copy(update={"on_error": "skip"})(nodes)
    assert "skipped 2 of 2 images: a\\nb: no such" in caplog.text


def test_nodes_of_unreadable_images_can_be_skipped_and_are_listed(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], caplog: pytest.LogCaptureFixture
) -> None:
    gone = ImageNode(id_="gone", image_path="/no/such/image.jpg", text="说明")
    text = TextNode(text="说明书第一页")
    skipping = tiny_embedding.model_copy(update={"on_error": "skip"})

    nodes = skipping([gone, *photo_nodes, text])

    assert [node.node_id for node in nodes] == [*(node.node_id for node in photo_nodes), text.node_id]
    assert all(node.embedding for node in nodes)
    assert gone.embedding is None
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == ("skipped 1 of 11 images: gone: no such image: /no/such/image.jpg; check the path")


def test_nodes_that_share_an_id_keep_their_own_vectors(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path]
) -> None:
    first, second = (ImageNode(id_="same", image_path=str(photo)) for photo in photos[:2])
    tiny_embedding([first, second])
    assert first.embedding != second.embedding


def test_embed_nodes_returns_copies_with_the_vectors_of_an_index(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    text = TextNode(id_="text", text="一架白色的飞机停在机场上。" * 20)
    nodes = [text, *photo_nodes]
    index = build_index(nodes, tiny_embedding)

    embedded = embed_nodes(nodes, tiny_embedding)

    assert len(embedded) == len(nodes)
    assert [node.node_id for node in embedded] == [node.node_id for node in nodes]
    assert embedded.nodes[1:] == embedded[1:]
    assert embedded.caption_weight == index.caption_weight == 0.5
    assert embedded.fingerprint == tiny_embedding.fingerprint
    assert not embedded.skipped
    assert all(node.embedding is None for node in nodes)
    names, vectors = index.image_store.get_vectors([node.node_id for node in photo_nodes])
    stored = dict(zip(names, vectors, strict=True))
    for node in embedded[1:]:
        np.testing.assert_allclose(node.embedding, stored[node.node_id], atol=1e-5)
    np.testing.assert_allclose(embedded[0].embedding, index.text_store.get_vectors(["text"])[1][0], atol=1e-5)


def test_caption_weight_depends_on_whether_all_images_have_captions(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], plain_nodes: list[ImageNode]
) -> None:
    text = TextNode(text="说明书第一页")
    some = [*photo_nodes[:2], plain_nodes[2], text]
    embedded = embed_nodes(some, tiny_embedding)
    assert embedded.caption_weight == 0
    np.testing.assert_allclose(
        embedded[0].embedding, tiny_embedding.get_image_embedding(photo_nodes[0].image_path), atol=1e-5
    )
    assert embed_nodes(some, tiny_embedding, caption_weight=0.3).caption_weight == 0.3
    assert embed_nodes([text], tiny_embedding).caption_weight is None
    assert len(embed_nodes([], tiny_embedding)) == 0


def test_embed_nodes_reports_skipped_images(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], caplog: pytest.LogCaptureFixture
) -> None:
    gone = ImageNode(id_="gone", image_path="/no/such/image.jpg", text="说明")
    with pytest.raises(ImageError, match="node gone: no such image"):
        embed_nodes([gone, *photo_nodes[:1]], tiny_embedding)

    embedded = embed_nodes([gone, *photo_nodes[:2]], tiny_embedding, on_error="skip")

    assert [node.node_id for node in embedded] == [node.node_id for node in photo_nodes[:2]]
    assert embedded.skipped == {"gone": "no such image: /no/such/image.jpg; check the path"}
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("skipped 1 of 3 images: gone: ")


def test_embed_nodes_refuses_what_it_cannot_embed(tiny_embedding: ChineseClipEmbedding) -> None:
    sound = Node(id_="sound", audio_resource=MediaResource(data=b"UklGRg=="))
    with pytest.raises(TypeError, match=r"node sound .* holds neither an image nor a text"):
        embed_nodes([sound], tiny_embedding)
    with pytest.raises(ValueError, match="is the bytes of a binary file"):
        embed_nodes([TextNode(text="%PDF-1.7\n1 0 obj")], tiny_embedding)
    with pytest.raises(ValueError, match="caption_weight is 2"):
        embed_nodes([], tiny_embedding, caption_weight=2)
    with pytest.raises(ValueError, match="on_error is 'ignore'"):
        embed_nodes([], tiny_embedding, on_error="ignore")  # type: ignore[arg-type]


def test_embedded_nodes_can_be_sent_to_another_machine(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    gone = ImageNode(id_="gone", image_path="/no/such/image.jpg", text="说明")
    embedded = embed_nodes([gone, *photo_nodes[:2]], tiny_embedding, on_error="skip")
    received = pickle.loads(pickle.dumps(embedded))
    assert received == embedded
    assert received.skipped.count == 1


def test_cut_texts_and_long_captions_are_counted_in_one_warning_each(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    images = [ImageNode(image_path=str(photos[0]), text="很长的说明" * 20) for _ in range(260)]
    texts = [TextNode(text="很长的说明" * 20), TextNode(text="短")]
    tiny_embedding([*images, *texts])
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(";")[0] for message in messages] == [
        "1 text(s) longer than 50 tokens were cut",
        "260 caption(s) longer than 50 tokens are not in the vectors of their images",
    ]


def test_a_caption_that_the_model_would_cut_is_not_averaged(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path]
) -> None:
    path = str(photos[0])
    short, long, alone = (ImageNode(image_path=path, text=text) for text in ("红" * 50, "红" * 51, ""))
    embedded = embed_nodes([short, long, alone], tiny_embedding, caption_weight=0.5)
    vectors = [np.array(node.embedding) for node in embedded]
    assert np.allclose(vectors[1], vectors[2])
    assert not np.allclose(vectors[0], vectors[2])
    assert embed_nodes([short], tiny_embedding).caption_weight == 0.5
    assert embed_nodes([short, long], tiny_embedding).caption_weight == 0.0


def test_page_texts_are_in_no_vector(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    image = ImageNode(image_path=str(photos[0]))
    page, captioned = with_page_text(image, "胎压过低", "ocr"), with_caption(image, "轮胎")
    both = with_page_text(captioned, "胎压过低", "ocr")
    embedded = embed_nodes([image, page, captioned, both], tiny_embedding, caption_weight=0.5)
    vectors = [np.array(node.embedding) for node in embedded]
    assert np.allclose(vectors[0], vectors[1])
    assert np.allclose(vectors[2], vectors[3])
    assert embed_nodes([page], tiny_embedding).caption_weight == 0.0
