"""What a run's teacher was asked and has cost, stage by stage: one line a stage in `ledger.jsonl`, for every call."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from prompt2model.errors import RunError
from prompt2model.records import Record, Spent
from prompt2model.teacher import Teacher, spent_by

NAME = "ledger.jsonl"


class Entry(Record):
    """What one stage asked of one teacher."""

    stage: str
    teacher: str
    spent: Spent


@contextmanager
def accounted(folder: Path, stage: str, opened: Iterable[Teacher]) -> Iterator[None]:
    """Note what the stage within asks of the teachers that are open at its end, also when it is broken off."""
    before = {id(teacher): spent_by(teacher) for teacher in opened}
    try:
        yield
    finally:
        for teacher in opened:
            spent = spent_by(teacher) - before.get(id(teacher), Spent())
            if spent.requests:
                _write(folder / NAME, Entry(stage=stage, teacher=teacher.name, spent=spent))


def entries(folder: Path) -> list[Entry]:
    """All that was noted, in order; a line that a kill cut short is left out."""
    path = folder / NAME
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            found.append(Entry.model_validate_json(line))
        except ValidationError:
            continue
    return found


def of_stage(folder: Path, stage: str) -> Spent:
    """What a stage has cost in all, in however many goes it was done."""
    return total(entry for entry in entries(folder) if entry.stage == stage)


def total(found: Iterable[Entry]) -> Spent:
    """All entries together."""
    return sum((entry.spent for entry in found), Spent())


def _write(path: Path, entry: Entry) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" + entry.model_dump_json())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}.", hint="Is the disk full?") from error
