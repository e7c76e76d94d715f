"""Writes small PDF, Word and PowerPoint files with images, for tests of figures."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from PIL import Image, ImageDraw

EMUS = 12_700
"""EMUs a point."""

_NAMESPACES = (
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" '
    'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
)
_KINDS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def drawing(colour: str, size: tuple[int, int] = (60, 40)) -> Image.Image:
    """Return an image of a colour with a black upper left quarter."""
    image = Image.new("RGB", size, colour)
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1] // 2 - 1), fill="black")
    return image


# PDF


def place(number: int, x: float, y: float, width: float, height: float) -> bytes:
    """Return the operators that draw an image; ``x`` and ``y`` are its lower left corner."""
    return b"q %f 0 0 %f %f %f cm /I%d Do Q\n" % (width, height, x, y, number)


def write(x: float, y: float, text: str, size: float = 12) -> bytes:
    """Return the operators that write a line of Latin text."""
    return b"BT /F %f Tf %f %f Td (%b) Tj ET\n" % (size, x, y, text.encode("latin-1"))


def pdf_of(
    pages: Sequence[bytes],
    images: Sequence[Image.Image | bytes],
    *,
    forms: Sequence[bytes] = (),
    entries: bytes = b"/MediaBox[0 0 400 300]",
) -> bytes:
    """Return a PDF file.

    Args:
        pages: The content of each page.
        images: The images ``/I0``, ``/I1``, … of all pages; bytes stand for damaged data.
        forms: The contents of the forms ``/X0``, ``/X1``, … of all pages.
        entries: Further entries of each page.
    """
    names = b"".join(b"/I%d %d 0 R" % (index, 5 + index) for index in range(len(images)))
    names += b"".join(b"/X%d %d 0 R" % (index, 5 + len(images) + index) for index in range(len(forms)))
    first_page = 5 + len(images) + len(forms)
    kids = b" ".join(b"%d 0 R" % (first_page + 2 * index) for index in range(len(pages)))
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%b]/Count %d>>" % (kids, len(pages)),
        b"<</XObject<<%b>>/Font<</F 4 0 R>>>>" % names,
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>",
        *map(_image_object, images),
        *(_stream(b"/Type/XObject/Subtype/Form/BBox[0 0 400 300]/Resources 3 0 R", form) for form in forms),
    ]
    for index, page in enumerate(pages):
        contents = first_page + 2 * index + 1
        objects.append(b"<</Type/Page/Parent 2 0 R/Resources 3 0 R/Contents %d 0 R%b>>" % (contents, entries))
        objects.append(_stream(b"", page))
    body = b"".join(b"%d 0 obj%b\nendobj\n" % each for each in enumerate(objects, 1))
    return b"%PDF-1.7\n" + body + b"trailer<</Size %d/Root 1 0 R>>\n%%%%EOF" % (len(objects) + 1)


def _image_object(image: Image.Image | bytes) -> bytes:
    if isinstance(image, bytes):
        return _stream(b"/Type/XObject/Subtype/Image/Width 60/Height 40/Filter/DCTDecode", image)
    head = b"/Type/XObject/Subtype/Image/Width %d/Height %d/BitsPerComponent 8/ColorSpace/DeviceRGB/Filter/FlateDecode"
    return _stream(head % image.size, zlib.compress(image.tobytes()))


def _stream(entries: bytes, data: bytes) -> bytes:
    return b"<<%b/Length %d>>stream\n%b\nendstream" % (entries, len(data), data)


# Office


def write_parts(path: Path, parts: Mapping[str, str | bytes]) -> Path:
    """Write the parts of an Office file."""
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def relations(targets: Mapping[str, tuple[str, str]]) -> str:
    """Return a part of relationships: kind and target by id; a target with a scheme is outside of the file."""
    entries = ""
    for key, (kind, target) in targets.items():
        mode = 'TargetMode="External"' if "://" in target else ""
        entries += f'<Relationship Id="{key}" Type="{_KINDS}/{kind}" Target="{target}" {mode}/>'
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{entries}</Relationships>'
    )


def slide_image(
    identifier: str, box: tuple[float, float, float, float] | None, *, more: str = "", form: str = "", about: str = ""
) -> str:
    """Return an image on a slide.

    Args:
        identifier: Id of the relationship.
        box: Left, top, width and height in points; None for an image without a place.
        more: Elements of the fill, such as ``<a:srcRect l="50000"/>``.
        form: Attributes of the place, such as ``rot="5400000"``.
        about: Attributes of the image, such as ``descr="…"``.
    """
    return (
        f'<p:pic><p:nvPicPr><p:cNvPr id="2" name="image" {about}/><p:cNvPicPr/><p:nvPr/></p:nvPicPr>'
        f'<p:blipFill><a:blip r:embed="{identifier}"/>{more}</p:blipFill><p:spPr>{_form(box, form)}</p:spPr></p:pic>'
    )


def slide_text(text: str, box: tuple[float, float, float, float] | None, placeholder: str = "") -> str:
    """Return a text box or, with attributes such as ``type="title"``, a placeholder."""
    mark = f"<p:ph {placeholder}/>" if placeholder else ""
    return (
        f'<p:sp><p:nvSpPr><p:cNvPr id="3" name="text"/><p:cNvSpPr/><p:nvPr>{mark}</p:nvPr></p:nvSpPr>'
        f"<p:spPr>{_form(box)}</p:spPr><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def write_slides(
    path: Path, slides: Sequence[str], images: Mapping[str, bytes], *, hidden: Sequence[int] = (), layout: str = ""
) -> Path:
    """Write slides of 720 × 540 points, of which each can use all images by the ids of ``images``."""
    names = {f"s{index}": ("slide", f"slides/slide{index}.xml") for index in range(len(slides))}
    listed = "".join(f'<p:sldId id="{256 + index}" r:id="{key}"/>' for index, key in enumerate(names))
    targets = {key: ("image", f"../media/{key}.png") for key in images}
    parts: dict[str, str | bytes] = {
        "_rels/.rels": relations({"d": ("officeDocument", "ppt/presentation.xml")}),
        "ppt/presentation.xml": f"<p:presentation {_NAMESPACES}><p:sldIdLst>{listed}</p:sldIdLst>"
        f'<p:sldSz cx="{720 * EMUS}" cy="{540 * EMUS}"/></p:presentation>',
        "ppt/_rels/presentation.xml.rels": relations(names),
        "ppt/slideLayouts/layout.xml": _tree("sldLayout", layout),
        **{f"ppt/media/{key}.png": data for key, data in images.items()},
    }
    for index, slide in enumerate(slides):
        parts[f"ppt/slides/slide{index}.xml"] = _tree("sld", slide, ' show="0"' if index in hidden else "")
        parts[f"ppt/slides/_rels/slide{index}.xml.rels"] = relations(
            {**targets, "layout": ("slideLayout", "../slideLayouts/layout.xml")}
        )
    return write_parts(path, parts)


def paragraph(text: str = "", images: str = "", style: str = "") -> str:
    """Return a paragraph of a document."""
    mark = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{mark}{images}<w:r><w:t>{text}</w:t></w:r></w:p>"


def inline_image(identifier: str, width: float = 200, height: float = 120, about: str = "") -> str:
    """Return an image in a paragraph, with a size in points."""
    return (
        f'<w:r><w:drawing><wp:inline><wp:extent cx="{width * EMUS:.0f}" cy="{height * EMUS:.0f}"/>'
        f'<wp:docPr id="1" name="image" {about}/><a:graphic><a:graphicData><pic:pic>'
        f'<pic:blipFill><a:blip r:embed="{identifier}"/></pic:blipFill><pic:spPr/></pic:pic>'
        "</a:graphicData></a:graphic></wp:inline></w:drawing></w:r>"
    )


def write_document(
    path: Path, body: str, images: Mapping[str, bytes], targets: Mapping[str, str] | None = None
) -> Path:
    """Write a document; ``targets`` are further parts or URLs by id."""
    named = {key: ("image", f"media/{key}.png") for key in images}
    named |= {key: ("image", target) for key, target in (targets or {}).items()}
    style = '<w:style w:styleId="a3"><w:name w:val="caption"/></w:style>'
    return write_parts(
        path,
        {
            "_rels/.rels": relations({"d": ("officeDocument", "word/document.xml")}),
            "word/document.xml": f"<w:document {_NAMESPACES}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations({**named, "styles": ("styles", "styles.xml")}),
            "word/styles.xml": f"<w:styles {_NAMESPACES}>{style}</w:styles>",
            **{f"word/media/{key}.png": data for key, data in images.items()},
        },
    )


def _form(box: tuple[float, float, float, float] | None, attributes: str = "") -> str:
    if box is None:
        return ""
    left, top, width, height = (round(EMUS * value) for value in box)
    return f'<a:xfrm {attributes}><a:off x="{left}" y="{top}"/><a:ext cx="{width}" cy="{height}"/></a:xfrm>'


def _tree(kind: str, shapes: str, attributes: str = "") -> str:
    return f"<p:{kind} {_NAMESPACES}{attributes}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:{kind}>"
