"""Damaged shards, and exports and imports that are interrupted or killed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from listing_backend import ListingBackend
from llama_index.core.schema import (
    BaseNode,
)
from programs import start_program
from transfers import SETTINGS, SHARDS, content_of, export, files_of, import_, texts
from waiting import wait_until

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import (
    ExternalVectorStore,
)
from llama_index_mm_zhipu.stores.transfer.manifest import read_manifest
from llama_index_mm_zhipu.vector_store import StoreError

pytestmark = pytest.mark.integration


# Damaged shards


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def take_other(path: Path) -> None:
    path.write_bytes(path.with_name(SHARDS[0]).read_bytes())


@pytest.mark.parametrize("damage", [cut, change_byte, take_other, Path.unlink])
def test_a_damaged_shard_is_named_and_a_second_import_continues(
    shards: Path, source: Any, target: FaissMultiModalVectorStore, damage: Callable[[Path], None]
) -> None:
    shard = shards / SHARDS[1]
    intact = shard.read_bytes()
    damage(shard)
    with pytest.raises(StoreError, match=r"shard .*nodes-00001.parquet is (cut short|missing).*continues here"):
        import_(shards, target, on_error="skip")
    assert content_of(target) == content_of(source)[:10]

    shard.write_bytes(intact)
    report = import_(shards, target)
    assert (report.nodes, report.kept) == (25, 10)
    assert content_of(target) == content_of(source)


@pytest.mark.parametrize("damage", [cut, change_byte, Path.unlink])
def test_exporting_again_repairs_a_damaged_shard(
    shards: Path, source: Any, target: Any, damage: Callable[[Path], None]
) -> None:
    damage(shards / SHARDS[1])
    report = export(source, shards)
    assert (report.nodes, report.kept, report.shards) == (25, 10, 3)
    import_(shards, target)
    assert content_of(target) == content_of(source)


def test_a_second_export_writes_nothing(shards: Path, source: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    report = export(source, shards)
    assert (report.nodes, report.kept) == (25, 25)
    assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == before


# Interrupted


class Interruption:
    """Raises an error at the n-th time that a file would take its name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> None:
        self.calls = 0
        replace = Path.replace

        def interrupted(path: Path, target: Path) -> Path:
            self.calls += 1
            if self.calls == at:
                raise error
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", interrupted)


# The first manifest, three shards with a manifest after each, and the finished manifest.
@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_an_export_continues_where_it_was_interrupted(
    source: Any, target: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException
) -> None:
    with monkeypatch.context() as patched:
        Interruption(patched, at, error)
        with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt) as raised:
            export(source, folder)
    assert at > 1 or files_of(folder) == set()
    if isinstance(error, OSError):
        assert "cannot write the export" in str(raised.value)
        assert "No space left" in str(raised.value)
    with pytest.raises((StoreError, FileNotFoundError), match=r"unfinished export|no manifest.json"):
        import_(folder, target)

    shards_before = max(0, at - 2) // 2
    assert export(source, folder).kept == min(10 * shards_before, 25)
    assert files_of(folder) == {"manifest.json", *SHARDS}
    import_(folder, target)
    assert content_of(target) == content_of(source)


