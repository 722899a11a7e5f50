"""A model in rounds: after the first training more is written like what the student found hard, and it learns anew.

Each round is a run in a folder of its own, later ones by the strategy `hard_cases`. The count of rows grows evenly up
to the one that was asked for, and one budget holds for all.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from prompt2model import registry, store
from prompt2model.book import SHARED
from prompt2model.comparison import FEWEST_TO_TELL, compared
from prompt2model.config import Config, load_config
from prompt2model.description import read_description
from prompt2model.errors import ConfigError, RunError
from prompt2model.marks import FILE as MARKS
from prompt2model.pipeline import Listener, build, default_folder, keep_description
from prompt2model.records import Prediction, Report, Score
from prompt2model.run import Run

logger = logging.getLogger(__name__)

HARD = "hard_cases"


class Planned(NamedTuple):
    """One round: where its run goes, and its settings."""

    number: int
    folder: Path
    config: Config


def build_in_rounds(
    description: str | Path,
    *,
    rounds: int,
    out: Path | str | None = None,
    config: Config | None = None,
    listener: Listener = lambda stage, record: None,
    **flags: Any,
) -> list[Run]:
    """The runs of all rounds, in the folders `round-1` and so on of `out`; the last one has the model.

    Description, settings and listener are as in `build`, and so is what is raised; besides, ConfigError for rounds
    without rows of their own, and RunError where `out` is a run.
    """
    config = config or load_config(**flags)
    text = read_description(description, max_characters=config.parse.max_characters)
    with in_rounds(text, config, rounds, Path(out) if out else default_folder(text)) as planned:
        runs: list[Run] = []
        for one in planned:
            runs.append(build(text, out=begun(one), config=one.config, listener=listener))
            for remark in remarks([run.report for run in runs], rounds):
                logger.warning("%s", remark)
        return runs


@contextmanager
def in_rounds(text: str, config: Config, rounds: int, folder: Path) -> Iterator[list[Planned]]:
    """The rounds, which are to be built in this order; other processes are kept out of their folder meanwhile."""
    planned = plan_rounds(config, rounds, folder)
    with store.alone(store.open_run(folder)):
        keep_description(folder, text)
        (folder / SHARED).touch()
        yield planned


def plan_rounds(config: Config, rounds: int, folder: Path) -> list[Planned]:
    """Where each round goes, and its settings.

    Raises ConfigError where one would have no rows of its own, and RunError where the folder is a run.
    """
    if not 1 <= rounds <= config.generate.count:
        raise ConfigError(
            f"{rounds} rounds cannot share {config.generate.count} rows.",
            hint="Each round has rows written: a higher --count, or other --rounds.",
        )
    if (folder / "parse.json").is_file():
        raise RunError(
            f"{folder} already holds a single run; --rounds needs a folder of its own.",
            hint="Choose another with --out.",
        )
    folder, planned = folder.resolve(), list[Planned]()
    for number in range(1, rounds + 1):
        how = _later(config, planned[-1].folder) if planned else _first(config)
        count = -(-config.generate.count * number // rounds)
        planned.append(Planned(number, folder / f"round-{number}", _with(how, count=count)))
    return planned


def begun(one: Planned) -> Path:
    """The round's folder, with the marks of the round before where it has none of its own."""
    before = one.folder.with_name(f"round-{one.number - 1}") / MARKS
    store.open_run(one.folder)
    if before.is_file() and not (one.folder / MARKS).exists():
        shutil.copyfile(before, one.folder / MARKS)
    return one.folder


def remarks(reports: Sequence[Report], rounds: int) -> list[str]:
    """Whether the last student is better than the one before, and whether another round of `rounds` bodes well."""
    number = len(reports)
    gain = _gain(reports[-2], reports[-1], number) if number > 1 else ""
    doubt = _doubt(reports[-1]) if 0 < number < rounds else ""
    return [remark for remark in (gain, doubt) if remark]


def _gain(before: Report, after: Report, number: int) -> str:
    """A comparison on real rows: of the others, a later student has learned what an earlier one was measured on."""
    first, second = ({(one.input, one.expected): one.answer for one in _real(report)} for report in (before, after))
    rows = [row for row in second if row in first]
    if not rows:
        return ""
    answers = [second[row] for row in rows], [first[row] for row in rows]
    names = f"The student of round {number}", f"that of round {number - 1}"
    truth, metric = [expected for _, expected in rows], after.measured[0].scores[0].metric
    return compared(*names, answers, truth, metric=metric, kind="real")


def _doubt(report: Report) -> str:
    """A warning where the student is ahead of its teacher: what they see differently is what it would learn next."""
    scores = {one.who: one.scores[0] for one in report.measured if one.rows == "real" and one.n >= FEWEST_TO_TELL}
    student, teacher = scores.get("student"), scores.get("teacher")
    if not student or not teacher or not _is_better(student, teacher):
        return ""
    points = f"{100 * student.value:.1f} to {100 * teacher.value:.1f} of {student.metric}"
    return (
        f"The student is ahead of its teacher, {points} on {len(_real(report))} real rows. Further rounds teach it the "
        "teacher's answers to what it is unsure of, and may well do harm: they are for a teacher that knows better."
    )


def _is_better(one: Score, other: Score) -> bool:
    apart = one.value - other.value
    return apart > 0 if registry.load("metrics", one.metric).HIGHER_IS_BETTER else apart < 0


def _real(report: Report) -> list[Prediction]:
    return [one for one in report.predictions if one.rows == "real"]


def _first(config: Config) -> Config:
    """The settings as they are, without the options of later rounds."""
    asked = {strategy.partition(":")[0] for strategy in config.generate.strategies}
    options = {name: of for name, of in config.generate.options.items() if name != HARD or HARD in asked}
    return _with(config, options=options)


def _later(config: Config, before: Path) -> Config:
    """The settings for what follows the run in the folder `before`."""
    others = set(registry.names("strategies")) - {HARD}
    options = {name: of for name, of in config.generate.options.items() if name not in others}
    options[HARD] = {**options.get(HARD, {}), "run": str(before)}
    return _with(config, options=options, strategies=(HARD,))


def _with(config: Config, **generate: Any) -> Config:
    return config.model_copy(update={"generate": config.generate.model_copy(update=generate)})
