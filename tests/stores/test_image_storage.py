"""Inline images are kept in a folder or at a URL, and come back with their nodes."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from llama_index.core import StorageContext
from llama_index.core.schema import BaseNode, Document, ImageDocument, ImageNode, MediaResource, MetadataMode, Node
from llama_index.core.vector_stores import SimpleVectorStore, VectorStoreQuery
from memory_backend import MemoryBackend

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, ZhipuMultiModal
from llama_index_mm_zhipu.images import ImageError, load_image, read_bytes, resolve_source
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.stores import ExternalVectorStore, external
from llama_index_mm_zhipu.stores.image_storage import IN_NODES, ImageStorage, image_storage_at
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.vector_store.errors import StoreError

Place: TypeAlias = "str | Path"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def url() -> Iterator[str]:
    """A URL of an empty place in memory, which every file system of this process sees."""
    root = f"memory://{uuid4().hex}/images"
    yield root
    files, path = fsspec.core.url_to_fs(root)
    if files.exists(path):
        files.rm(path, recursive=True)


@pytest.fixture(params=["folder", "file URL", "URL"])
def place(request: pytest.FixtureRequest, folder: Path, url: str) -> Place:
    return {"folder": folder, "file URL": folder.as_uri(), "URL": url}[request.param]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def files_in(place: Place) -> dict[str, bytes]:
    """Return the images at a place by their path."""
    files, root = fsspec.core.url_to_fs(str(place))
    return {path[len(root) :].lstrip("/"): files.cat_file(path) for path in files.find(root)}


def write_into(place: Place, path: str, data: bytes) -> None:
    files, root = fsspec.core.url_to_fs(str(place))
    files.makedirs(f"{root}/{path}".rpartition("/")[0], exist_ok=True)
    files.pipe_file(f"{root}/{path}", data)


def stored_path(data: bytes, suffix: str) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{digest}.{suffix}"


def back(storage: ImageStorage, node: BaseNode) -> BaseNode:
    """Return a node as it comes back from a store."""
    (written,) = storage.with_images_stored([node])
    (read,) = storage.with_images_read([type(node).from_dict(written.to_dict())])
    return read


@pytest.fixture
def photo(photos: list[Path]) -> bytes:
    return photos[0].read_bytes()


@pytest.fixture
def image_node(photo: bytes) -> ImageNode:
    return ImageNode(
        id_="a",
        image=encoded(photo),
        text="连衣裙",
        image_mimetype="image/jpeg",
        metadata={"page": 1, "secret": "x"},
        excluded_llm_metadata_keys=["secret"],
        embedding=[1.0, 0.0],
    )


# Writing


def test_an_image_is_kept_under_the_hash_of_its_content(place: Place, image_node: ImageNode, photo: bytes) -> None:
    (written,) = image_storage_at(place).with_images_stored([image_node])
    assert files_in(place) == {stored_path(photo, "jpg"): photo}
    assert isinstance(written, ImageNode)
    assert (written.image, written.image_path, written.get_content()) == (None, None, "连衣裙")
    assert image_node.image == encoded(photo)
    assert image_node.metadata == {"page": 1, "secret": "x"}


def test_the_name_of_the_image_is_hidden_from_models(place: Place, image_node: ImageNode, photo: bytes) -> None:
    (written,) = image_storage_at(place).with_images_stored([image_node])
    digest = hashlib.sha256(photo).hexdigest()
    assert digest in written.get_content(MetadataMode.ALL)
    assert digest not in written.get_content(MetadataMode.LLM) + written.get_content(MetadataMode.EMBED)


@pytest.mark.parametrize(
    ("data", "suffix"),
    [(b"\x89PNG\r\n\x1a\n damaged", "bin"), (b"\0" * 50, "bin"), (b"P6 1 1 255 abc", "ppm")],
)
def test_the_suffix_tells_the_format(place: Place, data: bytes, suffix: str) -> None:
    image_storage_at(place).with_images_stored([ImageNode(image=encoded(data))])
    assert list(files_in(place)) == [stored_path(data, suffix)]


def test_the_same_image_is_kept_once_and_not_written_again(place: Place, photo: bytes) -> None:
    nodes = [ImageNode(id_=str(number), image=encoded(photo)) for number in range(20)]
    storage = image_storage_at(place)
    storage.with_images_stored(nodes)
    files, root = fsspec.core.url_to_fs(str(place))
    path = f"{root}/{stored_path(photo, 'jpg')}"
    before = files.modified(path)
    storage.with_images_stored(nodes)
    assert list(files_in(place)) == [stored_path(photo, "jpg")]
    assert files.modified(path) == before


def test_a_file_that_another_writer_left_incomplete_is_replaced(
    place: Place, image_node: ImageNode, photo: bytes
) -> None:
    write_into(place, stored_path(photo, "jpg"), photo[:100])
    image_storage_at(place).with_images_stored([image_node])
    assert files_in(place) == {stored_path(photo, "jpg"): photo}


def test_several_writers_keep_all_images_whole(place: Place) -> None:
    images = [np.random.default_rng(number).bytes(100_000) for number in range(20)]
    nodes = [ImageNode(id_=str(number), image=encoded(image)) for number, image in enumerate(images)]
    storages = [image_storage_at(place) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda storage: storage.with_images_stored(nodes), storages))
    assert sorted(files_in(place).values()) == sorted(images)


def test_images_of_every_class_of_node_come_back(place: Place, photo: bytes) -> None:
    nodes = [
        ImageNode(id_="image", image=encoded(photo)),
        ImageDocument(id_="document", image=encoded(photo)),
        Document(id_="resource", image_resource=MediaResource(data=photo), text="文字"),
        Node(id_="node", image_resource=MediaResource(data=photo), text_resource=MediaResource(text="文字")),
    ]
    for node in nodes:
        read = back(image_storage_at(place), node)
        assert type(read) is type(node)
        assert read_bytes(read) == photo
        assert read.get_content() == node.get_content()


@pytest.mark.parametrize("image", ["data:image/jpeg;base64,{}", " {} ", "{}\n"])
def test_base64_in_other_forms_comes_back_as_plain_base64(url: str, image: str, photo: bytes) -> None:
    read = back(image_storage_at(url), ImageNode(image=image.format(encoded(photo))))
    assert isinstance(read, ImageNode)
    assert read.image == encoded(photo)


def test_nodes_without_an_inline_image_stay_as_they_are(place: Place, photos: list[Path]) -> None:
    nodes = [
        ImageNode(id_="path", image_path=str(photos[0])),
        ImageNode(id_="url", image_url="https://example.com/a.jpg"),
        ImageNode(id_="odd", image="no base64!"),
        ImageNode(id_="none"),
        Document(id_="text", text="文字", metadata={"stored_image": "a text of the user"}),
    ]
    storage = image_storage_at(place)
    assert storage.with_images_stored(nodes) == nodes == storage.with_images_read(nodes)
    assert files_in(place) == {}


# Reading


def test_from_a_url_a_node_comes_back_as_it_was(url: str, image_node: ImageNode, photos: list[Path]) -> None:
    both = ImageNode(id_="both", image=image_node.image, image_path=str(photos[1]), image_url="https://example.com/a")
    for node in (image_node, both):
        assert back(image_storage_at(url), node) == node


def test_from_a_folder_a_node_comes_back_with_the_path_of_its_image(folder: Path, image_node: ImageNode) -> None:
    path = folder / stored_path(base64.b64decode(str(image_node.image)), "jpg")
    expected = image_node.model_copy(update={"image": None, "image_path": str(path)})
    assert back(image_storage_at(folder), image_node) == expected
    assert back(image_storage_at(str(folder)), image_node) == expected
    assert back(image_storage_at(folder.as_uri()), image_node) == expected


def test_a_node_with_a_path_of_its_own_keeps_it(folder: Path, image_node: ImageNode, photos: list[Path]) -> None:
    node = image_node.model_copy(update={"image_path": str(photos[1])})
    assert back(image_storage_at(folder), node) == node


def test_a_node_that_came_back_is_added_again_without_a_path(
    folder: Path, image_node: ImageNode, tmp_path: Path
) -> None:
    storage = image_storage_at(folder)
    read = back(storage, image_node)
    assert storage.with_images_stored([read]) == storage.with_images_stored([image_node])
    moved = folder.rename(tmp_path / "moved")
    (again,) = image_storage_at(moved).with_images_read(storage.with_images_stored([read]))
    assert load_image(again).width > 0


def test_a_relative_folder_does_not_depend_on_the_later_working_directory(
    tmp_path: Path, image_node: ImageNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read = back(image_storage_at("images"), image_node)
    monkeypatch.chdir("/")
    assert load_image(read).width > 0


def test_without_images_nodes_lack_only_these(place: Place, image_node: ImageNode) -> None:
    storage = image_storage_at(place)
    written = storage.with_images_stored([image_node])
    assert storage.without_images(written) == [image_node.model_copy(update={"image": None})]


def test_an_image_of_a_megabyte_comes_back(place: Place) -> None:
    data = np.random.default_rng(0).bytes(1_000_000)
    assert read_bytes(back(image_storage_at(place), ImageNode(image=encoded(data)))) == data


def test_in_nodes_nothing_changes(image_node: ImageNode) -> None:
    storage = image_storage_at(IN_NODES)
    assert storage.with_images_stored([image_node]) == storage.with_images_read([image_node]) == [image_node]


# Missing and damaged images, and names that lead elsewhere


def test_a_missing_image_is_an_error_where_it_is_used(place: Place, image_node: ImageNode) -> None:
    written = image_storage_at(place).with_images_stored([image_node])
    files, root = fsspec.core.url_to_fs(str(place))
    files.rm(root, recursive=True)
    (read,) = image_storage_at(place).with_images_read(written)
    assert read.get_content() == "连衣裙"
    with pytest.raises(ImageError, match=r"no such image: |the image of node a is missing: there is no "):
        load_image(read)


def test_the_error_of_a_missing_object_names_node_and_location(
    url: str, image_node: ImageNode, caplog: pytest.LogCaptureFixture
) -> None:
    written = image_storage_at(url).with_images_stored([image_node])
    other = f"{url}/other"
    (read,) = image_storage_at(other).with_images_read([*written])
    reason = rf"there is no [0-9a-f]{{64}}\.jpg in {other}; restore it, or open the store with the image_storage"
    with pytest.raises(ImageError, match=rf"^the image of node a is missing: {reason}"):
        resolve_source(read)
    assert re.search(rf"1 of 1 nodes have no image, such as a: {reason}", caplog.text)
    assert "no image" not in read.get_content(MetadataMode.LLM)


def test_a_node_without_its_image_is_added_again_and_keeps_it(url: str, image_node: ImageNode) -> None:
    written = image_storage_at(url).with_images_stored([image_node])
    (read,) = image_storage_at(f"{url}/other").with_images_read(written)
    assert image_storage_at(url).with_images_stored([read]) == written
    assert image_storage_at(url).with_images_read(image_storage_at(url).with_images_stored([read])) == [image_node]


def test_an_object_whose_content_changed_is_not_used(url: str, image_node: ImageNode, photo: bytes) -> None:
    written = image_storage_at(url).with_images_stored([image_node])
    write_into(url, stored_path(photo, "jpg"), photo[:-1] + b"\0")
    (read,) = image_storage_at(url).with_images_read(written)
    with pytest.raises(ImageError, match=rf"node a is missing: [0-9a-f]{{64}}\.jpg in {url} is damaged"):
        load_image(read)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "/etc/passwd",
        "",
        f"{'0' * 64}.jpg/../../../secret.jpg",
        f"{'0' * 64}.jpg\n",
        f"{'g' * 64}.jpg",
        "0" * 64,
        "s3://other/x.jpg",
    ],
)
def test_names_that_are_no_hash_are_refused(place: Place, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    forged = ImageNode(id_="forged", metadata={"stored_image": name})
    storage = image_storage_at(place)
    (read,) = storage.with_images_read([forged])
    with pytest.raises(ImageError, match=r"the image of node forged is missing: .* is not the name of an image in"):
        resolve_source(read)
    with pytest.raises(ValueError, match=r"node forged has the metadata 'stored_image', which the store writes itself"):
        storage.with_images_stored([forged])


def test_the_image_of_another_hash_is_refused(url: str, image_node: ImageNode, photos: list[Path]) -> None:
    other = photos[1].read_bytes()
    (written,) = image_storage_at(url).with_images_stored([image_node])
    write_into(url, stored_path(base64.b64decode(str(image_node.image)), "jpg"), other)
    (read,) = image_storage_at(url).with_images_read([written])
    with pytest.raises(ImageError, match="is damaged"):
        load_image(read)


def test_without_its_storage_an_image_is_an_error_that_names_the_argument(place: Place, image_node: ImageNode) -> None:
    written = image_storage_at(place).with_images_stored([image_node])
    for read in (image_storage_at(IN_NODES).with_images_read, image_storage_at(IN_NODES).without_images):
        with pytest.raises(StoreError, match="the image of node a is beside the store; open the store with the image_"):
            read(written)
    with pytest.raises(ValueError, match=r"node a has the metadata 'stored_image'.*nothing was added"):
        image_storage_at(IN_NODES).with_images_stored(written)


# Places


@pytest.mark.parametrize(
    ("location", "needed"),
    [
        ("s3://bucket/images", "pip install s3fs"),
        ("oss://bucket/images", "pip install ossfs"),
        ("S3://bucket", "pip install s3fs"),
        ("sftp://user:hunter2@host/images", r'pip install "fsspec\[sftp\]"'),
    ],
)
def test_the_error_of_a_missing_package_names_what_to_install(location: str, needed: str) -> None:
    with pytest.raises(ImportError, match=needed) as raised:
        image_storage_at(location)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_other_locations_are_refused_without_their_secrets() -> None:
    wrong = ["foo://user:hunter2@host/x", "simplecache::s3://user:hunter2@bucket/x", "file://user:hunter2@other/x", " "]
    for location in wrong:
        with pytest.raises(
            ValueError, match=r"protocol 'foo'|chain of URLs|another machine|image_storage is empty"
        ) as e:
            image_storage_at(location)
        assert "hunter2" not in str(e.value)


def test_a_folder_may_be_called_like_the_storage_in_nodes(
    tmp_path: Path, image_node: ImageNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    image_storage_at(Path(IN_NODES)).with_images_stored([image_node])
    assert len(files_in(tmp_path / IN_NODES)) == 1


class FullDisk(MemoryFileSystem):
    """A file system whose errors hold a password."""

    protocol = "fulldisk"

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        raise RuntimeError("PUT https://user:hunter2@host/ failed")

    def cat_file(self, path: str, **kwargs: Any) -> bytes:
        raise PermissionError("GET https://user:hunter2@host/ failed")


def test_errors_of_a_file_system_name_the_location_and_no_secrets(image_node: ImageNode) -> None:
    fsspec.register_implementation("fulldisk", FullDisk, clobber=True)
    storage = image_storage_at("fulldisk://user:hunter2@host/images?key=hunter2")
    with pytest.raises(
        StoreError, match=r"node a: cannot write .* to fulldisk://host/images: RuntimeError; nothing was"
    ) as raised:
        storage.with_images_stored([image_node])
    written = image_storage_at("memory://full").with_images_stored([image_node])
    (read,) = storage.with_images_read(written)
    with pytest.raises(ImageError, match=r"cannot read .* in fulldisk://host/images: PermissionError") as unread:
        load_image(read)
    for error in (raised.value, unread.value):
        assert "hunter2" not in str(error)
        assert error.__context__ is None or error.__suppress_context__
    assert "hunter2" not in read.to_json() + repr(read)


def test_a_folder_that_is_a_file_is_an_error(folder: Path, image_node: ImageNode) -> None:
    folder.write_text("a file")
    with pytest.raises(StoreError, match=rf"cannot write .* to {folder}: "):
        image_storage_at(folder).with_images_stored([image_node])


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_new_folders_are_private_and_those_below_a_shared_one_are_shared(folder: Path, image_node: ImageNode) -> None:
    def modes() -> set[int]:
        return {stat.S_IMODE(each.stat().st_mode) for each in (folder, *folder.rglob("*")) if each.is_dir()}

    image_storage_at(folder).with_images_stored([image_node])
    assert modes() == {0o700}
    folder.chmod(0o770)
    other = ImageNode(image=encoded(b"other"))
    image_storage_at(folder).with_images_stored([other])
    assert modes() == {0o700, 0o770}


def test_parts_that_killed_processes_left_are_removed(folder: Path, image_node: ImageNode) -> None:
    folder.mkdir()
    old, new = (folder / f"{name}.part" for name in ("old", "new"))
    for part in (old, new):
        part.write_bytes(b"half an image")
    os.utime(old, (time.time() - 7200,) * 2)
    image_storage_at(folder).with_images_stored([image_node])
    assert (old.exists(), new.exists()) == (False, True)


KILLED = """
import base64, os, sys
from pathlib import Path
from llama_index.core.schema import ImageNode
from llama_index_mm_zhipu.stores.image_storage import image_storage_at

