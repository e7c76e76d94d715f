"""Folders of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index.core.schema import ImageNode
from PIL import Image
from tqdm.auto import tqdm

from llama_index_mm_zhipu.images.formats import FORMATS
from llama_index_mm_zhipu.readers.base import NodeOrError, PictureReader
from llama_index_mm_zhipu.readers.captions import Captions
from llama_index_mm_zhipu.readers.errors import RecordError
from llama_index_mm_zhipu.readers.folder_captions import read_sidecar, read_table
from llama_index_mm_zhipu.readers.folder_files import name_error, visible_files
from llama_index_mm_zhipu.readers.picture_record import PictureRecord, content_hash

SIDECAR = "sidecar"
"""Captions are beside each picture: ``photo.txt`` or ``photo.json``."""


class FolderReader(PictureReader):
    """Reads every picture file in a folder; the pictures stay where they are.

    Node ids are paths relative to the folder, so that indexing it again overwrites its pictures instead of doubling
    them. ``metadata["file_name"]`` holds the same path.

    ``load_data(folder, captions)``: ``captions`` is None for none, ``"sidecar"`` for a ``.txt`` or ``.json`` of the
    same name beside each picture, or the path of a CSV with a header.

    Args:
        recursive: Look into folders inside it too, not into links to folders.
        hash_contents: Read every file, so that an ``IngestionPipeline`` sees which ones changed since it saw them last.
        name_column: Of a CSV: the pictures' paths within the folder.
        caption_column: Of a CSV: their captions.
        **kwargs: Of ``PictureReader``: ``on_error``, ``show_progress``.
    """

    def __init__(
        self,
        *,
        recursive: bool = True,
        hash_contents: bool = True,
        name_column: str = "file_name",
        caption_column: str = "caption",
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.recursive = recursive
        self.hash_contents = hash_contents
        self.name_column = name_column
        self.caption_column = caption_column

    def _records(self, folder: str | Path, captions: str | Path | None = None) -> Iterator[NodeOrError]:
        # Absolute, so that an index finds its pictures from every folder.
        root = Path(folder).expanduser().absolute()
        if not root.is_dir():
            raise FileNotFoundError(f"no such folder: {root}; check the path of the pictures")
        table = Captions()
        if captions is not None and captions != SIDECAR:
            columns = {"name_column": self.name_column, "caption_column": self.caption_column}
            yield from read_table(Path(captions).expanduser(), table, **columns)
        pictures = _pictures_in(root, self.recursive)
        names = {picture.relative_to(root).as_posix() for picture in pictures}
        for picture in tqdm(pictures, desc=f"Reading {root.name}", unit="picture", disable=not self.show_progress):
            name = picture.relative_to(root).as_posix()
            caption = read_sidecar(picture) if captions == SIDECAR else table.by_id.get(name, "")
            yield caption if isinstance(caption, RecordError) else self._node(picture, name, caption)
        for name, place in table.places.items():
            if name not in names:
                yield RecordError(f"{place}: there is no picture {name} in {root}")

    def _nothing_read(self, folder: str | Path, captions: str | Path | None = None) -> str:
        return f"{folder} holds no pictures; expected files such as .jpg or .png"

    def _node(self, file: Path, name: str, caption: str) -> NodeOrError:
        if (error := name_error(name, file)) is not None:
            return error
        digest = _hash_of_file(file) if self.hash_contents else None
        return PictureRecord.of(name, digest, image_path=str(file), text=caption, metadata={"file_name": name})


def read_folder(
    folder: str | Path,
    *,
    captions: str | Path | None = None,
    recursive: bool = True,
    hash_contents: bool = True,
    show_progress: bool = False,
) -> list[ImageNode]:
    """Make a node of every picture file in a folder: short for ``FolderReader(…).load_data(folder, captions)``.

    Args:
        folder: Where to look for files with the ending of a picture (``.jpg``, ``.png``, ``.webp``, …). Hidden files
            and folders, such as macOS's ``._photo.jpg``, are left out.
        captions: None for none, ``"sidecar"`` for a ``.txt`` or ``.json`` beside each picture, or the path of a CSV
            with the columns ``file_name`` and ``caption``.
        recursive: Look into folders inside it too, not into links to folders.
        hash_contents: Read every file, so that an ``IngestionPipeline`` sees which ones changed since it saw them last.
        show_progress: Show a progress bar.

    Returns:
        Nodes sorted by path.

    Raises:
        FileNotFoundError: There is no such folder or CSV.
        ValueError: The folder holds no picture, the name of one is not UTF-8, or a caption cannot be read.
    """
    reader = FolderReader(recursive=recursive, hash_contents=hash_contents, show_progress=show_progress)
    return reader.load_data(folder, captions)


def _pictures_in(root: Path, recursive: bool) -> list[Path]:
    endings = {ending for ending, format_ in Image.registered_extensions().items() if format_ in (*FORMATS, "MPO")}
    return visible_files(root, endings, recursive)


def _hash_of_file(file: Path) -> str | None:
    try:
        return content_hash(file.read_bytes())
    except OSError:
        # Whoever needs the picture says what is wrong, or skips it.
        return None
