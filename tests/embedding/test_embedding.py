"""``ChineseClipEmbedding`` behaves like LlamaIndex's embeddings, works in batches, and warns when it cuts texts."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.node_parser import SemanticSplitterNodeParser
from llama_index.core.schema import Document, ImageNode
from waiting import PATIENCE

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.images import ImageError

LONG = "这是一段很长的说明文字" * 20


@pytest.fixture
def passes(tiny_embedding: ChineseClipEmbedding, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch sizes of the forward passes during the test."""
    sizes: list[int] = []
    backend = tiny_embedding._model.backend
    for name in ("image_vectors", "text_vectors"):
        method = getattr(backend, name)
        monkeypatch.setattr(backend, name, lambda batch, method=method: (sizes.append(len(batch)), method(batch))[1])
    return sizes


class HeldBackend:
    """Blocks the forward passes of images of a model.

    Attributes:
        reached: Set when a pass is blocked.
        released: Set by the test to continue.
    """

    def __init__(self, embed_model: ChineseClipEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        self._image_vectors = embed_model._model.backend.image_vectors
        monkeypatch.setattr(embed_model._model.backend, "image_vectors", self._wait)

    def _wait(self, pixels: Any) -> Any:
        self.reached.set()
        assert self.released.wait(PATIENCE)
        return self._image_vectors(pixels)


def test_vectors_are_lists_of_floats_of_unit_length(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    for vector in (
        tiny_embedding.get_text_embedding("飞机"),
        tiny_embedding.get_query_embedding("飞机"),
        tiny_embedding.get_image_embedding(str(photos[0])),
    ):
        assert isinstance(vector, list)
        assert isinstance(vector[0], float)
        assert len(vector) == tiny_embedding.embed_dim
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


async def test_sync_async_single_and_batch_calls_give_the_same_vectors(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], texts: list[str]
) -> None:
    one_by_one = [tiny_embedding.get_text_embedding(text) for text in texts]
    np.testing.assert_allclose(tiny_embedding.get_text_embedding_batch(texts), one_by_one, atol=3e-6)
    np.testing.assert_allclose(await tiny_embedding.aget_text_embedding_batch(texts), one_by_one, atol=3e-6)
    np.testing.assert_allclose(await tiny_embedding.aget_query_embedding(texts[0]), one_by_one[0], atol=3e-6)

    images = [tiny_embedding.get_image_embedding(photo) for photo in photos]
    np.testing.assert_allclose(tiny_embedding.get_image_embedding_batch(photos), images, atol=1e-5)
    np.testing.assert_allclose(await tiny_embedding.aget_image_embedding_batch(photos), images, atol=1e-5)
    np.testing.assert_allclose(await tiny_embedding.aget_image_embedding(photos[0]), images[0], atol=1e-5)


def test_a_batch_is_one_forward_pass(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], passes: list[int]
) -> None:
    tiny_embedding.get_image_embedding_batch(photos)
    tiny_embedding.get_text_embedding_batch([f"第{number}架飞机" for number in range(40)])
    assert passes == [len(photos), 32, 8]


def test_padding_does_not_change_vectors(tiny_embedding: ChineseClipEmbedding) -> None:
    alone = tiny_embedding.get_text_embedding("猫")
    beside_a_long_text = tiny_embedding.get_text_embedding_batch(["猫", "图" * 50])[0]
    np.testing.assert_allclose(alone, beside_a_long_text, atol=3e-6)


def test_one_warning_counts_the_cut_texts_of_all_batches(
    tiny_embedding: ChineseClipEmbedding, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_embedding.get_text_embedding_batch([LONG, "短"] * 50)

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage()[:40] for record in warnings] == ["50 text(s) longer than 50 tokens were cu"]


async def test_one_warning_counts_the_cut_texts_of_an_async_call(
    tiny_embedding: ChineseClipEmbedding, caplog: pytest.LogCaptureFixture
) -> None:
    await tiny_embedding.aget_text_embedding_batch([LONG] * 70)
    await tiny_embedding.aget_text_embedding(LONG)

    counts = [record.getMessage().split()[0] for record in caplog.records if record.levelno == logging.WARNING]
    assert counts == ["70", "1"]


