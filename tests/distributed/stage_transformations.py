"""Transformations for stages; the processes of Ray import this module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, TransformComponent
from PIL import Image

from llama_index_mm_zhipu.ingestion import OcrLine


class NameCaptions(TransformComponent):
    """Writes the name of an image as its caption."""

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Return the nodes with captions."""
        for node in nodes:
            node.set_content(f"这是{node.node_id.rsplit('/')[-1]}")
        return list(nodes)


class LeavesOut(TransformComponent):
    """Leaves out an image while a file is missing, as if a service failed.

    Attributes:
        name: End of the image's id.
        file: The file.
    """

    name: str
    file: str

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Return the nodes without the image."""
        is_there = Path(self.file).exists()
        return [node for node in nodes if is_there or not node.node_id.endswith(self.name)]


class Unreadable:
    """An OCR engine that fails at images of one width.

    Args:
        width: The width in pixels.
    """

    def __init__(self, width: int) -> None:
        self.fingerprint = f"unreadable {width}"
        self._width = width

    def __call__(self, image: Image.Image) -> list[OcrLine]:
        """Return one line."""
        if image.width == self._width:
            raise ValueError("this engine cannot read it")
        return [OcrLine("胎压", (0.1, 0.1, 0.4, 0.2))]


class Fails(TransformComponent):
    """Raises an error.

    Attributes:
        api_key: A secret.
    """

    api_key: str

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Raise an error whose class and arguments are those of a service."""
        raise PermissionError("the service refuses the key")
