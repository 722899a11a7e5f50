"""parse, models, datasets, generate: the first stages alone. What they need is imported when they are called."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prompt2model.cli import options as o
from prompt2model.cli.screen import Screen
from prompt2model.config import Config, RetrieveConfig
from prompt2model.description import read_description
from prompt2model.errors import ConfigError, RunError

if TYPE_CHECKING:
    from prompt2model.plans import Plan, Step
    from prompt2model.records import Example, Found, Made, Ranked, TaskSpec
    from prompt2model.teacher import Teacher

Helper = Annotated[
    str | None,
    typer.Option(
        "--teacher", help="Who helps to understand the task; nobody by default, build may ask.", metavar="NAME"
    ),
]
TestData = Annotated[
    str | None,
    typer.Option("--test-data", help="Rows that the filter contamination drops the likes of.", metavar="FILE"),
]
Marks = Annotated[
    Path | None,
    typer.Option("--marks", help="A run with your marks, from which the filter critic learns.", metavar="RUN"),
]

NO_RUN = Path("runs/.none")
"""A folder that nothing is read back from."""


def parse(
    description: o.Description,
    teacher: Helper = None,
    yes: o.Yes = False,
    config: o.ConfigFile = None,
    set_: o.SetTo = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Show how a description is understood: instruction, kind, labels, examples, metric."""
    from prompt2model import show

    settings, screen = o.configured(config, set_, teacher=teacher), Screen(quiet=quiet)
    task, _ = _read(description, settings, teacher is not None, screen, yes)
    screen.print_json(task) if as_json else screen.print(show.task_table(task))


def models(
    description: o.Description,
    teacher: Helper = None,
    yes: o.Yes = False,
    limit: o.Limit = 10,
    config: o.ConfigFile = None,
    set_: o.SetTo = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Rank base models for a task, with the reasons, and which are at hand."""
    settings, screen = o.configured(config, set_, teacher=teacher), Screen(quiet=quiet)
    found = _found(description, settings, teacher is not None, screen, yes)
    _print_ranking(found.models[:limit], found, screen, as_json)


def datasets(
    description: o.Description,
    teacher: Helper = None,
    yes: o.Yes = False,
    limit: o.Limit = 10,
    config: o.ConfigFile = None,
    set_: o.SetTo = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Rank data sets for a task, with the reasons."""
    settings, screen = o.configured(config, set_, teacher=teacher), Screen(quiet=quiet)
    found = _found(description, settings, teacher is not None, screen, yes)
    _print_ranking(found.datasets[:limit], found, screen, as_json)


def generate(
    description: o.Description,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A file; standard output by default.", metavar="FILE")
    ] = None,
    yes: o.Yes = False,
    teacher: o.Teacher = None,
    data: o.Data = None,
    test_data: TestData = None,
    marks: Marks = None,
    budget: o.Budget = None,
    batch: o.Batch = False,
    count: o.Count = None,
    config: o.ConfigFile = None,
    set_: o.SetTo = None,
    seed: o.Seed = None,
    quiet: o.Quiet = False,
    dry_run: o.DryRun = False,
) -> None:
    """Let the teacher write rows for a task, as JSON lines. What it has answered before is not asked again.

    A budget holds for all calls that write the same FILE, or that are the same command without one.
    """
    from prompt2model.cli.consent import accept_cost
    from prompt2model.cli.telling import print_plan
    from prompt2model.filters import looked_at

    settings = o.configured(
        config,
        set_,
        teacher=teacher,
        budget_usd=budget,
        seed=seed,
        retrieve__data=data,
        generate__count=count,
        split__test_data=test_data,
        **o.batched(batch),
    )
    screen, looked = Screen(quiet=quiet), looked_at(settings.generate.filters)
    _check_looked_at(looked, test=test_data, marks=marks)
    text = read_description(description, max_characters=settings.parse.max_characters)
    if dry_run:
        with screen.working(silently=True):
            planned = _plan(text, settings, ("parse", "generate"))
        print_plan(planned, screen)
        return
    if out:
        _check_writable(out)
    steps = accept_cost(settings, lambda: _plan(text, settings, ("parse", "generate")).steps, screen, yes=yes)
    with _accounts(text, settings, out, steps, screen) as folder:
        made = _written(text, settings, looked, marks, screen, folder)
    _write_rows(made.examples, out, screen)


@contextmanager
def _accounts(
    text: str, config: Config, out: Path | None, steps: "Sequence[Step]", screen: Screen
) -> "Iterator[Path | None]":
    """The folder of the book and the ledger, beside the file that is written; none where the teacher costs nothing.

    Without a file it is in the user's folder, as the answers are from which the same command goes on.
    """
    from prompt2model import accounts, store
    from prompt2model.cli.telling import accounting
    from prompt2model.home import home

    if not steps:
        yield None
        return
    same = store.digest([text, config.model_copy(update={"budget_usd": 0.0})])[:16]
    folder = store.open_run(out.with_name(f"{out.name}.spent") if out and out.is_file() else home() / "spent" / same)
    with store.alone(folder), accounting(folder, steps, screen):
        accounts.settle(folder)
        yield folder


