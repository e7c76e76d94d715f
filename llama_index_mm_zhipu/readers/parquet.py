"""Rows of Parquet files, in which image-text data sets are published; pyarrow (extra ``parquet``) decodes them."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Real
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers.lines import Record, RecordOrError, require_file
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.text import one_line

logger = logging.getLogger(__name__)

PARQUET = ".parquet"
"""Suffix of Parquet files."""

_ROWS_AT_A_TIME = 256
# Equal images are stored once, so the size of a row group does not tell how large its rows are in memory.
_IMAGES_AT_A_TIME = 8
_BATCH_BYTES = 16 << 20
_BUFFER_BYTES = 1 << 20

_BYTES = "bytes"
"""Field of the encoded image in the struct that the library datasets writes; the other field is its path."""


def read_parquet(
    file: Path,
    *,
    texts: Sequence[str],
    image: str | None = None,
    metadata: Sequence[str] = (),
    optional: Sequence[str] = (),
    show_progress: bool = False,
) -> Iterator[RecordOrError]:
    """Read a Parquet file row by row; only the columns that are asked for are read.

    A batch of rows is in memory at a time: at most 256, or 8 with images, and fewer if they are large on average. The
    decoder also holds one page of each column, which is as large as the program that wrote the file made it.

    Args:
        file: The file.
        texts: Columns that the file must have, of texts or numbers.
        image: Column of images: binary, a struct with a binary field ``bytes``, or base64. Its values become bytes or
            strings.
        metadata: Further columns that the file must have. Columns that contain bytes are left out with a warning.
        optional: Columns of texts that the file may lack.
        show_progress: Whether to show a progress bar, in rows.

    Yields:
        Each row with its number from 1, or its error. Values are those of JSON: dates and times become ISO 8601,
        durations seconds, and decimals numbers. A file that cannot be used is a single error, and reading ends where
        the file is damaged.

    Raises:
        ImportError: pyarrow is not installed.
        FileNotFoundError: The file does not exist.
        IsADirectoryError: It is a folder.
    """
    require_file(file)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError('Parquet files need pyarrow: pip install "llama-index-mm-zhipu[parquet]"') from None
    # As bytes, because pyarrow cannot encode the name of a file that is not UTF-8.
    with pa.OSFile(os.fsencode(file)) as stream:
        try:
            # Without pre_buffer and with a buffer, pages are read one by one; otherwise a whole row group is read.
            parquet = pq.ParquetFile(
                stream, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
            )
            paths = _paths_of(parquet.schema_arrow, file, texts, image, metadata, optional)
        except (pa.ArrowException, OSError, ValueError) as error:
            yield RecordError(str(file), f"not a Parquet file, or one that is cut short ({one_line(str(error))})")
            return
        if isinstance(paths, RecordError):
            yield paths
            return
        rows = parquet.metadata.num_rows
        with tqdm(total=rows, desc=f"Reading {file.name}", unit="row", disable=not show_progress) as bar:
            for record in _records_of(parquet, file, paths, image):
                bar.update()
                yield record


# Columns


def _paths_of(
    schema: Any,
    file: Path,
    texts: Sequence[str],
    image: str | None,
    metadata: Sequence[str],
    optional: Sequence[str],
) -> dict[str, str] | RecordError:
    """Return the path of what is read of each column, or the error of a file with other columns."""
    names = schema.names
    required = dict.fromkeys([*texts, *([image] if image is not None else []), *metadata])
    if missing := [column for column in required if column not in names]:
        return RecordError(str(file), f"there is no column {' nor '.join(missing)}, but {names}")
    wanted = dict.fromkeys([*required, *(column for column in optional if column in names)])
    if twice := [column for column in wanted if names.count(column) > 1]:
        return RecordError(str(file), f"more than one column is called {' or '.join(map(repr, twice))}")
    types = {column: schema.field(column).type for column in wanted}
    with_bytes = [column for column in wanted if _contains_bytes(types[column])]
    if not_text := [column for column in with_bytes if column in (*texts, *optional)]:
        column = not_text[0]
        advice = f"give a column of images as Columns(base64={column!r})"
        return RecordError(str(file), f"column {column} holds {one_line(str(types[column]))}, not text; {advice}")
    paths = {column: column for column in wanted if column not in with_bytes}
    if image is not None:
        path = _path_of_image(image, types[image])
        if path is None:
            expected = f"these are binary, a struct with a binary field {_BYTES}, or base64"
            return RecordError(str(file), f"column {image} holds {one_line(str(types[image]))}, not images: {expected}")
        paths[image] = path
    if dropped := [column for column in metadata if column in with_bytes]:
        logger.warning("%s: metadata cannot hold bytes; left out: %s", file, ", ".join(dropped))
    return paths


def _path_of_image(column: str, column_type: Any) -> str | None:
    """Return the path of the images of a column, or None if its type is not that of images."""
    import pyarrow as pa

    if pa.types.is_struct(column_type):
        index = column_type.get_field_index(_BYTES)
        return f"{column}.{_BYTES}" if index >= 0 and _is_binary(column_type.field(index).type) else None
    if pa.types.is_dictionary(column_type):
        column_type = column_type.value_type
    is_text = pa.types.is_string(column_type) or pa.types.is_large_string(column_type)
    return column if is_text or _is_binary(column_type) or pa.types.is_null(column_type) else None


def _contains_bytes(column_type: Any) -> bool:
    """Return whether values of a type are bytes, or contain bytes at any depth."""
    import pyarrow as pa

    if pa.types.is_struct(column_type):
        return any(_contains_bytes(field.type) for field in column_type)
    if pa.types.is_map(column_type):
        return _contains_bytes(column_type.key_type) or _contains_bytes(column_type.item_type)
    # Lists and dictionaries; other types have no type of values.
    value_type = getattr(column_type, "value_type", None)
    return _is_binary(column_type) if value_type is None else _contains_bytes(value_type)


def _is_binary(column_type: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    return any(
        is_type(column_type)
        for is_type in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    )


# Rows


def _records_of(parquet: Any, file: Path, paths: Mapping[str, str], image: str | None) -> Iterator[RecordOrError]:
    import pyarrow as pa

    number = 0
    try:
        for group in range(parquet.num_row_groups):
            size = _rows_at_a_time(parquet.metadata.row_group(group), [*paths.values()], image is not None)
            batches = parquet.iter_batches(size, row_groups=[group], columns=[*paths.values()], use_threads=False)
            for batch in batches:
                columns = {name: _column_of(batch, name, path) for name, path in paths.items()}
                for row in range(batch.num_rows):
                    number += 1
                    yield _record_of(f"{file}, row {number}", columns, row, paths, image)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = f"damaged ({one_line(str(error))}); the rest of the file is not read"
        yield RecordError(f"{file}, row {number + 1}", reason)


def _rows_at_a_time(group: Any, paths: Collection[str], has_images: bool) -> int:
    """Return the number of rows of a batch, from the size of the columns in the row group."""
    chunks = [group.column(index) for index in range(group.num_columns)]
    prefixes = tuple(f"{path}." for path in paths)
    size: int = sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if chunk.path_in_schema in paths or chunk.path_in_schema.startswith(prefixes)
    )
    limit = _IMAGES_AT_A_TIME if has_images else _ROWS_AT_A_TIME
    rows: int = group.num_rows
    return max(1, min(limit, _BATCH_BYTES * rows // max(size, 1)))


def _column_of(batch: Any, name: str, path: str) -> Any:
    """Return the values of a column as an Arrow array that converts to Python without loss."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(name)
    if path != name:
        return pc.struct_field(column, _BYTES)
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        # By way of the shortest decimal, 19.9 in 32 bits stays 19.9; the nearest number in 64 bits is less than 19.9.
        return column.cast(pa.float32()).cast(pa.string()).cast(pa.float64())
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's times have no nanoseconds.
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column


def _record_of(
    position: str, columns: Mapping[str, Any], row: int, paths: Mapping[str, str], image: str | None
) -> RecordOrError:
    fields: dict[str, Any] = {}
    for name, column in columns.items():
        try:
            value = column[row].as_py()
        except Exception:
            # Of several types: text that is not UTF-8, a year after 9999, a time zone that this system does not know.
            return RecordError(position, f"{name} cannot be read as {one_line(str(column.type))}")
        if name == image and value is None:
            return RecordError(position, f"there is no image, {paths[name]} is null")
        fields[name] = value if name == image else _json_value(value)
    return Record(position, fields)


def _json_value(value: Any) -> Any:
    """Return a value of Arrow as JSON can hold it."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {key: _json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(each) for each in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        return int(value) if isinstance(exponent, int) and exponent >= 0 else float(value)
    # NumPy's numbers, and what Arrow's extension types make, such as UUIDs.
    return float(value) if isinstance(value, Real) else str(value)
