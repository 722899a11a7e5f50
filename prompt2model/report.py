"""The report as a person reads it: a table in the terminal, Markdown, and a page that needs nothing else.

The three show the same view of the records; the words around the numbers are in `templates/report`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

from rich import box
from rich.table import Table
from rich.text import Text

from prompt2model import charts
from prompt2model.prompts import render
from prompt2model.records import (
    Example,
    Found,
    Made,
    Measured,
    Prediction,
    Report,
    Score,
    Source,
    Splits,
    Student,
    TaskSpec,
)

T = TypeVar("T")

SHOWN_ROWS = 10
"""Of each kind of row that is shown as a sample."""
INTERVAL_WIDTH = len("[77.0–87.0]")
"""A narrow terminal folds a score once, before its interval."""


def table(report: Report) -> Table:
    """Every contender on every set of rows, as a terminal shows it."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    shown.add_column("", no_wrap=True)
    shown.add_column("answered by", overflow="fold")
    shown.add_column("rows", no_wrap=True)
    for name in ("n", *metrics(report), "seconds", "tokens"):
        is_score = name in metrics(report)
        shown.add_column(name, justify="right", no_wrap=not is_score, min_width=INTERVAL_WIDTH if is_score else None)
    for line in lines(report):
        cells = (line.who, line.name, line.rows, line.n, *line.scores, line.seconds, line.tokens)
        shown.add_row(*(Text(cell) for cell in cells), style="bold" if line.who == "student" else "")
    return shown


def markdown(report: Report) -> str:
    """The task, the table, what it says, and the mistakes, to paste into an issue or a wiki."""
    return render(
        "report/report.md.j2",
        task=report.task,
        metrics=metrics(report),
        lines=lines(report),
        notes=report.notes,
        mistakes=_mistakes(report.predictions),
    )


def html(
    report: Report,
    *,
    found: Found | None = None,
    made: Made | None = None,
    splits: Splits | None = None,
    student: Student | None = None,
    run: Path | None = None,
    seed: int = 0,
) -> str:
    """One self-contained page without scripts. The more records it is given, the more of the story it tells."""
    rng = Random(seed)  # noqa: S311 - a sample, not a secret
    return render(
        "report/report.html.j2",
        task=report.task,
        metrics=metrics(report),
        lines=lines(report),
        notes=report.notes,
        dots=[(rows, charts.dots(_intervals(report, rows))) for rows in _row_kinds(report)],
        student=student,
        loss=_loss(student) if student else None,
        validation=_validation(student) if student else None,
        found=found,
        made=made,
        sources=sources(splits) if splits else (),
        histogram=_histogram(report.task, splits) if splits else (),
        drops=_drops(report.task, found, made, splits),
        kept=_sample((made and made.examples) or (splits.train if splits else ()), rng),
        rejected=_sample(made.rejected if made else (), rng),
        mistakes=_mistakes(report.predictions),
        run=run,
    )


@dataclass(frozen=True)
class Line:
    """One line of the table, ready to be read."""

    who: str
    name: str
    rows: str
    n: str
    scores: tuple[str, ...]
    seconds: str
    tokens: str
    notes: tuple[str, ...]


def lines(report: Report) -> list[Line]:
    """The table's lines, in the report's order. Scores are in points of 100, with the ends of their intervals."""
    return [_line(measured, metrics(report)) for measured in report.measured]


def _line(measured: Measured, metrics: Sequence[str]) -> Line:
    found = {score.metric: score for score in measured.scores}
    return Line(
        who=measured.who,
        name=measured.name,
        rows=measured.rows,
        n=f"{measured.n:,}",
        scores=tuple(_points(found[name]) if name in found else "–" for name in metrics),
        seconds=f"{measured.seconds_per_answer:.2g}" if measured.seconds_per_answer else "–",
        tokens=f"{measured.tokens_per_answer:.0f}" if measured.tokens_per_answer else "–",
        notes=measured.notes,
    )


def _points(score: Score) -> str:
    return f"{100 * score.value:.1f} [{100 * score.low:.1f}–{100 * score.high:.1f}]"


