"""An OCR engine for tests, and images for it: it reads what the pixels of their first row spell."""

from __future__ import annotations

import json
import os
import threading
from base64 import b64encode
from pathlib import Path

from llama_index.core.schema import ImageNode
from PIL import Image
from waiting import PATIENCE

from llama_index_mm_zhipu.images import encode_image
from llama_index_mm_zhipu.ingestion import OcrLine

WIDTH = 320


def image_of(text: str) -> Image.Image:
    """Return an image in which each column of pixels is a byte of a text."""
    row = Image.frombytes("L", (WIDTH, 1), text.encode().ljust(WIDTH, b"\0"))
    return row.resize((WIDTH, 300), Image.Resampling.NEAREST).convert("RGB")


def node_of(text: str) -> ImageNode:
    """Return a node with the image of a text, which is also its id."""
    return ImageNode(id_=text, image=b64encode(encode_image(image_of(text), "PNG")).decode("ascii"))


class PixelEngine:
    """Returns one line for each line of the spelled text, with a score of 0.9, and none for images of another width.

    Some lines are commands: ``!raise`` raises an error, ``!exit`` ends the process, ``!wait`` does not return,
    ``!print`` prints. Each call is logged before it begins.

    Args:
        log: File of calls: the process and the text.
        fingerprint: As for every engine.
    """

    def __init__(self, log: Path, fingerprint: str = "pixels 1") -> None:
        self.log = log
        self.fingerprint = fingerprint

    def __call__(self, image: Image.Image) -> list[OcrLine]:
        """Return the lines of an image."""
        assert image.mode == "RGB"
        if image.width != WIDTH:
            return []
        text = image.getchannel("R").crop((0, 0, image.width, 1)).tobytes().rstrip(b"\0").decode(errors="replace")
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps([os.getpid(), text]) + "\n")
        lines = text.split("\n") if text else []
        if "!raise" in lines:
            raise LookupError("it cannot be read")
        if "!exit" in lines:
            os._exit(3)
        if "!wait" in lines:
            threading.Event().wait(PATIENCE)
        if "!print" in lines:
            print("a message of the engine", flush=True)
        return [
            OcrLine(line, (0.1, 0.1 + 0.2 * number, 0.1 + 0.03 * len(line), 0.15 + 0.2 * number), 0.9)
            for number, line in enumerate(lines)
        ]

    @property
    def calls(self) -> list[str]:
        """The texts of all calls, sorted: several processes may have called."""
        return sorted(text for _, text in self._logged())

    @property
    def processes(self) -> set[int]:
        """The ids of the processes that called."""
        return {process for process, _ in self._logged()}

    def _logged(self) -> list[tuple[int, str]]:
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [tuple(json.loads(line)) for line in lines]
