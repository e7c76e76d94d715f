"""``FileReader``: the base class of readers of files that hold several images each, such as PDF files and videos."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.folder_files import OutsideLinks, list_files, name_error
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.types import OnError


class FileReader(ImageReader):
    """Reads a file, or the files of a folder, which is searched recursively.

    Args:
        follow_links: Whether to follow links that lead out of the folder, and links to folders. By default they are
            left out with a warning.
        id_prefix: Prefix of node ids, see ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, see ``ImageReader``.
        show_progress: Whether to show a progress bar.
    """

    ids_are_files = True

    suffixes: ClassVar[tuple[str, ...]]
    """Suffixes of the files, in lower case, with the dot."""

    what: ClassVar[str]
    """Plural name of the images that the files hold."""

    def __init__(
        self,
        *,
        follow_links: bool = False,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        self.follow_links = follow_links
        self._excluded_links = ""

    @abstractmethod
    def _images_of(self, file: Path, name: str, folder: Path | None) -> Iterator[NodeOrError]:
        """Yield the images of a file; an error that is raised is the error of the rest of the file.

        Args:
            file: The file.
            name: Its path within the folder that is read.
            folder: Folder to which the images are written; None to keep them in the nodes.
        """

    def _root(self, path: Path) -> Path:
        # A single file has the same ids as when its folder is read.
        return path.parent if path.expanduser().is_file() else path

    def _records(self, path: str | Path, images: str | Path | None = None) -> Iterator[NodeOrError]:
        folder = absolute(images)
        return self._read_each(path, lambda file, name: self._images_of(file, name, folder))

    def _read_each(
        self, path: str | Path, read: Callable[[Path, str], Iterator[NodeOrError]], description: str | None = None
    ) -> Iterator[NodeOrError]:
        """Yield what ``read`` yields for each file and its name within the folder.

        Args:
            path: The file or folder.
            read: Reads a file; a ``RecordError`` that it raises is that of the rest of the file.
            description: Title of a progress bar that counts files; None for readers that show bars of their own.
        """
        root = Path(path).expanduser().absolute()
        shown = self.show_progress and description is not None
        for file in tqdm(self._files(root), desc=description, unit="file", disable=not shown):
            name = file.name if file == root else file.relative_to(root).as_posix()
            if (bad_name := name_error(name, file)) is not None:
                yield bad_name
                continue
            try:
                yield from read(file, name)
            except RecordError as error:
                yield error

    def _empty_message(self, path: str | Path, *arguments: Any, **named: Any) -> str:
        return f"{path} holds no {self.what}; {self._excluded_links or f'expected {self._listed_suffixes()} files'}"

    def _files(self, root: Path) -> list[Path]:
        if root.is_file():
            if root.suffix.lower() not in self.suffixes:
                raise ValueError(f"{root} is none of {self._listed_suffixes()}")
            return [root]
        if not root.is_dir():
            raise FileNotFoundError(f"no such file or folder: {root}")
        links = OutsideLinks(root, self.follow_links)
        files = list_files(root, self.suffixes, links=links)
        links.warn()
        self._excluded_links = links.summary()
        return files

    def _listed_suffixes(self) -> str:
        return ", ".join(self.suffixes)


def absolute(path: str | Path | None) -> Path | None:
    """Return an absolute path; None for None."""
    return Path(path).expanduser().absolute() if path is not None else None
