"""split: rows to learn from, to choose the checkpoint by and to measure on, with no twin on two sides."""

from collections import Counter, defaultdict
from collections.abc import Container, Sequence
from itertools import chain
from random import Random

from prompt2model.config import RetrieveConfig, SplitConfig
from prompt2model.errors import DataError
from prompt2model.marks import Mark
from prompt2model.records import Example, Found, Made, Splits, TaskSpec
from prompt2model.rows import read_test
from prompt2model.twins import Twins, groups
from prompt2model.wording import one_line

FEW_REAL_ROWS = 20
"""With fewer rows by a person a test on them says nothing; they are worth more in training."""

MOST_SHOWN = 64
"""Rows of data that are shown to a teacher, at most: prompts take a few of them at a time."""

PREFERENCE = {"user": 0, "data": 1, "teacher": 2}
"""Whose answer counts where two contradict each other, by the kind of source."""
MEASURED_ON = {"data": 0, "user": 1, "teacher": 2}
"""Which rows are measured on first. The user's examples were shown to the teacher, so other rows resemble them."""


def split(
    task: TaskSpec,
    found: Found,
    made: Made,
    config: SplitConfig = SplitConfig(),
    *,
    reading: RetrieveConfig = RetrieveConfig(),
    marks: Sequence[Mark] = (),
    seed: int = 0,
) -> Splits:
    """All rows, each on one side or counted as dropped; stratified by label; the same for the same seed.

    Rows by a person are preferred for test and validation where there are enough of them; the rows of
    `config.test_data`, which are read as `reading` says, are the whole test. What a teacher wrote and a person has
    rejected, by the `marks`, is on no side. Raises DataError when no row is left to learn from, and what `read_test`
    raises.
    """
    everything = [*(made.explained or (*task.examples, *found.examples)), *made.examples]
    rejected = {(mark.input, mark.output) for mark in marks if not mark.accepted}
    left = [row for row in everything if row.is_real or (row.input, row.output) not in rejected]
    rows, dropped = _consistent(left, task)
    dropped["rejected by a person"] = len(everything) - len(left)
    given = read_test(config.test_data, task, reading) if config.test_data else None
    if given:
        dropped += Counter({f"test row: {reason}": count for reason, count in given.dropped.items()})
        rows, dropped["twin of a test row"] = _without_twins_of(given.examples, rows, config.near_twin)
    if not rows:
        counts = ", ".join(f"{count} × {reason}" for reason, count in dropped.items() if count)
        raise DataError(
            f"There is no row to learn from: {counts or 'none was given and none was written'}.",
            hint="Give rows with --data, or let the teacher write some, more than are rejected: --count 400",
        )
    thoughts = defaultdict[tuple[str, str], list[Example]](list)
    for row in rows:
        thoughts[row.input, row.output].append(row)
    each = [same[0] for same in thoughts.values()]  # one row with several chains of thought is one row
    seen = {row.input for row in shown_to_teacher(task, found, config)[0].examples[len(task.examples) :]}
    sides = _sides(task, each, config, seen, Random(f"{seed}/split"))  # noqa: S311 - not for secrets
    test = given.examples if given else tuple(sides["test"])
    return Splits(
        train=tuple(row for one in sides["train"] for row in thoughts[one.input, one.output]),
        validation=tuple(sides["validation"]),
        test=test,
        dropped={reason: count for reason, count in dropped.most_common() if count},
        notes=(*_notes(each, sides["validation"], test), *(given.notes if given else ())),
    )


