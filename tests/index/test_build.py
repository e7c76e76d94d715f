"""The wiring: each image is stored and found once, by words and by image, whatever came first."""

from __future__ import annotations

import base64
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from llama_index.core import Settings
from llama_index.core.embeddings import MockMultiModalEmbedding
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
from programs import start_program

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index, load_index, read_folder
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.index.build import IMAGE_NAMESPACE
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.testing import tiny_checkpoint
from llama_index_mm_zhipu.vector_store import ModelMismatchError


def ids(results: Sequence[NodeWithScore]) -> list[str]:
    return [result.node.node_id for result in results]


def by_image(path: Path, words: str = "") -> QueryBundle:
    return QueryBundle(query_str=words, image_path=str(path))


@pytest.fixture(autouse=True)
def _nothing_asks_for_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "_embed_model", None)
    monkeypatch.setattr(Settings, "_llm", None)


@pytest.mark.usefixtures("needs_openvino")
def test_three_images_without_captions_are_three_found(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode], tmp_path: Path
) -> None:
    index = build_index(plain_nodes[:3], embed_model=tiny_embedding, persist_dir=tmp_path)
    names = {node.node_id for node in plain_nodes[:3]}

    retriever = index.as_retriever(image_similarity_top_k=10)
    assert len(retriever.retrieve("飞机")) == 3
    assert set(ids(retriever.retrieve("飞机"))) == names
    assert set(ids(retriever.retrieve(by_image(Path(str(plain_nodes[0].image_path)))))) == names


def test_a_captioned_image_is_stored_and_found_once(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    index = build_index(photo_nodes, embed_model=tiny_embedding)
    assert isinstance(index, MultiModalVectorStoreIndex)

    found = index.as_retriever(similarity_top_k=50, image_similarity_top_k=50).retrieve("帽子")

    assert sorted(ids(found)) == sorted(node.node_id for node in photo_nodes)


@pytest.mark.parametrize("captioned", [5, 0])
def test_images_are_found_by_themselves_captioned_or_not(
    demo_embedding: ChineseClipEmbedding,
    photo_nodes: list[ImageNode],
    plain_nodes: list[ImageNode],
    photos: list[Path],
    captioned: int,
) -> None:
    mixed: list[BaseNode] = [*photo_nodes[:captioned], *plain_nodes[captioned:]]
    index = build_index(mixed, embed_model=demo_embedding)
    retriever = index.as_retriever(image_similarity_top_k=10)

    assert [ids(retriever.retrieve(by_image(photo)))[0] for photo in photos] == [photo.name for photo in photos]
    assert sorted(ids(retriever.retrieve("帽子"))) == [photo.name for photo in photos]


def test_the_weight_of_captions_follows_the_images_and_is_recorded(
    tiny_embedding: ChineseClipEmbedding,
    photo_nodes: list[ImageNode],
    plain_nodes: list[ImageNode],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "llama_index_mm_zhipu")
    for name, nodes, weight in [
        ("all", photo_nodes, 0.5),
        ("some", [*photo_nodes[:5], *plain_nodes[5:]], 0.0),
        ("none", plain_nodes, 0.0),
    ]:
        build_index(nodes, embed_model=tiny_embedding, persist_dir=tmp_path / name).close()
        with FaissMultiModalVectorStore(tmp_path / name, namespace="image") as store:
            assert store.get_setting("caption_weight") == weight
    assert "caption_weight 0.0: 5 of 10 images have captions" in caplog.text


@pytest.mark.parametrize("caption", ["", "很长的说明" * 20], ids=["none", "too long"])
def test_a_warning_names_the_image_that_keeps_captions_out_of_the_vectors(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], caption: str, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [*photo_nodes[:3], photo_nodes[3].model_copy(update={"text": caption}), *photo_nodes[4:]]
    assert build_index(nodes, embed_model=tiny_embedding).caption_weight == 0
    assert (
        f"1 of 10 images have no caption, or one that the model would cut, such as {nodes[3].node_id}: " in caplog.text
    )
    assert "pass caption_weight=0.5" in caplog.text
    caplog.clear()
    assert build_index(nodes, embed_model=tiny_embedding, caption_weight=0.5).caption_weight == 0.5
    assert "of 10 images have no caption" not in caplog.text


def test_captions_that_are_not_in_the_vectors_are_found_by_full_text(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], plain_nodes: list[ImageNode], tmp_path: Path
) -> None:
    photo_nodes[3].text = "型号 KX-200 的说明图"
    mixed: list[BaseNode] = [*plain_nodes[:3], *photo_nodes[3:6], *plain_nodes[6:]]
    build_index(mixed, embed_model=tiny_embedding, persist_dir=tmp_path).close()
    index = load_index(tmp_path, embed_model=tiny_embedding)

    found = index.as_retriever(image_similarity_top_k=2).retrieve("KX-200 怎么用？")

    assert photo_nodes[3].node_id in ids(found)
    cosines = index.as_retriever(image_similarity_top_k=10, vector_store_query_mode="default").retrieve("KX-200")
    assert len(cosines) == 10
    assert all(abs(result.score or 9) <= 1 for result in cosines)


