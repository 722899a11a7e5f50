"""Seed tasks: instructions written by people, from which a teacher makes up others."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ValidationError

from prompt2model.errors import DataError
from prompt2model.records import Example


class Seed(BaseModel):
    """An instruction. Of a line of Self-Instruct's seed_tasks.jsonl this is what is read."""

    instruction: str
    is_classification: bool | None = None


def read_seeds(file: str, examples: Sequence[Example]) -> list[Seed]:
    """The instructions of a JSONL file, or the examples' inputs when none is named. Raises DataError without any."""
    if not file:
        seeds = [Seed(instruction=example.input) for example in examples]
    else:
        seeds = [_seed(line, number, file) for number, line in enumerate(_lines(file), 1) if line.strip()]
    if not seeds:
        raise DataError(
            "There is no instruction to start from.",
            hint="Give examples in the description, or a file: --set generate.options.self_instruct.seeds=seeds.jsonl",
        )
    return seeds


def _lines(file: str) -> list[str]:
    try:
        return Path(file).expanduser().read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The seed tasks {file} cannot be read: {error}.", hint="Name a JSONL file.") from error


def _seed(line: str, number: int, file: str) -> Seed:
    try:
        return Seed.model_validate(json.loads(line))
    except (json.JSONDecodeError, ValidationError) as error:
        raise DataError(
            f"Line {number} of {file} is no seed task: {line[:80]!r}.",
            hint='A line is an object with an "instruction" and perhaps "is_classification".',
        ) from error
