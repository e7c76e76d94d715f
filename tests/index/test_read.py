"""What an index is given: folders, paths, URLs, bytes, PIL images, and what LlamaIndex's own reader makes of images."""

from __future__ import annotations

import shutil
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Settings, SimpleDirectoryReader, StorageContext, load_index_from_storage
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.embeddings import MockEmbedding, MockMultiModalEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, ImageDocument, ImageNode, NodeWithScore, TextNode
from PIL import Image

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    FaissMultiModalVectorStore,
    build_index,
    embed_nodes,
    load_index,
    read_folder,
)
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.read import image_of_document, items_of, nodes_of
from llama_index_mm_zhipu.store_file import EMBED_MODEL, read_store_file


def images_in(index: ImageIndex) -> list[ImageNode]:
    nodes = index.image_store.get_nodes()
    assert all(isinstance(node, ImageNode) for node in nodes)
    return [node for node in nodes if isinstance(node, ImageNode)]


@pytest.fixture
def folder(photos: list[Path], tmp_path: Path) -> Path:
    """Three photographs, one of them in a folder of its own."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for photo, name in zip(photos[:3], ("a.jpg", "b.jpg", "deep/c.jpg"), strict=True):
        shutil.copy(photo, folder / name)
    return folder


def test_a_folder_is_read_as_by_read_folder(tiny_embedding: ChineseClipEmbedding, folder: Path) -> None:
    expected = [node.node_id for node in read_folder(folder)]
    for given in (folder, str(folder), [folder]):
        index = build_index(given, tiny_embedding)
        assert [node.node_id for node in images_in(index)] == expected


def test_images_are_taken_in_any_form(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    data = photos[0].read_bytes()
    forms: list[Any] = [
        photos[0],
        str(photos[1]),
        photos[2].as_uri(),
        data,
        Image.open(photos[3]),
        BytesIO(photos[4].read_bytes()),
        b64encode(photos[5].read_bytes()).decode("ascii"),
        ImageBlock(path=photos[6]),
        NodeWithScore(node=ImageNode(id_="found", image_path=str(photos[7]))),
        ImageNode(id_="node", image_path=str(photos[8])),
    ]
    index = build_index(forms, tiny_embedding)
    assert len(images_in(index)) == len(forms)
    for form in forms:
        single = build_index(form, tiny_embedding)
        assert len(images_in(single)) == 1
    (best,) = index.as_retriever(similarity_top_k=1).image_to_image_retrieve(data)
    assert best.score == pytest.approx(1, abs=1e-4)


def test_the_same_image_gets_the_same_id_again(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    forms = [photos[0], photos[1].read_bytes(), Image.open(photos[2])]
    first, second = (nodes_of(forms, {}) for _ in range(2))
    assert [node.node_id for node in first] == [node.node_id for node in second]
    assert len({node.node_id for node in first}) == 3


def test_files_of_one_name_in_two_folders_are_two_images(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    paths = []
    for place, photo in (("x/photos", photos[0]), ("y/photos", photos[1])):
        (tmp_path / place).mkdir(parents=True)
        paths.append(Path(shutil.copy(photo, tmp_path / place / "1.jpg")))
    assert len(images_in(build_index(paths, tiny_embedding))) == 2


def test_urls_that_differ_in_their_query_are_two_images() -> None:
    nodes = nodes_of(["https://x.cn/a.jpg?id=1&key=secret", "https://x.cn/a.jpg?id=2&key=secret"], {})
    assert len({node.node_id for node in nodes}) == 2
    assert not any("secret" in node.node_id for node in nodes)


def test_single_images_and_folders_are_inserted(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], folder: Path
) -> None:
    index = build_index([photos[5]], tiny_embedding)
    index.insert(str(photos[6]))
    index.insert(Image.open(photos[7]))
    assert len(images_in(index)) == 3
    index.insert(folder)
    assert len(images_in(index)) == 6
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*gone\.jpg"):
        index.insert("gone.jpg")


async def test_images_are_inserted_asynchronously(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    index = build_index([photos[5]], tiny_embedding)
    await index.ainsert(photos[6])
    assert len(images_in(index)) == 2


@pytest.mark.parametrize("bad", [3, None, {"a": 1}, [3], [None], [["a.jpg"]]])
def test_what_cannot_be_indexed_is_a_type_error(tiny_embedding: ChineseClipEmbedding, bad: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot index an object of type .*: give a folder, images"):
        build_index(bad, tiny_embedding)


@pytest.mark.parametrize("bad", [3, None, "a.jpg"])
def test_what_is_no_node_cannot_be_inserted_in_batches_or_embedded(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], bad: Any
) -> None:
    index = build_index(photos[0], tiny_embedding)
    kind = f"an object of type {type(bad).__name__}"
    inserts: list[Callable[[Any], object]] = [
        index.insert_embedded,
        lambda nodes: index.insert_batches([nodes]),
        lambda nodes: embed_nodes(nodes, tiny_embedding),
    ]
    for insert in inserts:
        with pytest.raises(TypeError, match=f"expected nodes, and the list holds {kind}; read_nodes makes"):
            insert([bad])
        with pytest.raises(TypeError, match=f"expected a list of nodes, not {kind}"):
            insert(bad)
    with pytest.raises(TypeError, match="expected a list of nodes, not an object of type TextNode"):
        index.insert_batches([TextNode(text="one batch of nodes")])  # type: ignore[list-item]
    assert index.image_store.count() == 1


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("x.pdf", "PageReader"),
        ("x.pptx", "PageReader"),
        ("x.MP4", "VideoReader"),
        ("x.jsonl", "read_jsonl"),
        ("x.CSV", "ColumnReader"),
    ],
)
def test_files_of_many_images_name_their_reader(
    tiny_embedding: ChineseClipEmbedding, tmp_path: Path, name: str, reader: str
) -> None:
    (tmp_path / name).write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{name} is no image; give what reads its images: build_index\({reader}"):
        build_index(tmp_path / name, tiny_embedding)


def test_missing_files_are_errors_or_skipped(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    gone = tmp_path / "gone.jpg"
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        build_index(str(gone), tiny_embedding)
    with pytest.raises(ImageError, match="no such image"):
        build_index([photos[0], gone], tiny_embedding)
    empty = Image.new("RGB", (0, 5))
    index = build_index([photos[0], gone, empty], tiny_embedding, on_error="skip")
    assert len(images_in(index)) == 1
    assert sorted(reason.split(":")[0] for reason in index.skipped.values()) == [
        "a PIL image of 0×5 has no pixels",
        "no such image",
    ]


def test_nothing_but_skipped_items_says_why(tiny_embedding: ChineseClipEmbedding) -> None:
    with pytest.raises(ValueError, match="nothing to index: a PIL image of 0×5 has no pixels"):
        build_index(Image.new("RGB", (0, 5)), tiny_embedding, on_error="skip")


def test_iterators_may_yield_images_in_any_form(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    index = build_index((photo for photo in photos), tiny_embedding, insert_batch_size=4)
    assert len(images_in(index)) == len(photos)


def test_a_sequence_is_kept_and_a_single_item_becomes_one(photos: list[Path]) -> None:
    assert items_of(photos) is photos
    assert items_of(photos[0]) == [photos[0]]


# LlamaIndex's own reader


@pytest.fixture
def mixed(photos: list[Path], tmp_path: Path) -> Path:
    """A folder as people have it: images of several formats, and a text."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, ending in enumerate((".jpg", ".png", ".bmp", ".tif", ".webp", ".jfif")):
        image = Image.open(photos[number]).convert("RGB")
        image.save(folder / f"{number}{ending}", "JPEG" if ending == ".jfif" else None)
    (folder / "note.txt").write_text("红色的帽子在第二个架子上。", encoding="utf-8")
    return folder


