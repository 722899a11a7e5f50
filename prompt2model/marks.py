"""Marks: rows that a person has accepted or rejected, one JSON line each, in a run's folder."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from prompt2model.errors import DataError
from prompt2model.records import Record

FILE = "marks.jsonl"


class Mark(Record):
    """One row, and whether a student should learn from it."""

    input: str
    output: str
    accepted: bool


def read_marks(file: Path) -> list[Mark]:
    """The marks in the file, the last one of each row; none where there is no file. Raises DataError for a bad line."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The marks in {file} cannot be read: {error}.", hint="Is it a file of JSON lines?") from error
    marks = [_mark(line, f"{file}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    return list({(mark.input, mark.output): mark for mark in marks}.values())


def add_marks(run: Path, marks: Iterable[Mark]) -> None:
    """Write the marks behind those that the run has. Raises DataError when the file cannot be written."""
    try:
        with (run / FILE).open("a", encoding="utf-8") as file:
            file.writelines(f"{mark.model_dump_json()}\n" for mark in marks)
    except OSError as error:
        raise DataError(f"{run / FILE} cannot be written: {error.strerror}.", hint="May this user write it?") from error


def _mark(line: str, where: str) -> Mark:
    try:
        return Mark.model_validate(json.loads(line))
    except (json.JSONDecodeError, ValidationError) as error:
        raise DataError(
            f"{where} is no mark: {line[:80]!r}.", hint='A mark is {"input": "…", "output": "…", "accepted": true}.'
        ) from error
