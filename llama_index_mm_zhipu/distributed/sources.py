"""``DatasetSource``: what a reader reads, for processes on other machines; and reading it part by part."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from llama_index.core.schema import BaseNode
from PIL import Image

from llama_index_mm_zhipu.arguments import as_path
from llama_index_mm_zhipu.distributed.checkpoint import CHECKPOINT, LOCK
from llama_index_mm_zhipu.readers import FolderReader, ImageReader, JsonlReader
from llama_index_mm_zhipu.readers.base import NodeOrError
from llama_index_mm_zhipu.readers.columns import JSON_LINES
from llama_index_mm_zhipu.readers.records import RecordError, short_hash

FileState: TypeAlias = tuple[int, int]
"""Size in bytes and time of modification in nanoseconds."""

_NAME_CHARACTERS = 40


class DatasetSource:
    """A reader with the arguments of its ``load_data``.

    Args:
        reader: Any reader of this package. Its ``on_error`` is replaced by that of ``embed_dataset``.
        *args: What to read, as for the reader's ``load_data``.
        **load_kwargs: The same by keyword.

    Attributes:
        key: Name of the path and a hash of reader, path and arguments: the same in each run, however they are spelled.

    Raises:
        TypeError: This is no reader, or it takes other arguments.
        FileNotFoundError: The file or folder does not exist.

    Examples:
        >>> from llama_index_mm_zhipu.distributed import DatasetSource
        >>> from llama_index_mm_zhipu.readers import JsonlReader
        >>> source = DatasetSource(JsonlReader(), "goods.jsonl")
        >>> source.path.name, next(source.iter_records()).text
        ('goods.jsonl', '红苹果')
    """

    def __init__(self, reader: ImageReader, *args: Any, **load_kwargs: Any) -> None:
        if not isinstance(reader, ImageReader):
            raise TypeError(f"a {type(reader).__name__} is not a reader; give one of llama_index_mm_zhipu.readers")
        self.reader = reader
        self.args = args
        self.load_kwargs = load_kwargs
        self._source = reader.source_of(*args, **load_kwargs)
        if not self.path.exists():
            raise FileNotFoundError(f"no such file or folder: {self.path}; check the path")
        self.key = self._key()

    def __repr__(self) -> str:
        """Show reader and path."""
        return f"DatasetSource({type(self.reader).__name__}, {str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The folder or file that contains the images, absolute and without links."""
        return self._source.root

    @property
    def _arguments(self) -> dict[str, Any]:
        return self.reader.arguments_of(*self.args, **self.load_kwargs)

    def _key(self) -> str:
        _, *others = self._arguments.items()
        arguments = {name: str(value) for name, value in others}
        identity = [type(self.reader).__name__, self._source.location, arguments]
        name = self.path.stem if self.path.is_file() else self.path.name
        readable = "".join(character if character.isalnum() else "_" for character in name[:_NAME_CHARACTERS])
        return f"{readable}-{short_hash(json.dumps([*identity, self._source.id_prefix], sort_keys=True))}"

    def iter_records(self) -> Iterator[NodeOrError]:
        """Yield each image, or the error of its record.

        Raises:
            RecordError: A file changed while it was read.
        """
        before = self._file_states()
        yield from self.reader.iter_records(*self.args, **self.load_kwargs)
        after = self._file_states()
        for path in before | after:
            if before.get(path) != after.get(path):
                raise changed(str(path))

    def _file_states(self) -> dict[Path, FileState]:
        """Return the states of the files that are given or in given folders, without images."""
        given = [value for value in self._arguments.values() if isinstance(value, Path)]
        states: dict[Path, FileState] = {}
        for path in {self.path, *given}:
            if path.is_file():
                states[path] = _state_of(path)
            elif path.is_dir():
                states |= {file: _state_of(file) for file in path.iterdir() if _is_text_file(file)}
        return states


SourceInput: TypeAlias = "str | Path | DatasetSource | Sequence[str | Path | DatasetSource]"
"""Input of ``embed_dataset``: folders of images, JSON Lines files, and readers with their arguments."""


def sources_of(given: SourceInput) -> list[DatasetSource]:
    """Return the input as sources.

    Raises:
        FileNotFoundError: A path does not exist.
        TypeError: Something is neither a path nor a source.
        ValueError: A file needs a reader, a source is given twice, or there is none.
    """
    items: Iterable[Any] = [given] if isinstance(given, str | Path | DatasetSource) else given
    if not isinstance(items, Sequence):
        raise _not_a_source(given)
    sources = [_source_of(item) for item in items]
    if not sources:
        raise ValueError("no source is given: give a folder of images, or DatasetSource(reader, path)")
    counts = Counter(source.key for source in sources)
    twice = next((source for source in sources if counts[source.key] > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return sources


def changed(name: str) -> RecordError:
    """Return the error of a file that changed while it was read."""
    return RecordError(name, "changed while it was read; run again, which embeds only what has changed")


def _source_of(item: object) -> DatasetSource:
    if isinstance(item, DatasetSource):
        return item
    if not isinstance(item, str | Path):
        raise _not_a_source(item)
    path = as_path(item, "source")
    if path.suffix.lower() in JSON_LINES:
        return DatasetSource(JsonlReader(), path)
    if path.is_file():
        raise ValueError(f"{path} is a file: name its reader, such as DatasetSource(PageReader(), {str(path)!r})")
    return DatasetSource(FolderReader(), path)


def _not_a_source(item: object) -> TypeError:
    if isinstance(item, ImageReader):
        return TypeError(f"give the reader with what it reads: DatasetSource({type(item).__name__}(…), path)")
    advice = "; images and nodes in memory are embedded by build_index" if isinstance(item, BaseNode | Iterable) else ""
    return TypeError(
        f"cannot read an object of type {type(item).__name__}: give a folder of images, a JSON Lines file, or "
        f"DatasetSource(reader, path){advice}"
    )


def _state_of(path: Path) -> FileState:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def _is_text_file(file: Path) -> bool:
    # A checkpoint may be in the folder of the images.
    is_ours = file.name.startswith((CHECKPOINT, LOCK))
    return not is_ours and file.suffix.lower() not in Image.registered_extensions() and file.is_file()
