"""What commands tell while they work, and at the end."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prompt2model import accounts, pipeline, report, show, show_plan, spending
from prompt2model.cli.screen import Screen
from prompt2model.plans import Plan, Step
from prompt2model.records import Record, Report


def teller(screen: Screen) -> pipeline.Listener:
    """Says a line for each stage as it is done, and its notes."""

    def tell(stage: str, record: Record) -> None:
        screen.say(f"{stage:<9} {show.stage_line(record)}")
        for note in show.notes_of(record):
            screen.say(f"{'':<9} {note}", "dim")

    return tell


@contextmanager
def resumable(screen: Screen, where: str) -> Iterator[None]:
    """Bars and log lines, and a word about what is kept when the work is interrupted."""
    try:
        with screen.working():
            yield
    except (KeyboardInterrupt, SystemExit):
        screen.say(f"\nInterrupted. What is done is kept in {where}: the same command goes on from there.")
        raise


@contextmanager
def accounting(folder: Path, planned: Sequence[Step], screen: Screen) -> Iterator[None]:
    """Says at the end what a paid teacher was asked and has cost, and how far off the plan was if all went by it."""
    before, began, is_done = len(accounts.entries(folder)), time.monotonic(), False
    try:
        yield
        is_done = True
    finally:
        minutes = (time.monotonic() - began) / 60
        for line in spending.spent_lines(accounts.entries(folder)[before:], planned, minutes, is_done=is_done):
            screen.say(line)


def print_report(measured: Report, screen: Screen) -> None:
    """The table, and what it says in words."""
    if measured.measured:
        screen.print(report.table(measured))
    for note in measured.notes:
        screen.print(note)


def print_plan(plan: Plan, screen: Screen) -> None:
    """What would run, and what that stands on."""
    for line in show_plan.plan_lines(plan):
        screen.print(line)
    screen.print("")
    screen.print(show_plan.plan_table(plan))