storage = image_storage_at(sys.argv[1])
for number in range(1_000_000):
    data = number.to_bytes(4, "big") * 50_000
    storage.with_images_stored([ImageNode(image=base64.b64encode(data).decode())])
    print(number, flush=True)
"""


@pytest.mark.integration
def test_a_killed_writer_leaves_whole_images(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(20)]
        writer.kill()
    assert lines[-1] == "19\n"
    images = {path: data for path, data in files_in(folder).items() if not path.endswith(".part")}
    assert len(images) >= 20
    assert all(path == stored_path(data, "bin") for path, data in images.items())


# In a store


@pytest.fixture
def open_store(monkeypatch: pytest.MonkeyPatch) -> Callable[[Place], ExternalVectorStore]:
    """A function that opens the same store with an image storage."""
    backend = MemoryBackend(SimpleVectorStore())
    monkeypatch.setattr(external, "backend_of", lambda store: backend)
    return lambda place: ExternalVectorStore(SimpleVectorStore(), image_storage=place)


OpenStore: TypeAlias = Callable[[Place], ExternalVectorStore]
NEAREST = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=5)


def test_a_store_returns_images_by_every_method(place: Place, open_store: OpenStore, image_node: ImageNode) -> None:
    store = open_store(place)
    store.add([image_node])
    results = [*store.get_nodes(["a"]), *store.get_nodes(), *store.get_nodes_of_document("a")]
    for node in [*results, *(store.query(NEAREST).nodes or [])]:
        assert read_bytes(node) == read_bytes(image_node)
    (bare,) = store.get_nodes(include_images=False)
    assert bare.model_dump(exclude={"embedding"}) == image_node.model_dump(exclude={"embedding", "image"}) | {
        "image": None
    }


def test_a_store_holds_neither_the_image_nor_the_location(open_store: OpenStore, image_node: ImageNode) -> None:
    location = "memory://user:hunter2@host/images"
    store = open_store(location)
    store.add([image_node])
    backend = store._backend
    assert isinstance(backend, MemoryBackend)
    (record,) = backend.records.values()
    assert len(record.content) < 1_500
    assert "hunter2" not in repr((record, store, store.to_dict())) + str(store) + store.to_json()


def test_a_failed_write_adds_no_node(folder: Path, open_store: OpenStore, image_node: ImageNode) -> None:
    folder.write_text("a file")
    store = open_store(folder)
    with pytest.raises(StoreError, match="nothing was added"):
        store.add([image_node, ImageNode(id_="b", embedding=[0.0, 1.0])])
    assert store.count() == 0


def test_the_storage_can_be_added_later(folder: Path, open_store: OpenStore, image_node: ImageNode) -> None:
    open_store(IN_NODES).add([image_node])
    store = open_store(folder)
    assert store.get_nodes()[0].model_dump(exclude={"embedding"}) == image_node.model_dump(exclude={"embedding"})
    store.add([image_node])
    assert store.get_nodes()[0].to_dict()["image"] is None
    with pytest.raises(StoreError, match="open the store with the image_storage"):
        open_store(IN_NODES).query(NEAREST)


def index_over(store: ExternalVectorStore, embedding: ChineseClipEmbedding) -> ImageIndex:
    texts = StorageContext.from_defaults(vector_store=FaissMultiModalVectorStore())
    return ImageIndex(nodes=[], embed_model=embedding, storage_context=texts, image_vector_store=store)


@pytest.fixture
def inline_nodes(photos: list[Path]) -> list[bytes]:
    return [photo.read_bytes() for photo in photos[:3]]


def test_an_engine_sends_the_images(
    place: Place,
    open_store: OpenStore,
    tiny_embedding: ChineseClipEmbedding,
    inline_nodes: list[bytes],
    llm: ZhipuMultiModal,
    server: MockGLMServer,
) -> None:
    index = index_over(open_store(place), tiny_embedding)
    index.insert_nodes(inline_nodes)
    index.as_query_engine(llm=llm, image_similarity_top_k=3).query("哪张图里有帽子？")
    sent = str(server.requests[-1])
    assert all(encoded(image) in sent for image in inline_nodes)


def test_an_engine_leaves_out_a_missing_image(
    place: Place,
    open_store: OpenStore,
    tiny_embedding: ChineseClipEmbedding,
    inline_nodes: list[bytes],
    llm: ZhipuMultiModal,
) -> None:
    index = index_over(open_store(place), tiny_embedding)
    index.insert_nodes(inline_nodes)
    files, root = fsspec.core.url_to_fs(str(place))
    files.rm(f"{root}/{stored_path(inline_nodes[0], 'jpg')}")
    missing = f"image-{hashlib.sha256(inline_nodes[0]).hexdigest()[:16]}"

    response = index.as_query_engine(llm=llm, image_similarity_top_k=3).query("哪张图里有帽子？")
    assert list(response.metadata["skipped"]) == [missing]
    assert len(response.source_nodes) == 2
    strict = index.as_query_engine(llm=llm, image_similarity_top_k=3, on_error="raise")
    with pytest.raises(ImageError, match=f"node {missing} was found, but its image cannot be sent"):
        strict.query("哪张图里有帽子？")


def test_unchanged_images_are_compared_without_reading_them(
    place: Place, open_store: OpenStore, tiny_embedding: ChineseClipEmbedding, inline_nodes: list[bytes]
) -> None:
    store = open_store(place)
    index_over(store, tiny_embedding).insert_nodes(inline_nodes)
    backend = store._backend
    assert isinstance(backend, MemoryBackend)
    before = dict(backend.records)
    files, root = fsspec.core.url_to_fs(str(place))
    files.rm(root, recursive=True)

    index = index_over(store, tiny_embedding)
    index.insert_nodes(inline_nodes)
    assert index.kept == 3
    assert {key: record.order for key, record in backend.records.items()} == {
        key: record.order for key, record in before.items()
    }
