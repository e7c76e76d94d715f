"""Files of a folder, those that are hidden or lie outside it left out."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from llama_index_mm_zhipu.images.errors import one_line
from llama_index_mm_zhipu.readers.errors import RecordError

logger = logging.getLogger(__name__)


class OutsideLinks:
    """Links that are not followed as they lead out of a folder; said in one warning.

    Args:
        root: The folder.
        follow_links: Whether they are followed all the same.
    """

    def __init__(self, root: Path, follow_links: bool = False) -> None:
        self.root = root
        self.follow_links = follow_links
        self._real_root = Path(os.path.realpath(root))
        self._left_out: list[Path] = []
        self._unreadable: list[OSError] = []

    def leaves_out(self, path: Path) -> bool:
        """Return whether a path within the folder is a link to somewhere else that is not to be followed."""
        if self.follow_links or not _is_link(path) or self.is_inside(path):
            return False
        self._left_out.append(path)
        return True

    def is_inside(self, path: Path) -> bool:
        """Whether a path, with all links followed, lies within the folder."""
        return Path(os.path.realpath(path)).is_relative_to(self._real_root)

    def left_out(self) -> str:
        """Say how many links were left out, and the first of them; empty if none was."""
        if not self._left_out:
            return ""
        first = self._left_out[0]
        return (
            f"left out {len(self._left_out)} links that lead out of {self.root}, such as "
            f"{one_line(first.relative_to(self.root).as_posix())} -> {one_line(os.path.realpath(first))}; "
            "follow_links=True reads them"
        )

    def note_unreadable(self, error: OSError) -> None:
        """Note a folder that cannot be listed."""
        self._unreadable.append(error)

    def warn(self) -> None:
        """Log what was left out."""
        if self._unreadable:
            first = self._unreadable[0]
            logger.warning(
                "left out %d folders in %s that cannot be listed, such as %s: %s",
                len(self._unreadable),
                one_line(str(self.root)),
                one_line(str(first.filename)),
                first.strerror,
            )
        if self._left_out:
            logger.warning("%s", self.left_out())


def visible_files(root: Path, endings: Collection[str], recursive: bool = True, *, links: OutsideLinks) -> list[Path]:
    """Return the files with certain endings, sorted; hidden files and folders are left out.

    Args:
        root: The folder.
        endings: In lower case, with the dot.
        recursive: Look into folders inside it, too.
        links: What to do about links that lead out of the folder. Links to folders are looked into only with its
            ``follow_links``, and each folder once, so links that lead in a circle end. It notes folders that cannot be
            listed.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    files = [
        file
        for file in _entries(root, recursive, links)
        if file.suffix.lower() in endings and _may_be_file(file) and not links.leaves_out(file)
    ]
    return sorted(files)


def name_error(name: str, file: Path) -> RecordError | None:
    """Return the error of a name that no store can hold, as it is not UTF-8, or None."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return RecordError(f"the name of {one_line(str(file))} is not UTF-8; rename the file")
    return None


def _entries(root: Path, recursive: bool, links: OutsideLinks) -> Iterator[Path]:
    """Yield what is no folder, folders that links lead to after all others, so that files have their own paths."""
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
        for entry in _listed(folder, links):
            path = folder / entry.name
            if not _is_folder(entry):
                yield path
            elif not recursive:
                continue
            elif not entry.is_symlink():
                # A folder may have been reached by a link that leads into the middle of a tree.
                if (real := os.path.realpath(path)) not in seen:
                    seen.add(real)
                    folders.append(path)
            elif links.follow_links:
                linked.append(path)
            else:
                # Noted, where it leads out of the folder.
                links.leaves_out(path)


def _listed(folder: Path, links: OutsideLinks) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        if folder == links.root:
            raise
        links.note_unreadable(error)
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
        # Such as on a disk that fails: whoever reads it says what is wrong, or skips it.
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_hidden(name: str) -> bool:
    # Office programs leave "~$lecture.pptx" beside what is open.
    return name.startswith((".", "~$"))
