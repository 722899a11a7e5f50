"""Marks: rows that a person has accepted or rejected, one JSON line each, in a run's folder."""

import json
import logging
from codecs import BOM_UTF8 as BOM
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from prompt2model.errors import DataError
from prompt2model.records import Record, WholeText

FILE = "marks.jsonl"
LEAST_MARKS = 10
"""Of each kind, accepted and rejected, that the filter critic needs: of fewer nothing can be estimated."""
BEGINNING = b'{"input"'
"""Of a line."""

logger = logging.getLogger(__name__)


class Mark(Record):
    """One row, and whether a student should learn from it."""

    input: WholeText
    output: WholeText
    accepted: bool


def read_marks(file: Path) -> list[Mark]:
    """The marks in the file, the last one of each row; none where there is no file. Raises DataError for a bad line.

    A last line that a kill cut short is left out.
    """
    try:
        content = file.read_bytes()
        whole = content[: _end_of_marks(content)]
        lines = whole.decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The marks in {file} cannot be read: {error}.", hint="Is it a file of JSON lines?") from error
    if len(whole) < len(content):
        logger.warning("The last line of %s is half a mark, and left out.", file)
    marks = [_mark(line, f"{file}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    return list({(mark.input, mark.output): mark for mark in marks}.values())


def add_marks(run: Path, marks: Iterable[Mark]) -> None:
    """Write the marks behind those that the run has. Raises DataError when the file cannot be written."""
    path = run / FILE
    try:
        content = path.read_bytes() if path.exists() else b""
        end = _end_of_marks(content)
        with path.open("ab") as file:
            file.truncate(end)
            if end and content[end - 1 : end] != b"\n":
                file.write(b"\n")
            file.writelines(f"{mark.model_dump_json()}\n".encode() for mark in marks)
    except OSError as error:
        raise DataError(f"{run / FILE} cannot be written: {error.strerror}.", hint="May this user write it?") from error


def _end_of_marks(content: bytes) -> int:
    """Where the marks end: after a last line that has no end, unless it is the beginning of a mark."""
    begin = content.rfind(b"\n") + 1
    last = content[begin:].removeprefix(BOM)
    is_begun = last and (last.startswith(BEGINNING) or BEGINNING.startswith(last))
    return begin if is_begun and not _is_whole(last) else len(content)


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:  # of JSON, or of UTF-8
        return False
    return True


def _mark(line: str, where: str) -> Mark:
    try:
        return Mark.model_validate(json.loads(line))
    except (json.JSONDecodeError, ValidationError) as error:
        raise DataError(
            f"{where} is no mark: {line[:80]!r}.", hint='A mark is {"input": "…", "output": "…", "accepted": true}.'
        ) from error