def test_what_streams_in_is_indexed_as_it_is_read(
    demo_embedding: ChineseClipEmbedding,
    photo_nodes: list[ImageNode],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stored: list[int] = []

    def nodes() -> Iterator[BaseNode]:
        for node in photo_nodes:
            with closing(FaissMultiModalVectorStore(tmp_path, namespace=IMAGE_NAMESPACE)) as store:
                stored.append(store.count())
            yield node
        yield Document(text="一段文字", id_="text")

    index = build_index(
        nodes(), embed_model=demo_embedding, persist_dir=tmp_path, insert_batch_size=3, show_progress=True
    )

    assert stored == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
    assert [store.count() for store in (index.text_store, index.image_store)] == [1, len(photo_nodes)]
    # Whether all images have captions is not known when the first of them is stored.
    assert index.image_store.get_setting("caption_weight") == 0
    assert capsys.readouterr().err.count("Embedding images: 0image") == 1
    with pytest.raises(ValueError, match="nothing to index"):
        build_index(iter(()), embed_model=demo_embedding)


def test_what_is_to_be_said_of_a_stream_is_said_once(
    tiny_embedding: ChineseClipEmbedding,
    photo_nodes: list[ImageNode],
    plain_nodes: list[ImageNode],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path).close()
    build_index(
        iter(plain_nodes), embed_model=tiny_embedding, persist_dir=tmp_path, caption_weight=0, insert_batch_size=2
    )
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "caption_weight 0 is not followed",
        "2 of 2 images have no caption, or one that the model would cut, but the index was built with "
        "caption_weight 0.5",
        f"10 images had captions in the index and came without, such as {plain_nodes[0].node_id}; read them with their "
        "captions, or these are gone",
    ]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_a_stream_gave_before_it_broke_off_is_stored(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path, error: type[BaseException]
) -> None:
    def nodes() -> Iterator[BaseNode]:
        yield from photo_nodes[:5]
        raise error

    with pytest.raises(error):
        build_index(nodes(), embed_model=tiny_embedding, persist_dir=tmp_path)
    with closing(load_index(tmp_path, embed_model=tiny_embedding)) as index:
        assert index.image_store.count() == 5


