"""Progress of long work, said by the library and drawn by whoever listens.

A stage writes `with progress.task("writing examples", total=300) as advance:` and calls `advance(n)`. Nobody listens
by default. The command line and notebooks call `show()`, which draws rich bars with the time left on standard error.
"""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[..., None]

_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)


@contextmanager
def task(what: str, total: float | None = None) -> Iterator[Advance]:
    """A function `advance(n=1, note="")` that moves the bar of this piece of work; the bar goes when the work ends."""
    bars = _shown.get()
    if bars is None:
        yield lambda n=1, note="": None
        return
    bar = bars.add_task(what, total=total, note="")
    try:
        yield lambda n=1, note="": bars.update(bar, advance=n, **({"note": note} if note else {}))
    finally:
        bars.remove_task(bar)


@contextmanager
def show(console: Console | None = None) -> Iterator[None]:
    """Draw the progress of everything inside on `console` (standard error if none is given)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console or Console(stderr=True), transient=True) as bars:
        token = _shown.set(bars)
        try:
            yield
        finally:
            _shown.reset(token)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the bars of third parties off standard error; ours pass."""
    with redirect_stderr(_Unheard(sys.stderr)):
        yield


class _Unheard(io.StringIO):
    """Swallows what is written. rich looks for `rich_proxied_file` and draws there instead."""

    def __init__(self, heard: Any) -> None:
        super().__init__()
        self.rich_proxied_file = getattr(heard, "rich_proxied_file", heard)
