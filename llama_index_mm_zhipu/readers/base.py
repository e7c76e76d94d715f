"""What all readers of image sets have in common."""

from __future__ import annotations

import inspect
import logging
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

from llama_index.core.readers.base import BaseReader
from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.arguments import (
    as_path,
    explicit_arguments,
    explicit_constructor,
    keyword_names,
    require_choice,
    require_known,
)
from llama_index_mm_zhipu.images.streams import require_possible
from llama_index_mm_zhipu.readers.records import EmptySourceError, RecordError, Source
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

NodeOrError: TypeAlias = ImageNode | RecordError

T = TypeVar("T")

_LISTED = 20


class ImageReader(BaseReader):
    """Reads images one after the other, in flat memory.

    Node ids are ``<name of the source>-<hash of its path>/<id within the source>``: images of two folders or files
    never replace each other, and indexing one of them again finds its images. Moved or renamed sources have other ids,
    and ``build_index`` finds their images by content.

    Args:
        id_prefix: What node ids begin with instead, before a slash; ``""`` for the ids within the source alone.
        on_error: ``"raise"`` at the first record that cannot be used, or ``"skip"`` such records: they are counted in
            ``skipped_count``, and the first of them stand in ``skipped`` and in a warning.
        show_progress: Show a progress bar.

    Attributes:
        skipped: Messages of the first records left out by the last reading.
        skipped_count: How many were left out.
    """

    ids_are_files: ClassVar[bool] = False
    """Whether ids within the source are paths of files; else they are those of records."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Have the constructors of all readers refuse unknown arguments."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            explicit_constructor(cls)

    @explicit_arguments
    def __init__(
        self, *, id_prefix: str | None = None, on_error: OnError = "raise", show_progress: bool = False
    ) -> None:
        require_choice(on_error, "on_error", "raise", "skip")
        self.id_prefix = id_prefix
        self.on_error: OnError = on_error
        self.show_progress = show_progress
        self.skipped: list[str] = []
        self.skipped_count = 0

    # LlamaIndex declares documents; it takes nodes all the same, and its engines know images as these.
    def lazy_load_data(  # type: ignore[override]
        self, *args: Any, extra_info: dict[str, Any] | None = None, **load_kwargs: Any
    ) -> Iterator[ImageNode]:
        """Read images as they are asked for.

        Args:
            *args: What is read, as each reader says.
            extra_info: Metadata for every node, as ``SimpleDirectoryReader`` gives it to its file extractors.
            **load_kwargs: As ``args``.

        Returns:
            A node an image, with its captions as text, a line each.

        Raises:
            RecordError: A record cannot be used, with ``on_error="raise"``.
            FileNotFoundError: A file is missing.
            TypeError: An argument is not known; the message says which one is meant.
            ValueError: There is no image at all.
        """
        known = keyword_names(self._records) | {"extra_info"}
        require_known(f"{type(self).__name__}.load_data", load_kwargs, known)
        return self._read(extra_info or {}, *args, **load_kwargs)

    def _read(self, extra_info: dict[str, Any], *args: Any, **load_kwargs: Any) -> Iterator[ImageNode]:
        source = self.source_of(*args, **load_kwargs)
        count = 0
        for node in self._usable(self._records(*args, **load_kwargs)):
            count += 1
            node.metadata = {**extra_info, **node.metadata}
            yield source.identify(node)
        if not count:
            reasons = f"; skipped {self.skipped_count} records, first {self.skipped[0]}" if self.skipped else ""
            raise EmptySourceError(self._nothing_read(*args, **load_kwargs) + reasons)

    def load_data(self, *args: Any, **load_kwargs: Any) -> list[ImageNode]:  # type: ignore[override]
        """Read all images."""
        return list(self.lazy_load_data(*args, **load_kwargs))

    def source_of(self, *args: Any, **load_kwargs: Any) -> Source:
        """Return the source that ``load_data`` with these arguments reads: what its first argument names."""
        signature = inspect.signature(self._records)
        try:
            bound = signature.bind(*args, **load_kwargs)
        except TypeError as error:
            call = f"{type(self).__name__}.load_data"
            raise TypeError(f"{call}: {error}; it takes {', '.join(signature.parameters)}") from None
        argument, value = next(iter(bound.arguments.items()))
        path = as_path(value, argument)
        require_possible(path)
        root = self._root(path)
        return Source.of(root, self.id_prefix, ids_are_files=self.ids_are_files)

    def _root(self, path: Path) -> Path:
        """Return the folder or file within which ids are unique."""
        return path

    @abstractmethod
    def _records(self, *args: Any, **load_kwargs: Any) -> Iterator[NodeOrError]:
        """Yield each image, or the error of its record."""

    @abstractmethod
    def _nothing_read(self, *args: Any, **load_kwargs: Any) -> str:
        """Say that there was no image, and what was expected."""

    def _usable(self, records: Iterator[T | RecordError]) -> Iterator[T]:
        """Yield the records that can be used; the first that cannot ends it, or such are counted."""
        self.skipped, self.skipped_count = [], 0
        count = 0
        try:
            for record in records:
                if not isinstance(record, RecordError):
                    count += 1
                    yield record
                elif self.on_error == "raise":
                    raise record
                else:
                    self._skip(record)
        finally:
            # Of a reading that is left early, too.
            if self.skipped_count:
                listed = "; ".join(self.skipped)
                logger.warning("skipped %d of %d records: %s", self.skipped_count, self.skipped_count + count, listed)

    def _skip(self, error: RecordError) -> None:
        self.skipped_count += 1
        if len(self.skipped) < _LISTED:
            self.skipped.append(str(error))