def test_a_stream_follows_the_recorded_weight(
    demo_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_index(photo_nodes[:2], embed_model=demo_embedding, persist_dir=tmp_path).close()
    index = build_index(iter(photo_nodes), embed_model=demo_embedding, persist_dir=tmp_path)
    assert index.image_store.get_setting("caption_weight") == 0.5
    assert not caplog.records


def test_later_inserts_follow_the_recorded_weight_and_warn(
    tiny_embedding: ChineseClipEmbedding,
    photo_nodes: list[ImageNode],
    plain_nodes: list[ImageNode],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    build_index(photo_nodes[:5], embed_model=tiny_embedding, persist_dir=tmp_path).close()
    index = load_index(tmp_path, embed_model=tiny_embedding)
    index.insert_nodes([photo_nodes[5], *plain_nodes[6:9]])
    assert "3 of 4 images have no caption" in caplog.text

    (averaged,) = tiny_embedding([photo_nodes[5].model_copy()])
    query = by_image(Path(str(photo_nodes[5].image_path)))
    scores = {r.node.node_id: r.score for r in index.as_retriever(image_similarity_top_k=9).retrieve(query)}
    image = tiny_embedding.get_image_embedding(str(photo_nodes[5].image_path))
    assert len(scores) == 9
    assert scores[photo_nodes[5].node_id] == pytest.approx(np.dot(averaged.embedding or [], image), abs=1e-5)


def test_another_weight_than_the_recorded_one_is_not_followed_in_silence(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path, caption_weight=0.2).close()
    assert not caplog.records
    build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path, caption_weight=0.8)
    assert "caption_weight 0.8 is not followed: the index was built with 0.2" in caplog.text


def test_texts_and_images_are_found_together(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path
) -> None:
    manual = Document(id_="manual", text="轮胎气压应为二百三十千帕。" * 40)
    index = build_index([*photo_nodes, manual], embed_model=tiny_embedding, persist_dir=tmp_path)

    found = index.as_retriever(similarity_top_k=1, image_similarity_top_k=2).retrieve("轮胎气压")

    assert [type(result.node).__name__ for result in found] == ["TextNode", "ImageNode", "ImageNode"]
    assert found[0].node.ref_doc_id == "manual"


def test_an_index_reloads(
    demo_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path, photos: list[Path]
) -> None:
    build_index(photo_nodes, embed_model=demo_embedding, persist_dir=tmp_path)

    index = load_index(tmp_path, embed_model=demo_embedding)

    assert index.is_text_vector_store_empty
    assert not index.is_image_vector_store_empty
    assert ids(index.as_retriever(image_similarity_top_k=1).retrieve(by_image(photos[3]))) == [photos[3].name]


def test_what_is_empty_is_asked_of_the_stores(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path
) -> None:
    index = build_index([TextNode(id_="t", text="说明")], embed_model=tiny_embedding, persist_dir=tmp_path)
    index.insert_nodes(photo_nodes[:1])
    assert ids(index.as_retriever().retrieve("说明")) == ["t", photo_nodes[0].node_id]

    index = load_index(tmp_path, embed_model=tiny_embedding)
    assert ids(index.as_retriever().retrieve("说明")) == ["t", photo_nodes[0].node_id]


async def test_async_retrieval_and_inserts_agree_with_sync(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], photos: list[Path]
) -> None:
    index = build_index([TextNode(id_="t", text="说明")], embed_model=tiny_embedding)
    await index.ainsert_nodes(photo_nodes)
    retriever = index.as_retriever(image_similarity_top_k=5)

    for query in (QueryBundle("帽子"), by_image(photos[0]), by_image(photos[0], "帽子")):
        assert ids(await retriever.aretrieve(query)) == ids(retriever.retrieve(query))
    await index.adelete_nodes([photo_nodes[0].node_id])
    assert photo_nodes[0].node_id not in ids(await retriever.aretrieve(by_image(photos[0])))


def test_words_and_a_image_ask_for_both(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode], photos: list[Path]
) -> None:
    index = build_index(plain_nodes, embed_model=tiny_embedding)
    retriever = index.as_retriever(image_similarity_top_k=10)
    scores = [
        {result.node.node_id: result.score or 0 for result in retriever.retrieve(query)}
        for query in (QueryBundle("帽子"), by_image(photos[0]), by_image(photos[0], "帽子"))
    ]
    for name in scores[0]:
        assert scores[2][name] == pytest.approx((scores[0][name] + scores[1][name]) / 2, abs=1e-5)


