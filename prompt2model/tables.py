"""Rows of a file as they stand: CSV, TSV, JSON lines, JSON arrays, Parquet, each perhaps gzipped.

Only what is needed for the first rows is read, whatever the size of the file; every mistake is told with its line.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePath
from typing import Any, BinaryIO, cast

from prompt2model import streams
from prompt2model.errors import DataError
from prompt2model.streams import short

Row = dict[str, Any]

MAX_OBJECT_CHUNKS = 1024
"""64 MB: the largest JSON file that is read whole because it is one object."""
INNER_KEYS = ("data", "rows", "examples", "train")
"""Where a JSON file that is one object keeps its rows."""
NAME_ALL = "Give every column a name in the first line."
JSON_HINT = 'Each row is an object with named columns, as in {"input": "…", "output": "…"}, one a line or in an array.'


@dataclass(frozen=True)
class Table:
    """The first rows of a file."""

    rows: list[Row]
    is_whole: bool
    """Whether the file ended before the cap on rows was reached."""
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For each column of label numbers that the file explains, the names in order."""
    header: tuple[str, ...] = ()
    """The line that names the columns, where the format has one; a column without a name is left out."""
    separator: str = ","


Read = tuple[Table, Iterator[Row]]
"""A table without its rows, and the rows."""


def read_table(stream: BinaryIO, name: str, *, max_rows: int, max_bytes: int | None = None, suffix: str = "") -> Table:
    """The first rows; `name` says the format, unless `suffix` does. The stream must be able to seek.

    Raises DataError when the format is not one of FORMATS, when the content is not what the name says, and when more
    than `max_bytes` would have to be read.
    """
    read = FORMATS[suffix or format_of(name)]
    try:
        if read is None:
            return _parquet(streams.unzipped(stream), name, max_rows, max_bytes)
        text = streams.unzipped(streams.metered(stream, name, max_bytes) if max_bytes is not None else stream)
        streams.check_text(text, name)
        return _collect(*read(text, name), name, max_rows)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name} is damaged: {error}.", hint="Compress or copy it again.") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, a thousand brackets
        raise DataError(f"{name} cannot be read: {short(str(error))}", hint="Is it a table?") from error


def format_of(name: str) -> str:
    """The suffix that says the format. Raises DataError, with the known ones, when it is another."""
    suffix = PurePath(name.removesuffix(".gz")).suffix.lower()
    if suffix not in FORMATS:
        raise DataError(
            f"{name} ends in {suffix or 'no suffix'}, which is not a format of rows that can be read.",
            hint=f"Save it as one of {', '.join(FORMATS)}; .gz may follow.",
        )
    return suffix


def _collect(table: Table, rows: Iterable[Row], name: str, max_rows: int) -> Table:
    """The table with rows up to the cap; one more is read to see whether there are more."""
    taken = list(islice(rows, max_rows + 1))
    if not taken:
        raise _no_rows(name)
    return replace(table, rows=taken[:max_rows], is_whole=len(taken) <= max_rows)


def _no_rows(name: str) -> DataError:
    return DataError(f"{name} has no rows.", hint="Below the names of the columns there has to be a line for each row.")


# Separated values

Lines = Iterator[tuple[int, list[str]]]
"""The number of each line that is not empty, and its cells."""


def _csv(stream: BinaryIO, name: str) -> Read:
    """By comma, or by the mark that the first line has most of."""
    header = next(line for line in streams.first_lines(stream) if line.strip())
    return _separated(streams.lines(stream, name), name, max(",;\t|", key=header.count), csv.QUOTE_MINIMAL)


def _tsv(stream: BinaryIO, name: str) -> Read:
    """By tab, with quotes only where they come in pairs: much published TSV has quotes that are part of the text."""
    cells = [cell for line in streams.first_lines(stream) for cell in line.split("\t")]
    is_loose = any(cell.startswith('"') != cell.endswith('"') or cell == '"' for cell in cells)
    return _separated(streams.lines(stream, name), name, "\t", csv.QUOTE_NONE if is_loose else csv.QUOTE_MINIMAL)


