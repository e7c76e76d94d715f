"""Folders of pictures."""

from __future__ import annotations

from pathlib import Path

from llama_index.core.schema import ImageNode
from PIL import Image

from llama_index_mm_zhipu.images.formats import FORMATS
from llama_index_mm_zhipu.images.names import one_line
from llama_index_mm_zhipu.readers.picture_record import PictureRecord, content_hash


def read_folder(folder: str | Path, *, recursive: bool = True, hash_contents: bool = True) -> list[ImageNode]:
    """Make a node of every picture file in a folder; the pictures stay where they are.

    Node ids are paths relative to the folder, so that indexing it again overwrites its pictures instead of doubling
    them. ``metadata["file_name"]`` holds the same path.

    Args:
        folder: Where to look for files with the ending of a picture (``.jpg``, ``.png``, ``.webp``, …). Hidden files
            and folders, such as macOS's ``._photo.jpg``, are left out.
        recursive: Look into folders inside it too, not into links to folders.
        hash_contents: Read every file, so that an ``IngestionPipeline`` sees which ones changed since it saw them last.

    Returns:
        Nodes without captions, sorted by path; set ``node.text`` to give one.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no picture, or the name of one is not UTF-8.
    """
    # Absolute, so that an index finds its pictures from every folder.
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}; check the path of the pictures")
    endings = {ending for ending, format_ in Image.registered_extensions().items() if format_ in (*FORMATS, "MPO")}
    files = sorted(root.rglob("*") if recursive else root.glob("*"))
    pictures = [
        file for file in files if file.suffix.lower() in endings and not _is_hidden(file, root) and file.is_file()
    ]
    if not pictures:
        raise ValueError(f"{root} holds no pictures; expected files such as .jpg or .png")
    return [_node(file, file.relative_to(root).as_posix(), hash_contents) for file in pictures]


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _node(file: Path, name: str, hash_contents: bool) -> ImageNode:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name of {one_line(str(file))} is not UTF-8; rename the file") from None
    digest = _hash_of_file(file) if hash_contents else None
    return PictureRecord.of(name, digest, image_path=str(file), metadata={"file_name": name})


def _hash_of_file(file: Path) -> str | None:
    try:
        return content_hash(file.read_bytes())
    except OSError:
        # Whoever needs the picture says what is wrong, or skips it.
        return None
