"""What actors do with parts: any work, transformations, and embedding."""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import BaseNode, ImageNode, TransformComponent
from made_parts import folder_of, image_bytes, part, record
from ray.exceptions import RayActorError

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.distributed.parts import (
    Failure,
    Message,
    Part,
    SkippedImage,
    SourceEnd,
    StoredPart,
    dumps,
    loads,
)
from llama_index_mm_zhipu.distributed.workers import MESSAGE, Embed, Stage, Transform, Worker, pickled
from llama_index_mm_zhipu.embedding import embed_nodes
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.images.nodes import with_page_text
from llama_index_mm_zhipu.readers import FolderReader
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.vector_store import ModelMismatchError


class UnreachableAttempts:
    """Handle of a counting actor whose machine is lost."""

    @property
    def begin(self) -> UnreachableAttempts:
        return self

    def remote(self, name: str) -> int:
        raise RayActorError()


def worker(work: Callable[[Part], Part] | bytes) -> Worker:
    data = work if isinstance(work, bytes) else pickled(work, "work")
    return Worker(data, str(Path.cwd()), UnreachableAttempts())


def answers(worker: Worker, *messages: Message) -> list[Message]:
    return [loads(data) for data in worker({MESSAGE: list(map(dumps, messages))})[MESSAGE]]


def without_first(part: Part) -> Part:
    part.nodes = part.nodes[1:]
    return part


class BusyError(Exception):
    """An error of a service."""


def fail(part: Part) -> Part:
    raise BusyError("the service is busy")


def with_local_class(part: Part) -> Part:
    class LocalNode(ImageNode):
        pass

    part.nodes = [LocalNode(id_="a")]
    return part


class Loading:
    """Work that is counted when it is unpickled, and may fail then."""

    loaded: list[str] = []  # noqa: RUF012

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, part: Part) -> Part:
        return part

    def __reduce__(self) -> Any:
        return Loading.load, (self.name,)

    @staticmethod
    def load(name: str) -> Loading:
        Loading.loaded.append(name)
        if name == "broken":
            raise OSError("no weights in clip/")
        return Loading(name)


# Actors


def test_a_worker_applies_its_work_to_each_part() -> None:
    first, second = answers(worker(without_first), part("a", "b"), part("c", "d", number=1))
    assert [[node.node_id for node in each.nodes] for each in (first, second)] == [["b"], ["d"]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "message",
    [StoredPart("photos-1", 3), SourceEnd("photos-1", 4), part(skipped=[SkippedImage("a", "bad")])],
)
def test_what_has_no_images_passes_through_without_loading_the_work(message: Message) -> None:
    assert answers(worker(b"no pickle"), message) == [message]


def test_an_error_of_reading_passes_through() -> None:
    [failure] = answers(worker(without_first), Failure(RecordError("a.jsonl", "bad")))
    assert isinstance(failure, Failure)
    assert (type(failure.error), failure.host) == (RecordError, "")


def test_the_work_is_loaded_once_with_the_first_part() -> None:
    Loading.loaded.clear()
    loading = worker(pickle.dumps(Loading("model")))
    assert Loading.loaded == []
    answers(loading, part("a"), part("b"))
    answers(loading, part("c"))
    assert Loading.loaded == ["model"]


def test_work_that_cannot_be_loaded_is_an_error_of_the_part() -> None:
    [failure] = answers(worker(pickle.dumps(Loading("broken"))), part("a"))
    assert isinstance(failure, Failure)
    assert (type(failure.error), str(failure.error)) == (OSError, "no weights in clip/")


def test_an_error_arrives_with_the_name_of_the_machine() -> None:
    [failure, after] = answers(worker(fail), part("a"), SourceEnd("photos-1", 1))
    assert isinstance(failure, Failure)
    assert (type(failure.error), str(failure.error)) == (BusyError, "the service is busy")
    assert failure.host == socket.gethostname()
    assert after == SourceEnd("photos-1", 1)