def _separated(text: Iterator[str], name: str, separator: str, quoting: Any) -> Read:
    csv.field_size_limit(streams.MAX_LINE_BYTES)  # Python's own limit, 128 kB, is less than a long document
    lines = _cells(csv.reader(text, delimiter=separator, quoting=quoting, strict=True), name)
    _, first = next(lines, (1, []))
    header = tuple(cell.strip() for cell in first)
    named = [cell for cell in header if cell]
    twice = [cell for cell in named if named.count(cell) > 1]
    if twice or not named:
        raise _no_names(header, name, f"The name {twice[0]!r} occurs twice." if twice else NAME_ALL)
    return Table([], is_whole=True, header=header, separator=separator), _named(header, lines, name)


def _cells(reader: Any, name: str) -> Lines:
    try:
        yield from ((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        is_line_end = "new-line" in str(error)
        raise DataError(
            f"{name} cannot be read beyond line {reader.line_num}: {str(error).partition(' - ')[0]}.",
            hint="A carriage return stands inside a line: quote the cell that holds it, or end all lines alike."
            if is_line_end
            else "Usually a quote is opened and not closed; a quote inside a quoted cell is written twice.",
        ) from error


def _named(header: tuple[str, ...], lines: Lines, name: str) -> Iterator[Row]:
    """The rows without columns that have no name: the row numbers that pandas writes, and what a last comma begins."""
    for number, cells in lines:
        if len(cells) == len(header) - 1 and not header[-1]:
            cells.append("")
        if len(cells) != len(header):
            raise DataError(
                f"Line {number} of {name} has {len(cells)} cells; the first line names {len(header)}.",
                hint='A cell that holds the separator has to be quoted: "like, this".',
            )
        pairs = list(zip(header, cells, strict=True))
        lost = [cell for column, cell in pairs if not column and cell.strip() and not cell.strip().isdigit()]
        if lost:
            raise _no_names(header, f"{name}, where line {number} has {short(lost[0])},", NAME_ALL)
        yield {column: cell for column, cell in pairs if column}


def _no_names(header: Sequence[str], name: str, hint: str) -> DataError:
    return DataError(f"The first line of {name} does not name the columns: {short(list(header))}.", hint=hint)


# JSON


def _json(stream: BinaryIO, name: str) -> Read:
    return Table([], is_whole=True), _json_rows(stream, name)


def _json_rows(stream: BinaryIO, name: str) -> Iterator[Row]:
    """An array of objects, an object on every line, or one object that holds the array; the first sign tells."""
    opening = next((line for line in streams.first_lines(stream) if line.strip()), "")
    if opening.lstrip().startswith("["):
        return _array(streams.chunks(stream, name), name)
    if not opening.lstrip().startswith("{"):
        raise DataError(f"{name} is not JSON; it begins with {short(opening)}", hint=JSON_HINT)
    # A line that ends an object is one of many; one that does not begins an object that goes over many lines.
    if opening.rstrip().endswith("}") or len(opening) > 1000:
        return _objects(streams.lines(stream, name), name)
    return iter(_inner_rows(streams.chunks(stream, name), name))


def _objects(lines: Iterator[str], name: str) -> Iterator[Row]:
    rows = (_parse(line, f"Line {number} of {name}") for number, line in enumerate(lines, 1) if line.strip())
    first, *second = islice(rows, 2)
    yield from [first, *second] if second else _rows_in(first, name) or [first]
    yield from rows


def _parse(line: str, where: str) -> Row:
    try:
        return _as_row(json.loads(line), where)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error.msg}): {short(line)}", hint=JSON_HINT) from error


def _inner_rows(chunks: Iterator[str], name: str) -> list[Row]:
    """The rows of a file that is one object, read whole."""
    text = "".join(islice(chunks, MAX_OBJECT_CHUNKS))
    if next(chunks, ""):
        raise DataError(
            f"{name} is one JSON object of more than {streams.size(MAX_OBJECT_CHUNKS * streams.CHUNK_BYTES)}.",
            hint="Save its rows as JSON lines; those are read one by one.",
        )
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        wrong = text.split("\n")[error.lineno - 1]
        place = f"Line {error.lineno} of {name}"
        raise DataError(f"{place} is not JSON ({error.msg}): {short(wrong)}", hint=JSON_HINT) from error
    if rows := _rows_in(whole, name):
        return rows
    raise DataError(f"{name} is one object without a list of rows; its keys: {short(list(whole))}.", hint=JSON_HINT)