def test_a_query_bundle_is_left_as_it_was(tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> None:
    index = build_index([*photo_nodes, TextNode(text="说明")], embed_model=tiny_embedding)
    query = QueryBundle("帽子")
    index.as_retriever().retrieve(query)
    assert query.embedding is None


def test_retrieval_takes_filters(tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> None:
    for page, node in enumerate(photo_nodes):
        node.metadata["page"] = page
    index = build_index(photo_nodes, embed_model=tiny_embedding)
    filters = MetadataFilters(filters=[MetadataFilter(key="page", value=[2, 4], operator="in")])  # type: ignore[arg-type]

    found = index.as_retriever(image_similarity_top_k=10, filters=filters).retrieve("帽子")

    assert sorted(ids(found)) == sorted([photo_nodes[2].node_id, photo_nodes[4].node_id])


@pytest.mark.parametrize("reload", [False, True])
def test_deletions_reach_both_stores(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path, reload: bool
) -> None:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="manual")}
    nodes: list[BaseNode] = [
        TextNode(id_="text", text="第一页", relationships=source),
        ImageNode(id_="image", image_path=str(photos[0]), relationships=source),
        TextNode(id_="other text", text="第二页"),
        ImageNode(id_="other image", image_path=str(photos[1])),
        ImageNode(id_="third image", image_path=str(photos[2])),
    ]
    index = build_index(nodes, embed_model=tiny_embedding, persist_dir=tmp_path)
    if reload:
        index.close()
        index = load_index(tmp_path, embed_model=tiny_embedding)
    retriever = index.as_retriever(similarity_top_k=10, image_similarity_top_k=10)

    index.delete_ref_doc("manual")
    assert sorted(ids(retriever.retrieve("页"))) == ["other image", "other text", "third image"]
    index.delete_nodes(["other text", "other image"])
    assert ids(retriever.retrieve("页")) == ["third image"]


def test_indexing_again_overwrites_instead_of_doubling(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path
) -> None:
    build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path).close()
    index = build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path)
    assert len(index.as_retriever(image_similarity_top_k=50).retrieve("帽子")) == len(photo_nodes)


def test_image_documents_are_indexed_as_images(demo_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    documents = [ImageDocument(id_=photo.name, image_path=str(photo), metadata={"page": 1}) for photo in photos]
    index = build_index(documents[:-1], embed_model=demo_embedding)
    index.insert(documents[-1])

    for photo in photos:
        (best,) = index.as_retriever(image_similarity_top_k=1).retrieve(by_image(photo))
        assert isinstance(best.node, ImageNode)
        assert (best.node.ref_doc_id, best.node.metadata["page"]) == (photo.name, 1)

    index.delete_ref_doc(photos[0].name)
    assert photos[0].name not in ids(index.as_retriever(image_similarity_top_k=10).retrieve(by_image(photos[0])))


def test_a_folder_of_images_is_indexed(demo_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    index = build_index(read_folder(photos[0].parent), embed_model=demo_embedding)
    (best,) = index.as_retriever(image_similarity_top_k=1).retrieve(by_image(photos[2]))
    assert best.node.metadata["file_name"] == photos[2].name


@pytest.mark.parametrize("form", ["path", "address", "bytes"])
def test_images_of_every_form_are_indexed(
    demo_embedding: ChineseClipEmbedding, photos: list[Path], file_server: str, form: str
) -> None:
    nodes = {
        "path": [ImageNode(id_=photo.name, image_path=str(photo)) for photo in photos],
        "address": [ImageNode(id_=photo.name, image_url=f"{file_server}/{photo.name}") for photo in photos],
        "bytes": [ImageNode(id_=photo.name, image=base64.b64encode(photo.read_bytes()).decode()) for photo in photos],
    }[form]
    may_fetch = {"allow_urls": True, "allow_private_urls": True}
    index = build_index(nodes, embed_model=demo_embedding.model_copy(update=may_fetch))
    assert ids(index.as_retriever(image_similarity_top_k=1).retrieve(by_image(photos[5]))) == [photos[5].name]


def test_a_vector_that_a_node_brings_along_is_kept(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]
) -> None:
    photo_nodes[0].embedding = tiny_embedding.get_text_embedding("月亮")
    index = build_index(photo_nodes, embed_model=tiny_embedding)
    best = index.as_retriever(image_similarity_top_k=1, vector_store_query_mode="default").retrieve("月亮")[0]
    assert (best.node.node_id, best.score) == (photo_nodes[0].node_id, pytest.approx(1, abs=1e-5))


def test_captions_of_images_that_come_with_vectors_are_found_by_full_text(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], caplog: pytest.LogCaptureFixture
) -> None:
    vectors = tiny_embedding.get_image_embedding_batch([str(node.image_path) for node in photo_nodes])
    given = [node.model_copy(update={"embedding": vector}) for node, vector in zip(photo_nodes, vectors, strict=True)]
    given[4].text = "型号 KX-200 的说明图"
    index = build_index(given, tiny_embedding)
    assert index.caption_weight == 0
    assert ids(index.as_retriever(similarity_top_k=1).retrieve("KX-200")) == [given[4].node_id]
    # Who knows it better says so.
    assert build_index(given, tiny_embedding, caption_weight=0.5).caption_weight == 0.5
    assert not caplog.records
    build_index(photo_nodes, tiny_embedding).insert_nodes(given[:2])
    assert (
        "2 of 2 images came with a vector and a caption, and the index was built with caption_weight 0.5" in caplog.text
    )


