"""generate: the teacher writes rows, filters sift them, until there are enough or the yield dries up."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from math import ceil
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

from prompt2model import progress
from prompt2model.config import GenerateConfig
from prompt2model.counted import SPENT, Counted
from prompt2model.errors import ConfigError, DataError
from prompt2model.failures import Remembered
from prompt2model.filters import Sieve
from prompt2model.marks import Mark
from prompt2model.questions import form_examples, longest_answer
from prompt2model.rationales import Explained, add_rationales
from prompt2model.recipe import Share, plan
from prompt2model.records import Dropped, Example, Found, Made, TaskSpec
from prompt2model.strategies import Round
from prompt2model.teacher import Teacher

DRY_ROUNDS = 3
DRY_SHARE = 0.05
"""The yield has dried up when each of so many rounds in a row keeps less than this share."""
SMALLEST_ROUND = 16
"""Candidates of a round at least (or `round_size`, if that is less): a handful says nothing about the yield."""
USUAL_ROUND, LARGEST_ROUND = 64, 4096
"""Candidates of a round, where no number is set; a server is asked for more of them at a time, up to so many."""
LATER_ROUND = 128
"""Those of a local teacher once a round's worth is kept: there is enough to show, and many texts at once cost less."""
ROUNDS_OF_MANY = 8
"""Into so many rounds many rows are divided: rows that were kept are shown when later ones are written."""
MOST_REJECTED = 50
"""Dropped candidates kept in the record, to look at."""
MOST_CHARACTERS = 500
"""Of a dropped candidate."""

logger = logging.getLogger(__name__)


def generate(
    task: TaskSpec,
    found: Found,
    config: GenerateConfig = GenerateConfig(),
    *,
    teacher: Teacher,
    test: Sequence[Example] = (),
    marks: Sequence[Mark] = (),
    failures: Path | None = None,
    seed: int = 0,
) -> Made:
    """`config.count` rows or as many as can be had, with the count of what was dropped and why the writing ended.

    `test` are rows kept apart to measure on, and `marks` what a person said of rows: some filters look at them.
    `failures` is a file that remembers which requests failed, for a call that goes on after a kill.

    Every request follows from the seed and the earlier replies, so with a cached teacher, and with `failures`, an
    interrupted call that is repeated asks nothing twice and ends the same. Raises ConfigError before the first request
    when a strategy or filter does not suit the task or the teacher, TeacherError when nobody answers, BudgetExceeded
    when `config.when_spent` is to stop or there is no row yet, DataError when not one row was kept.
    """
    strategies, filters = plan(task, config, teacher)
    harvest = _Harvest(task, found, config, *round_sizes(config, is_local=teacher.is_local))
    with progress.task("writing examples", total=config.count) as advance:
        remembered = Remembered(teacher, failures)
        counted = Counted(remembered, advance, goes_on=config.when_spent == "go_on")
        sieve = Sieve(task, counted, config, list(harvest.given), test, marks)
        if not harvest.is_over:
            _prepare(filters, sieve)
        while not harvest.is_over and counted.exceeded is None:
            before, count = len(harvest.kept), harvest.next_count()
            written = _written(strategies, harvest, count, counted, seed)
            passed = _sifted(filters, harvest, written, sieve)
            harvest.take(passed, count)
            remembered.settle()
            sieve.kept += passed
            advance(len(harvest.kept) - before)
        harvest.fill_up()
        if config.count and not harvest.kept:
            raise counted.exceeded or _nothing_kept(harvest)
        given, kept = (_explained(rows, harvest, counted, seed) for rows in (harvest.given, harvest.kept))
    return Made(
        examples=tuple(kept.rows),
        explained=tuple(given.rows) if config.rationales else (),
        dropped=harvest.reasons(),
        dropped_traces=dict((given.dropped + kept.dropped).most_common()),
        rejected=_sample(harvest.dropped, seed),
        teacher=teacher.name,
        strategies=tuple(strategy.name for strategy in strategies),
        filters=tuple(filters),
        spent=counted.spent,
        statement=_statement(harvest, is_spent=counted.exceeded is not None),
    )


