"""Folders of pictures."""

from __future__ import annotations

from pathlib import Path

from llama_index.core.schema import ImageNode
from PIL import Image

from llama_index_mm_zhipu.readers.picture_record import PictureRecord, content_hash


def read_folder(folder: str | Path, *, recursive: bool = True, hash_contents: bool = True) -> list[ImageNode]:
    """Make a node of every picture file in a folder; the pictures stay where they are.

    Node ids are paths relative to the folder, so that indexing it again overwrites its pictures instead of doubling
    them. ``metadata["file_name"]`` holds the same path.

    Args:
        folder: Where to look for files with an ending that Pillow knows (``.jpg``, ``.png``, ``.webp``, …).
        recursive: Look into folders inside it too.
        hash_contents: Read every file, so that an ``IngestionPipeline`` sees which ones changed since it saw them last.

    Returns:
        Nodes without captions, sorted by path; set ``node.text`` to give one.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no picture.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}; check the path of the pictures")
    endings = {ending for ending, format_ in Image.registered_extensions().items() if format_ in Image.OPEN}
    files = sorted(root.rglob("*") if recursive else root.glob("*"))
    pictures = [file for file in files if file.suffix.lower() in endings and file.is_file()]
    if not pictures:
        raise ValueError(f"{root} holds no pictures; expected files such as .jpg or .png")
    return [_node(file, file.relative_to(root).as_posix(), hash_contents) for file in pictures]


def _node(file: Path, name: str, hash_contents: bool) -> ImageNode:
    digest = _hash_of_file(file) if hash_contents else None
    return PictureRecord.of(name, digest, image_path=str(file), metadata={"file_name": name})


def _hash_of_file(file: Path) -> str | None:
    try:
        return content_hash(file.read_bytes())
    except OSError:
        # Whoever needs the picture says what is wrong, or skips it.
        return None