class LongVectors(MockMultiModalEmbedding):
    """Vectors in four directions, of lengths that say nothing."""

    embed_dim: int = 4

    def _vector(self, name: str) -> list[float]:
        number = int(Path(name).stem)
        return [(3.0 + number) * (0.8 if axis == number % 4 else 0.6 * (axis == (number + 1) % 4)) for axis in range(4)]

    def get_image_embedding(self, img_file_path: str) -> list[float]:
        return self._vector(img_file_path)

    def get_image_embedding_batch(self, img_file_paths: list[str], show_progress: bool = False) -> list[list[float]]:
        return [self._vector(path) for path in img_file_paths]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._vector(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._vector(query)


@pytest.mark.parametrize("caption_weight", [0, 0.25])
def test_scores_are_cosines_whatever_lengths_a_model_gives(
    photos: list[Path], tmp_path: Path, caption_weight: float
) -> None:
    nodes = []
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(photos[number].read_bytes())
        nodes.append(ImageNode(id_=str(number), image_path=str(tmp_path / f"{number}.jpg"), text=str(9 - number)))
    model = LongVectors(embed_dim=4)
    index = build_index([*nodes, TextNode(id_="text", text="2")], model, caption_weight=caption_weight)
    own = {number: np.array(model._vector(str(number))) for number in range(10)}
    unit = {number: vector / np.linalg.norm(vector) for number, vector in own.items()}
    retriever = index.as_retriever(similarity_top_k=10, vector_store_query_mode="default")
    for question, asked in (
        (QueryBundle("5"), unit[5]),
        (QueryBundle("", image_path=str(tmp_path / "2.jpg")), unit[2]),
        (QueryBundle("5", image_path=str(tmp_path / "2.jpg")), (unit[5] + unit[2]) / 2),
    ):
        scores = {result.node.node_id: result.score for result in retriever.retrieve(question)}
        if question.query_str:
            assert scores.pop("text") == pytest.approx(unit[5] @ unit[2], abs=1e-6)
        assert scores == {
            str(number): pytest.approx(
                asked @ ((1 - caption_weight) * unit[number] + caption_weight * unit[9 - number]), abs=1e-6
            )
            for number in range(4)
        }


def test_the_given_nodes_stay_as_they_were(tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode]) -> None:
    before = [node.model_dump() for node in photo_nodes]
    build_index(photo_nodes, embed_model=tiny_embedding).as_retriever().retrieve("帽子")
    assert [node.model_dump() for node in photo_nodes] == before


