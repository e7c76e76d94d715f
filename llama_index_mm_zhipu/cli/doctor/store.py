"""Check the files of an index without writing to them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from llama_index_mm_zhipu.cli.doctor.check import GIB, Context, Finding, joined, size_text
from llama_index_mm_zhipu.cli.doctor.wording import Wording

MAX_CHECKED = GIB
"""Size of a file, in bytes, from which its pages are not checked, because that takes long."""

_MAX_PROBLEMS = 3
# SQLite 3.44 checks full-text tables by writing to them, which fails here. Later versions only read.
_NO_PROBLEM = ("ok", "unable to validate the inverted index")


@dataclass
class StoreFile:
    """What was found in one of the two files of an index.

    Attributes:
        path: The file.
        is_in_use: Whether another process has it open, or did not close it.
        count: Number of nodes; None if the file cannot be read.
        model: Recorded embedding model; None if there is none.
        findings: What is wrong with the file, or should be known about it.
    """

    path: Path
    is_in_use: bool
    count: int | None = None
    model: str | None = None
    findings: list[Finding] = field(default_factory=list)


def check_store(context: Context) -> Finding | None:
    """Check that the files of an index can be read, are intact and belong to the model."""
    from llama_index_mm_zhipu.index.stores import IMAGE_NAMESPACE, TEXT_NAMESPACE
    from llama_index_mm_zhipu.vector_store.database import may_be_written

    words, folder = context.words, context.store
    if folder is None:
        return None
    paths = [folder / f"{namespace}.sqlite3" for namespace in (IMAGE_NAMESPACE, TEXT_NAMESPACE)]
    try:
        missing = [path.name for path in paths if not path.is_file()]
    except OSError as error:
        detail = words.store_unreadable.format(name=folder, reason=error.strerror)
        return Finding("failed", detail, words.store_unreadable_advice)
    if len(missing) == len(paths):
        return Finding("warning", words.store_absent.format(folder=folder), words.store_absent_advice)
    if missing:
        detail = words.store_incomplete.format(name=missing[0], folder=folder)
        return Finding("failed", detail, words.store_incomplete_advice)
    is_writable = all(map(may_be_written, paths))
    found = [_examined(path, words, is_writable=is_writable) for path in paths]
    findings = [finding for each in found for finding in each.findings]
    images, texts = found
    if images.count is not None and texts.count is not None:
        counts = words.store_counts.format(images=f"{images.count:,}", texts=f"{texts.count:,}")
        findings = [Finding("ok", counts), *findings, *_model_findings(images.model, context)]
        findings.append(Finding("ok", words.store_writable if is_writable else words.store_read_only))
    if any(each.is_in_use for each in found):
        findings.append(Finding("ok", words.store_in_use))
    return joined(findings, words)


def _examined(path: Path, words: Wording, *, is_writable: bool) -> StoreFile:
    """Read one file. Errors of SQLite become findings."""
    log, log_index = (path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm"))
    file = StoreFile(path, is_in_use=log.exists() and log_index.exists())
    if log.exists() and log.stat().st_size and not log_index.exists():
        # To read the log, SQLite would have to write its index.
        file.findings.append(Finding("warning", words.store_log.format(name=path.name), words.store_log_advice))
        return file
    before = _state(path)
    try:
        with closing(_connected(file)) as connection:
            file.findings += _read(file, connection, words, is_writable=is_writable)
    except sqlite3.OperationalError as error:
        detail = words.store_unreadable.format(name=path.name, reason=error)
        file.findings = [Finding("failed", detail, words.store_unreadable_advice)]
    except (sqlite3.DatabaseError, ValueError) as error:
        file.findings = [_damaged(path, str(error), words)]
    if not file.is_in_use and (_state(path) != before or log.exists()):
        # The file was opened as one that nobody changes: what was found may be wrong.
        changed = Finding("warning", words.store_changed.format(name=path.name), words.store_changed_advice)
        return StoreFile(path, is_in_use=True, findings=[changed])
    return file


def _connected(file: StoreFile) -> sqlite3.Connection:
    """Open a file so that SQLite creates no other files: it follows a log that is there, else the file is immutable."""
    option = "mode=ro" if file.is_in_use else "immutable=1"
    return sqlite3.connect(f"{file.path.absolute().as_uri()}?{option}", uri=True)


def _read(file: StoreFile, connection: sqlite3.Connection, words: Wording, *, is_writable: bool) -> Iterator[Finding]:
    """Read version, model and number of nodes of a file, and yield what is wrong with it."""
    from llama_index_mm_zhipu.vector_store.contract import MODEL
    from llama_index_mm_zhipu.vector_store.schema import MIGRATIONS, version_of

    name, version, known = file.path.name, version_of(connection), len(MIGRATIONS)
    if version == 0:
        yield Finding("failed", words.store_empty_file.format(name=name), words.store_damaged_advice)
        return
    if version > known:
        detail = words.store_newer.format(name=name, version=version, known=known)
        yield Finding("failed", detail, words.store_newer_advice)
        return
    if version < known:
        detail = words.store_older.format(name=name, version=version, known=known)
        yield Finding("ok", detail) if is_writable else Finding("failed", detail, words.store_older_read_only_advice)
    size = file.path.stat().st_size
    if size < MAX_CHECKED:
        rows = connection.execute(f"pragma quick_check({_MAX_PROBLEMS})").fetchall()
        if problems := [text for (text,) in rows if not text.startswith(_NO_PROBLEM)]:
            yield _damaged(file.path, words.comma.join(problems), words)
            return
        yield Finding("ok", words.store_intact.format(name=name))
    else:
        yield Finding("ok", words.store_not_checked.format(name=name, size=size_text(size)))
    row = connection.execute("select value from settings where key = ?", (MODEL,)).fetchone()
    file.model = json.loads(row[0]) if row else None
    (file.count,) = connection.execute("select count(*) from nodes").fetchone()


def _damaged(path: Path, reason: str, words: Wording) -> Finding:
    return Finding("failed", words.store_damaged.format(name=path.name, reason=reason), words.store_damaged_advice)


def _model_findings(recorded: str | None, context: Context) -> Iterator[Finding]:
    """Yield whether the recorded model is that of the context, as far as that is known."""
    words = context.words
    if recorded is None or not context.architecture:
        return
    if recorded == context.fingerprint:
        yield Finding("ok", words.store_model)
        return
    architecture, _, _ = recorded.partition(" sha256:")
    is_same_architecture = architecture == context.architecture
    if is_same_architecture and not context.fingerprint:
        yield Finding("ok", words.store_model_likely)
        return
    model = context.fingerprint or context.architecture
    detail = words.store_other_model.format(recorded=recorded, model=model)
    advice = words.store_other_weights_advice if is_same_architecture else words.store_other_model_advice
    # A model that was not asked for may just not be the one that will be used.
    yield Finding("warning" if context.is_default_model else "failed", detail, advice)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