def test_simple_directory_reader_gives_images_not_their_bytes_as_text(
    tiny_embedding: ChineseClipEmbedding, mixed: Path
) -> None:
    index = build_index(SimpleDirectoryReader(str(mixed)).load_data(), tiny_embedding)
    nodes = images_in(index)
    assert sorted(Path(str(node.image_path)).name for node in nodes) == [
        "0.jpg",
        "1.png",
        "2.bmp",
        "3.tif",
        "4.webp",
        "5.jfif",
    ]
    assert {node.text for node in nodes} == {""}
    assert nodes[0].metadata["file_type"] == "image/jpeg"
    texts = index.text_store.get_nodes()
    assert [node.get_content() for node in texts] == ["红色的帽子在第二个架子上。"]


def test_documents_of_images_are_inserted_as_images(
    tiny_embedding: ChineseClipEmbedding, mixed: Path, photos: list[Path]
) -> None:
    index = build_index([photos[9]], tiny_embedding)
    documents = SimpleDirectoryReader(input_files=[str(mixed / "2.bmp")]).load_data()
    index.insert(documents[0])
    assert len(images_in(index)) == 2
    index.delete_ref_doc(documents[0].doc_id)
    assert len(images_in(index)) == 1


def test_text_about_an_image_file_is_its_caption(photos: list[Path]) -> None:
    document = Document(text="一条裙子", metadata={"file_path": str(photos[0])})
    node = image_of_document(document)
    assert node is not None
    assert (node.text, node.image_path) == ("一条裙子", str(photos[0]))
    assert node.ref_doc_id == document.doc_id
    assert node.node_id.endswith(f"/{photos[0].name}")


