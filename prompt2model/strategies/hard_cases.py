"""A second round: more inputs like those that a student trained before gets wrong, or is not sure of.

LLM2LLM: Lee et al., 2024, https://arxiv.org/abs/2403.15042, where a teacher writes variations of what the student errs
on, and the student is trained again from the start. Each round is a run, and its folder what the next one begins with;
`build --rounds 2 --count 600` is in short

    prompt2model build task.md --count 300 --out runs/round-1
    prompt2model build task.md --count 600 --out runs/round-2 --set generate.strategies=hard_cases
        --set generate.options.hard_cases.run=runs/round-1

The rows that the teacher wrote for the earlier run come first, so `generate.count` is the size of the whole. What its
student finds hard is looked for among those that it learned from; rows of data sets are not shown to the teacher.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from prompt2model import store
from prompt2model.answering import answered
from prompt2model.answers import Answer
from prompt2model.conversation import Message
from prompt2model.drafts import most_in_list, sizes, write_lists
from prompt2model.errors import ConfigError
from prompt2model.jaccard import similarity
from prompt2model.prompts import messages
from prompt2model.records import Dropped, Example, Found, Splits
from prompt2model.strategies import NoOptions, Round
from prompt2model.trained import Trained

NEEDS = ("text",)
KINDS = ("classification", "generation")

HARD = 0.3
"""From so much hardness on a row is a hard case: a label that is right is given 70 % at most."""
FEWEST = 0.1
"""Of the rows, the hardest are cases in any event: a student is often sure of all that it has learned."""


class Options(NoOptions):
    """Where the student is, and how many inputs a case brings."""

    run: str = Field("", description="The folder of a finished run.")
    per_case: int = Field(4, gt=0, description="Inputs asked for in one request, like one hard case.")
    keep: bool = Field(True, description="Whether the rows that the teacher wrote for that run come first.")


@dataclass(frozen=True)
class Case:
    """A row and what the student says to it."""

    row: Example
    answer: str
    hardness: float
    """From 0 for a sure right answer over 1 to 2 for a sure wrong one."""


def write(round: Round) -> Iterator[Example | Dropped]:
    """The earlier run's rows, then inputs like its student's hard cases, each with the teacher's likeliest answer."""
    work = round.once(_begin)
    again, work.again = work.again[: round.count], work.again[round.count :]
    yield from again
    missing = round.count - len(again)
    if missing and not work.cases:
        yield Dropped(reason="the earlier run has no row to show")
        return
    prompts: list[tuple[int, tuple[Message, ...]]] = []
    for size in sizes(missing, most_in_list(round.task, round.options.per_case)):
        case = work.cases.pop(0)
        work.cases.append(case)
        prompts.append((size, _prompt(round, case, size)))
    yield from answered(write_lists(round, prompts), round, "hard_cases")


def hardest(rows: Sequence[Example], answers: Sequence[Answer], *, labels: Sequence[str]) -> list[Case]:
    """The hard cases among the rows, given the student's answers, the hardest first; a tenth of the rows at least."""
    cases = [Case(row, answer.text, _hardness(row, answer, labels)) for row, answer in zip(rows, answers, strict=True)]
    cases.sort(key=lambda case: -case.hardness)
    return [case for at, case in enumerate(cases) if case.hardness >= HARD or at < FEWEST * len(cases)]


def _hardness(row: Example, answer: Answer, labels: Sequence[str]) -> float:
    """Of a classification by the student's certainty, of an open task by how unlike the answer is."""
    if not labels:
        return 1 - similarity(answer.text, row.output)
    certainty = 1.0 if answer.probability is None else answer.probability
    return 1 - certainty if answer.text == row.output else 1 + certainty


@dataclass
class _Work:
    """What the earlier run leaves to do."""

    again: list[Example]
    """Its rows that have not come yet."""
    cases: list[Case]
    """Its hard cases, the next one first; they come again and again."""


def _begin(round: Round) -> _Work:
    """Raises RunError when the run is not finished."""
    if not round.options.run:
        raise ConfigError(
            "The strategy hard_cases needs a run whose student it can ask.",
            hint="--set generate.options.hard_cases.run=FOLDER",
        )
    splits, given = _splits(round.options), _given(round.options)
    shown = [row for row in _once_each(splits.train) if (row.input, row.output) not in given]
    if round.is_rehearsal:
        return _Work([], [Case(row, row.output, HARD) for row in shown])
    answers = Trained(Path(round.options.run).expanduser()).answers([row.input for row in shown])
    return _Work(_again(splits, round.options), hardest(shown, answers, labels=round.task.labels))


def at_hand(options: Options) -> int:
    """How many rows come without a request."""
    return len(_again(_splits(options), options)) if options.run else 0


def _splits(options: Options) -> Splits:
    return store.read(Path(options.run).expanduser(), "split", Splits)


def _given(options: Options) -> set[tuple[str, str]]:
    """The rows that the earlier run was given with --data, whoever wrote them: they are given again."""
    rows = store.read(Path(options.run).expanduser(), "retrieve", Found).examples
    return {(row.input, row.output) for row in rows}


def _again(splits: Splits, options: Options) -> list[Example]:
    """What the teacher wrote for the earlier run, measured and validated rows too: all of it was paid for."""
    rows, given = _once_each((*splits.train, *splits.validation, *splits.test)), _given(options)
    return [row for row in rows if not row.is_real and (row.input, row.output) not in given] if options.keep else []


def _once_each(rows: Iterable[Example]) -> list[Example]:
    """Rows that stand several times, with one rationale each, once."""
    found: dict[tuple[str, str], Example] = {}
    for row in rows:
        found.setdefault((row.input, row.output), row)
    return list(found.values())


def _prompt(round: Round, case: Case, size: int) -> tuple[Message, ...]:
    return messages(
        "generate/hard_cases.j2",
        instruction=round.task.instruction,
        labels=round.task.labels,
        case=case,
        size=size,
        language=round.task.language,
        continues=round.teacher.is_local,
    )
