"""Images that a store keeps beside itself are in its export, and missing ones are not left out without a word."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import fsspec
import pytest
from listing_backend import ListingBackend
from llama_index.core.schema import BaseNode, Document, ImageNode, MediaResource, TextNode
from llama_index.core.vector_stores import SimpleVectorStore

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.images import ImageError, read_bytes
from llama_index_mm_zhipu.stores import ExternalVectorStore, TransferReport, export_index, external, import_index
from llama_index_mm_zhipu.stores.transfer.manifest import read_manifest
from llama_index_mm_zhipu.vector_store import StoreError

pytestmark = pytest.mark.integration

OpenStore: TypeAlias = Callable[..., ExternalVectorStore]


class StatefulBackend(ListingBackend):
    """Tells whether it has changed."""

    def state_id(self) -> str:
        return repr([record.order for record in self.records.values()])


@pytest.fixture
def open_store(monkeypatch: pytest.MonkeyPatch) -> OpenStore:
    """A function that opens a new store in memory, or that of a backend, with an image storage."""

    def open_(image_storage: str | Path, backend: ListingBackend | None = None) -> ExternalVectorStore:
        with monkeypatch.context() as patched:
            patched.setattr(external, "backend_of", lambda _: backend or StatefulBackend())
            return ExternalVectorStore(SimpleVectorStore(), image_storage=image_storage)

    return open_


@pytest.fixture(params=["folder", "URL"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for images."""
    return str(tmp_path / "images") if request.param == "folder" else f"memory://{uuid4().hex}/images"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Path of a folder that is not there yet."""
    return tmp_path / "shards"


@pytest.fixture
def nodes(photos: list[Path]) -> list[BaseNode]:
    """Three inline images, an image that is a file of the user's, and a text."""
    inline = [
        ImageNode(id_=f"n{i}", image=base64.b64encode(photo.read_bytes()).decode(), text="图", embedding=[i, 1.0])
        for i, photo in enumerate(photos[:3])
    ]
    file = ImageNode(id_="file", image_path=str(photos[3]), embedding=[3.0, 1.0])
    return [*inline, file, TextNode(id_="text", text="飞机", embedding=[4.0, 1.0])]


def export(store: Any, folder: Path, **options: Any) -> TransferReport:
    return export_index(store, folder, **{"nodes_per_shard": 2, "show_progress": False, **options})


def import_(folder: Path, store: Any, **options: Any) -> TransferReport:
    return import_index(folder, store, batch_size=2, show_progress=False, **options)


def remove_images(place: str) -> None:
    files, root = fsspec.core.url_to_fs(place)
    files.rm(root, recursive=True)


def damage_images(place: str, nodes: list[BaseNode]) -> None:
    """Replace the images of nodes with others of the same size."""
    wanted = [read_bytes(node) for node in nodes]
    files, root = fsspec.core.url_to_fs(place)
    for path in files.find(root):
        content = files.cat_file(path)
        if content in wanted:
            files.pipe_file(path, content[::-1])


def test_images_arrive_where_their_place_is_not_known(
    place: str, open_store: OpenStore, nodes: list[BaseNode], shards: Path
) -> None:
    source, target = open_store(place), FaissMultiModalVectorStore()
    source.add(nodes)
    export(source, shards)
    remove_images(place)
    assert import_(shards, target).nodes == 5
    assert target.get_nodes(include_embeddings=True) == nodes
    target.close()


def test_images_go_to_the_place_of_the_target(
    place: str, open_store: OpenStore, nodes: list[BaseNode], shards: Path
) -> None:
    target = open_store(place)
    with_images = FaissMultiModalVectorStore()
    with_images.add(nodes)
    export(with_images, shards)
    import_(shards, target)
    assert target.with_images_inline(target.get_nodes(include_embeddings=True)) == nodes
    assert import_(shards, target).kept == 5

    damage_images(place, nodes[1:2])
    assert target.with_images_inline(target.get_nodes(["n1"]))[0] != nodes[1]
    with_images.close()


def test_a_missing_image_comes_back_with_an_import(
    place: str, open_store: OpenStore, nodes: list[BaseNode], shards: Path
) -> None:
    target = open_store(place)
    target.add(nodes)
    export(target, shards)
    remove_images(place)
    report = import_(shards, target)
    assert (report.nodes, report.kept) == (5, 2)
    node_ids = [node.node_id for node in nodes]
    assert target.with_images_inline(target.get_nodes(node_ids, include_embeddings=True)) == nodes


def test_a_document_with_an_image_is_kept_by_a_second_import(
    place: str, open_store: OpenStore, photos: list[Path], shards: Path
) -> None:
    resource = MediaResource(data=photos[0].read_bytes())
    source, target = FaissMultiModalVectorStore(), open_store(place)
    source.add([Document(id_="a", image_resource=resource, embedding=[1.0, 0.0])])
    export(source, shards)
    assert import_(shards, target).kept == 0
    assert import_(shards, target).kept == 1
    source.close()


def test_an_export_without_an_image_is_an_error_that_names_the_node(
    place: str, open_store: OpenStore, nodes: list[BaseNode], shards: Path
) -> None:
    source = open_store(place)
    source.add(nodes)
    damage_images(place, nodes[1:2])
    with pytest.raises(StoreError, match=r'image of node n1 cannot be exported: .*is damaged; restore it.*on_error="s'):
        export(source, shards)
    with pytest.raises(StoreError, match="unfinished export"):
        import_(shards, open_store("node"))


def test_nodes_without_their_images_are_skipped_and_listed(
    place: str, open_store: OpenStore, nodes: list[BaseNode], shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, target = open_store(place), FaissMultiModalVectorStore()
    source.add(nodes)
    remove_images(place)
    for _ in range(2):
        report = export(source, shards, on_error="skip")
        assert list(report.skipped) == ["n0", "n1", "n2"]
        assert report.nodes == 2
    assert "skipped 3 of 5 nodes: n0: there is no " in caplog.text
    import_(shards, target)
    assert target.get_nodes(include_embeddings=True) == nodes[3:]
    with pytest.raises(
        ValueError, match="finished export, and it lacks nodes whose images are missing; choose another"
    ):
        export(source, shards)
    target.close()


def test_an_image_that_was_restored_is_exported_by_the_call_that_continues(
    open_store: OpenStore, nodes: list[BaseNode], shards: Path, tmp_path: Path
) -> None:
    source = open_store(tmp_path / "images")
    source.add(nodes)
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    assert list(export(source, shards, on_error="skip", nodes_per_shard=1).skipped) == ["n0", "n1", "n2"]

    shutil.move(tmp_path / "elsewhere", tmp_path / "images")
    (shards / "nodes-00000.parquet").unlink()
    report = export(source, shards, on_error="skip", nodes_per_shard=1)
    assert (report.nodes, report.kept, report.skipped.count) == (5, 0, 0)
    manifest = read_manifest(shards)
    assert manifest is not None
    assert manifest.skipped == {}


def test_files_of_the_user_stay_paths(
    place: str, open_store: OpenStore, nodes: list[BaseNode], shards: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.jpg"
    own.write_bytes(read_bytes(nodes[0]))
    source, target = open_store(place), FaissMultiModalVectorStore()
    source.add([ImageNode(id_="own", image_path=str(own), embedding=[1.0, 0.0])])
    own.unlink()
    export(source, shards)
    import_(shards, target)
    (found,) = target.get_nodes()
    assert isinstance(found, ImageNode)
    assert (found.image, found.image_path) == (None, str(own))
    with pytest.raises(ImageError, match="no such image"):
        read_bytes(found)
    target.close()
