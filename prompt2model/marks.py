"""Marks: rows that a person has accepted or rejected, one JSON line each, in a run's folder."""

import json
import logging
from collections.abc import Iterable
from os import SEEK_END
from pathlib import Path

from pydantic import ValidationError

from prompt2model.errors import DataError
from prompt2model.records import Record, WholeText

FILE = "marks.jsonl"
LEAST_MARKS = 10
"""Of each kind, accepted and rejected, that the filter critic needs: of fewer nothing can be estimated."""
BEGINNING = '{"input"'
"""Of a line."""

logger = logging.getLogger(__name__)


class Mark(Record):
    """One row, and whether a student should learn from it."""

    input: WholeText
    output: WholeText
    accepted: bool


def read_marks(file: Path) -> list[Mark]:
    """The marks in the file, the last one of each row; none where there is no file. Raises DataError for a bad line.

    A last mark that a kill cut short is left out.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The marks in {file} cannot be read: {error}.", hint="Is it a file of JSON lines?") from error
    if lines[-1].startswith(BEGINNING) and not lines[-1].rstrip().endswith("}"):
        logger.warning("The last line of %s is half a mark, and left out.", file)
        lines.pop()
    marks = [_mark(line, f"{file}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    return list({(mark.input, mark.output): mark for mark in marks}.values())


def add_marks(run: Path, marks: Iterable[Mark]) -> None:
    """Write the marks behind those that the run has. Raises DataError when the file cannot be written."""
    try:
        with (run / FILE).open("a+b") as file:
            if file.seek(0, SEEK_END) and file.seek(-1, SEEK_END) and file.read(1) != b"\n":
                file.write(b"\n")
            file.writelines(f"{mark.model_dump_json()}\n".encode() for mark in marks)
    except OSError as error:
        raise DataError(f"{run / FILE} cannot be written: {error.strerror}.", hint="May this user write it?") from error


def _mark(line: str, where: str) -> Mark:
    try:
        return Mark.model_validate(json.loads(line))
    except (json.JSONDecodeError, ValidationError) as error:
        raise DataError(
            f"{where} is no mark: {line[:80]!r}.", hint='A mark is {"input": "…", "output": "…", "accepted": true}.'
        ) from error
