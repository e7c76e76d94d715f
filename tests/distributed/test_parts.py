"""Cutting of a source into parts, and messages between processes."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator

import pytest
from llama_index.core.schema import ImageNode
from made_parts import part, record, records

from llama_index_mm_zhipu.distributed.parts import (
    Failure,
    Message,
    Part,
    SkippedImage,
    SourceEnd,
    StoredPart,
    cut_into_parts,
    dumps,
    loads,
)
from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.records import ImageRecord, RecordError
from llama_index_mm_zhipu.stores.transfer.shards import MAX_INLINE_IMAGES

BAD = RecordError("a.jsonl, line 3", "no image")


def cut(read: Iterable[NodeOrError], max_nodes: int = 3) -> list[Part]:
    return list(cut_into_parts("photos-1", read, max_nodes))


def ids(parts: Iterable[Part]) -> list[list[str]]:
    return [[node.node_id for node in each.nodes] for each in parts]


def fingerprints(parts: Iterable[Part]) -> list[str]:
    return [each.fingerprint for each in parts]


def large(name: str, size: int) -> ImageNode:
    return ImageRecord.of(name, "digest", image="A" * size)


def test_parts_hold_consecutive_images() -> None:
    parts = cut(records(*"abcdefg"))
    assert ids(parts) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert [(each.source, each.number) for each in parts] == [("photos-1", 0), ("photos-1", 1), ("photos-1", 2)]


def test_the_last_part_is_full_if_the_images_are_a_multiple_of_its_size() -> None:
    assert ids(cut(records(*"abcdef"))) == [["a", "b", "c"], ["d", "e", "f"]]


def test_a_source_without_images_has_no_parts() -> None:
    assert cut([]) == []


def test_an_error_counts_as_an_image() -> None:
    first, second = cut([record("a"), BAD, record("b"), record("c")])
    assert (ids([first, second]), first.skipped) == ([["a", "b"], ["c"]], [SkippedImage("a.jsonl, line 3", "no image")])


def test_a_source_of_errors_has_parts_without_images() -> None:
    parts = cut([BAD] * 4)
    assert ids(parts) == [[], []]
    assert [len(each.skipped) for each in parts] == [3, 1]


def test_a_part_ends_after_many_bytes_of_images() -> None:
    half = MAX_INLINE_IMAGES // 2
    parts = cut([large("a", half), large("b", half + 1), large("c", half), large("d", 1)])
    assert ids(parts) == [["a", "b"], ["c", "d"]]


def test_an_image_that_is_larger_than_a_part_has_one_of_its_own() -> None:
    parts = cut([large("a", MAX_INLINE_IMAGES + 1), large("b", MAX_INLINE_IMAGES + 1)])
    assert ids(parts) == [["a"], ["b"]]


def test_parts_are_cut_while_the_source_is_read() -> None:
    read = 0

    def counted() -> Iterator[NodeOrError]:
        nonlocal read
        for node in records(*"abcdefghi"):
            read += 1
            yield node

    next(cut_into_parts("photos-1", counted(), 3))
    assert read == 3


def test_the_same_images_have_the_same_fingerprints() -> None:
    assert fingerprints(cut(records(*"abcde"))) == fingerprints(cut(records(*"abcde")))


def test_an_image_that_is_inserted_changes_the_parts_from_there_on() -> None:
    before, after = fingerprints(cut(records(*"abcdefghi"))), fingerprints(cut(records(*"abcdXefghi")))
    assert before[0] == after[0]
    assert not {*before[1:]} & {*after[1:]}


def test_an_image_that_is_appended_changes_the_last_part() -> None:
    before, after = fingerprints(cut(records(*"abcde"))), fingerprints(cut(records(*"abcdef")))
    assert (before[0], len(before)) == (after[0], len(after))
    assert before[1] != after[1]


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(record("b", "猫"), id="id"),
        pytest.param(record("a", "狗"), id="caption"),
        pytest.param(record("a", "猫", "blue"), id="content"),
        pytest.param(ImageRecord.of("a", None, image_url="https://example.com/a.jpg", text="猫"), id="kind"),
    ],
)
def test_the_fingerprint_depends_on_what_was_read(changed: ImageNode) -> None:
    assert fingerprints(cut([changed])) != fingerprints(cut([record("a", "猫")]))


def test_the_fingerprint_depends_on_metadata() -> None:
    node = record("a")
    node.metadata["price"] = 3
    assert fingerprints(cut([node])) != fingerprints(cut([record("a")]))


def test_the_fingerprint_depends_on_errors() -> None:
    other = RecordError(BAD.position, "another reason")
    assert len({*fingerprints(cut([BAD])), *fingerprints(cut([other])), *fingerprints(cut([record("a")]))}) == 3


def test_errors_of_files_whose_names_are_not_utf_8_have_fingerprints() -> None:
    assert fingerprints(cut([RecordError("\udcff.jpg", "no image")])) != fingerprints(cut([BAD]))


# Messages


@pytest.mark.parametrize(
    "message",
    [
        part("a", "b", skipped=[SkippedImage("c", "no image")]),
        StoredPart("photos-1", 3),
        SourceEnd("photos-1", 4),
    ],
)
def test_messages_arrive_as_they_were_sent(message: Message) -> None:
    assert loads(dumps(message)) == message


def test_images_keep_their_class_and_vectors() -> None:
    [node] = loads(dumps(part("a"))).nodes  # type: ignore[union-attr]
    assert isinstance(node, ImageRecord)
    assert (node.embedding, node.ref_doc_id) == ([1.0, 0.0], "a")
    assert base64.b64decode(node.image or "").startswith(b"\x89PNG")


def test_errors_keep_class_arguments_and_host() -> None:
    failure = loads(dumps(Failure(BAD, "host-1")))
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, RecordError)
    assert (str(failure.error), failure.host) == (str(BAD), "host-1")


class LockedError(Exception):
    """An error that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("the service is busy")
        self.lock = threading.Lock()


class TwoArgumentsError(Exception):
    """An error that can be pickled and not unpickled, as are several of httpx and openai."""

    def __init__(self, text: str, *, status: int) -> None:
        super().__init__(text)
        self.status = status


@pytest.mark.parametrize("error", [LockedError(), TwoArgumentsError("the service is busy", status=503)])
def test_errors_that_cannot_be_sent_arrive_by_name(error: Exception) -> None:
    failure = loads(dumps(Failure(error, "host-1")))
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, RuntimeError)
    assert str(failure.error).startswith(f"{type(error).__name__}: the service is busy")
    assert failure.host == "host-1"