def _written(
    text: str, config: Config, looked: set[str], marks: Path | None, screen: Screen, folder: Path | None
) -> "Made":
    """The rows; what each stage asks is noted in the folder, if there is one."""
    from prompt2model.accounts import accounted
    from prompt2model.book import book_of
    from prompt2model.cli.telling import resumable, teller
    from prompt2model.failures import FILE as FAILURES
    from prompt2model.records import Found
    from prompt2model.stages.generate import generate as write
    from prompt2model.stages.parse import parse as read
    from prompt2model.stages.retrieve import retrieve
    from prompt2model.stages.split import shown_to_teacher
    from prompt2model.teachers import open_teacher

    with resumable(screen, "the response cache"):
        book = book_of(folder) if folder else None
        asked = open_teacher(config.teacher, options=config.teacher_options, budget_usd=config.budget_usd, book=book)
        is_slow, tell = asked.is_local or config.teacher_options.get("batch", False), teller(screen)
        with accounted(folder, "parse", [asked]) if folder else nullcontext():
            task = read(text, config.parse, teacher=None if is_slow else asked)
        tell("parse", task)
        found = retrieve(task, config.retrieve) if config.retrieve.data else Found(base="")
        seen = _test_and_marks(looked, task, config.split.test_data, config.retrieve, marks)
        with accounted(folder, "generate", [asked]) if folder else nullcontext():
            made = write(
                *shown_to_teacher(task, found, config.split),
                config.generate,
                teacher=asked,
                failures=folder / FAILURES if folder else None,
                seed=config.seed,
                **seen,
            )
        tell("generate", made)
    return made


def _read(
    description: str, config: Config, is_helped: bool, screen: Screen, yes: bool
) -> "tuple[TaskSpec, Teacher | None]":
    """The task, and the teacher that was allowed to help."""
    from prompt2model.cli.consent import accept_cost
    from prompt2model.stages.parse import parse as read
    from prompt2model.teachers import open_teacher

    text, teacher = read_description(description, max_characters=config.parse.max_characters), None
    if is_helped:
        accept_cost(config, lambda: _plan(text, config, ("parse", "retrieve")).steps, screen, yes=yes)
        teacher = open_teacher(config.teacher, options=config.teacher_options, budget_usd=config.budget_usd)
    with screen.working():
        return read(text, config.parse, teacher=teacher), teacher


def _found(description: str, config: Config, is_helped: bool, screen: Screen, yes: bool) -> "Found":
    from prompt2model.stages.retrieve import retrieve

    task, teacher = _read(description, config, is_helped, screen, yes)
    with screen.working():
        return retrieve(task, config.retrieve, teacher=teacher)


def _plan(text: str, config: Config, stages: Sequence[str]) -> "Plan":
    """Of these stages alone."""
    from prompt2model.planning import plan  # loads torch

    return plan(text, config, NO_RUN, wanted=stages, asks_hub=False)


def _print_ranking(ranked: "Sequence[Ranked]", found: "Found", screen: Screen, as_json: bool) -> None:
    from prompt2model import show

    for note in found.notes:
        screen.say(note, "dim")
    screen.print_json(list(ranked)) if as_json else screen.print(show.ranking(ranked))


def _check_writable(out: Path) -> None:
    """Before hours of writing: whether the rows can be kept."""
    try:
        with out.open("a", encoding="utf-8"):
            pass
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror}.", hint="Choose another file with --out.") from error


def _check_looked_at(looked: set[str], **given: str | Path | None) -> None:
    """Raises ConfigError for what is given and no filter that is named would look at."""
    from prompt2model.registry import load, names

    for what, where in given.items():
        if where is not None and what not in looked:
            able = next(name for name in names("filters") if what in load("filters", name).LOOKS_AT)
            raise ConfigError(
                f"{where} is given, and none of the filters that are named looks at it.",
                hint=f'--set \'generate.filters=["format", "duplicate", "{able}"]\'',
            )


def _test_and_marks(
    looked: set[str], task: "TaskSpec", test_data: str, config: "RetrieveConfig", marks: Path | None
) -> dict[str, Any]:
    """The test rows and the marks, as far as a filter looks at them."""
    from prompt2model.marks import FILE, read_marks
    from prompt2model.rows import read_test

    return {
        "test": read_test(test_data, task, config).examples if test_data and "test" in looked else (),
        "marks": read_marks(marks / FILE) if marks and "marks" in looked else (),
    }


def _write_rows(rows: "Sequence[Example]", out: Path | None, screen: Screen) -> None:
    if out is None:
        for row in rows:
            screen.print_line(row)
        return
    out.write_text("".join(f"{row.model_dump_json()}\n" for row in rows), encoding="utf-8")
    screen.say(f"{len(rows)} rows in {out}")
