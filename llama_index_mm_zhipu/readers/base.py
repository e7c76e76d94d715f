"""``ImageReader``: the base class of all readers of image sets."""

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
from llama_index_mm_zhipu.images import require_valid_path
from llama_index_mm_zhipu.readers.records import EmptySourceError, RecordError, Source
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.text import counted
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

NodeOrError: TypeAlias = ImageNode | RecordError

T = TypeVar("T")

# Data sets have millions of records: the report of skipped records must not grow with them.
_MAX_LISTED = 20


class ImageReader(BaseReader):
    """Reads images one at a time, so that memory use does not grow with the data set.

    Node ids are ``<name of the source>-<hash of its path>/<id within the source>``. Images of two folders or files
    never replace each other, and indexing a source again finds its images. A source that is moved or renamed has other
    ids; ``build_index`` then recognizes its images by their content.

    Args:
        id_prefix: Prefix of node ids, which replaces name and hash of the source; ``""`` for ids without a prefix.
        on_error: ``"raise"`` an error at the first record that cannot be used, or ``"skip"`` such records and list them
            in ``skipped`` and in a warning.
        show_progress: Whether to show a progress bar.

    Attributes:
        skipped: Records that the last reading skipped, with reasons by position (file and line). It holds the first 20
            reasons; ``skipped.count`` is the number of all skipped records.

    Examples:
        >>> from llama_index_mm_zhipu.readers import FolderReader
        >>> reader = FolderReader(on_error="skip", id_prefix="shop")
        >>> [node.node_id for node in reader.lazy_load_data("images")][:2], reader.skipped.count
        (['shop/apple.jpg', 'shop/car.jpg'], 0)
    """

    ids_are_files: ClassVar[bool] = False
    """Whether ids within the source are paths of files; otherwise they are ids of records."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the constructors of all readers reject unknown arguments."""
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
        self.skipped = Skipped(_MAX_LISTED)

    def load_data(self, *args: Any, **load_kwargs: Any) -> list[ImageNode]:  # type: ignore[override]
        """Return all images as a list; arguments and errors are those of ``lazy_load_data``.

        Examples:
            >>> from llama_index_mm_zhipu.readers import JsonlReader
            >>> len(JsonlReader().load_data("goods.jsonl"))
            12
        """
        return list(self.lazy_load_data(*args, **load_kwargs))

    # LlamaIndex annotates documents, but accepts nodes, and its engines recognize images only as ImageNode.
    def lazy_load_data(  # type: ignore[override]
        self, *args: Any, extra_info: dict[str, Any] | None = None, **load_kwargs: Any
    ) -> Iterator[ImageNode]:
        """Yield one node per image while reading.

        Args:
            *args: What to read; see the class of the reader.
            extra_info: Metadata to add to every node; ``SimpleDirectoryReader`` passes it to its file extractors.
            **load_kwargs: The same arguments by keyword.

        Returns:
            Nodes with captions as text, one a line.

        Raises:
            RecordError: A record cannot be used, and ``on_error="raise"``.
            FileNotFoundError: A file does not exist.
            TypeError: An argument is unknown; the message suggests the closest one.
            ValueError: There are no images.

        Examples:
            >>> from llama_index_mm_zhipu.readers import JsonlReader
            >>> node = next(JsonlReader().lazy_load_data("goods.jsonl", extra_info={"shop": "北京"}))
            >>> node.text, node.metadata["shop"]
            ('红苹果', '北京')
        """
        self._require_arguments(load_kwargs)
        return self._read(extra_info or {}, *args, **load_kwargs)

    def iter_records(self, *args: Any, **load_kwargs: Any) -> Iterator[NodeOrError]:
        """Yield the node of each image, or the error of its record, whatever ``on_error`` is.

        For programs that keep an account of all records; ``lazy_load_data`` keeps the first reasons only.

        Args:
            *args: As for ``lazy_load_data``.
            **load_kwargs: As for ``lazy_load_data``.

        Raises:
            FileNotFoundError: A file does not exist.
            TypeError: An argument is unknown; the message suggests the closest one.

        Examples:
            >>> from llama_index_mm_zhipu.readers import JsonlReader, RecordError
            >>> records = list(JsonlReader().iter_records("goods.jsonl"))
            >>> len(records), sum(isinstance(record, RecordError) for record in records)
            (12, 0)
        """
        self._require_arguments(load_kwargs)
        source = self.source_of(*args, **load_kwargs)
        return (
            record if isinstance(record, RecordError) else source.identify_relatives(source.identify(record))
            for record in self._records(*args, **load_kwargs)
        )

    def source_of(self, *args: Any, **load_kwargs: Any) -> Source:
        """Return the source that ``load_data`` reads with the same arguments: the first one is its path.

        Examples:
            >>> from llama_index_mm_zhipu.readers import FolderReader
            >>> source = FolderReader(id_prefix="shop").source_of("images")
            >>> source.root.name, source.id_prefix
            ('images', 'shop')
        """
        argument, value = next(iter(self._bound(*args, **load_kwargs).items()))
        path = as_path(value, argument)
        require_valid_path(path)
        return Source.of(self._root(path), self.id_prefix, ids_are_files=self.ids_are_files)

    def arguments_of(self, *args: Any, **load_kwargs: Any) -> dict[str, Any]:
        """Return the arguments of ``load_data`` by name, defaults included, however they are spelled.

        Files and folders that exist are absolute paths without links.

        Examples:
            >>> from llama_index_mm_zhipu.readers import FolderReader
            >>> arguments = FolderReader().arguments_of("images", captions="sidecar")
            >>> arguments["folder"].name, arguments["captions"]
            ('images', 'sidecar')
        """
        parameters = inspect.signature(self._records).parameters
        return {
            name: _existing_path(value) if "Path" in str(parameters[name].annotation) else value
            for name, value in self._bound(*args, **load_kwargs).items()
        }

    def _bound(self, *args: Any, **load_kwargs: Any) -> dict[str, Any]:
        signature = inspect.signature(self._records)
        try:
            bound = signature.bind(*args, **load_kwargs)
        except TypeError as error:
            call = f"{type(self).__name__}.load_data"
            raise TypeError(f"{call}: {error}; it takes {', '.join(signature.parameters)}") from None
        bound.apply_defaults()
        return bound.arguments

    def _require_arguments(self, load_kwargs: dict[str, Any]) -> None:
        known = keyword_names(self._records) | {"extra_info"}
        require_known(f"{type(self).__name__}.load_data", load_kwargs, known)

    def _read(self, extra_info: dict[str, Any], *args: Any, **load_kwargs: Any) -> Iterator[ImageNode]:
        count = 0
        for node in self._without_errors(self.iter_records(*args, **load_kwargs)):
            count += 1
            node.metadata = {**extra_info, **node.metadata}
            yield node
        if not count:
            message = self._empty_message(*args, **load_kwargs)
            if self.skipped:
                position, reason = next(iter(self.skipped.items()))
                message += f"; skipped {counted(self.skipped.count, 'record')}, first {position}: {reason}"
            raise EmptySourceError(message)

    def _without_errors(self, records: Iterator[T | RecordError]) -> Iterator[T]:
        """Yield records; an error is raised, or added to ``skipped`` with ``on_error="skip"``."""
        self.skipped = Skipped(_MAX_LISTED)
        count = 0
        try:
            for record in records:
                if not isinstance(record, RecordError):
                    count += 1
                    yield record
                elif self.on_error == "raise":
                    raise record
                else:
                    self.skipped.add(record.position, record.reason)
        finally:
            # The caller may stop reading early; the report is logged then, too.
            if self.skipped:
                logger.warning("%s", self.skipped.summary(self.skipped.count + count, "records"))

    def _root(self, path: Path) -> Path:
        """Return the folder or file within which ids are unique."""
        return path

    @abstractmethod
    def _records(self, *args: Any, **load_kwargs: Any) -> Iterator[NodeOrError]:
        """Yield each image, or the error of its record. Parameters are those of ``load_data``."""

    @abstractmethod
    def _empty_message(self, *args: Any, **load_kwargs: Any) -> str:
        """Return the message for a source without images, which says what was expected."""


def _existing_path(value: Any) -> Any:
    """Return an existing path absolute and without links, and other values unchanged."""
    if not isinstance(value, str | Path):
        return value
    path = Path(value).expanduser()
    return path.resolve() if path.exists() else value