# Bad input


def test_another_model_is_refused_by_name(
    tiny_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], tmp_path: Path
) -> None:
    build_index(photo_nodes, embed_model=tiny_embedding, persist_dir=tmp_path / "index").close()
    other = ChineseClipEmbedding(str(tiny_checkpoint(tmp_path / "model", seed=1)), backend="torch")

    for call in (load_index, lambda folder, **model: build_index(photo_nodes, persist_dir=folder, **model)):
        with pytest.raises(ModelMismatchError) as caught:
            call(tmp_path / "index", embed_model=other)
        assert tiny_embedding.fingerprint in str(caught.value)
        assert other.fingerprint in str(caught.value)
        assert str(tmp_path / "model") not in str(caught.value)
    assert load_index(tmp_path / "index", embed_model=tiny_embedding).as_retriever().retrieve("帽子")


def test_a_bad_image_stops_the_build_by_name_and_loses_nothing(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode], tmp_path: Path
) -> None:
    fake = tmp_path / "fake.jpg"
    fake.write_text("no image")
    build_index(plain_nodes[:2], embed_model=tiny_embedding, persist_dir=tmp_path / "index").close()

    with pytest.raises(ImageError, match=r"node fake: .*fake\.jpg is not an image .*replace the file"):
        build_index(
            [*plain_nodes[2:5], ImageNode(id_="fake", image_path=str(fake)), plain_nodes[5]],
            embed_model=tiny_embedding,
            persist_dir=tmp_path / "index",
            insert_batch_size=3,
        )

    index = load_index(tmp_path / "index", embed_model=tiny_embedding)
    found = ids(index.as_retriever(image_similarity_top_k=10).retrieve("帽子"))
    assert sorted(found) == [node.node_id for node in plain_nodes[:5]]