def round_sizes(config: GenerateConfig, *, is_local: bool) -> tuple[int, int]:
    """How many candidates are asked for at a time, at first and once so many rows are kept: a server has as many
    requests at once, and one whose answers are of no use is told so early.

    Raises ConfigError when the temperature is to change from round to round and there is one round for all rows.
    """
    many = min(max(USUAL_ROUND, config.count // ROUNDS_OF_MANY), LARGEST_ROUND)
    first, later = USUAL_ROUND, LATER_ROUND if is_local else many
    if config.round_size or config.anneal_from:
        first = later = config.round_size or (USUAL_ROUND if is_local else many)
    if config.anneal_from and first >= config.count > 0:
        raise ConfigError(
            f"generate.anneal_from is {config.anneal_from:g}, and there is no second round to change the temperature "
            f"in: {first} candidates are asked for at a time, and {config.count} rows are wanted.",
            hint=f"--set generate.round_size={ceil(config.count / ROUNDS_OF_MANY)}, without --batch; or anneal_from=0.",
        )
    return first, later


@dataclass
class _Harvest:
    """What has been written so far, and whether that is enough."""

    task: TaskSpec
    found: Found
    config: GenerateConfig
    first_size: int
    later_size: int
    """Candidates of a round from when on `first_size` rows are kept."""
    kept: list[Example] = field(default_factory=list)
    spare: list[Example] = field(default_factory=list)
    """Good rows that are too many of their label: used only if the other labels cannot be had."""
    dropped: list[Dropped] = field(default_factory=list)
    asked: int = 0
    yields: list[float] = field(default_factory=list)
    """The share of its candidates that each round kept."""
    made: dict[str, dict[Any, Any]] = field(default_factory=dict)
    """What each strategy keeps from round to round."""

    @property
    def given(self) -> tuple[Example, ...]:
        return (*self.task.examples, *self.found.examples)

    @property
    def is_over(self) -> bool:
        """No loop without a bound: every round asks for one candidate at least."""
        return len(self.kept) >= self.config.count or self.is_dry or self.asked >= self.most_asked

    @property
    def is_dry(self) -> bool:
        return len(self.yields) >= DRY_ROUNDS and max(self.yields[-DRY_ROUNDS:]) < DRY_SHARE

    @property
    def most_asked(self) -> int:
        return ceil(self.config.over_generate * self.config.count)

    def next_count(self) -> int:
        """Candidates of the next round: what is missing, by the yield so far, within the limits."""
        share = max(len(self.kept) / self.asked, DRY_SHARE) if self.asked else 1.0
        wanted = ceil((self.config.count - len(self.kept)) / share)
        size = self.later_size if len(self.kept) >= self.first_size else self.first_size
        return min(max(wanted, SMALLEST_ROUND), size, self.most_asked - self.asked)

    def take(self, rows: Sequence[Example], count: int) -> None:
        """Keep the rows of one round of `count` candidates, of no label more than its share."""
        before = len(self.kept)
        share = ceil(self.config.count / max(len(self.task.labels), 1))
        of_label = Counter(_label(row, self.task) for row in self.kept)
        for row in rows:
            is_wanted = len(self.kept) < self.config.count and of_label[_label(row, self.task)] < share
            (self.kept if is_wanted else self.spare).append(row)
            of_label[_label(row, self.task)] += is_wanted
        self.asked += count
        self.yields.append((len(self.kept) - before) / count)

    def without_dropped(self, judged: Iterable[Example | Dropped]) -> list[Example]:
        """The rows among them; the dropped ones are counted."""
        judged = list(judged)
        self.dropped += [one for one in judged if isinstance(one, Dropped)]
        return [one for one in judged if isinstance(one, Example)]

    def fill_up(self) -> None:
        """Take spare rows for those that could not be had; the rest is dropped."""
        missing = self.config.count - len(self.kept)
        self.kept += self.spare[:missing]
        self.dropped += [Dropped(reason="more than needed", text=row.input) for row in self.spare[missing:]]

    def reasons(self) -> dict[str, int]:
        """How many candidates were dropped for each reason, the commonest first."""
        return dict(Counter(dropped.reason for dropped in self.dropped).most_common())


def _prepare(filters: dict[str, ModuleType], sieve: Sieve) -> None:
    """Let those that look at more than rows look at it now: what they lack is said before anything is paid for."""
    for module in filters.values():
        if module.LOOKS_AT:
            module.sift([], sieve)


def _label(row: Example, task: TaskSpec) -> str:
    return row.output if task.kind == "classification" else ""


def _written(
    strategies: Sequence[Share], harvest: _Harvest, count: int, teacher: Teacher, seed: int
) -> list[Example | Dropped]:
    """One round's candidates, shared out among the strategies by weight.

    Given rows that may become the test are not shown to the teacher: what it writes would resemble them.
    """
    pool = (*harvest.task.examples, *harvest.kept)
    written: list[Example | Dropped] = []
    for strategy, share in zip(strategies, _shared_out(count, strategies), strict=True):
        rng = Random(f"{seed}/{strategy.name}/{len(harvest.yields)}")  # noqa: S311 - not for secrets
        made = harvest.made.setdefault(strategy.name, {})
        round = Round(harvest.task, pool, teacher, share, rng, harvest.config, strategy.options, made=made)
        written += strategy.module.write(round) if share else []
    return written


def _shared_out(count: int, strategies: Sequence[Share]) -> list[int]:
    """Whole numbers in the proportions of the weights; their sum is the count."""
    reached = list(accumulate(strategy.weight for strategy in strategies))
    ends = [round(count * weight / reached[-1]) for weight in reached]
    return [end - start for start, end in pairwise([0, *ends])]


def _sifted(
    filters: dict[str, ModuleType], harvest: _Harvest, written: Sequence[Example | Dropped], sieve: Sieve
) -> list[Example]:
    """What passes every filter, in order; what does not is counted."""
    rows = harvest.without_dropped(written)
    for module in filters.values():
        rows = harvest.without_dropped(module.sift(rows, sieve)) if rows else []
    return rows


def _explained(rows: Sequence[Example], harvest: _Harvest, teacher: Teacher, seed: int) -> Explained:
    """The rows with the rationales that can be had for them, if any are wanted."""
    config = harvest.config
    if not config.rationales or not rows:
        return Explained(list(rows))
    explained = add_rationales(
        rows,
        harvest.task,
        teacher,
        traces=config.rationales,
        keep=config.right_rationales,
        max_tokens=longest_answer(harvest.task, config.max_tokens),
        shown=form_examples(harvest.task, config.few_shot),
        seed=seed,
    )
    found = sum(row.rationale is not None for row in explained.rows)
    logger.info("%d rationales for %d rows; %d traces were dropped.", found, len(rows), explained.dropped.total())
    return explained


def _statement(harvest: _Harvest, *, is_spent: bool) -> str:
    kept, count = len(harvest.kept), harvest.config.count
    if not count:
        return "Nothing was to be written."
    what = f"{kept} rows kept of {harvest.asked} asked for"
    if kept >= count:
        lacking = _lacking(harvest)
        return f"Complete{lacking}; {what}." if lacking else f"Complete: {what}."
    why = f"{harvest.most_asked} candidates were the limit (generate.over_generate)"
    if harvest.is_dry:
        why = f"the last {DRY_ROUNDS} rounds kept less than {DRY_SHARE:.0%} each"
    if is_spent:
        why = SPENT
    return f"Stopped before {count} rows: {why}. {what}{_lacking(harvest)}; {_main_reason(harvest)}."


def _lacking(harvest: _Harvest) -> str:
    """The labels of which less than half of their share was to be had, with how many there are."""
    of_label = Counter(_label(row, harvest.task) for row in harvest.kept)
    share = len(harvest.kept) // max(len(harvest.task.labels), 1)
    few = [f"{of_label[label]} of {label!r}" for label in harvest.task.labels if 2 * of_label[label] < share]
    return f", but of some labels too few: {', '.join(few)}" if few else ""


def _main_reason(harvest: _Harvest) -> str:
    reasons = harvest.reasons()
    if not reasons:
        return "nothing was dropped"
    reason, count = next(iter(reasons.items()))
    return f"the main reason to drop one was {reason!r} ({count})"


def _nothing_kept(harvest: _Harvest) -> DataError:
    counts = ", ".join(f"{count} × {reason}" for reason, count in harvest.reasons().items())
    longer = "a higher generate.max_tokens, " if next(iter(harvest.reasons()), "") == "cut off" else ""
    alone = ", or generate.count=0 to learn from your rows alone" if harvest.found.examples else ""
    return DataError(
        f"The teacher wrote {harvest.asked} candidates and none could be used: {counts or 'it wrote nothing'}.",
        hint=f"Try {longer}a stronger --teacher, more examples in the description, or fewer generate.filters{alone}.",
    )


def _sample(dropped: Sequence[Dropped], seed: int) -> tuple[Dropped, ...]:
    """A few of the dropped, drawn with the seed, in the order they were dropped."""
    rng = Random(f"{seed}/rejected")  # noqa: S311 - not for secrets
    places = sorted(rng.sample(range(len(dropped)), min(MOST_REJECTED, len(dropped))))
    return tuple(Dropped(reason=dropped[i].reason, text=dropped[i].text[:MOST_CHARACTERS]) for i in places)