def test_long_texts_can_be_embedded_as_the_mean_over_windows(
    tiny_embedding: ChineseClipEmbedding, caplog: pytest.LogCaptureFixture
) -> None:
    whole = tiny_embedding.model_copy(update={"long_text": "mean"})
    first, second = "天空" * 25, "海洋" * 25

    vector = whole.get_text_embedding(first + second)

    mean = np.mean(tiny_embedding.get_text_embedding_batch([first, second]), axis=0)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=3e-6)
    assert not caplog.records
    np.testing.assert_allclose(whole.get_text_embedding("短"), tiny_embedding.get_text_embedding("短"), atol=3e-6)


def test_similarity_gives_probabilities_of_texts_for_each_image(
    demo_embedding: ChineseClipEmbedding, photos: list[Path]
) -> None:
    labels = ["帽子", "鞋子"]
    probabilities = demo_embedding.similarity([photos[0], photos[1], photos[2]], labels)
    assert probabilities.shape == (3, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert demo_embedding.similarity(photos[0], "帽子").tolist() == [[1.0]]


def test_similarity_of_two_vectors_is_that_of_the_base_class(tiny_embedding: ChineseClipEmbedding) -> None:
    assert tiny_embedding.similarity([3.0, 0.0], [1.0, 1.0]) == pytest.approx(2**-0.5)
    splitter = SemanticSplitterNodeParser(embed_model=tiny_embedding, buffer_size=1)
    assert splitter.get_nodes_from_documents([Document(text="天空很蓝。海水也很蓝。汽车停在路边。")])


async def test_async_calls_do_not_block_the_event_loop(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldBackend(tiny_embedding, monkeypatch)
    work = asyncio.create_task(tiny_embedding.aget_image_embedding_batch(photos))
    # If the call blocked the event loop, this loop would not run.
    while not held.reached.is_set():
        await asyncio.sleep(0.001)
    assert not work.done()
    held.released.set()
    assert len(await work) == len(photos)


def test_the_error_for_an_unreadable_image_names_it(tiny_embedding: ChineseClipEmbedding, tmp_path: Path) -> None:
    fake = tmp_path / "fake.jpg"
    fake.write_text("no image")
    with pytest.raises(ImageError, match=r"fake\.jpg is not an image"):
        tiny_embedding.get_image_embedding(fake)
    with pytest.raises(ImageError, match=r"no such image: .*gone\.jpg"):
        tiny_embedding.get_image_embedding_batch([str(tmp_path / "gone.jpg")])


def test_unreadable_images_can_be_skipped_and_are_listed(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [photos[0], tmp_path / "gone.jpg", photos[1], b"no image"]
    skipping = tiny_embedding.model_copy(update={"on_error": "skip"})

    vectors = skipping.get_image_embedding_batch(iter(images))  # type: ignore[arg-type]

    np.testing.assert_allclose(
        [vectors[0], vectors[2]], tiny_embedding.get_image_embedding_batch(photos[:2]), atol=1e-5
    )
    assert vectors[1] is vectors[3] is None
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("skipped 2 of 4 images: number 1: no such image: ")
    assert "gone.jpg" in message
    assert "number 3: " in message


def test_empty_inputs_and_a_single_image_are_refused(tiny_embedding: ChineseClipEmbedding) -> None:
    with pytest.raises(TypeError, match=r"takes a list of images; give \[image\]"):
        tiny_embedding.get_image_embedding_batch("car.jpg")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one image and one text"):
        tiny_embedding.similarity([], ["飞机"])
    with pytest.raises(ValueError, match="top_k is 0"):
        tiny_embedding.check_precision([b"image"], ["飞机"], top_k=0)


def test_images_are_streamed_batch_after_batch(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], passes: list[int], tmp_path: Path
) -> None:
    small = tiny_embedding.model_copy(update={"embed_batch_size": 4})
    expected = tiny_embedding.get_image_embedding_batch(photos)
    passes.clear()

    stream = small.stream_image_embeddings(iter([*photos, tmp_path / "gone.jpg"]))

    np.testing.assert_allclose(next(stream), expected[0], atol=1e-5)
    assert passes == [4]
    rest = list(stream)
    np.testing.assert_allclose(np.stack(rest[:-1]), expected[1:], atol=1e-5)
    assert passes == [4, 4, 2]
    assert isinstance(rest[-1], ImageError)


def test_a_progress_bar_counts_images(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_embedding.get_image_embedding_batch(photos, show_progress=True)
    assert "Embedding images: 100%" in capsys.readouterr().err
    tiny_embedding.get_image_embedding_batch(photos)
    assert capsys.readouterr().err == ""


async def test_a_cancelled_call_stops_after_a_batch(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldBackend(tiny_embedding, monkeypatch)
    work = asyncio.create_task(tiny_embedding.aget_image_embedding_batch(photos * 200))
    while not held.reached.is_set():
        await asyncio.sleep(0.001)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    held.released.set()
    # Time in which a call that continued would embed more of the 63 batches.
    await asyncio.sleep(0.2)
    assert len(passes) == 1


def test_callbacks_get_the_names_of_images_but_not_their_bytes(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path]
) -> None:
    debug = LlamaDebugHandler(print_trace_on_end=False)
    seen = tiny_embedding.model_copy(update={"callback_manager": CallbackManager([debug]), "embed_batch_size": 2})
    inline = ImageNode(id_="inline", image=base64.b64encode(photos[1].read_bytes()).decode())

    seen.get_image_embedding_batch([photos[0], photos[0].read_bytes(), inline])

    ends = [end.payload or {} for _, end in debug.get_event_pairs(CBEventType.EMBEDDING)]
    chunks = [end[EventPayload.CHUNKS] for end in ends]
    assert chunks == [
        [str(photos[0]), f"an image given as {photos[0].stat().st_size} bytes"],
        ["the image of node inline"],
    ]
    assert [len(end[EventPayload.EMBEDDINGS]) for end in ends] == [2, 1]


def test_threads_can_share_a_model(tiny_embedding: ChineseClipEmbedding, photos: list[Path], texts: list[str]) -> None:
    images = [tiny_embedding.get_image_embedding(photo) for photo in photos]
    words = [tiny_embedding.get_text_embedding(text) for text in texts]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            found_images = pool.map(tiny_embedding.get_image_embedding, photos)
            found_words = pool.map(tiny_embedding.get_text_embedding, texts)
            np.testing.assert_allclose(list(found_images), images, atol=1e-5)
            np.testing.assert_allclose(list(found_words), words, atol=1e-5)


def test_urls_are_fetched_only_if_allowed(
    tiny_embedding: ChineseClipEmbedding, file_server: str, photos: list[Path]
) -> None:
    url = f"{file_server}/{photos[0].name}"
    with pytest.raises(ImageError, match="set allow_urls=True"):
        tiny_embedding.get_image_embedding(url)
    with pytest.raises(ImageError, match="set allow_private_urls=True"):
        tiny_embedding.model_copy(update={"allow_urls": True}).get_image_embedding(url)
    allowed = tiny_embedding.model_copy(update={"allow_urls": True, "allow_private_urls": True})
    np.testing.assert_allclose(
        allowed.get_image_embedding(url), tiny_embedding.get_image_embedding(photos[0]), atol=1e-6
    )


def test_texts_of_unknown_characters_share_a_vector_and_are_recognised(tiny_embedding: ChineseClipEmbedding) -> None:
    assert tiny_embedding.get_text_embedding("🐼") == tiny_embedding.get_text_embedding("𠮷")
    assert not tiny_embedding.knows_text("🐼")
    assert tiny_embedding.knows_text("熊猫")


def test_pickles_copies_and_serialised_objects_give_the_same_vectors(
    tiny_embedding: ChineseClipEmbedding, caplog: pytest.LogCaptureFixture
) -> None:
    vector = tiny_embedding.get_text_embedding("飞机")

    assert pickle.loads(pickle.dumps(tiny_embedding)).get_text_embedding("飞机") == vector
    assert copy.deepcopy(tiny_embedding).get_text_embedding("飞机") == vector
    assert ChineseClipEmbedding.from_dict(tiny_embedding.to_dict()).get_text_embedding("飞机") == vector
    assert not caplog.records
    assert isinstance(tiny_embedding, MultiModalEmbedding)
    assert tiny_embedding.class_name() == "ChineseClipEmbedding"