def metrics(report: Report) -> list[str]:
    """The names of the metrics, in the report's order."""
    return list(dict.fromkeys(score.metric for measured in report.measured for score in measured.scores))


def _row_kinds(report: Report) -> list[Literal["real", "synthetic"]]:
    return list(dict.fromkeys(measured.rows for measured in report.measured))


def _intervals(report: Report, rows: str) -> list[charts.Interval]:
    """Each contender's score by the first metric, in points."""
    return [
        charts.Interval(
            name=measured.who,
            value=100 * measured.scores[0].value,
            low=100 * measured.scores[0].low,
            high=100 * measured.scores[0].high,
            is_main=measured.who == "student",
        )
        for measured in report.measured
        if measured.rows == rows and measured.scores
    ]


def _loss(student: Student) -> charts.Curves | None:
    """The loss of every training step and of every validation."""
    training = [(float(step), loss) for step, loss in enumerate(student.losses, start=1)]
    validation = [(float(check.step), check.validation_loss_nats) for check in student.history]
    return charts.curves([("training", training), ("validation", validation)])


def _validation(student: Student) -> charts.Curves | None:
    """The score of every validation, in points."""
    metric = student.history[0].metric if student.history else ""
    return charts.curves([(metric, [(float(check.step), 100 * check.score) for check in student.history])])


@dataclass(frozen=True)
class Count:
    """How many rows of something are on each side of the split."""

    name: str
    train: int
    validation: int
    test: int
    share_percent: float = 0.0
    """Of the largest, for a bar."""


def sources(splits: Splits) -> list[Count]:
    """Rows by where they came from."""
    return _counts(splits, lambda row: source_name(row.source))


def source_name(source: Source) -> str:
    """Where a row came from, without the folders of a file and without a server's address."""
    if source.kind == "user":
        return "the task's own examples"
    return f"written by {public_name(source.name)}" if source.kind == "teacher" else public_name(source.name)


def public_name(name: str) -> str:
    """The name of a file, data set, model or teacher, fit to be published."""
    if "://" in name:
        return f"{name.rpartition('#')[2]} (a server of its own)" if "#" in name else "a server of its own"
    name = name.removeprefix("transformers:")
    is_file = name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] if is_file else name


def _histogram(task: TaskSpec, splits: Splits) -> list[Count]:
    """Rows by label, in the task's order; nothing when it has none."""
    found = {count.name: count for count in _counts(splits, lambda row: row.output)}
    shown = [found.get(label, Count(label, 0, 0, 0)) for label in task.labels]
    largest = max((count.train for count in shown), default=0) or 1
    return [Count(one.name, one.train, one.validation, one.test, 100 * one.train / largest) for one in shown]


def _counts(splits: Splits, name: Callable[[Example], str]) -> list[Count]:
    sides = [Counter(map(name, side)) for side in (splits.train, splits.validation, splits.test)]
    names = dict.fromkeys(key for side in sides for key in side)
    return [Count(key, *(side[key] for side in sides)) for key in names]


def _drops(task: TaskSpec, found: Found | None, made: Made | None, splits: Splits | None) -> list[tuple[str, str, int]]:
    """(stage, reason, how many), the commonest first within a stage."""
    stages = {"parse": task, "retrieve": found, "generate": made, "split": splits}
    return [
        (stage, reason, count)
        for stage, record in stages.items()
        if record
        for reason, count in sorted(record.dropped.items(), key=lambda item: -item[1])
    ]


def _mistakes(predictions: Iterable[Prediction]) -> list[Prediction]:
    """The wrong answers that the student was surest of; where it gives no probability, the first ones."""
    wrong = [one for one in predictions if one.answer.strip() != one.expected.strip()]
    return sorted(wrong, key=lambda one: -(one.probability or 0))[:SHOWN_ROWS]


def _sample(rows: Sequence[T], rng: Random) -> list[T]:
    return rng.sample(list(rows), min(SHOWN_ROWS, len(rows)))
