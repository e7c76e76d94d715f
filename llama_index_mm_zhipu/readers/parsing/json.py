"""JSON files that hold one array of objects, read object by object."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tqdm.auto import tqdm

from llama_index_mm_zhipu.readers.parsing.lines import LineOrError, Record, RecordOrError, encoding_error, reading
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.text import replace_lone_surrogates

_TYPES: dict[type, str] = {bool: "a boolean", float: "a float", int: "an integer", str: "a string", list: "a list"}

_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


def is_no_number(value: object) -> bool:
    """Whether a value is NaN or infinite, which JSON does not know and Python's and pandas' files hold all the same."""
    return isinstance(value, float) and not math.isfinite(value)


def described(value: object) -> str:
    """Return a value with its type, for errors: ``1.0, a float``, ``NaN``, ``null``, ``[1], a list``."""
    if value is None:
        return "null"
    spelled = json.dumps(value, default=str) if isinstance(value, bool | float) else f"{value!r:.40}"
    return spelled if is_no_number(value) else f"{spelled}, {_TYPES.get(type(value), 'an object')}"


def storable(value: Any) -> Any:
    """Return a value without what no store can hold: NaN and infinity become None, halves of characters are marked."""
    text = replace_lone_surrogates(json.dumps(value, ensure_ascii=False))
    # Of values within values, too; 1e999 is written as Infinity.
    return _DECODER.decode(text)


def object_of(line: LineOrError, form: str, *required: str) -> RecordOrError:
    """Return the object of a line, or the error of a line that holds none.

    Args:
        line: As ``lines_of`` yields it.
        form: What was expected, for the error: ``"an object with image_id and text"``.
        required: Keys that it must have.
    """
    if isinstance(line, RecordError):
        return line
    try:
        value = json.loads(line.text)
    except (ValueError, RecursionError) as error:
        return RecordError(f"{line.place}: not {form} ({error})")
    return checked_object(value, line.place, form, required)


def checked_object(value: object, place: str, form: str, required: Collection[str]) -> RecordOrError:
    """Return an object with all keys that it must have, or an error.

    Args:
        value: Any value of JSON.
        place: File and line.
        form: As in ``object_of``.
        required: Keys that it must have.
    """
    if not isinstance(value, dict):
        return RecordError(f"{place}: not {form}")
    if not set(required) <= value.keys():
        return RecordError(f"{place}: not {form}, but with {', '.join(map(str, value)) or 'no key'}")
    return Record(place, value)


_CHUNK_BYTES = 1 << 20
_MAX_OBJECT_CHARACTERS = 1 << 26
# What an escape, a number or a word such as "-Infinity" takes at most.
_LONGEST_TOKEN = 16
_NO_ARRAY = 'not an array of objects, nor one as {"RECORDS": […]}'
_BLANKS = " \t\r\n"


def objects_of(
    file: Path, form: str, required: Sequence[str], show_progress: bool = False, encoding: str | None = None
) -> Iterator[RecordOrError]:
    """Read the objects of an array, ``[{…}, …]``, or of an object around it, ``{"RECORDS": [{…}, …]}``.

    Args:
        file: The file.
        form: Of an object, for errors: ``"an object with name and captions"``.
        required: Keys that it must have.
        show_progress: Show a progress bar.
        encoding: Of the file; None for UTF-8.

    Yields:
        Each object, or the error of what is none. After what is no JSON there is nothing more to read.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with reading(file, show_progress, encoding) as (stream, bar):
        text = _Text(stream, bar)
        number = 0
        try:
            is_wrapped = _enter_array(text)
            while text.skip(f"{_BLANKS},") != "]":
                number += 1
                place = f"{file}, line {text.line}, object {number}"
                yield checked_object(text.value(), place, form, required)
            text.take("]")
            if not is_wrapped and text.next(_BLANKS):
                raise ValueError("there is more after the array")
        except UnicodeDecodeError as error:
            place = f"{file}, line {text.line_of_end()}"
            yield encoding_error(place, error, text.bytes_read - len(error.object) + error.start, encoding)
        except (ValueError, RecursionError) as error:
            yield RecordError(f"{file}, line {text.line}: {error}; the rest of the file is not read")


def _enter_array(text: _Text) -> bool:
    """Go to the first object of the array, and return whether it is in an object: the first array there is taken."""
    is_wrapped = text.skip(_BLANKS) == "{"
    if is_wrapped:
        text.take("{")
        while text.skip(f"{_BLANKS},") != "}":
            text.value()
            text.skip(_BLANKS)
            text.take(":")
            if text.skip(_BLANKS) == "[":
                break
            text.value()
    text.take("[")
    return is_wrapped


class _Text:
    """A window on a text: what was read leaves it at the front, the file comes in at the back."""

    def __init__(self, stream: BinaryIO, bar: tqdm) -> None:
        self.line = 1
        self.bytes_read = 0
        self._stream = stream
        self._bar = bar
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._window = ""
        self._failure: UnicodeDecodeError | None = None
        self._position = 0

    def line_of_end(self) -> int:
        """Return the line of the last character that was read."""
        return self.line + self._window.count("\n", self._position)

    def next(self, passed_over: str) -> str:
        """Pass over characters, and return the next one, empty at the end of the file."""
        while True:
            while self._position < len(self._window):
                if self._window[self._position] not in passed_over:
                    return self._window[self._position]
                self._advance(self._position + 1)
            if not self._grow(_CHUNK_BYTES):
                return ""

    def skip(self, characters: str) -> str:
        """Pass over characters, and return the next one, of which there must be one."""
        if not (character := self.next(characters)):
            raise ValueError("the file ends before its array does")
        return character

    def take(self, character: str) -> None:
        """Pass over one character, which must be next."""
        if self.skip("") != character:
            raise ValueError(_NO_ARRAY)
        self._advance(self._position + 1)

    def value(self) -> Any:
        """Read one JSON value."""
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._window, self._position)
            except json.JSONDecodeError as error:
                # It may be there in part; twice as much each time, as parsing begins anew.
                size = max(_CHUNK_BYTES, len(self._window) - self._position)
                if not self._may_go_on(error) or size > _MAX_OBJECT_CHARACTERS or not self._grow(size):
                    raise ValueError(f"not JSON ({error.msg})") from None
            else:
                # A number at the window's end, "1" of "1.5", may go on behind it.
                length = end - self._position
                is_whole = end + _LONGEST_TOKEN < len(self._window) or self._failure is not None
                if is_whole or not self._grow(_CHUNK_BYTES):
                    self._advance(self._position + length)
                    return value

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether an error may be the end of what has been read, not of what stands there."""
        return error.msg.startswith("Unterminated") or error.pos > len(self._window) - _LONGEST_TOKEN

    def _advance(self, position: int) -> None:
        self.line += self._window.count("\n", self._position, position)
        self._position = position

    def _grow(self, size: int) -> bool:
        if self._failure is not None:
            raise self._failure
        raw = self._stream.read(size)
        self._bar.update(len(raw))
        self.bytes_read += len(raw)
        try:
            text = self._decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            # What stands before it is good.
            self._failure = error
            text = error.object[: error.start].decode("utf-8-sig")
            if not raw:
                raise
        self._window = self._window[self._position :] + text
        self._position = 0
        return bool(raw)
