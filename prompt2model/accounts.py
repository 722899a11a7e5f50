"""What a run's teacher was asked and has cost, stage by stage: one line a stage in `ledger.jsonl`, for every call."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from prompt2model import book
from prompt2model.errors import RunError
from prompt2model.records import Record, Spent
from prompt2model.teacher import Teacher, spent_by

NAME = "ledger.jsonl"
UNNOTED = "before a kill"
"""The stage of an entry for what a process had paid, or had under way, and could not note when it was ended."""


class Entry(Record):
    """What one stage asked of one teacher."""

    stage: str
    teacher: str
    """Its name; empty where the process that asked it could not note it."""
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
                add(folder, Entry(stage=stage, teacher=teacher.name, spent=spent))


def settle(folder: Path) -> None:
    """Enter what the run's book knows and its ledger does not, so that both come to the same.

    For a process that alone works on the run, before it asks anything.
    """
    path = book.book_of(folder)
    sharing = path.parent.glob("round-*") if path.name == book.SHARED else [folder]
    noted_usd = sum(total(entries(one)).usd for one in sharing)
    unnoted_usd = round(sum(book.read(path)) - noted_usd, 9)
    if unnoted_usd > 0:
        add(folder, Entry(stage=UNNOTED, teacher="", spent=Spent(usd=unnoted_usd)))


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


def add(folder: Path, entry: Entry) -> None:
    """Write the entry below the others. Raises RunError when that cannot be done."""
    path = folder / NAME
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" + entry.model_dump_json())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}.", hint="Is the disk full?") from error
