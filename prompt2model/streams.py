"""Bytes of a file as text: decompressed, decoded line by line, looked at before they are read, metered."""

import codecs
import gzip
import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from prompt2model.errors import DataError
from prompt2model.wording import one_line

CHUNK_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 24
"""A line longer than this belongs to a file that is not what its name says."""
OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive (a workbook of Excel is one)",
    b"\xd0\xcf\x11\xe0": "an old workbook of Excel",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF",
    b"SQLite": "an SQLite database",
}


def unzipped(stream: BinaryIO) -> BinaryIO:
    """The content, decompressed when it is gzip, whatever the name says. The stream must be able to seek."""
    magic = stream.read(2)
    stream.seek(0)
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if magic == b"\x1f\x8b" else stream


def metered(stream: BinaryIO, name: str, max_bytes: int) -> BinaryIO:
    """The stream, which raises DataError instead of giving more than so many bytes: each is a download."""
    return cast(BinaryIO, io.BufferedReader(_Metered(stream, name, max_bytes), CHUNK_BYTES))


def check_text(stream: BinaryIO, name: str) -> None:
    """Raises DataError when the content is empty, or is not text."""
    start = _start(stream)
    for magic, what in OTHER_FORMATS.items():
        if start.startswith(magic):
            raise DataError(
                f"{name} is {what}, which its name does not say.", hint="Save its rows as CSV or JSON lines."
            )
    if not start.strip():
        raise DataError(f"{name} is empty.", hint="The first line names the columns; each further line is a row.")
    if b"\0" in start and not _is_utf16(start):
        raise DataError(f"{name} is not text.", hint="Save its rows as CSV or JSON lines.")


def lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines from the first on, decoded one by one, so that a wrong byte is told with its line.

    A line ends at a line feed, in a file that begins without any at a carriage return; never at the other line ends
    of Unicode, which are text.
    """
    start = _start(stream)
    if _is_utf16(start) or _line_end(start) == "\r":
        yield from _split(chunks(stream, name), _line_end(start))
        return
    for number, line in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES), b""), 1):
        if len(line) >= MAX_LINE_BYTES:
            raise DataError(f"Line {number} of {name} is longer than {size(MAX_LINE_BYTES)}.", hint="Is it a table?")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(f"Line {number} of {name}", error) from error


def _line_end(start: bytes) -> str:
    return "\r" if b"\r" in start and b"\n" not in start else "\n"


def _split(pieces: Iterator[str], end: str) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *whole, rest = (rest + piece).split(end)
        yield from (f"{line}\n" for line in whole)
    if rest:
        yield rest


def chunks(stream: BinaryIO, name: str) -> Iterator[str]:
    """The text from its beginning, in pieces."""
    decoder = codecs.getincrementaldecoder("utf-16" if _is_utf16(_start(stream)) else "utf-8-sig")()
    try:
        while data := stream.read(CHUNK_BYTES):
            yield decoder.decode(data)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _not_utf8(name, error) from error


def first_lines(stream: BinaryIO) -> list[str]:
    """The whole lines at the beginning of the file, to look at; bytes that are no text are replaced."""
    start = _start(stream)
    text = start.decode("utf-16" if _is_utf16(start) else "utf-8-sig", "replace")
    found = [line.removesuffix("\r") for line in text.split(_line_end(start))]
    return found[:-1] if len(start) == CHUNK_BYTES and len(found) > 1 else found


def size(size_bytes: int) -> str:
    """The size for a person to read, as in `1.5 GB`."""
    unit, name = next(((unit, name) for unit, name in UNITS if size_bytes >= unit), UNITS[-1])
    return f"{re.sub(r'[.]0$', '', f'{size_bytes / unit:.1f}')} {name}"


def short(value: Any) -> str:
    """The value in one line of at most 120 characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = one_line(text)
    return text if len(text) <= 120 else f"{text[:119]}…"


def too_large(what: str, max_bytes: int) -> DataError:
    """The error for a download that may not start, or may not go on."""
    return DataError(
        f"{what}; no more than {size(max_bytes)} are downloaded without being asked for.",
        hint="Take fewer rows (--set retrieve.max_rows=500), or raise retrieve.max_download_bytes.",
    )


UNITS = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"), (1, "bytes"))


def _start(stream: BinaryIO) -> bytes:
    """The beginning of the file; the stream stands at the beginning before and after."""
    stream.seek(0)
    start = stream.read(CHUNK_BYTES)
    stream.seek(0)
    return start


def _is_utf16(start: bytes) -> bool:
    return start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _not_utf8(where: str, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{where} is not UTF-8 text: byte 0x{error.object[error.start]:02x}.",
        hint="Save the file as UTF-8: iconv -f LATIN1 -t UTF-8 old > new",
    )


class _Metered(io.RawIOBase):
    def __init__(self, stream: BinaryIO, name: str, max_bytes: int) -> None:
        self._stream, self._name, self._max_bytes, self._read_bytes = stream, name, max_bytes, 0

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._read_bytes += len(data)
        if self._read_bytes > self._max_bytes:
            raise too_large(f"The first rows of {self._name} are larger", self._max_bytes)
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
