"""Listing of the files in a folder, without hidden files and without links that lead out of the folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.reporting import WORDING_KEY
from llama_index_mm_zhipu.text import counted, one_line

logger = logging.getLogger(__name__)

_LEFT_OUT = "left out %s to outside of %s, such as %s -> %s; follow_links=True reads them"


class OutsideLinks:
    """Decides about links that lead out of a folder, and reports those that are not followed.

    Args:
        root: The folder.
        follow_links: Whether to follow such links.
    """

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root = root
        self.follow_links = follow_links
        self._real_root = Path(os.path.realpath(root))
        self._excluded: list[Path] = []
        self._unreadable: list[OSError] = []

    def excludes(self, path: Path) -> bool:
        """Return whether a path is a link out of the folder that must not be followed, and add it to the report."""
        if self.follow_links or not _is_link(path) or self._is_inside(path):
            return False
        self._excluded.append(path)
        return True

    def add_unreadable(self, error: OSError) -> None:
        """Add a folder that cannot be listed to the report."""
        self._unreadable.append(error)

    def summary(self) -> str:
        """Return the number of links that were left out and the first of them, or ``""`` if there were none."""
        return _LEFT_OUT % self._excluded_links() if self._excluded else ""

    def warn(self) -> None:
        """Log links and folders that were left out."""
        if self._unreadable:
            first = self._unreadable[0]
            logger.warning(
                "left out %s in %s, as listing them failed; the first is %s: %s",
                counted(len(self._unreadable), "folder"),
                one_line(str(self.root)),
                one_line(str(first.filename)),
                first.strerror,
            )
        if self._excluded:
            logger.warning(_LEFT_OUT, *self._excluded_links(), extra={WORDING_KEY: "outside_links"})

    def _excluded_links(self) -> tuple[str, str, str, str]:
        """Return the values of ``_LEFT_OUT``: the number of links, the folder, the first link, and where it leads."""
        first = self._excluded[0]
        name = one_line(first.relative_to(self.root).as_posix())
        return counted(len(self._excluded), "link"), str(self.root), name, one_line(os.path.realpath(first))

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._real_root)


def list_files(root: Path, suffixes: Collection[str], recursive: bool = True, *, links: OutsideLinks) -> list[Path]:
    """Return the sorted files with certain suffixes; hidden files and folders are left out.

    Args:
        root: The folder.
        suffixes: Suffixes in lower case, with the dot.
        recursive: Whether to list subfolders too.
        links: Decides about links that lead out of the folder. Links to folders are followed only with
            ``follow_links=True``, and every folder is listed once, so circular links end. Folders that cannot be listed
            are added to its report.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    files = [
        file
        for file in _entries(root, recursive, links)
        if file.suffix.lower() in suffixes and _may_be_file(file) and not links.excludes(file)
    ]
    return sorted(files)


def name_error(name: str, file: Path) -> RecordError | None:
    """Return an error if a name is not UTF-8, so that no store can hold it, otherwise None."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return RecordError(one_line(str(file)), "the name is not UTF-8; rename it")
    return None


def _entries(root: Path, recursive: bool, links: OutsideLinks) -> Iterator[Path]:
    """Yield everything in a folder that is not a folder itself.

    Linked folders are listed last: a file that is also reached without a link is yielded with that path.
    """
    folders, linked = [root], list[Path]()
    seen = {os.path.realpath(root)}
    while folders or linked:
        if folders:
            folder = folders.pop()
        else:
            folder = linked.pop(0)
            if (real := os.path.realpath(folder)) in seen:
                continue
            seen.add(real)
        for entry in _visible_entries(folder, links):
            path = folder / entry.name
            if not _is_folder(entry):
                yield path
            elif not recursive:
                continue
            elif not entry.is_symlink():
                # A link into the middle of a tree may have led to this folder before.
                if (real := os.path.realpath(path)) not in seen:
                    seen.add(real)
                    folders.append(path)
            elif links.follow_links:
                linked.append(path)
            else:
                # Adds the link to the report if it leads out of the folder.
                links.excludes(path)


def _visible_entries(folder: Path, links: OutsideLinks) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        if folder == links.root:
            raise
        links.add_unreadable(error)
        return []


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False


def _may_be_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # The disk fails, for example. Reading the file raises an error that says so.
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    # Office programs create files such as "~$lecture.pptx" beside open documents.
    return name.startswith((".", "~$"))
