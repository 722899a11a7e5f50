"""Inputs without outputs: a line each of a text, or a row each of a table, whose other columns are kept beside."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from prompt2model import streams
from prompt2model.errors import DataError
from prompt2model.headers import check_header
from prompt2model.tables import FORMATS, Row, read_table

ALL_ROWS = 1 << 40


@dataclass(frozen=True)
class Inputs:
    """The inputs in their order, empty ones too."""

    texts: list[str]
    others: list[Row]
    """For each input what else its row holds."""
    notes: tuple[str, ...] = ()
    """What a person should know about how they were read."""


def read_inputs(file: Path) -> Inputs:
    """The lines of the file, or the column `input`, else the only one, of the table that its name says it is.

    Raises DataError when it cannot be read, or when it is not clear which column is meant.
    """
    try:
        return inputs_in(file.read_bytes(), str(file))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.", hint="Check the path.") from error


def inputs_in(content: bytes, name: str) -> Inputs:
    """What `read_inputs` gives for a file of this content and name; a text may also be JSON lines that have `input`.

    The end of the last line begins no input.
    """
    if name.lower().removesuffix(".gz").endswith(tuple(FORMATS)):
        return _in_table(content, name)
    lines = [line.removesuffix("\n").removesuffix("\r") for line in streams.lines(BytesIO(content), name)]
    if _has_input(next(filter(str.strip, lines), "")):
        return _in_table(content, name, suffix=".jsonl")
    return Inputs(lines, [{} for _ in lines])


def _has_input(line: str) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and "input" in row


def _in_table(content: bytes, name: str, suffix: str = "") -> Inputs:
    table = read_table(BytesIO(content), name, max_rows=ALL_ROWS, suffix=suffix)
    notes = check_header(table, (), name, otherwise="if this is the name of the inputs, call them `input`.")
    column = _column(table.rows[0], name)
    return Inputs(
        texts=[_text(row, column, f"row {number} of {name}") for number, row in enumerate(table.rows, 1)],
        others=[{other: value for other, value in row.items() if other != column} for row in table.rows],
        notes=tuple(notes),
    )


def _column(columns: Iterable[str], name: str) -> str:
    found = list(columns)
    if "input" in found or len(found) == 1:
        return "input" if "input" in found else found[0]
    raise DataError(
        f"It is not clear which column of {name} holds the inputs: {', '.join(found)}.", hint="Call it `input`."
    )


def _text(row: Row, column: str, where: str) -> str:
    if column not in row:
        raise DataError(f"There is no {column!r} in {where}: {streams.short(row)}", hint='Write {"input": "…"}.')
    value: Any = row[column]
    if value is not None and not isinstance(value, str):
        raise DataError(f"The input in {where} is no text: {streams.short(value)}", hint="Put it into quotes.")
    return value or ""