def shown_to_teacher(task: TaskSpec, found: Found, config: SplitConfig) -> tuple[TaskSpec, Found]:
    """The task with rows of data among its examples, and what was found without those, where none of them will be
    measured on: there is a test of its own, or they are few. A teacher writes more like what it is shown.
    """
    real = [row for row in found.examples if row.is_real]
    if not config.test_data and len(task.examples) + len(real) >= FEW_REAL_ROWS:
        return task, found
    count = min(len(real), MOST_SHOWN)
    shown = [real[place * len(real) // count] for place in range(count)]  # of all labels, also where they are sorted
    rest = tuple(row for row in found.examples if not any(row is one for one in shown))
    return task.model_copy(update={"examples": (*task.examples, *shown)}), found.model_copy(update={"examples": rest})


def _consistent(rows: Sequence[Example], task: TaskSpec) -> tuple[list[Example], Counter[str]]:
    """The rows without repetitions and contradictions, in their order, and what was dropped.

    An input of an open task may have several good outputs when people wrote them all.
    """
    dropped: Counter[str] = Counter()
    kept: dict[str, list[Example]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: PREFERENCE[row.source.kind]):
        same = kept[one_line(row.input)]
        alike = [other for other in same if one_line(other.output) == one_line(row.output)]
        if task.kind == "classification" and row.output not in task.labels:
            dropped["output is none of the labels"] += 1
        elif any(not _think_differently(other, row) for other in alike):
            dropped["same row again"] += 1
        elif same and not alike and (task.kind == "classification" or not row.is_real):
            dropped["contradicts a row by a person" if same[0].is_real else "contradicts an earlier row"] += 1
        else:
            same.append(row)
    return list(chain.from_iterable(kept.values())), dropped


def _think_differently(one: Example, other: Example) -> bool:
    """Of two chains of thought that lead to the same output both are learned from."""
    return bool(one.rationale and other.rationale) and one_line(one.rationale or "") != one_line(other.rationale or "")


def _without_twins_of(test: Sequence[Example], rows: Sequence[Example], near_twin: float) -> tuple[list[Example], int]:
    twins = Twins([row.input for row in test], near_twin)
    kept = [row for row in rows if twins.find(row.input) is None]
    return kept, len(rows) - len(kept)


def _sides(
    task: TaskSpec, rows: Sequence[Example], config: SplitConfig, seen: Container[str], rng: Random
) -> dict[str, list[Example]]:
    """The rows on three sides; twins go together. What test and validation have no room for is learned from, and of
    those by people one half at least, and all inputs of data that the teacher has `seen`."""
    room = {
        "test": 0 if config.test_data else min(round(config.test * len(rows)), config.max_test),
        "validation": min(round(config.validation * len(rows)), config.max_validation),
        "train": len(rows),
    }
    side_of: dict[int, str] = {}
    real_left = sum(row.is_real for row in rows) // 2
    for group in _measured_first(task, rows, groups([row.input for row in rows], config.near_twin), rng):
        real = sum(rows[place].is_real for place in group)
        fits = [side for side, left in room.items() if len(group) <= left]
        is_seen = any(rows[place].input in seen for place in group)
        side = "train" if is_seen or real > real_left else fits[0]
        room[side] -= len(group)
        real_left -= real * (side != "train")
        side_of |= dict.fromkeys(group, side)
    return {side: [row for place, row in enumerate(rows) if side_of.get(place, "train") == side] for side in room}


def _measured_first(
    task: TaskSpec, rows: Sequence[Example], twins: Sequence[list[int]], rng: Random
) -> list[list[int]]:
    """The groups that may be measured on: those with rows by people first, and of each kind the labels in turn, so that
    any beginning of the list has them in the proportions of the whole."""
    found = [(min(MEASURED_ON[rows[place].source.kind] for place in group), group) for group in twins]
    if _are_real_rows_few(rows):
        found = [(kind, group) for kind, group in found if kind == MEASURED_ON["teacher"]]
    strata: dict[tuple[int, str], list[list[int]]] = defaultdict(list)
    for kind, group in rng.sample(found, len(found)):
        strata[kind, rows[group[0]].output if task.kind == "classification" else ""].append(group)
    turns = [
        ((kind, (place + 0.5) / len(same)), group)
        for (kind, _), same in strata.items()
        for place, group in enumerate(same)
    ]
    return [group for _, group in sorted(turns, key=lambda turn: turn[0])]


def _are_real_rows_few(rows: Sequence[Example]) -> bool:
    real = sum(row.is_real for row in rows)
    return real < FEW_REAL_ROWS and real < len(rows)


def _notes(rows: Sequence[Example], validation: Sequence[Example], test: Sequence[Example]) -> list[str]:
    notes = []
    if _are_real_rows_few(rows) and any(row.is_real for row in rows):
        real = sum(row.is_real for row in rows)
        notes.append(f"Rows by a person are few ({real}, below {FEW_REAL_ROWS}): all of them are learned from.")
    for what, side in (("test", test), ("validation", validation)):
        real = sum(row.is_real for row in side)
        notes.append(
            f"The {what} has {len(side)} rows: {real} by a person, {len(side) - real} by the teacher."
            if side
            else f"There is no {what}: its share of {len(rows)} rows is less than one, or too many are near twins."
        )
    return notes