def _array(chunks: Iterator[str], name: str) -> Iterator[Row]:
    """The array's objects one by one, so that the file need not be read to its end."""
    decoder, line = json.JSONDecoder(), 1
    text, line = _skip(next(chunks, ""), " \t\r\n", line)
    text = text.removeprefix("[")
    while True:
        text, line = _skip(text, " \t\r\n,", line)
        if text.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(text)
        except json.JSONDecodeError as error:
            more = next(chunks, "") if len(text) < streams.MAX_LINE_BYTES else ""
            if not more:
                place = f"Line {line + error.lineno - 1} of {name}"
                raise DataError(f"{place} is not JSON ({error.msg}): {short(text)}", hint=JSON_HINT) from error
            text += more
            continue
        yield _as_row(value, f"An entry on line {line} of {name}")
        text, line = text[end:], line + text.count("\n", 0, end)


def _skip(text: str, signs: str, line: int) -> tuple[str, int]:
    """The text without the signs at its beginning, and the line that it then begins on."""
    rest = text.lstrip(signs)
    return rest, line + text.count("\n", 0, len(text) - len(rest))


def _as_row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{where} is not a row with named columns: {short(value)}", hint=JSON_HINT)
    return value


def _rows_in(whole: Row, name: str) -> list[Row]:
    """The rows of an object that is the whole file: in one of its entries, or as columns; none where it is a row.

    Raises DataError for columns that are not of one length.
    """
    for key in INNER_KEYS:
        if _is_rows(whole.get(key)):
            return cast("list[Row]", whole[key])
    columns = {column: _column(value) for column, value in whole.items()}
    if None in columns.values():
        return []
    lengths = {column: len(values or ()) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{column!r} has {length}" for column, length in lengths.items())
        raise DataError(f"The columns of {name} are not of one length: {short(counts)}.", hint=JSON_HINT)
    return [dict(zip(whole, cells, strict=True)) for cells in zip(*filter(None, columns.values()), strict=True)]


def _column(value: Any) -> list[Any] | None:
    """The cells of a list, or of an object that has them by row number, as pandas writes it; none of anything else."""
    cells = list(value.values()) if isinstance(value, dict) and all(map(str.isdigit, value)) else value
    is_column = isinstance(cells, list) and not any(isinstance(one, dict | list) for one in cells)
    return cells if is_column else None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


# Parquet


def _parquet(stream: BinaryIO, name: str, max_rows: int, max_bytes: int | None) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[Row] = []
    try:
        file = pq.ParquetFile(stream)
        groups = _first_groups(file.metadata, name, max_rows, max_bytes)
        for batch in file.iter_batches(batch_size=1024, row_groups=groups):
            rows.extend(batch.to_pylist()[: max_rows - len(rows)])
            if len(rows) >= max_rows:
                break
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{name} is not Parquet: {short(str(error))}", hint="Is it whole? Save it again.") from error
    if not rows:
        raise _no_rows(name)
    return Table(rows, file.metadata.num_rows <= max_rows, _label_names(file.schema_arrow.metadata or {}))


def _first_groups(metadata: Any, name: str, max_rows: int, max_bytes: int | None) -> list[int]:
    """The row groups that hold the first rows. Raises DataError when together they are larger than `max_bytes`."""
    groups: list[int] = []
    rows = size_bytes = 0
    while rows < max_rows and len(groups) < metadata.num_row_groups:
        group = metadata.row_group(len(groups))
        size_bytes += sum(group.column(place).total_compressed_size for place in range(group.num_columns))
        rows += group.num_rows
        groups.append(len(groups))
    if max_bytes is not None and size_bytes > max_bytes:
        first = f"The first {min(rows, max_rows)} rows of {name}"
        raise streams.too_large(f"{first} are a download of {streams.size(size_bytes)}", max_bytes)
    return groups


def _label_names(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """The names of label numbers, which the `datasets` library writes into a file's schema."""
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {
        column: tuple(feature["names"])
        for column, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


FORMATS: dict[str, Callable[[BinaryIO, str], Read] | None] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".parquet": None,  # not text: it has an index, and is read by it
}
