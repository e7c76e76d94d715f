"""Files of a folder, those that are hidden left out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from llama_index_mm_zhipu.images.names import one_line
from llama_index_mm_zhipu.readers.errors import RecordError


def visible_files(root: Path, endings: Collection[str], recursive: bool = True) -> list[Path]:
    """Return the files with certain endings, sorted; not those in links to folders.

    Args:
        root: The folder.
        endings: In lower case, with the dot.
        recursive: Look into folders inside it, too.
    """
    files = sorted(root.rglob("*") if recursive else root.glob("*"))
    return [file for file in files if file.suffix.lower() in endings and not _is_hidden(file, root) and file.is_file()]


def name_error(name: str, file: Path) -> RecordError | None:
    """Return the error of a name that no store can hold, as it is not UTF-8, or None."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return RecordError(f"the name of {one_line(str(file))} is not UTF-8; rename the file")
    return None


def _is_hidden(file: Path, root: Path) -> bool:
    # Office programs leave "~$lecture.pptx" beside what is open.
    return any(part.startswith((".", "~$")) for part in file.relative_to(root).parts)