def test_bad_images_can_be_skipped_and_are_reported(
    tiny_embedding: ChineseClipEmbedding, plain_nodes: list[ImageNode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = ImageNode(id_="gone", image_path=str(tmp_path / "gone.jpg"))

    index = build_index([*plain_nodes, gone], embed_model=tiny_embedding, on_error="skip")

    assert len(index.as_retriever(image_similarity_top_k=50).retrieve("帽子")) == len(plain_nodes)
    assert list(index.skipped) == ["gone"]
    assert "skipped node gone: no such image" in caplog.text


def test_another_embedding_model_gets_only_what_can_be_read(plain_nodes: list[ImageNode], tmp_path: Path) -> None:
    gone = ImageNode(id_="gone", image_path=str(tmp_path / "gone.jpg"))
    model = MockMultiModalEmbedding(embed_dim=4)

    index = build_index([*plain_nodes, gone], embed_model=model, on_error="skip")

    assert list(index.skipped) == ["gone"]
    assert len(index.as_retriever(image_similarity_top_k=50).retrieve("帽子")) == len(plain_nodes)
    with pytest.raises(ImageError, match=r"node gone: no such image"):
        build_index([gone], embed_model=model)


# The fixture converts the model for OpenVINO, which the program would do otherwise, with torch.
@pytest.mark.usefixtures("tiny_embedding")
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_ctrl_c_leaves_what_is_done_stored(tiny_model: Path, photos: list[Path], tmp_path: Path) -> None:
    code = """
import sys
from llama_index.core.schema import ImageNode
from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
model, folder, *photos = sys.argv[1:]
nodes = [ImageNode(id_=str(number), image_path=photos[number % len(photos)]) for number in range(10_000)]
embed_model = ChineseClipEmbedding(model, device="cpu", embed_batch_size=8)
run = embed_model._model.backend.image_vectors
def report(pixels):
    print(len(pixels), flush=True)
    return run(pixels)
embed_model._model.backend.image_vectors = report
build_index(nodes, embed_model=embed_model, persist_dir=folder)
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start_program(code, tiny_model, tmp_path, *photos, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        batches = [int(line) for line in islice(process.stdout, 50)]
        process.send_signal(signal.SIGINT)
        # Not by communicate, which passes over the lines that were read ahead.
        rest, complaint = process.stdout.read(), process.stderr.read()
    embedded = sum(batches) + sum(map(int, rest.split()))

    assert process.returncode != 0
    assert "KeyboardInterrupt" in complaint
    assert "the images embedded so far are stored" in complaint
    with FaissMultiModalVectorStore(tmp_path, namespace=IMAGE_NAMESPACE) as store:
        # All but the batch that was under way.
        assert embedded - 16 <= store.count() <= embedded


def test_precisions_may_be_mixed_with_a_warning(
    tiny_model: Path, plain_nodes: list[ImageNode], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exact = ChineseClipEmbedding(str(tiny_model), device="cpu")
    eight_bits = ChineseClipEmbedding(str(tiny_model), device="cpu", precision="int8")
    build_index(plain_nodes[:5], embed_model=exact, persist_dir=tmp_path).close()
    assert not caplog.records

    with closing(load_index(tmp_path, embed_model=eight_bits)) as index:
        index.insert_nodes(plain_nodes[5:])
        assert len(index.as_retriever(image_similarity_top_k=50).retrieve("帽子")) == len(plain_nodes)

    assert "the first vectors of this index are in fp32, the embedding model now computes in int8" in caplog.text


def test_nothing_to_index_is_an_error(tiny_embedding: ChineseClipEmbedding, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to index"):
        build_index([], embed_model=tiny_embedding)
    with pytest.raises(FileNotFoundError, match=r"no index in .*; build one there"):
        load_index(tmp_path / "nowhere", embed_model=tiny_embedding)
    assert not (tmp_path / "nowhere").exists()


# Documents that change


async def test_documents_are_refreshed_by_what_changed(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    def documents(text: str = "红苹果", caption: str = "裙子") -> list[Document]:
        image = ImageDocument(id_="image", image_path=str(photos[0]), text=caption)
        long = Document(id_="long", text="红色的帽子在第二个架子上。" * 400)
        return [image, Document(id_="text", text=text), long]

    def texts(index: ImageIndex) -> list[str]:
        return sorted({node.ref_doc_id: node.get_content() for node in index.text_store.get_nodes()}.values())

    build_index(documents(), tiny_embedding, persist_dir=tmp_path).close()
    with closing(load_index(tmp_path, tiny_embedding)) as index:
        before = [store.get_nodes() for store in (index.text_store, index.image_store)]
        assert index.refresh_ref_docs(documents()) == [False, False, False]
        assert [store.get_nodes() for store in (index.text_store, index.image_store)] == before
        assert index.refresh_ref_docs(documents("绿苹果")) == [False, True, False]
        assert await index.arefresh_ref_docs(documents("绿苹果", "外套")) == [True, False, False]
        assert index.refresh_ref_docs([Document(id_="new", text="新的")]) == [True]
        assert [node.get_content() for node in index.image_store.get_nodes()] == ["外套"]
        assert {"绿苹果", "新的"} <= set(texts(index))
        assert "红苹果" not in texts(index)
        # A text that was an image, and the other way round.
        await index.aupdate_ref_doc(Document(id_="image", text="只有文字"))
        index.update_ref_doc(ImageDocument(id_="text", image_path=str(photos[1])))
        assert [node.node_id for node in index.image_store.get_nodes()] == ["text"]
        assert "只有文字" in texts(index)
        assert "绿苹果" not in texts(index)


def test_an_update_that_fails_loses_nothing(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index([Document(id_="text", text="红苹果")], tiny_embedding)
    with monkeypatch.context() as patched:
        patched.setattr("llama_index_mm_zhipu.index.write.embed_text_nodes", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            index.update_ref_doc(Document(id_="text", text="绿苹果"))
    assert [node.get_content() for node in index.text_store.get_nodes()] == ["红苹果"]
