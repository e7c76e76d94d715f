"""Detection of text encodings, and transcoding of files to UTF-8."""

from __future__ import annotations

import codecs
import io
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tqdm.auto import tqdm

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger(__name__)

UTF_8 = "utf-8"
GB18030 = "gb18030"
"""A superset of GBK, the encoding of CSV files that Excel saves on Chinese Windows."""

_CHUNK_BYTES = 1 << 20
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_REPLACEMENT = "\ufffd"
# Chinese characters take at least three bytes in UTF-8. Two bytes of GBK are often a valid two-byte character.
_THREE_BYTES = re.compile("[\u0800-\ufffc\U00010000-\U0010ffff]")

# A lone surrogate is invalid in UTF-8: after transcoding, errors are found in the same way as in UTF-8 files.
_UNDECODABLE = "\udc80"
_MARK_ERRORS = "llama_index_mm_zhipu.mark_errors"


def _mark_error(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _UNDECODABLE, error.end


codecs.register_error(_MARK_ERRORS, _mark_error)


def normalize_encoding(encoding: str | None) -> str | None:
    """Return Python's name of an encoding; None stays None, which means detection.

    Raises:
        ValueError: Python does not know the encoding, or it is not a text encoding.
    """
    if encoding is None:
        return None
    try:
        codec = codecs.lookup(encoding)
        # Codecs such as base64 are known, but do not encode text.
        "".encode(encoding)
    except (LookupError, TypeError, ValueError):
        raise ValueError(
            f"encoding is {encoding!r}, which is not a text encoding that Python knows; give 'utf-8', 'gb18030' (GBK, "
            "Excel's on Chinese Windows), 'big5' or another one, or leave it out to have it detected"
        ) from None
    return UTF_8 if codec.name in (UTF_8, "utf-8-sig") else codec.name


def resolve_encoding(file: Path, encoding: str | None) -> str | None:
    """Return the encoding of a file, None for UTF-8, and log a warning if the encoding is a guess.

    Args:
        file: The file; for a missing file None is returned, as reading it raises an error.
        encoding: Encoding that the user named; None to detect it, which reads the file once.
    """
    if encoding is not None:
        return encoding
    detected = detect_encoding(file)
    if detected == GB18030:
        logger.warning(
            "%s is not UTF-8 and is read as GB18030 (GBK); give encoding='gb18030' to say so, or save it as UTF-8",
            file,
        )
    return detected


def detect_encoding(file: Path) -> str | None:
    """Return ``"utf-16"`` for a file with its byte order mark, ``"gb18030"``, or None for UTF-8.

    GB18030 is returned only if the whole file is valid GB18030 and mostly invalid UTF-8. A UTF-8 file with a
    damaged line is still read as UTF-8, and the error names the line. The file is read in chunks, once if it is UTF-8,
    otherwise twice.
    """
    if not file.is_file():
        return None
    with file.open("rb") as stream:
        if stream.read(2) in _UTF_16_MARKS:
            return "utf-16"
        stream.seek(0)
        if _is_utf_8(stream):
            return None
        stream.seek(0)
        return GB18030 if _is_gb18030(stream) else None


def as_utf_8(stream: BinaryIO, encoding: str, bar: tqdm) -> BinaryIO:
    """Return a stream of the same text in UTF-8; bytes that cannot be decoded become invalid UTF-8.

    Args:
        stream: A file of any size, at its beginning.
        encoding: Encoding of the file.
        bar: Progress bar, updated by the bytes read from the file.
    """
    return io.BufferedReader(_Transcoded(stream, encoding, bar), _CHUNK_BYTES)


class _Transcoded(io.RawIOBase):
    def __init__(self, stream: BinaryIO, encoding: str, bar: tqdm) -> None:
        self._stream = stream
        self._bar = bar
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_MARK_ERRORS)
        self._pending = memoryview(b"")
        self._is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        while not self._pending and not self._is_at_end:
            raw = self._stream.read(_CHUNK_BYTES)
            self._bar.update(len(raw))
            self._is_at_end = not raw
            try:
                text = self._decoder.decode(raw, final=self._is_at_end)
            except UnicodeError:
                # The whole stream cannot be decoded: UTF-16 without a byte order mark.
                text, self._is_at_end = _UNDECODABLE, True
            self._pending = memoryview(text.encode(UTF_8, "surrogatepass"))
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._pending))
        target[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


def _is_utf_8(stream: BinaryIO) -> bool:
    decoder = codecs.getincrementaldecoder(UTF_8)()
    try:
        while raw := stream.read(_CHUNK_BYTES):
            decoder.decode(raw)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_gb18030(stream: BinaryIO) -> bool:
    decoder = codecs.getincrementaldecoder(GB18030)()
    valid = invalid = 0
    try:
        while raw := stream.read(_CHUNK_BYTES):
            decoder.decode(raw)
            # UTF-8 with a damaged line may also be valid GB18030, and would be read as wrong characters.
            text = raw.decode(UTF_8, "replace")
            invalid += text.count(_REPLACEMENT)
            valid += len(_THREE_BYTES.findall(text))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return invalid > valid
