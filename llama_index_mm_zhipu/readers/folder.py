"""Folders of images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llama_index.core.schema import ImageNode
from PIL import Image
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import as_path, explicit_arguments
from llama_index_mm_zhipu.images import FORMATS, ImageError, read_file
from llama_index_mm_zhipu.readers.base import ImageReader, NodeOrError
from llama_index_mm_zhipu.readers.folder_files import (
    FILE_NAME,
    CaptionTable,
    OutsideLinks,
    Sidecars,
    name_error,
    visible_files,
)
from llama_index_mm_zhipu.readers.parsing.encodings import checked_encoding, encoding_of
from llama_index_mm_zhipu.readers.records import ImageRecord, RecordError, content_hash
from llama_index_mm_zhipu.types import OnError

SIDECAR = "sidecar"
"""Captions are beside each image: ``photo.txt`` or ``photo.json``."""

_NOT_TABLES = (".json", ".jsonl")


class FolderReader(ImageReader):
    """Reads every image file in a folder; the images stay where they are.

    Node ids are paths relative to the folder, so that indexing it again overwrites its images instead of doubling
    them. ``metadata["file_name"]`` holds the same path.

    ``load_data(folder, captions)``: ``captions`` is None for none, ``"sidecar"`` for a ``.txt`` or ``.json`` of the
    same name beside each image, or the path of a CSV with a header.

    A CSV's other columns become metadata of its images: a column of plain numbers becomes numbers, so that filters
    such as ``price >= 100`` find them; other values stay text, ``007`` and codes of more than 15 digits among them, and
    empty ones are left out. Of an image that has several rows, all captions are taken, and the first value of each
    other column. The table stays in memory.

    Args:
        recursive: Look into folders inside it too.
        hash_contents: Read every file, so that an ``IngestionPipeline`` sees which ones changed since it saw them last.
        name_column: Of a CSV: the images' paths within the folder, or absolute ones.
        caption_column: Of a CSV: their captions; None if it has metadata alone.
        encoding: Of the CSV or of the files beside images, such as ``"gb18030"`` (GBK, Excel's on Chinese Windows).
            None detects UTF-8, UTF-16 with a byte order mark, and GB18030, which is a guess and logged as a warning.
        follow_links: Follow links that lead out of the folder, and links to folders. Else such links are left out, with
            a warning; links to files inside the folder are followed either way.
        id_prefix: What node ids begin with, as of ``ImageReader``.
        on_error: ``"raise"`` or ``"skip"``, as of ``ImageReader``.
        show_progress: Show a progress bar.

    Raises:
        ValueError: The encoding is unknown.
    """

    ids_are_files = True

    def __init__(
        self,
        *,
        recursive: bool = True,
        hash_contents: bool = True,
        name_column: str = FILE_NAME,
        caption_column: str | None = "caption",
        encoding: str | None = None,
        follow_links: bool = False,
        id_prefix: str | None = None,
        on_error: OnError = "raise",
        show_progress: bool = False,
    ) -> None:
        super().__init__(id_prefix=id_prefix, on_error=on_error, show_progress=show_progress)
        self.recursive = recursive
        self.hash_contents = hash_contents
        self.name_column = name_column
        self.caption_column = caption_column
        self.encoding = checked_encoding(encoding)
        self.follow_links = follow_links
        self._left_out = ""

    def _records(self, folder: str | Path, captions: str | Path | None = None) -> Iterator[NodeOrError]:
        # Absolute, so that an index finds its images from every folder.
        root = Path(folder).expanduser().absolute()
        if not root.is_dir():
            raise FileNotFoundError(f"no such folder: {root}; check the path of the images")
        if (bad_name := name_error(str(root), root)) is not None:
            raise bad_name
        links = OutsideLinks(root, self.follow_links)
        sidecars = Sidecars(links, self.encoding)
        table = CaptionTable(self.name_column, self.caption_column)
        if captions is not None and captions != SIDECAR:
            file = as_path(captions, "captions")
            if file.suffix.lower() in _NOT_TABLES:
                raise ValueError(
                    f"{file} is not a CSV; captions are 'sidecar' or a CSV, and ColumnReader reads other tables"
                )
            yield from table.read(file, encoding_of(file, self.encoding), root)
        images = _images_in(root, self.recursive, links)
        names = {image.relative_to(root).as_posix() for image in images}
        try:
            for image in tqdm(images, desc=f"Reading {root.name}", unit="image", disable=not self.show_progress):
                name = image.relative_to(root).as_posix()
                caption = sidecars.read(image) if captions == SIDECAR else table.captions.by_id.get(name, "")
                if isinstance(caption, RecordError):
                    yield caption
                else:
                    yield self._node(image, name, caption, table.metadata_of(name))
        finally:
            links.warn()
            sidecars.warn()
            self._left_out = links.left_out()
        for name, place in table.captions.places.items():
            if name not in names:
                yield RecordError(f"{place}: there is no image {name} in {root}")

    def _nothing_read(self, folder: str | Path, captions: str | Path | None = None) -> str:
        return f"{folder} holds no images; {self._left_out or 'expected files such as .jpg or .png'}"

    def _node(self, file: Path, name: str, caption: str, metadata: dict[str, str | int | float]) -> NodeOrError:
        if (error := name_error(name, file)) is not None:
            return error
        digest = _hash_of_file(file) if self.hash_contents else None
        return ImageRecord.of(name, digest, image_path=str(file), text=caption, metadata={FILE_NAME: name, **metadata})


@explicit_arguments
def read_folder(
    folder: str | Path,
    *,
    captions: str | Path | None = None,
    name_column: str = FILE_NAME,
    caption_column: str | None = "caption",
    encoding: str | None = None,
    recursive: bool = True,
    follow_links: bool = False,
    hash_contents: bool = True,
    id_prefix: str | None = None,
    show_progress: bool = False,
) -> list[ImageNode]:
    """Make a node of every image file in a folder: short for ``FolderReader(…).load_data(folder, captions)``.

    Args:
        folder: Where to look for files with the ending of an image (``.jpg``, ``.png``, ``.webp``, …). Hidden files
            and folders, such as macOS's ``._photo.jpg``, are left out.
        captions: None for none, ``"sidecar"`` for a ``.txt`` or ``.json`` beside each image, or the path of a CSV
            with a header. Its other columns become metadata, columns of plain numbers as numbers.
        name_column: Of the CSV: the images' paths within the folder, or absolute ones.
        caption_column: Of the CSV: their captions; None if it has metadata alone.
        encoding: Of the CSV or of the files beside images, such as ``"gb18030"`` (GBK, Excel's on Chinese Windows);
            None to detect it, as ``FolderReader`` does.
        recursive: Look into folders inside it too.
        follow_links: Follow links that lead out of the folder, and links to folders. Else such links are left out, with
            a warning.
        hash_contents: Read every file, so that ``build_index`` and an ``IngestionPipeline`` see which ones changed.
        id_prefix: What node ids begin with, before a slash; by default the folder's name and a hash of its path, so
            that images of two folders never replace each other.
        show_progress: Show a progress bar.

    Returns:
        Nodes sorted by path.

    Raises:
        FileNotFoundError: There is no such folder or CSV.
        ValueError: The folder holds no image, the name of one is not UTF-8, a caption cannot be read, the CSV has no
            such column or one called as this package's own metadata, or the encoding is unknown.

    Examples:
        >>> read_folder("goods", captions="goods.csv", name_column="图片", caption_column="标题")  # doctest: +SKIP
    """
    reader = FolderReader(
        recursive=recursive,
        hash_contents=hash_contents,
        name_column=name_column,
        caption_column=caption_column,
        encoding=encoding,
        follow_links=follow_links,
        id_prefix=id_prefix,
        show_progress=show_progress,
    )
    return reader.load_data(folder, captions)


def _images_in(root: Path, recursive: bool, links: OutsideLinks) -> list[Path]:
    endings = {ending for ending, format_ in Image.registered_extensions().items() if format_ in (*FORMATS, "MPO")}
    return visible_files(root, endings, recursive, links=links)


def _hash_of_file(file: Path) -> str | None:
    try:
        return content_hash(read_file(file))
    except ImageError:
        # Whoever needs the image says what is wrong, or skips it.
        return None