def test_an_export_of_a_store_that_changed_since_starts_again(
    source: Any, target: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        Interruption(patched, 8, OSError("full"))
        with pytest.raises(StoreError):
            export(source, folder)
    (folder / f".{'0' * 32}.tmp").write_bytes(b"left by a killed process")
    source.delete_nodes(["n3"])
    report = export(source, folder, nodes_per_shard=20)
    assert (report.nodes, report.kept, report.shards) == (24, 0, 2)
    assert "Starting again" in capsys.readouterr().err
    assert files_of(folder) == {"manifest.json", *SHARDS[:2]}
    import_(folder, target)
    assert content_of(target) == content_of(source)


def test_an_export_of_another_store_starts_again(
    other: ExternalVectorStore, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other.add(texts(25))
    with monkeypatch.context() as patched:
        Interruption(patched, 6, OSError("full"))
        with pytest.raises(StoreError):
            export(other, folder)
    report = export(other, folder)
    assert (report.nodes, report.kept) == (25, 0)
    assert "the store cannot tell whether it has changed since" in capsys.readouterr().err


class Changing(FaissMultiModalVectorStore):
    """A store to which something writes while it is listed."""

    def iter_nodes(self, *args: Any, **options: Any) -> Iterator[list[BaseNode]]:
        for batch in super().iter_nodes(*args, **options):
            self.add(texts(1))
            yield batch


def test_a_store_that_changes_during_an_export_is_an_error(folder: Path, target: Any) -> None:
    with closing(Changing()) as source:
        source.add(texts(5))
        with pytest.raises(StoreError, match=r"changed while it was exported.*export a copy"):
            export(source, folder)
    with pytest.raises(StoreError, match="unfinished export"):
        import_(folder, target)


def test_another_store_that_changes_its_count_during_an_export_is_an_error(
    other: ExternalVectorStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.add(texts(25))
    count = other.count
    monkeypatch.setattr(ExternalVectorStore, "count", lambda _: count() + 1)
    with pytest.raises(StoreError, match="it had 26 nodes, and listed 25"):
        export(other, folder)


def test_a_store_that_keeps_its_vectors_to_itself_cannot_be_exported(
    other: ExternalVectorStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.add(texts(3))
    select = ListingBackend.select
    monkeypatch.setattr(ListingBackend, "select", lambda backend, predicate, with_vectors: select(backend, predicate))
    with pytest.raises(StoreError, match="lists its nodes without vectors"):
        export(other, folder)


class Failing(FaissMultiModalVectorStore):
    """A store whose n-th call of ``add`` fails before or after its transaction."""

    def fail(self, at: int, after: bool, error: BaseException) -> None:
        self._calls = self._at = at
        self._after, self._error = after, error

    def add(self, nodes: Any, **options: Any) -> list[str]:
        self._calls -= 1
        if self._calls == 0 and not self._after:
            raise self._error
        added = super().add(nodes, **options)
        if self._calls == 0:
            raise self._error
        return added

    _calls: int = 0
    _after: bool = False
    _error: BaseException = OSError()


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_import_continues_where_it_was_interrupted(
    shards: Path, source: Any, tmp_path: Path, at: int, after: bool
) -> None:
    # Batches of 4, 4 and 2 nodes of each of the first two shards, and of 4 and 1 of the last one.
    ends = [0, 4, 8, 10, 14, 18, 20, 24, 25]
    with closing(Failing(tmp_path / "target")) as target:
        target.fail(at, after, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            import_(shards, target)
        there = ends[at if after else at - 1]
        assert target.count() == there
        assert import_(shards, target).kept == there
        assert content_of(target) == content_of(source)
        assert target.settings() == source.settings()


# Killed processes

_EXPORT = """
import sys
from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import export_index
export_index(FaissMultiModalVectorStore(sys.argv[1]), sys.argv[2], nodes_per_shard=50, show_progress=False)
"""
_IMPORT = """
import sys
from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.stores import import_index
import_index(sys.argv[2], FaissMultiModalVectorStore(sys.argv[1]), batch_size=10, show_progress=False)
"""


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("shards_before", [0, 1, 5, 20])
def test_a_killed_export_continues(
    open_store: Callable[..., Any], target: Any, folder: Path, tmp_path: Path, shards_before: int
) -> None:
    source = open_store("source")
    source.add(texts(5000), settings=SETTINGS)

    def has_shards() -> bool:
        manifest = read_manifest(folder)
        return manifest is not None and len(manifest.shards) >= shards_before

    with start_program(_EXPORT, tmp_path / "source", folder) as process:
        assert wait_until(has_shards)
        process.send_signal(signal.SIGKILL)
    manifest = read_manifest(folder)
    assert manifest is not None
    report = export(source, folder, nodes_per_shard=50)
    assert (report.nodes, report.kept, report.shards) == (5000, manifest.nodes, 100)
    assert len(files_of(folder)) == 101
    import_(folder, target, batch_size=1000)
    assert content_of(target) == content_of(source)


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("nodes_before", [1, 300, 2000])
def test_a_killed_import_continues(
    open_store: Callable[..., Any], target: Any, folder: Path, tmp_path: Path, nodes_before: int
) -> None:
    source = open_store("source")
    source.add(texts(5000), settings=SETTINGS)
    export(source, folder, nodes_per_shard=500)
    with start_program(_IMPORT, tmp_path / "target", folder) as process:
        assert wait_until(lambda: target.count() >= nodes_before)
        process.send_signal(signal.SIGKILL)
    there = target.count()
    report = import_(folder, target, batch_size=1000)
    assert (report.nodes, report.kept) == (5000, there)
    assert content_of(target) == content_of(source)
    assert target.settings() == source.settings()