def test_documents_keep_ids_that_they_were_given(photos: list[Path]) -> None:
    metadata = {"file_path": str(photos[0])}
    for document in (
        Document(text="裙子", id_="mine", metadata=metadata),
        ImageDocument(id_="mine", metadata=metadata),
    ):
        node = image_of_document(document)
        assert node is not None
        assert node.node_id == "mine"


def test_image_documents_of_a_file_are_not_doubled(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    # As ImageReader of llama-index-readers-file makes them, with a random id each time.
    def read() -> list[Document]:
        return [
            ImageDocument(image_path=str(photo), metadata={"file_path": str(photo), "file_type": "image/jpeg"})
            for photo in photos[:3]
        ]

    build_index(read(), tiny_embedding, persist_dir=tmp_path).close()
    index = build_index(read(), tiny_embedding, persist_dir=tmp_path)
    assert (index.kept, len(images_in(index))) == (3, 3)
    index.close()


def test_texts_stay_texts(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("第一行\r\n\t第二行\f", encoding="utf-8")
    for document in (
        Document(text="只有文字"),
        Document(text=file.read_text(encoding="utf-8"), metadata={"file_path": str(file)}),
        Document(text="已经解析的页", metadata={"file_path": "/somewhere/x.pdf", "file_type": "application/pdf"}),
        Document(text=""),
    ):
        assert image_of_document(document) is None


def test_other_binary_files_are_refused_by_name(tiny_embedding: ChineseClipEmbedding, photos: list[Path]) -> None:
    binary = "".join(map(chr, range(32))) * 20
    for text, name in (("%PDF-1.7\n1 0 obj", "x.pdf"), ("PK\x03\x04word/", "x.docx"), (binary, "x.mp3")):
        document = Document(text=text, metadata={"file_name": name})
        with pytest.raises(ValueError, match=f"document {name} holds the bytes of a binary file.*readers-file"):
            build_index([document], tiny_embedding)
        index = build_index([document, photos[0]], tiny_embedding, on_error="skip")
        assert list(index.skipped) == [name]


def test_an_image_document_whose_file_is_gone_says_so() -> None:
    document = Document(text="\x00JFIF", metadata={"file_path": "/gone/a.jpg", "file_type": "image/jpeg"})
    with pytest.raises(ImageError, match=r"stands for an image file, and there is none at /gone/a\.jpg"):
        image_of_document(document)


def test_a_damaged_image_is_an_image_error(tiny_embedding: ChineseClipEmbedding, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(200))
    with pytest.raises(ImageError, match=r"a\.jpg"):
        build_index(SimpleDirectoryReader(str(tmp_path)).load_data(), tiny_embedding)


# The embedding model


def test_the_embedding_model_may_come_from_settings(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_embed_model", tiny_embedding)
    build_index([photos[0]], persist_dir=tmp_path).close()
    index = load_index(tmp_path)
    assert len(index.as_retriever().retrieve("帽子")) == 1
    index.close()


def test_an_index_finds_its_model_again(
    tiny_model: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_embed_model", None)
    build_index([photos[0]], ChineseClipEmbedding(tiny_model), persist_dir=tmp_path / "store").close()
    index = load_index(tmp_path / "store")
    assert index.image_store.get_setting(EMBED_MODEL) == {
        "class_name": "ChineseClipEmbedding",
        "model_name": str(tiny_model),
    }
    assert len(index.as_retriever().retrieve("帽子")) == 1
    index.close()


def test_an_index_whose_model_was_moved_asks_for_its_path_once(
    tiny_model: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_embed_model", None)
    before, after = tmp_path / "model", tmp_path / "moved"
    shutil.copytree(tiny_model, before)
    build_index([photos[0]], ChineseClipEmbedding(before), persist_dir=tmp_path / "store").close()
    before.rename(after)
    with pytest.raises(FileNotFoundError, match=r"the model of the index was at .*/model, and there is nothing now"):
        load_index(tmp_path / "store")
    load_index(tmp_path / "store", ChineseClipEmbedding(after)).close()
    load_index(tmp_path / "store").close()


def test_an_index_keeps_the_path_of_its_model_while_that_exists(
    tiny_model: Path, photos: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    for folder in (tiny_model, tmp_path / "copy"):
        build_index([photos[0]], ChineseClipEmbedding(folder), persist_dir=tmp_path / "store").close()
    assert read_store_file(tmp_path / "store" / "image.sqlite3").settings[EMBED_MODEL]["model_name"] == str(tiny_model)


def test_an_index_of_a_model_that_cannot_be_made_again_needs_the_model(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_embed_model", None)
    build_index([photos[0]], MockMultiModalEmbedding(embed_dim=4), persist_dir=tmp_path).close()
    with pytest.raises(TypeError, match="no embedding model for images: give embed_model"):
        load_index(tmp_path)


@pytest.mark.parametrize("wrong", ["local", "ViT-B-16", MockEmbedding(4), 3])
def test_models_without_images_are_type_errors(wrong: Any, photos: list[Path], tmp_path: Path) -> None:
    for call in (lambda: build_index([photos[0]], wrong), lambda: load_index(tmp_path, wrong)):
        with pytest.raises(TypeError, match=r"does not embed images: give embed_model=ChineseClipEmbedding"):
            call()


def test_no_model_is_a_type_error(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "_embed_model", None)
    with pytest.raises(TypeError, match=r"no embedding model for images: .*Settings\.embed_model"):
        build_index([photos[0]])
    monkeypatch.setattr(Settings, "_embed_model", MockEmbedding(4))
    with pytest.raises(TypeError, match="embed_model is MockEmbedding, which does not embed images"):
        build_index([photos[0]])


def test_other_multimodal_models_are_taken(photos: list[Path]) -> None:
    assert len(images_in(build_index([photos[0]], MockMultiModalEmbedding(embed_dim=4)))) == 1


# LlamaIndex's persisting and loading


def test_a_store_of_another_namespace_is_named(tiny_embedding: ChineseClipEmbedding, tmp_path: Path) -> None:
    with FaissMultiModalVectorStore(tmp_path) as store:
        store.add([TextNode(text="a", embedding=[1.0, 0.0])])
    with pytest.raises(FileNotFoundError, match="a store with the namespace 'default'"):
        load_index(tmp_path, tiny_embedding)


def test_what_a_storage_context_persisted_is_loaded(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    index = build_index(photos[:4], tiny_embedding)
    index.storage_context.persist(tmp_path)
    for arguments in ({}, {"embed_model": tiny_embedding}):
        with pytest.raises(ValueError, match=r"load_index\(folder, embed_model=…\) opens one"):
            load_index_from_storage(StorageContext.from_defaults(persist_dir=str(tmp_path)), **arguments)
    loaded = load_index(tmp_path, tiny_embedding)
    assert len(images_in(loaded)) == 4
    loaded.close()


def test_an_index_is_loaded_from_a_storage_context_with_its_stores(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = build_index(photos[:4], tiny_embedding, persist_dir=tmp_path)
    index.storage_context.persist(tmp_path)
    index.close()
    storage = StorageContext.from_defaults(
        vector_store=FaissMultiModalVectorStore(tmp_path),
        image_store=FaissMultiModalVectorStore(tmp_path, namespace="image"),
        persist_dir=str(tmp_path),
    )
    monkeypatch.setattr(Settings, "_embed_model", None)
    with pytest.raises(TypeError, match="the model of this index"):
        load_index_from_storage(storage)
    loaded = load_index_from_storage(storage, embed_model=tiny_embedding)
    assert isinstance(loaded, ImageIndex)
    assert len(loaded.as_retriever(similarity_top_k=3).retrieve("帽子")) == 3
    loaded.close()


# Through other doors


async def test_nodes_that_are_inserted_may_be_images_in_any_form(
    tiny_embedding: ChineseClipEmbedding, mixed: Path, photos: list[Path]
) -> None:
    index = build_index([photos[9]], tiny_embedding)
    index.insert_nodes(SimpleDirectoryReader(str(mixed)).load_data())
    assert (len(images_in(index)), index.text_store.count()) == (7, 1)
    await index.ainsert_nodes([str(photos[7]), photos[8].read_bytes()])
    assert len(images_in(index)) == 9


def test_text_with_a_few_control_characters_is_text() -> None:
    for text in (
        "The e\x00cient algorithm is described. " * 20,
        "\x1b[31mred\x1b[0m ok\n" * 5,
        "caf\x92s \x93quoted\x94",
        "beep\x07",
    ):
        assert image_of_document(Document(text=text, metadata={"file_name": "paper.pdf"})) is None


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><p>404", b"", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_called_an_image_and_is_none_is_an_error(
    tiny_embedding: ChineseClipEmbedding, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(content)
    text = content.decode("ascii")
    document = Document(text=text, metadata={"file_path": str(file), "file_type": "image/jpeg"})
    with pytest.raises(ImageError, match=r"a\.jpg"):
        build_index([document], tiny_embedding)
    with pytest.raises(ImageError, match="stands for an image file"):
        image_of_document(Document(text="", metadata={"file_type": "image/png"}))


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_path_is_not_the_present_folder(tiny_embedding: ChineseClipEmbedding, empty: str) -> None:
    with pytest.raises(ValueError, match="path of an image or folder is empty"):
        build_index(empty, tiny_embedding)
    with pytest.raises(ValueError, match="path of an image or folder is empty"):
        build_index([empty], tiny_embedding)


def test_a_model_of_a_relative_path_is_found_from_elsewhere(
    tiny_model: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    model = ChineseClipEmbedding(tiny_model.name, device="cpu")
    monkeypatch.chdir(tmp_path)
    assert len(images_in(build_index(photos[:1], model))) == 1


def test_a_missing_path_is_skipped_however_large_batches_are(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    for insert_batch_size in (1, 2, 3):
        items = iter([*photos[:2], tmp_path / "gone.jpg"])
        index = build_index(items, tiny_embedding, on_error="skip", insert_batch_size=insert_batch_size)
        assert len(images_in(index)) == 2


def test_parts_of_binary_files_are_refused_by_every_door(
    tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    documents = SimpleDirectoryReader(input_files=[str(photos[0])]).load_data()
    parts = SentenceSplitter().get_nodes_from_documents(documents)
    message = rf"a text of {photos[0].name} is the bytes of a binary file: .*read_folder"
    with pytest.raises(ValueError, match=message):
        build_index(parts, tiny_embedding)
    with FaissMultiModalVectorStore(tmp_path) as store:
        pipeline = IngestionPipeline(transformations=[SentenceSplitter(), tiny_embedding], vector_store=store)
        with pytest.raises(ValueError, match=message):
            pipeline.run(documents=documents)
        assert store.count() == 0
