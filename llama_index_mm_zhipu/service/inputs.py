"""Choose the reader of each path that is to be indexed: folders, images, JSON Lines, PDF files, slides and videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.embedding.contract import default_caption_weight_of, takes_whole
from llama_index_mm_zhipu.images import caption_of, is_image_file
from llama_index_mm_zhipu.index.read import IndexItem
from llama_index_mm_zhipu.readers import FolderReader, ImageReader, JsonlReader, PageReader, VideoReader
from llama_index_mm_zhipu.readers.folder_files import OutsideLinks, list_files
from llama_index_mm_zhipu.readers.records import FILE_NAME, EmptySourceError
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.types import OnError

JSONL_SUFFIXES = (".jsonl", ".ndjson")

_FILE_READERS: tuple[type[PageReader] | type[VideoReader], ...] = (PageReader, VideoReader)
"""Readers of files that hold many images, alone or in a folder."""


@dataclass
class IndexInputs:
    """The paths to index, with what is left out of them.

    Attributes:
        paths: Folders and files.
        captions: Table of captions for the images of folders, or ``"sidecar"``, as in ``FolderReader``.
        name_column: Column of the table with the names of images.
        caption_column: Column of the table with captions.
        on_error: What to do with images and records that cannot be read.
        show_progress: Whether to show progress bars.

    Raises:
        FileNotFoundError: A path does not exist.
        ImportError: A file needs an extra that is not installed.
        ValueError: A file is of no known type.
    """

    paths: Sequence[Path]
    captions: str | Path | None = None
    name_column: str = FILE_NAME
    caption_column: str | None = "caption"
    on_error: OnError = "skip"
    show_progress: bool = False

    def __post_init__(self) -> None:
        self.skipped = Skipped()
        """Files and records that were left out, with the reasons."""
        # All paths are looked at before anything is read.
        self._parts = [part for path in self.paths for part in self._parts_of(path.expanduser().absolute())]

    @cached_property
    def folder_nodes(self) -> list[list[ImageNode]]:
        """The images of each folder, which are paths with captions."""
        return [[*self._read(part)] for part in self._parts if part.is_folder]

    @property
    def is_light(self) -> bool:
        """Whether all nodes are paths, so that they fit into memory: folders of images, and image files."""
        return all(part.is_light for part in self._parts)

    def items(self) -> list[IndexItem] | Iterator[IndexItem]:
        """Return what ``build_index`` takes: a list if only folders and image files are given, else an iterator."""
        if self.is_light:
            return [*self._iterate()]
        return self._iterate()

    def caption_weight_for(self, model: MultiModalEmbedding) -> float | None:
        """Return the share of captions for a new index; None if ``build_index`` finds it from a list of all images.

        Args:
            model: The embedding model.
        """
        if self.is_light:
            return None
        captions = chain(
            (caption_of(node) for nodes in self.folder_nodes for node in nodes),
            chain.from_iterable(part.captions() for part in self._parts if not part.is_folder),
        )
        # Averaging captions into vectors is right only if each image has one that the model takes whole.
        is_whole = all(caption and takes_whole(model, caption) for caption in captions)
        return default_caption_weight_of(model) if is_whole else 0.0

    def _iterate(self) -> Iterator[IndexItem]:
        folders = iter(self.folder_nodes)
        for part in self._parts:
            if part.is_folder:
                nodes = next(folders)
                # The path of a folder without images lets an index remove those that it had.
                yield from nodes
                if not nodes and len(self._parts) == 1:
                    yield part.path
            elif part.reader is None:
                yield part.path
            else:
                yield from self._read(part)

    def _read(self, part: _Part) -> Iterator[ImageNode]:
        if part.reader is None:
            return
        captions: dict[str, Any] = {"captions": self.captions} if part.is_folder else {}
        try:
            yield from part.reader.lazy_load_data(part.path, **captions)
        except EmptySourceError:
            # A folder may hold other files that have images.
            if len(self._parts) == 1 and not part.is_folder:
                raise
        finally:
            for name, reason in part.reader.skipped.items():
                self.skipped.add(name, reason)
            self.skipped.count += part.reader.skipped.count - len(part.reader.skipped)

    def _parts_of(self, path: Path) -> Iterator[_Part]:
        if not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}")
        if path.is_dir():
            yield from self._parts_of_folder(path)
        elif path.suffix.lower() in JSONL_SUFFIXES:
            yield _Part(path, JsonlReader(on_error=self.on_error, show_progress=self.show_progress))
        elif (reader := _reader_for(path.suffix)) is not None:
            yield _Part(path, self._file_reader(reader))
        elif is_image_file(path):
            yield _Part(path, None)
        else:
            known = [*JSONL_SUFFIXES, *chain.from_iterable(each.suffixes for each in _FILE_READERS)]
            raise ValueError(
                f"{path} is neither an image nor a file with images ({', '.join(known)}); tables (CSV, JSON, Parquet) "
                "are read in Python by ColumnReader; a CSV with captions goes together with the folder of its images"
            )

    def _parts_of_folder(self, folder: Path) -> Iterator[_Part]:
        images = FolderReader(
            name_column=self.name_column,
            caption_column=self.caption_column,
            on_error=self.on_error,
            show_progress=self.show_progress,
        )
        yield _Part(folder, images, is_folder=True)
        for reader in _FILE_READERS:
            files = list_files(folder, reader.suffixes, links=OutsideLinks(folder))
            if not files:
                continue
            try:
                yield _Part(folder, self._file_reader(reader))
            except ImportError as error:
                # The images beside them can be indexed.
                for file in files:
                    self.skipped.add(str(file), str(error))

    def _file_reader(self, reader: type[PageReader] | type[VideoReader]) -> ImageReader:
        return reader(on_error=self.on_error, show_progress=self.show_progress)


@dataclass(frozen=True)
class _Part:
    """A path with the reader of its images; None for an image file."""

    path: Path
    reader: ImageReader | None
    is_folder: bool = False

    @property
    def is_light(self) -> bool:
        """Whether the nodes are paths, so that all of them fit into memory."""
        return self.is_folder or self.reader is None

    def captions(self) -> Iterator[str]:
        """Yield the captions of the images; empty ones for pages, frames and image files."""
        if isinstance(self.reader, JsonlReader):
            yield from self.reader.captions(self.path)
        else:
            yield ""


def _reader_for(suffix: str) -> type[PageReader] | type[VideoReader] | None:
    return next((reader for reader in _FILE_READERS if suffix.lower() in reader.suffixes), None)
