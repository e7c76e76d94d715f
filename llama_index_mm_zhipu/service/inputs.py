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
from PIL import Image

from llama_index_mm_zhipu.arguments import as_path
from llama_index_mm_zhipu.embedding.contract import default_caption_weight_of, takes_whole
from llama_index_mm_zhipu.images import ImageError, caption_of, is_image_file, open_image
from llama_index_mm_zhipu.index.read import IndexItem
from llama_index_mm_zhipu.readers import FolderReader, ImageReader, JsonlReader, PageReader, VideoReader
from llama_index_mm_zhipu.readers.folder import SIDECAR, image_suffixes
from llama_index_mm_zhipu.readers.folder_files import OutsideLinks, list_files
from llama_index_mm_zhipu.readers.records import FILE_NAME, EmptySourceError
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.types import OnError

JSONL_SUFFIXES = (".jsonl", ".ndjson")

_FILE_READERS: tuple[type[PageReader] | type[VideoReader], ...] = (PageReader, VideoReader)
"""Readers of files that hold many images, alone or in a folder."""


@dataclass
class IndexInputs:
    """The paths to index, with what is left out of them. They are read once.

    Attributes:
        paths: A folder or file, or several; a path that is given twice is read once.
        captions: Table of captions for the images of the one folder that is given, or ``"sidecar"`` for any number of
            folders, as in ``FolderReader``.
        name_column: Column of the table with the names of images.
        caption_column: Column of the table with captions.
        on_error: What to do with images and records that cannot be read. A path that is given alone must be readable.
        show_progress: Whether to show progress bars.

    Raises:
        FileNotFoundError: A path does not exist.
        ImageError: An image that is given alone, or with ``on_error="raise"``, cannot be read.
        ImportError: A file needs an extra that is not installed.
        ValueError: There is no path, a file is of no known type, or captions are given and not the folder that they
            belong to.

    Examples:
        >>> from llama_index_mm_zhipu.service.inputs import IndexInputs
        >>> inputs = IndexInputs("images", captions="goods.csv", name_column="图片", caption_column="标题")
        >>> len(inputs.items()), inputs.is_light
        (12, True)
    """

    paths: str | Path | Sequence[str | Path]
    captions: str | Path | None = None
    name_column: str = FILE_NAME
    caption_column: str | None = "caption"
    on_error: OnError = "skip"
    show_progress: bool = False

    def __post_init__(self) -> None:
        self.skipped = Skipped()
        """Files and records that were left out, with the reasons."""
        self._empty: dict[Path, str] = {}
        given = [self.paths] if isinstance(self.paths, str | Path) else self.paths
        paths = {_identity_of(path): path for path in (as_path(each, "paths").absolute() for each in given)}
        if not paths:
            raise ValueError("no paths are given")
        # All paths are looked at before anything is read.
        self._parts = {path: [*self._parts_of(path, is_alone=len(paths) == 1)] for path in paths.values()}
        self._require_folder_of_captions()

    @property
    def folders(self) -> list[Path]:
        """The paths that are folders."""
        return [path for path in self._parts if path.is_dir()]

    @cached_property
    def folder_nodes(self) -> dict[Path, list[ImageNode]]:
        """The images of each folder, which are paths with captions."""
        return {part.path: [*self._read(part)] for part in self._all_parts if part.is_folder}

    @property
    def is_light(self) -> bool:
        """Whether all nodes are paths, so that they fit into memory: folders of images, and image files."""
        return all(part.is_light for part in self._all_parts)

    def items(self, *, allow_empty: bool = False) -> list[IndexItem] | Iterator[IndexItem]:
        """Return what ``build_index`` takes: a list if only folders and image files are given, else an iterator.

        Paths without images are added to ``skipped``.

        Args:
            allow_empty: Whether none of the paths may have images.

        Raises:
            EmptySourceError: None has; the iterator raises it at its end.

        Examples:
            >>> from llama_index_mm_zhipu.service.inputs import IndexInputs
            >>> items = IndexInputs(["images", "query.jpg"]).items()
            >>> len(items)
            13
        """
        items = self._iterate(allow_empty)
        return [*items] if self.is_light else items

    def caption_weight_for(self, model: MultiModalEmbedding) -> float | None:
        """Return the share of captions for a new index; None if ``build_index`` finds it from a list of all images.

        Args:
            model: The embedding model.
        """
        if self.is_light:
            return None
        captions = chain(
            (caption_of(node) for nodes in self.folder_nodes.values() for node in nodes),
            chain.from_iterable(part.captions() for part in self._all_parts if not part.is_folder),
        )
        # Averaging captions into vectors is right only if each image has one that the model takes whole.
        is_whole = all(caption and takes_whole(model, caption) for caption in captions)
        return default_caption_weight_of(model) if is_whole else 0.0

    @property
    def _all_parts(self) -> Iterator[_Part]:
        return chain.from_iterable(self._parts.values())

    def _require_folder_of_captions(self) -> None:
        if self.captions is None:
            return
        if not self.folders:
            raise ValueError("captions belong to the images of a folder; give the folder instead of its files")
        if self.captions != SIDECAR and len(self.folders) > 1:
            raise ValueError(
                f"{self.captions} has the captions of one folder, and {len(self.folders)} are given; index one after "
                "the other, each with its captions"
            )

    def _iterate(self, allow_empty: bool) -> Iterator[IndexItem]:
        has_any = False
        for path, parts in self._parts.items():
            is_empty, skipped_before = True, self.skipped.count
            for item in chain.from_iterable(map(self._items_of, parts)):
                is_empty = False
                yield item
            has_any = has_any or not is_empty
            if is_empty and parts and self.skipped.count == skipped_before:
                self.skipped.add(str(path), self._empty[path])
        if not has_any and not allow_empty:
            reasons = [*self._empty.values(), *self.skipped.values()]
            raise EmptySourceError(f"nothing to index: {reasons[0]}")

    def _items_of(self, part: _Part) -> Iterator[IndexItem]:
        if part.is_folder:
            yield from self.folder_nodes[part.path]
        elif part.reader is None:
            yield part.path
        else:
            yield from self._read(part)

    def _read(self, part: _Part) -> Iterator[ImageNode]:
        assert part.reader is not None
        captions: dict[str, Any] = {"captions": self.captions} if part.is_folder else {}
        try:
            yield from part.reader.lazy_load_data(part.path, **captions)
        except EmptySourceError as error:
            # Another part of the path, or another path, may have images.
            self._empty.setdefault(part.path, str(error))
        finally:
            for name, reason in part.reader.skipped.items():
                self.skipped.add(name, reason)
            self.skipped.count += part.reader.skipped.count - len(part.reader.skipped)

    def _parts_of(self, path: Path, *, is_alone: bool) -> Iterator[_Part]:
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
        elif path.suffix.lower() in Image.registered_extensions():
            self._skip_image(path, is_alone)
        else:
            known = [*JSONL_SUFFIXES, *chain.from_iterable(each.suffixes for each in _FILE_READERS)]
            raise ValueError(
                f"{path} is neither an image nor a file with images ({', '.join(known)}); tables (CSV, JSON, Parquet) "
                "are read in Python by ColumnReader; a CSV with captions goes together with the folder of its images"
            )

    def _skip_image(self, path: Path, is_alone: bool) -> None:
        """Leave out an image that cannot be read.

        Raises:
            ImageError: It must be readable.
        """
        try:
            with open_image(path):
                # Says what is wrong with it.
                pass
        except ImageError as error:
            if is_alone or self.on_error == "raise":
                raise
            self.skipped.add(str(path), str(error))

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


def file_suffixes() -> list[str]:
    """Return the suffixes of images and of files with images, which hold all that is indexed of them.

    JSON Lines are not among them: their records may name other files.
    """
    return sorted({*image_suffixes(), *chain.from_iterable(reader.suffixes for reader in _FILE_READERS)})


def _identity_of(path: Path) -> Path:
    """Return what two ways to write a path have in common; a link to a file is not the file, as in folders."""
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _reader_for(suffix: str) -> type[PageReader] | type[VideoReader] | None:
    return next((reader for reader in _FILE_READERS if suffix.lower() in reader.suffixes), None)
