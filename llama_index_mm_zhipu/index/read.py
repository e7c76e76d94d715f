"""Read what a user gives to an index: folders, files, images in any form, documents and nodes."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias, cast

from llama_index.core import Settings
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.ingestion import run_transformations
from llama_index.core.node_parser import NodeParser
from llama_index.core.schema import BaseNode, Document, ImageNode, NodeRelationship, NodeWithScore, TransformComponent

from llama_index_mm_zhipu.images import (
    IMAGE_TYPES,
    ImageError,
    ImageSource,
    caption_of,
    describe,
    has_image,
    is_folder,
    is_image_file,
    read_bytes,
    read_file,
    resolve_source,
)
from llama_index_mm_zhipu.index.stored_files import RANDOM_ID
from llama_index_mm_zhipu.readers import FolderReader, VideoReader
from llama_index_mm_zhipu.readers.records import (
    FILE_NAME,
    FILE_PATH,
    SOURCE_ROOT,
    EmptySourceError,
    ImageRecord,
    Source,
    content_hash,
    path_of_location,
    short_hash,
)
from llama_index_mm_zhipu.readers.slides import SLIDE_SUFFIXES
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.text import looks_binary, one_line
from llama_index_mm_zhipu.types import OnError

logger = logging.getLogger(__name__)

_CORE = "llama-index-core"


@contextmanager
def nltk_errors_explained() -> Iterator[None]:
    """Explain the error with which nltk refuses the data of llama-index-core's sentence splitter.

    nltk ≥ 3.10.3 opens no hard-linked file, and uv links the files that it installs from its cache.

    Raises:
        PermissionError: nltk refused the data; the message holds the command that helps.
    """
    try:
        yield
    except PermissionError as error:
        if "multiply-linked" not in str(error):
            raise
        raise PermissionError(
            f"the text cannot be split: nltk refuses the data of {_CORE}, which uv linked from its cache; install a "
            f"copy of it: uv pip install --no-deps --link-mode copy --reinstall-package {_CORE} "
            f"{_CORE}=={version(_CORE)}"
        ) from None


IndexItem: TypeAlias = "BaseNode | NodeWithScore | ImageSource"
"""A node or document, or an image in any form: path, URL, ``bytes``, ``PIL.Image``, …. A path may be a folder."""

IndexInput: TypeAlias = "IndexItem | Iterable[IndexItem]"
"""Input of ``build_index``: an item, or any number of them."""

# Suffixes of files that hold many images, and the call that reads them.
_READERS = {
    **dict.fromkeys((".pdf", *SLIDE_SUFFIXES), "PageReader().load_data({path!r})"),
    **dict.fromkeys(VideoReader.suffixes, "VideoReader().load_data({path!r})"),
    ".jsonl": "read_jsonl({path!r})",
    **dict.fromkeys((".csv", ".tsv", ".json", ".parquet"), "ColumnReader(Columns(…)).load_data({path!r})"),
}


def items_of(given: IndexInput) -> Iterable[IndexItem]:
    """Return the input as items; a sequence stays a sequence.

    Raises:
        FileNotFoundError: A single path does not exist.
        TypeError: The input cannot be indexed.
    """
    if isinstance(given, IMAGE_TYPES):
        if isinstance(path := _path_of(given), Path) and not path.exists():
            raise FileNotFoundError(f"no such file or folder: {path}; check the path")
        return [given]
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise _cannot_index(given)
    return given


def read_nodes(
    given: IndexInput,
    *,
    transformations: list[TransformComponent] | None = None,
    on_error: OnError = "raise",
    show_progress: bool = False,
) -> list[BaseNode]:
    """Read images and texts as nodes: the first stage of ``build_index``, whose next is ``embed_nodes``.

    Args:
        given: As ``nodes_or_documents`` of ``build_index``; iterators are read to their end.
        transformations: Applied to documents, as in ``build_index``.
        on_error: ``"raise"`` at the first image that cannot be used, or ``"skip"`` such images; they are logged.
        show_progress: Whether to show a progress bar for folders.

    Raises:
        ImageError: Something is no image.
        TypeError: Something is neither a node nor an image.
        ValueError: A file holds many images, or a document holds the bytes of a binary file.

    Examples:
        >>> from pathlib import Path
        >>> read = read_nodes(["images", Path("query.jpg")])
        >>> len(read), Path(read[-1].image_path).name
        (13, 'query.jpg')
    """
    nodes = nodes_of(list(items_of(given)), Skipped(), on_error=on_error, show_progress=show_progress)
    return transformed(nodes, transformations or Settings.transformations)


def transformed(nodes: Sequence[BaseNode], transformations: Sequence[TransformComponent]) -> list[BaseNode]:
    """Apply transformations: all of them to text documents, and those that split no text to images.

    Returns:
        Images and text nodes first, then what the text documents became.
    """
    texts: list[BaseNode] = [node for node in nodes if isinstance(node, Document) and not has_image(node)]
    others = [node for node in nodes if not isinstance(node, Document) and not has_image(node)]
    images = [node for node in nodes if has_image(node)]
    # A splitter would make texts of captions, and drop the images.
    for_images = [each for each in transformations if not isinstance(each, NodeParser)]
    if images and for_images:
        images = list(run_transformations(images, for_images))
    if texts:
        with nltk_errors_explained():
            texts = list(run_transformations(texts, list(transformations)))
    return [*images, *others, *texts]


def nodes_of(
    items: Sequence[IndexItem],
    skipped: Skipped,
    *,
    on_error: OnError = "raise",
    allow_empty: bool = False,
    show_progress: bool = False,
) -> list[BaseNode]:
    """Convert items to nodes; text documents stay documents.

    Args:
        items: Nodes, documents, images in any form, folders.
        skipped: Takes the reasons of items that are skipped.
        on_error: ``"raise"`` at the first image that cannot be used, or ``"skip"`` such images.
        allow_empty: Whether folders may be without images.
        show_progress: Whether to show a progress bar for folders.

    Raises:
        ImageError: An item is no image.
        TypeError: An item is neither a node nor an image.
        ValueError: A file holds many images, or a document holds the bytes of a binary file; the message names the
            reader for it.
    """
    nodes: list[BaseNode] = []
    for item in items:
        try:
            nodes.extend(_nodes_of_item(item, on_error, show_progress))
        except EmptySourceError:
            if not allow_empty:
                raise
        except ValueError as error:
            # Images and files that cannot be read; a TypeError is a mistake of the program.
            if on_error == "raise":
                raise
            name = one_line(str(item.metadata.get(FILE_NAME) or item.node_id)) if isinstance(item, BaseNode) else ""
            skipped.add(name or describe(item), str(error))
            logger.warning("skipped %s", error)
    return nodes


def _nodes_of_item(item: IndexItem, on_error: OnError, show_progress: bool) -> Iterator[BaseNode]:
    if isinstance(item, NodeWithScore):
        yield item.node
    elif isinstance(item, Document):
        yield image_of_document(item) or item
    elif isinstance(item, BaseNode):
        yield item
    elif not isinstance(item, IMAGE_TYPES):
        raise _cannot_index(item)
    elif isinstance(path := _path_of(item), Path):
        if is_folder(path):
            yield from FolderReader(on_error=on_error, show_progress=show_progress).lazy_load_data(path)
        else:
            yield _node_of_file(path)
    elif isinstance(path, str):
        yield ImageRecord.of(_id_of_url(path), None, image_url=path)
    else:
        data = read_bytes(item)
        digest = content_hash(data)
        yield ImageRecord.of(f"image-{digest[:16]}", digest, image=b64encode(data).decode("ascii"))


def image_of_document(document: Document) -> ImageNode | None:
    """Return the image that a document of ``SimpleDirectoryReader`` stands for; None for other documents.

    Without ``llama-index-readers-file`` that reader returns the bytes of every image as text, with it those of
    ``.bmp``, ``.tif`` and other formats. Any other text is the image's caption. Documents that were given an id keep
    it; those with a random id get one from their file, so that the next reading recognises them.

    Raises:
        ImageError: The document stands for an image file that does not exist or cannot be read.
        ValueError: The document holds the bytes of another binary file.
    """
    text = caption_of(document)
    is_binary = not has_image(document) and looks_binary(text)
    file = document.metadata.get(FILE_PATH)
    path = Path(str(file)).expanduser().absolute() if file else None
    is_image = str(document.metadata.get("file_type") or "").startswith("image/")
    if path is not None and path.is_file():
        is_readable = is_image_file(path)
        # An image that Pillow cannot read is an error, or is skipped, when it is embedded.
        if is_image or is_readable:
            return _node_of_document(document, path, text if is_readable and not is_binary else "")
    if has_image(document) or not (is_binary or is_image):
        return None
    name = one_line(str(document.metadata.get(FILE_NAME) or file or document.node_id))
    if is_image:
        raise ImageError(f"document {name} stands for an image file, and there is none at {describe(path or name)}")
    raise ValueError(
        f"document {name} holds the bytes of a binary file, or text in another encoding: pip install "
        "llama-index-readers-file and read it again, or read pages of .pdf and .pptx with "
        "llama_index_mm_zhipu.readers.PageReader"
    )


def _node_of_document(document: Document, path: Path, caption: str) -> ImageNode:
    metadata = {FILE_NAME: path.name, **document.metadata}
    own_id = None if RANDOM_ID.fullmatch(document.node_id) else document.node_id
    digest = content_hash(read_file(path))
    node = ImageRecord.of(own_id or path.name, digest, image_path=str(path), text=caption, metadata=metadata)
    node.excluded_llm_metadata_keys += document.excluded_llm_metadata_keys
    node.excluded_embed_metadata_keys += document.excluded_embed_metadata_keys
    # The source node links the image to its document, so that deleting the document deletes the image.
    node.relationships = {NodeRelationship.SOURCE: document.as_related_node_info(), **document.relationships}
    return node if own_id else Source.of(path.parent).identify(node)


def _path_of(item: IndexItem) -> Path | str | None:
    """Return the path or URL of an item; None for nodes and for items that hold the image itself."""
    if not isinstance(item, str | Path | ImageBlock):
        return None
    if isinstance(item, str) and not item.strip():
        raise ValueError("the path of an image or folder is empty; the present folder is '.'")
    source = resolve_source(cast("ImageSource", item))
    if isinstance(source, Path):
        return source.absolute()
    return source if isinstance(source, str) else None


def _node_of_file(path: Path) -> ImageNode:
    if (reader := _READERS.get(path.suffix.lower())) and not is_image_file(path):
        call = reader.format(path=str(path))
        raise ValueError(f"{path} is no image; give what reads its images: build_index({call}, …)")
    try:
        digest = content_hash(read_file(path))
    except ImageError:
        # The embedding reports the error, or skips the image.
        digest = None
    node = ImageRecord.of(path.name, digest, image_path=str(path), metadata={FILE_NAME: path.name})
    return Source.of(path.parent).identify(node)


def _id_of_url(url: str) -> str:
    # The part after "?" may be a secret, and may distinguish images.
    return f"{describe(url)}#{short_hash(url)}"


def _cannot_index(given: object) -> TypeError:
    return TypeError(
        f"cannot index an object of type {type(given).__name__}: give a folder, images (paths, URLs, bytes, PIL), or "
        "nodes and documents"
    )


def text_files_of(nodes: Iterable[BaseNode]) -> Iterator[str]:
    """Yield the existing files that texts were read from, as LlamaIndex's readers name them in the metadata."""
    for node in nodes:
        file = node.metadata.get(FILE_PATH)
        if isinstance(file, str) and not has_image(node) and Path(file).is_file():
            yield file


def roots_of(items: Iterable[object]) -> set[Path]:
    """Return the folders among items, and those that readers found items in.

    Raises:
        FileNotFoundError: A path does not exist; it may be a folder that is not mounted.
    """
    roots = set()
    for item in items:
        if isinstance(item, BaseNode):
            if root := item.metadata.get(SOURCE_ROOT):
                roots.add(Path(path_of_location(root)))
            roots.update(Path(file).resolve().parent for file in text_files_of([item]))
        elif isinstance(item, str | Path) and isinstance(path := _path_of(item), Path):
            if not path.exists():
                raise FileNotFoundError(f"no such file or folder: {path}; nothing was removed")
            if path.is_dir():
                roots.add(path.resolve())
    return roots
