"""Parts of Office Open XML files (``.docx``, ``.pptx``): bounded reading, XML without entities, relationships."""

from __future__ import annotations

import posixpath
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser
from zipfile import BadZipFile, ZipFile

from llama_index_mm_zhipu.images import MAX_DOWNLOAD_BYTES
from llama_index_mm_zhipu.readers.records import RecordError

MAX_XML_BYTES = 64 << 20
"""Limit for one XML part. The text of a thousand pages takes some 10 MB with its formatting."""

MAX_FILE_BYTES = 2 << 30
"""Limit for all parts that are read from one file, decompressed."""

_OLE_FILE = b"\xd0\xcf\x11\xe0"
_RELATIONSHIPS = "/relationships"


class PartError(ValueError):
    """A part of a file is missing, damaged or too large. The message says which and why."""


class Relation(NamedTuple):
    """A reference from one part to another.

    Attributes:
        kind: What is referred to, such as ``"image"``, ``"slide"`` or ``"slideLayout"``.
        target: Name of the part; None if it is outside of the file.
    """

    kind: str
    target: str | None


class OfficeFile:
    """The parts of an Office file. Use ``open_office_file``.

    Args:
        archive: The opened file.
    """

    def __init__(self, archive: ZipFile) -> None:
        self._archive = archive
        self._read = 0

    def bytes_of(self, part: str, max_bytes: int = MAX_DOWNLOAD_BYTES) -> bytes:
        """Return the content of a part, such as ``word/media/image1.png``.

        Args:
            part: Name of the part.
            max_bytes: Limit for its size, decompressed.

        Raises:
            PartError: There is no such part, it is damaged or encrypted, or it or the whole file is too large.
        """
        if self._read > MAX_FILE_BYTES:
            raise PartError(f"its parts have more than {MAX_FILE_BYTES >> 30} GiB, so {part} is not read")
        try:
            with self._archive.open(part) as stream:
                # The size in the directory of the file may be false.
                data = stream.read(max_bytes + 1)
        except KeyError:
            raise PartError(f"it has no part {part}") from None
        except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
            raise PartError(f"its part {part} cannot be read ({error})") from None
        self._read += len(data)
        if len(data) > max_bytes:
            raise PartError(f"its part {part} has more than {max_bytes >> 20} MiB")
        return data

    def xml_of(self, part: str) -> Element:
        """Return the root element of an XML part.

        Names of elements and attributes are without namespaces, which differ between the two variants of the format;
        attributes that refer to other parts begin with ``r:``. Of content in alternative forms, only the preferred one
        is kept.

        Raises:
            PartError: As ``bytes_of``, or the part is not XML, or it has a document type declaration.
        """
        parser = XMLParser(target=_TreeOfLocalNames())
        try:
            parser.feed(self.bytes_of(part, MAX_XML_BYTES))
            root: Element = parser.close()
        except ParseError as error:
            raise PartError(f"its part {part} is not XML ({error})") from None
        for element in root.iter("AlternateContent"):
            for fallback in element.findall("Fallback") if element.find("Choice") is not None else []:
                element.remove(fallback)
        return root

    def relations_of(self, part: str) -> dict[str, Relation]:
        """Return the references of a part to others by their ids; those of the file itself for an empty name.

        Raises:
            PartError: As ``xml_of``, but not if there are no references.
        """
        folder, name = posixpath.split(part)
        rels = posixpath.join(folder, "_rels", f"{name}.rels")
        if rels not in self._archive.NameToInfo:
            return {}
        relations = {}
        for each in self.xml_of(rels).iter("Relationship"):
            is_outside = each.get("TargetMode") == "External"
            target = None if is_outside else _resolved(folder, each.get("Target", ""))
            relations[each.get("Id", "")] = Relation(posixpath.basename(each.get("Type", "")), target)
        return relations

    def main_part(self) -> str:
        """Return the name of the part that holds the document or presentation.

        Raises:
            PartError: There is none.
        """
        for relation in self.relations_of("").values():
            if relation.kind == "officeDocument" and relation.target:
                return relation.target
        raise PartError("it has no document in it")


@contextmanager
def open_office_file(path: Path) -> Iterator[OfficeFile]:
    """Open an Office file, for a ``with`` statement.

    Raises:
        RecordError: The file is not a zip file, is encrypted, or cannot be read.
    """
    try:
        archive = ZipFile(path)
    except (BadZipFile, NotImplementedError, ValueError) as error:
        raise RecordError(str(path), _why_not_zip(path, error)) from None
    except OSError as error:
        raise RecordError(str(path), f"cannot be read ({error.strerror or error})") from None
    with archive:
        yield OfficeFile(archive)


class _TreeOfLocalNames(TreeBuilder):
    """Builds a tree without namespaces.

    It refuses document type declarations: Office files have none, and entities that they declare can expand without
    limit.
    """

    def start(self, tag: str, attrs: Mapping[str, str]) -> Element:
        """Add an element."""
        return super().start(_local_name(tag), {_attribute_name(name): value for name, value in attrs.items()})

    def end(self, tag: str) -> Element:
        """Close an element."""
        return super().end(_local_name(tag))

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Raise an error for a document type declaration."""
        raise PartError("it declares a document type, which no Office file does")


def _local_name(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute_name(name: str) -> str:
    namespace, _, local = name.rpartition("}")
    return f"r:{local}" if namespace.endswith(_RELATIONSHIPS) else local


def _resolved(folder: str, target: str) -> str:
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")


def _why_not_zip(path: Path, error: Exception) -> str:
    with path.open("rb") as stream:
        is_ole = stream.read(len(_OLE_FILE)) == _OLE_FILE
    if is_ole:
        return f"is encrypted, or in the format of Office 97; save it as {path.suffix.lower()} without a password"
    return f"is not an Office file ({error}); is it damaged?"
