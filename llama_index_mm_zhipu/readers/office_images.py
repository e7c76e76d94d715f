"""References to images in Office files: the part, what is cropped and turned, sizes, and alternative texts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from PIL import Image

from llama_index_mm_zhipu.readers.figures import Box, FigureText
from llama_index_mm_zhipu.readers.office_files import Relation

_EMU_PER_POINT = 12_700
_CROP_UNITS = 100_000
_ANGLE_UNITS = 60_000

_FILE_NAME = re.compile(r"[^\s/\\]+\.\w{3,4}")
_GENERATED = re.compile(r"(?:描述已自动生成|自动生成的说明|description automatically generated)\W*$", re.IGNORECASE)


@dataclass(frozen=True)
class ImageReference:
    """How an Office file shows an image.

    Attributes:
        part: Name of the part with the image; None if it is linked, and not in the file.
        crop: Left, top, right and bottom of what is shown, as fractions of the image.
        degrees: How far it is turned clockwise.
        is_mirrored: Whether left and right are exchanged.
        is_flipped: Whether top and bottom are exchanged.
    """

    part: str | None
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    degrees: float = 0.0
    is_mirrored: bool = False
    is_flipped: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the image is shown as it is in the file."""
        return self == ImageReference(self.part)

    def shown(self, image: Image.Image) -> Image.Image:
        """Return what is shown of an RGB image."""
        left, top, right, bottom = self.crop
        width, height = image.size
        image = image.crop((int(left * width), int(top * height), math.ceil(right * width), math.ceil(bottom * height)))
        if self.is_mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.is_flipped:
            image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if self.degrees:
            image = image.rotate(-self.degrees, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
        return image


@dataclass(frozen=True)
class OfficeFigure:
    """A figure of a document or of slides.

    Attributes:
        reference: The image.
        text: Caption and neighbouring text.
        page: Number of the page or slide; None if it is not known.
        box: Left, top, right and bottom as fractions of the page; None if they are not known.
    """

    reference: ImageReference
    text: FigureText
    page: int | None = None
    box: tuple[float, float, float, float] | None = None


def reference_of(
    fill: Element | None, form: Element | None, relations: Mapping[str, Relation]
) -> ImageReference | None:
    """Return the image of a ``blipFill`` element, or None if there is none.

    Args:
        fill: The element.
        form: The ``xfrm`` element of the shape, which may turn it.
        relations: References of the part.
    """
    blip = fill.find("blip") if fill is not None else None
    identifier = blip.get("r:embed") or blip.get("r:link") if blip is not None else None
    relation = relations.get(identifier or "")
    if fill is None or relation is None:
        return None
    return ImageReference(
        relation.target,
        _crop_of(fill.find("srcRect")),
        degrees_of(form),
        form is not None and form.get("flipH") in ("1", "true"),
        form is not None and form.get("flipV") in ("1", "true"),
    )


def box_of(form: Element | None) -> Box | None:
    """Return the place of an ``xfrm`` element in its own units, before it is turned; None if it has none."""
    offset, size = (form.find("off"), form.find("ext")) if form is not None else (None, None)
    if offset is None or size is None:
        return None
    left, top = number_of(offset, "x"), number_of(offset, "y")
    return Box(left, top, left + number_of(size, "cx"), top + number_of(size, "cy"))


def degrees_of(form: Element | None) -> float:
    """Return how far an ``xfrm`` element turns its shape clockwise."""
    return number_of(form, "rot") / _ANGLE_UNITS % 360


def number_of(element: Element | None, name: str) -> float:
    """Return an attribute as a number; 0 if the element or the attribute is missing, or is no number."""
    try:
        number = float(element.get(name, "0") if element is not None else 0)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def points_of(emus: float) -> float:
    """Return a length in points."""
    return emus / _EMU_PER_POINT


def alternative_text_of(properties: Element | None) -> str:
    """Return the alternative text or the title of an image in one line, without what programs put there."""
    for name in ("descr", "title"):
        lines = (properties.get(name, "") if properties is not None else "").splitlines()
        text = " ".join(filter(None, (_GENERATED.sub("", line).strip() for line in lines)))
        if text and not _FILE_NAME.fullmatch(text):
            return text
    return ""


def _crop_of(rectangle: Element | None) -> tuple[float, float, float, float]:
    if rectangle is None:
        return ImageReference.crop
    # Negative values add a margin.
    left, top, right, bottom = (max(number_of(rectangle, name), 0) / _CROP_UNITS for name in ("l", "t", "r", "b"))
    if left + right >= 1 or top + bottom >= 1:
        return ImageReference.crop
    return left, top, 1 - right, 1 - bottom