def test_a_part_that_cannot_be_sent_on_is_an_error() -> None:
    [failure] = answers(worker(with_local_class), part("a"))
    assert isinstance(failure, Failure)
    assert "pickle" in str(failure.error)


def test_a_worker_runs_in_the_folder_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "driver").mkdir()
    started = Worker(pickled(without_first, "work"), str(tmp_path / "driver"), UnreachableAttempts())
    answers(started, part("a", "b"))
    assert Path.cwd() == tmp_path / "driver"


def test_a_worker_does_without_the_folder_of_the_driver(tmp_path: Path) -> None:
    started = Worker(pickled(without_first, "work"), str(tmp_path / "elsewhere"), UnreachableAttempts())
    assert isinstance(answers(started, part("a", "b"))[0], Part)


def test_work_that_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"ImageOcr cannot be pickled, which sending it to other processes needs"):
        pickled(lambda part: Part(str(lock), 0, "", part.nodes), "ImageOcr")


# Transformations


class Exclaim(TransformComponent):
    """Writes captions with an exclamation mark, and leaves out images without captions."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        kept = [node for node in nodes if node.get_content()]
        for node in kept:
            node.set_content(node.get_content() + "！")
        return kept


def test_a_transformation_changes_images_and_what_it_leaves_out_is_skipped() -> None:
    given = Part("photos-1", 0, "fingerprint", [record("a", "帽子"), record("b")], [SkippedImage("c", "bad")])
    after = Transform(Exclaim())(given)
    assert [node.get_content() for node in after.nodes] == ["帽子！"]
    assert after.skipped == [SkippedImage("c", "bad"), SkippedImage("b", "left out by Exclaim")]
    assert after.fingerprint == "fingerprint"


def test_a_stage_takes_transformations_only() -> None:
    assert Stage(Exclaim()) == Stage(Exclaim(), num_actors=1, num_cpus=1, num_gpus=0)
    with pytest.raises(TypeError, match="a function is no transformation of LlamaIndex"):
        Stage(without_first)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a str is no transformation") as caught:
        Stage("s3cret")  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None])
def test_a_stage_has_at_least_one_actor(count: Any) -> None:
    with pytest.raises(ValueError, match=r"num_actors is .*; it must be a whole number above 0"):
        Stage(Exclaim(), num_actors=count)


# Embedding


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """A folder with three images."""
    return folder_of(photos[:3], tmp_path / "photos")


@pytest.fixture
def embed(torch_embedding: ChineseClipEmbedding) -> Callable[..., Embed]:
    """A function that makes the work of embedding with the tiny model."""

    def make(expected: str = torch_embedding.fingerprint, caption_weight: float = 0.0, **options: Any) -> Embed:
        return Embed(torch_embedding, expected, caption_weight, **{"on_error": "skip", **options})

    return make


def read(folder: Path, **options: Any) -> Part:
    nodes = [node for node in FolderReader(**options).iter_records(folder) if isinstance(node, ImageNode)]
    return Part("photos-1", 0, "fingerprint", list(nodes))


def vectors(nodes: Sequence[BaseNode]) -> dict[str, list[float] | None]:
    return {node.node_id: node.embedding for node in nodes}


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_vectors_are_those_of_embed_nodes(
    embed: Callable[..., Embed], torch_embedding: ChineseClipEmbedding, photo_nodes: list[ImageNode], weight: float
) -> None:
    expected = embed_nodes(photo_nodes, torch_embedding, caption_weight=weight)
    after = embed(caption_weight=weight)(Part("photos-1", 0, "fingerprint", list(photo_nodes)))
    assert after.nodes == expected.nodes
    assert vectors(after.nodes) == vectors(expected.nodes)
    assert (after.model, after.precision, after.skipped) == (torch_embedding.fingerprint, "fp32", [])


def test_the_caption_weight_changes_vectors(embed: Callable[..., Embed], photo_nodes: list[ImageNode]) -> None:
    alone, both = (
        np.array(embed(caption_weight=weight)(Part("p", 0, "f", photo_nodes[:1])).nodes[0].embedding)
        for weight in (0.0, 0.5)
    )
    assert not np.allclose(alone, both)


def test_other_weights_than_those_of_the_driver_are_refused(embed: Callable[..., Embed], folder: Path) -> None:
    with pytest.raises(ModelMismatchError, match=r"the model is .* here, and other:1 where embed_dataset runs; copy"):
        embed("other:1")(read(folder))


@pytest.mark.parametrize("on_error", ["skip", "raise"])
def test_a_folder_that_is_not_on_the_machine_is_an_error_whatever_on_error_is(
    embed: Callable[..., Embed], folder: Path, on_error: str
) -> None:
    for options in ({}, {"hash_contents": False}):
        given = read(folder, **options)
        moved = folder.rename(folder.with_name("elsewhere"))
        with pytest.raises(FileNotFoundError, match=r"is not on this machine: .* as on a shared drive"):
            embed(on_error=on_error)(given)
        moved.rename(folder)


def test_a_drive_that_is_not_mounted_is_an_error_and_not_missing_images(
    embed: Callable[..., Embed], folder: Path
) -> None:
    given = read(folder)
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"photos/.*\.jpg is not on this machine"):
        embed()(given)


def test_an_image_that_is_removed_after_it_was_read_is_an_error(embed: Callable[..., Embed], folder: Path) -> None:
    given = read(folder)
    removed = sorted(folder.iterdir())[1]
    removed.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{removed} is not on this machine: .* removed meanwhile, run again"):
        embed()(given)


def test_an_image_that_changes_after_it_was_read_is_an_error(embed: Callable[..., Embed], folder: Path) -> None:
    given = read(folder)
    changed = sorted(folder.iterdir())[1]
    changed.write_bytes(image_bytes())
    with pytest.raises(RecordError, match="changed while it was read; run again") as caught:
        embed()(given)
    assert caught.value.position == str(changed)


def test_a_file_that_is_no_image_is_skipped(embed: Callable[..., Embed], folder: Path) -> None:
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff and no more")
    given = read(folder)
    assert len(given.nodes) == 4
    after = embed()(given)
    assert len(after.nodes) == 3
    assert [image.name.rsplit("/")[-1] for image in after.skipped] == ["bad.jpg"]


def test_an_image_that_cannot_be_decoded_is_skipped_or_raised(embed: Callable[..., Embed]) -> None:
    def given() -> Part:
        bad = record("b")
        bad.image = "iVBORw0KGgo="
        return Part("photos-1", 0, "fingerprint", [record("a"), bad, record("c")], [SkippedImage("d", "no image")])

    after = embed()(given())
    assert [node.node_id for node in after.nodes] == ["a", "c"]
    assert [image.name for image in after.skipped] == ["d", "b"]
    with pytest.raises(ImageError, match="node b: ") as caught:
        embed(on_error="raise")(given())
    assert "iVBOR" not in str(caught.value)


def test_inline_images_need_no_file(embed: Callable[..., Embed], folder: Path) -> None:
    node = record("a")
    node.metadata["source_root"] = str(folder / "elsewhere.jsonl")
    assert len(embed()(Part("photos-1", 0, "fingerprint", [node])).nodes) == 1


def test_texts_that_no_vector_contains_are_reported(embed: Callable[..., Embed]) -> None:
    def are_apart(node: ImageNode) -> bool:
        return embed()(Part("photos-1", 0, "fingerprint", [node])).has_texts_apart

    assert not are_apart(record("a", "帽子"))
    assert are_apart(record("a", "帽子" * 300))
    assert are_apart(with_page_text(record("a"), "发动机舱盖", "ocr"))
