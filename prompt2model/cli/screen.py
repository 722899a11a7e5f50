"""What a command may do to the terminal: results on standard output, everything else on standard error."""

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.text import Text

from prompt2model.errors import ConfigError, Prompt2ModelError

PIPE_COLUMNS = 120
"""The width of tables that no terminal reads."""


class Screen:
    """Where a command speaks. `quiet` keeps standard error empty but for errors."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._out = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False)
        self._err = Console(stderr=True, highlight=False, quiet=quiet)

    @property
    def is_interactive(self) -> bool:
        """Whether somebody can be asked: never by one of the processes that `accelerate launch` has started."""
        return sys.stdin.isatty() and sys.stderr.isatty() and "RANK" not in os.environ

    def say(self, text: str, style: str = "") -> None:
        """A line about the work, on standard error."""
        self._err.print(Text(text, style=style), soft_wrap=True)

    def print(self, result: RenderableType) -> None:
        """A result for a person, on standard output."""
        self._out.print(Text(result) if isinstance(result, str) else result, soft_wrap=isinstance(result, str))

    def print_json(self, value: Any) -> None:
        """A result for a program: one JSON document."""
        typer.echo(json.dumps(_plain(value), ensure_ascii=False, indent=1))

    def print_line(self, value: Any) -> None:
        """One of many results: a text as it stands, anything else as a line of JSON."""
        typer.echo(value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False, default=str))

    @contextmanager
    def working(self, *, silently: bool = False) -> Iterator[None]:
        """Progress bars where there is a terminal, and the library's log unless `silently`, while something works."""
        log, handler = logging.getLogger("prompt2model"), _Handler(self)
        level = log.level
        log.addHandler(handler)
        log.setLevel(logging.ERROR if self.quiet or silently else logging.INFO)
        try:
            if self.quiet or not self._err.is_terminal:
                yield
            else:
                from prompt2model import progress  # help needs no bars

                with progress.show(self._err):
                    yield
        finally:
            log.removeHandler(handler)
            log.setLevel(level)

    def accept(self, question: str) -> bool:
        """Whether the person at the terminal says yes. Asks even when quiet: there is no default."""
        console = Console(stderr=True, highlight=False)
        console.print(Text(f"{question} [y/N] "), end="", soft_wrap=True)
        return console.input().strip().lower() in ("y", "yes")

    def ask(self, question: str, answers: Sequence[str]) -> str:
        """Which of the answers, a letter each, the person at the terminal gives; asked again until it is one."""
        console = Console(stderr=True, highlight=False)
        while True:
            answer = console.input(Text(f"{question} [{'/'.join(answers)}] ")).strip().lower()[:1]
            if answer in answers:
                return answer


class _Handler(logging.Handler):
    """Log records as lines that bars do not write over."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        self._screen.say(record.getMessage(), style)


def say_error(error: Prompt2ModelError) -> None:
    """The message and the hint, on standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text.assemble(("Error: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        console.print(Text.assemble(("Hint: ", "bold"), error.hint), soft_wrap=True)


def read_standard_input(what: str) -> str:
    """All of standard input as text. Raises ConfigError when nobody sends any, or it is not text."""
    if sys.stdin.isatty():
        raise ConfigError(f"There is no {what}.", hint="Give it as an argument, with --file, or on standard input.")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("Standard input is not text.", hint="Send plain UTF-8 text.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
