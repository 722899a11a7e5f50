"""data and mark: the rows of a run, looked at and marked. What they need is imported when they are called."""

import dataclasses
import json
import webbrowser
from pathlib import Path
from random import Random
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from prompt2model.cli import options as o
from prompt2model.cli.screen import Screen
from prompt2model.errors import ConfigError, DataError

if TYPE_CHECKING:
    from prompt2model.marks import Mark
    from prompt2model.records import Example
    from prompt2model.run import Run


def data(
    run: o.RunFolder,
    open_: Annotated[bool, typer.Option("--open", help="Open data.html in the browser.", metavar="")] = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Show what the teacher wrote in numbers, and write data.html: plots, kept and dropped rows."""
    from prompt2model import data_report, show
    from prompt2model.run import Run

    screen, opened = Screen(quiet=quiet), Run(run)
    found = data_report.figures(opened.task, opened.made, opened.spent_on_rows)
    page = opened.write_data_page(found)
    screen.print_json(dataclasses.asdict(found)) if as_json else screen.print(show.data_table(found))
    screen.say(f"\nThe whole story: {show.short(page.resolve())}")
    if open_:
        webbrowser.open(page.resolve().as_uri())


def mark(
    run: o.RunFolder,
    file: Annotated[
        Path | None,
        typer.Option("--file", help='Marks made elsewhere: lines of {"input", "output", "accepted"}.', metavar="FILE"),
    ] = None,
    count: Annotated[int, typer.Option("--count", help="Most rows to show.", min=1, metavar="N")] = 50,
    quiet: o.Quiet = False,
) -> None:
    """Accept or reject rows of a run: rejected ones are not learned from, and the filter critic learns which to keep.

    Rows are shown in random order, each of them once. The same command again goes on with the next. A critic needs ten
    marks of each kind.
    """
    from prompt2model import marks
    from prompt2model.run import Run

    screen, opened = Screen(quiet=quiet), Run(run)
    rows = opened.made.examples
    if file:
        if not file.exists():
            raise DataError(f"There is no file {file}.", hint="Check the path.")
        given = marks.read_marks(file)
        marks.add_marks(run, given)
        screen.say(f"{len(given)} marks were added.")
    else:
        _check_interactive(screen)
        _ask(run, rows, count, screen)
    _tell(marks.read_marks(run / marks.FILE), opened, screen)


def _ask(run: Path, rows: "tuple[Example, ...]", count: int, screen: Screen) -> None:
    from prompt2model import marks

    known = {(mark.input, mark.output) for mark in marks.read_marks(run / marks.FILE)}
    shown = Random(0).sample(rows, len(rows))  # noqa: S311 - not for secrets
    for row in [row for row in shown if (row.input, row.output) not in known][:count]:
        screen.print(f"\n{row.input}\n→ {row.output}")
        answer = screen.ask("accept, reject, skip or quit?", ("a", "r", "s", "q"))
        if answer == "q":
            return
        if answer != "s":
            marks.add_marks(run, [marks.Mark(input=row.input, output=row.output, accepted=answer == "a")])


def _tell(found: "list[Mark]", run: "Run", screen: Screen) -> None:
    from prompt2model.marks import LEAST_MARKS

    counts = {is_so: sum(mark.accepted == is_so for mark in found) for is_so in (True, False)}
    screen.say(f"{run.folder} has {len(found)} marks: {counts[True]} accepted, {counts[False]} rejected.")
    screen.say("The same build again learns from no rejected row.", "dim")
    few = f" (it needs {LEAST_MARKS} of each)" if min(counts.values()) < LEAST_MARKS else ""
    filters = json.dumps([*dict.fromkeys((*run.made.filters, "critic"))])
    screen.say(
        f"For a critic that learns from them and judges all rows{few}: --set {quote(f'generate.filters={filters}')}",
        "dim",
    )


def _check_interactive(screen: Screen) -> None:
    if not screen.is_interactive:
        raise ConfigError("Nobody can be asked: this is no terminal.", hint="Give marks in a file: --file marks.jsonl")
