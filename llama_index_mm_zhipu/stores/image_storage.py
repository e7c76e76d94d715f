"""Where inline images of nodes are kept: in the nodes, in a folder, or at a URL of ``fsspec``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from llama_index.core.schema import BaseNode

IN_NODES = "node"


class ImageStorage(ABC):
    """Keeps the inline images of nodes."""

    @abstractmethod
    def with_images_stored(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes without inline images, after storing these; the given nodes are not changed."""

    @abstractmethod
    def with_images_read(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return nodes with their inline images."""


class ImagesInNodes(ImageStorage):
    """Leaves images in the nodes."""

    def with_images_stored(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes."""
        return list(nodes)

    def with_images_read(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes."""
        return list(nodes)


def image_storage_at(location: str) -> ImageStorage:
    """Return the storage at ``"node"``, a folder, or a URL of ``fsspec``."""
    if location == IN_NODES:
        return ImagesInNodes()
    raise NotImplementedError(location)
