"""Where inline images of nodes are kept: in the nodes, or beside the store in a folder or at a URL of ``fsspec``.

An image beside the store is named by the SHA-256 of its content. Its node holds this name as hidden metadata and
nothing of the location, which may have a password and may change. Images are never deleted: other nodes, also those of
other stores, may have the same image.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llama_index.core.schema import BaseNode, ImageNode

from llama_index_mm_zhipu.arguments import as_path
from llama_index_mm_zhipu.images import (
    MISSING_IMAGE,
    STORED_IMAGE,
    ImageError,
    decode_base64,
    has_image,
    resolve_source,
    with_hidden_metadata,
    without_hidden_metadata,
)
from llama_index_mm_zhipu.stores.image_files import (
    FilesInFolder,
    ImageFiles,
    ObjectsAtUrl,
    is_image_name,
    name_of_image,
    require_image_name,
)
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.errors import StoreError

logger = logging.getLogger(__name__)

IN_NODES = "node"
_THREADS = 16


class ImageStorage(ABC):
    """Keeps the inline images of nodes."""

    @abstractmethod
    def with_images_stored(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes as a store keeps them, after storing their inline images; the given nodes are not changed.

        Raises:
            StoreError: An image cannot be written.
            ValueError: A node refers to an image that is not there.
        """

    @abstractmethod
    def with_images_read(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes of a store with their images.

        A node whose image is missing or damaged comes without it: whoever opens the image gets an ``ImageError``, as
        for a missing file.

        Raises:
            StoreError: A node refers to an image beside the store, and there is no such storage.
        """

    def with_images_inline(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes that ``with_images_read`` returned, with the images that are kept beside the store in them.

        A node whose image is missing or damaged comes without it, and ``missing_image_of`` tells why.
        """
        return list(nodes)

    @abstractmethod
    def without_images(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes of a store as they were given, but without images that would have to be read.

        Raises:
            StoreError: As ``with_images_read``.
        """


class ImagesInNodes(ImageStorage):
    """Leaves images in the nodes."""

    def with_images_stored(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes."""
        for node in nodes:
            if _name_in(node) is not None:
                raise ValueError(
                    f"node {one_line(node.node_id)} has the metadata {STORED_IMAGE!r}, which stands for an image "
                    "beside a store; give the node with its image; nothing was added"
                )
        return list(nodes)

    def with_images_read(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes."""
        for node in nodes:
            if _name_in(node) is not None:
                raise StoreError(
                    f"the image of node {one_line(node.node_id)} is beside the store; open the store with the "
                    "image_storage (a folder or a URL) that it was filled with"
                )
        return list(nodes)

    def without_images(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes."""
        return self.with_images_read(nodes)


class ImagesBeside(ImageStorage):
    """Keeps images beside the store.

    Args:
        files: Where images are kept.
    """

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    def with_images_stored(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes with the names of their images, which are written by several threads."""
        if not any(map(inline_image_of, nodes)):
            return [self._stored(node) for node in nodes]
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._stored, nodes))

    def without_images(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes without the names of their images."""
        return [without_hidden_metadata(node, STORED_IMAGE) if _name_in(node) is not None else node for node in nodes]

    def _with_images(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes with their images; several are read at once, and each that several nodes have only once."""
        names = list(dict.fromkeys(name for node in nodes if (name := _name_in(node)) is not None))
        if not names:
            return list(nodes)
        with ThreadPoolExecutor(min(_THREADS, len(names))) as pool:
            images = dict(zip(names, pool.map(self._read, names), strict=True))
        return [_with_image_of(node, images) for node in nodes]

    def _read(self, name: str) -> bytes | ImageError:
        try:
            return self._files.read(name)
        except ImageError as error:
            return error

    def _stored(self, node: BaseNode) -> BaseNode:
        node = without_hidden_metadata(node, MISSING_IMAGE) if has_image(node) else node
        data = _decoded(inline_image_of(node))
        if data is None:
            return self._unchanged(node)
        name = name_of_image(data)
        try:
            self._files.write(name, data)
        except StoreError as error:
            raise StoreError(f"node {one_line(node.node_id)}: {error}; nothing was added") from None
        return with_hidden_metadata(_with_inline_image(node, None), {STORED_IMAGE: name})

    def _unchanged(self, node: BaseNode) -> BaseNode:
        """Return a node without an inline image. It may have the name of one that could not be read, and keeps it."""
        name = _name_in(node)
        if name is not None and not is_image_name(name):
            raise ValueError(
                f"node {one_line(node.node_id)} has the metadata {STORED_IMAGE!r}, which the store writes itself; "
                "rename it; nothing was added"
            )
        return node


class ImagesInFolder(ImagesBeside):
    """Keeps images as files in a folder.

    Nodes come back with the ``image_path`` of the file in place of ``image``. The file is opened only by whoever needs
    the image, so its content is not compared with its name.

    Args:
        folder: The folder, an absolute path.
    """

    _files: FilesInFolder

    def __init__(self, folder: Path) -> None:
        super().__init__(FilesInFolder(folder))

    def with_images_read(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes with the paths of their images."""
        return _reported([self._with_path_of_image(node) for node in nodes])

    def with_images_inline(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes with the content of the files of this folder, which is compared with their names."""
        return self._with_images([node if inline_image_of(node) else self._with_name_of_image(node) for node in nodes])

    def _with_path_of_image(self, node: BaseNode) -> BaseNode:
        name = _name_in(node)
        if name is None:
            return node
        try:
            if _path_of(node) is not None:
                # The node came with an image and a path of its own.
                return _with_image(node, self._files.read(name))
            require_image_name(name, self._files.location)
        except ImageError as error:
            return _without_image(node, error)
        return _with_path(without_hidden_metadata(node, STORED_IMAGE), self._files.path_of(name))

    def _unchanged(self, node: BaseNode) -> BaseNode:
        # A node that came from this storage and is added again keeps its image if the folder is moved.
        return super()._unchanged(self._with_name_of_image(node))

    def _with_name_of_image(self, node: BaseNode) -> BaseNode:
        """Return a node with the name of its image instead of the path, if that is in this folder."""
        path = _path_of(node)
        name = self._files.name_at(path) if path is not None else None
        return node if name is None else with_hidden_metadata(_with_path(node, None), {STORED_IMAGE: name})


class ImagesAtUrl(ImagesBeside):
    """Keeps images at a URL of ``fsspec``. Nodes come back with the images that they had.

    Args:
        url: The URL.
    """

    def __init__(self, url: str) -> None:
        super().__init__(ObjectsAtUrl(url))

    def with_images_read(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes with their images."""
        return _reported(self._with_images(nodes))


def image_storage_at(location: str | Path) -> ImageStorage:
    """Return the storage at ``"node"``, a folder, or a URL of ``fsspec``; ``file://`` URLs are folders.

    Raises:
        ImportError: The package of the URL's protocol is not installed; the message names it.
        ValueError: The location is empty, or ``fsspec`` does not know the protocol.
    """
    if location == IN_NODES:
        return ImagesInNodes()
    if isinstance(location, str) and "://" in location:
        if "::" in location:
            raise ValueError("image_storage is a chain of URLs, joined by '::'; give a folder or a single URL")
        if not location.lower().startswith("file://"):
            return ImagesAtUrl(location)
        location = _folder_of_url(location)
    return ImagesInFolder(as_path(location, "image_storage").absolute())


def missing_image_of(node: BaseNode) -> str | None:
    """Return why the image that a store kept of a node could not be read; None if there is none, or if it was read."""
    return str(node.metadata[MISSING_IMAGE]) if MISSING_IMAGE in node.metadata and has_image(node) else None


def inline_image_of(node: BaseNode) -> str | bytes | None:
    """Return the inline image of a node in base64."""
    if isinstance(node, ImageNode):
        return node.image
    resource = getattr(node, "image_resource", None)
    return resource.data if resource is not None else None


def _folder_of_url(url: str) -> Path:
    folder = resolve_source(url)
    if not isinstance(folder, Path):
        raise ValueError("image_storage is not a valid file URL; give the path of the folder")
    return folder


# Images in nodes of LlamaIndex, which are fields of an ``ImageNode`` and a resource of other nodes


def _name_in(node: BaseNode) -> str | None:
    """Return the name of a node's image beside the store, which may be forged."""
    return str(node.metadata[STORED_IMAGE]) if STORED_IMAGE in node.metadata and has_image(node) else None


def _path_of(node: BaseNode) -> str | None:
    if isinstance(node, ImageNode):
        return node.image_path
    resource = getattr(node, "image_resource", None)
    return str(resource.path) if resource is not None and resource.path else None


def _with_inline_image(node: BaseNode, image: str | None) -> BaseNode:
    if isinstance(node, ImageNode):
        return node.model_copy(update={"image": image})
    data = image.encode() if image is not None else None
    return _with_resource(node, data=data)


def _with_path(node: BaseNode, path: Path | None) -> BaseNode:
    if isinstance(node, ImageNode):
        return node.model_copy(update={"image_path": str(path) if path is not None else None})
    return _with_resource(node, path=path)


def _with_resource(node: BaseNode, **changed: object) -> BaseNode:
    resource = node.image_resource.model_copy(update=changed)  # type: ignore[attr-defined]
    return node.model_copy(update={"image_resource": resource})


def _decoded(image: str | bytes | None) -> bytes | None:
    """Return the bytes of an inline image; None if there is none, or if it is not base64 and stays in its node."""
    try:
        return decode_base64(image) if image else None
    except ImageError:
        return None


def _with_image(node: BaseNode, data: bytes) -> BaseNode:
    return _with_inline_image(without_hidden_metadata(node, STORED_IMAGE), b64encode(data).decode("ascii"))


def _with_image_of(node: BaseNode, images: Mapping[str, bytes | ImageError]) -> BaseNode:
    """Return a node with its image among those that were read, by name."""
    name = _name_in(node)
    if name is None:
        return node
    image = images[name]
    return _with_image(node, image) if isinstance(image, bytes) else _without_image(node, image)


def _without_image(node: BaseNode, error: ImageError) -> BaseNode:
    """Return a node whose image cannot be read. It keeps the name of the image, which may be restored."""
    return with_hidden_metadata(node, {MISSING_IMAGE: str(error)})


def _reported(nodes: list[BaseNode]) -> list[BaseNode]:
    """Return nodes, after a warning about those whose image could not be read."""
    missing = [(node, reason) for node in nodes if (reason := missing_image_of(node)) is not None]
    if missing:
        node, reason = missing[0]
        logger.warning(
            "%d of %d nodes have no image, such as %s: %s",
            len(missing),
            len(nodes),
            one_line(node.node_id),
            reason,
        )
    return nodes
