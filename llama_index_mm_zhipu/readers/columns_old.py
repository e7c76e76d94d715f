"""What the columns of tables and JSON files hold, and two published sets described so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from llama_index_mm_zhipu.arguments import explicit_constructor
from llama_index_mm_zhipu.readers.picture_record import RESERVED_KEYS


@explicit_constructor
@dataclass(frozen=True)
class Columns:
    """What the columns of a table, or the keys of JSON objects, hold.

    Attributes:
        caption: Of captions, one or several; in JSON a list of captions, too.
        picture: Of the picture's file within the folder of pictures. Of an address, the last part is taken.
        url: Of the picture's address.
        base64: Of the picture itself.
        id: Of its id; None makes one of the file's name and the picture's, or the record's number.
        metadata: Kept as metadata of the node. In a table, a column of numbers becomes numbers, so that filters such as
            ``price >= 100`` find them; see ``ColumnReader``.
        delimiter: Between fields of a table.
        names: Of the columns of a table without a first row of names.
        separators: Between the values of columns that hold several, by column.
    """

    caption: str | tuple[str, ...] = "caption"
    picture: str | None = None
    url: str | None = None
    base64: str | None = None
    id: str | None = None
    metadata: tuple[str, ...] = ()
    delimiter: str = ","
    names: tuple[str, ...] | None = None
    separators: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse columns without a picture.

        Raises:
            ValueError: There is none, or metadata is called as this package's own is.
            TypeError: ``metadata`` or ``names`` is a string.
        """
        for given in (self.metadata, self.names):
            if isinstance(given, str):
                raise TypeError(f"{given!r} stands where a tuple of columns should: give ({given!r},)")
        if reserved := sorted(RESERVED_KEYS.intersection(self.metadata)):
            raise ValueError(
                f"metadata={tuple(self.metadata)!r}: this package keeps metadata of its own under {reserved[0]!r}; "
                "rename the column"
            )
        if not (self.picture or self.url or self.base64):
            raise ValueError("columns without a picture: give picture, url or base64")


WUDAOMM = Columns(caption="captions", picture="name", url="url", metadata=("tag",))
"""WuDaoMM's base set, an array per category: ``ColumnReader(WUDAOMM).load_data("Art.json", images="Art")``.

Copies that call the picture ``imagePath`` are read with ``dataclasses.replace(WUDAOMM, picture="imagePath")``.
"""

PRODUCT1M = Columns(
    caption="title",
    picture="url_2",
    url="url",
    id="id",
    metadata=("labels",),
    delimiter="#####",
    names=("id", "title", "url", "url_2", "labels"),
    separators={"labels": "#;#"},
)
"""Product1M, ``product1m_{split}_ossurl_v2.txt``; the training split has no labels."""
