"""JSON values of lines, and streams of objects from files that hold one array.

Arrays are parsed with the decoder of the standard library, object by object. It is as fast as ijson where ijson has to
count lines, and reads what ijson rejects but Python and pandas write: NaN, integers of any size, halves of surrogate
pairs. The memory use of ijson grows with the square of the nesting depth.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers.lines import (
    LineOrError,
    Record,
    RecordOrError,
    encoding_error,
    open_as_utf_8,
)
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.text import replace_lone_surrogates

_TYPES: dict[type, str] = {bool: "a boolean", float: "a float", int: "an integer", str: "a string", list: "a list"}

_DECODER = json.JSONDecoder()
_FINITE_DECODER = json.JSONDecoder(parse_constant=lambda _: None)

_CHUNK_BYTES = 1 << 20
_MAX_OBJECT_CHARACTERS = 1 << 26
# Length of an escape sequence, of a word such as "-Infinity", and of what may follow the first digits of a number.
_MAX_TOKEN = 16
_BLANKS = re.compile(r"[ \t\r\n]*")
_SEPARATORS = re.compile(r"[ \t\r\n,]*")


def is_not_finite(value: object) -> bool:
    """Return whether a value is NaN or infinite; JSON has no such values, but Python and pandas write them."""
    return isinstance(value, float) and not math.isfinite(value)


def describe_value(value: object) -> str:
    """Return a value with its type for error messages: ``1.0, a float``, ``NaN``, ``null``, ``[1], a list``."""
    if value is None:
        return "null"
    spelled = json.dumps(value, default=str) if isinstance(value, bool | float) else f"{value!r:.40}"
    return spelled if is_not_finite(value) else f"{spelled}, {_TYPES.get(type(value), 'an object')}"


def storable(value: Any) -> Any:
    """Return a JSON value that every store can hold.

    NaN and infinite numbers become None, halves of surrogate pairs become U+FFFD, at any depth.
    """
    text = replace_lone_surrogates(json.dumps(value, ensure_ascii=False))
    # 1e999 has been parsed as infinity, which dumps writes as Infinity.
    return _FINITE_DECODER.decode(text)


def parse_object(line: LineOrError, expected: str, *required: str) -> RecordOrError:
    """Return the object in a line of JSON Lines, or an error.

    Args:
        line: A line from ``read_lines``; an error is returned as it is.
        expected: Description of the object for errors: ``"an object with image_id and text"``.
        required: Keys that the object must have.
    """
    if isinstance(line, RecordError):
        return line
    try:
        value = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        return RecordError(line.position, f"not {expected} ({error})")
    return check_object(value, line.position, expected, required)


def check_object(value: object, position: str, expected: str, required: Collection[str]) -> RecordOrError:
    """Return a value as a record if it is an object with the required keys, otherwise an error.

    Args:
        value: Any JSON value.
        position: File and line.
        expected: Description of the object for errors, as for ``parse_object``.
        required: Keys that the object must have.
    """
    if not isinstance(value, dict):
        return RecordError(position, f"not {expected}")
    if not set(required) <= value.keys():
        return RecordError(position, f"not {expected}, but with {', '.join(map(str, value)) or 'no key'}")
    return Record(position, value)


def read_objects(
    file: Path, expected: str, required: Sequence[str], show_progress: bool = False, encoding: str | None = None
) -> Iterator[RecordOrError]:
    """Read the objects of an array, ``[{…}, …]``, which may be wrapped in an object, ``{"RECORDS": [{…}, …]}``.

    Args:
        file: The file.
        expected: Description of an object for errors: ``"an object with name and captions"``.
        required: Keys that every object must have.
        show_progress: Whether to show a progress bar.
        encoding: Encoding of the file; None for UTF-8.

    Yields:
        Each object, or the error of an element that is not such an object. Reading ends at a syntax error.

    Raises:
        FileNotFoundError: The file does not exist.
    """
    with open_as_utf_8(file, show_progress, encoding) as (stream, bar):
        text = _Window(stream, bar)
        number = 0
        try:
            is_wrapped = _enter_array(text)
            while text.require_next(_SEPARATORS) != "]":
                number += 1
                position = f"{file}, line {text.line}, object {number}"
                yield check_object(text.parse_value(), position, expected, required)
            text.take("]")
            if not is_wrapped and text.next(_BLANKS):
                raise ValueError("there is more after the array")
        except UnicodeDecodeError as error:
            position = f"{file}, line {text.last_line()}"
            yield encoding_error(position, error, text.bytes_read - len(error.object) + error.start, encoding)
        except (ValueError, RecursionError) as error:
            yield RecordError(f"{file}, line {text.line}", f"{error}; the rest of the file is not read")


def _enter_array(text: _Window) -> bool:
    """Move to the first element of the array, and return whether an object wraps it.

    In an object, the first value that is an array is taken.
    """
    is_wrapped = text.require_next(_BLANKS) == "{"
    if is_wrapped:
        text.take("{")
        while text.require_next(_SEPARATORS) != "}":
            text.parse_value()
            text.require_next(_BLANKS)
            text.take(":")
            if text.require_next(_BLANKS) == "[":
                break
            text.parse_value()
    text.take("[")
    return is_wrapped


class _Window:
    """The part of a text that is in memory, from the next character to be parsed up to what has been read.

    Attributes:
        line: Line of the next character.
        bytes_read: Number of bytes read so far.
    """

    def __init__(self, stream: BinaryIO, bar: tqdm) -> None:
        self.line = 1
        self.bytes_read = 0
        self._stream = stream
        self._bar = bar
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text = ""
        self._position = 0
        self._failure: UnicodeDecodeError | None = None

    def last_line(self) -> int:
        """Return the line of the last character that has been read."""
        return self.line + self._text.count("\n", self._position)

    def next(self, skipped: re.Pattern[str]) -> str:
        """Skip characters, and return the next one without moving past it; ``""`` at the end of the file."""
        while True:
            found = skipped.match(self._text, self._position)
            self._move_to(found.end() if found else self._position)
            if self._position < len(self._text) or not self._read_more(_CHUNK_BYTES):
                return self._text[self._position : self._position + 1]

    def require_next(self, skipped: re.Pattern[str]) -> str:
        """As ``next``, but raise ``ValueError`` at the end of the file."""
        if not (character := self.next(skipped)):
            raise ValueError("the file ends before its array does")
        return character

    def take(self, expected: str) -> None:
        """Move past the next character, or raise ``ValueError`` if it is another one."""
        if not self._text.startswith(expected, self._position):
            raise ValueError('not an array of objects, nor one as {"RECORDS": […]}')
        self._move_to(self._position + 1)

    def parse_value(self) -> Any:
        """Parse a JSON value, and move past it.

        Raises:
            ValueError: It is not JSON, or too long.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                # The value may continue beyond the window. Parsing starts again at its first character, so the window
                # is doubled each time: the total time remains proportional to the length.
                size = max(_CHUNK_BYTES, len(self._text) - self._position)
                is_at_end = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _MAX_TOKEN
                if not is_at_end or size > _MAX_OBJECT_CHARACTERS or not self._read_more(size):
                    raise ValueError(f"not JSON ({error.msg})") from None
            else:
                # Only a number may continue: "1" of "1.5".
                is_whole = not isinstance(value, int | float) or end + _MAX_TOKEN < len(self._text)
                if is_whole or not self._read_more(_CHUNK_BYTES):
                    self._move_to(end)
                    return value

    def _move_to(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _read_more(self, size: int) -> bool:
        """Append the next bytes to the window; return whether there were any.

        Raises:
            UnicodeDecodeError: They are not UTF-8. The valid text before them has been appended by an earlier call.
        """
        if self._failure is not None:
            raise self._failure
        raw = self._stream.read(size)
        self._bar.update(len(raw))
        self.bytes_read += len(raw)
        try:
            text = self._decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            self._failure = error
            text = error.object[: error.start].decode("utf-8-sig")
            if not raw:
                raise
        if raw:
            self._text = self._text[self._position :] + text
            self._position = 0
        return bool(raw)
