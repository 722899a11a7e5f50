"""predict: ask a student. What it needs is imported when it is called: help is quick."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prompt2model.cli import options as o
from prompt2model.cli.screen import Screen, read_standard_input
from prompt2model.errors import DataError

if TYPE_CHECKING:
    from prompt2model.answers import Answer

AT_A_TIME = 512
"""Inputs that are answered before their answers are printed."""


def predict(
    run: o.RunFolder,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Inputs; without any, standard input is read.", metavar="TEXT")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="A line an input, or JSON lines that have `input`.", metavar="FILE"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a line: input, output, probability of a label.", metavar="")
    ] = False,
    quiet: o.Quiet = False,
) -> None:
    """Ask a run's student, or an exported model: an answer a line, in the order of the inputs."""
    from prompt2model.trained import Trained

    screen, student = Screen(quiet=quiet), Trained(run)
    inputs = iter(_inputs(texts or [], file, screen))
    while batch := list(islice(inputs, AT_A_TIME)):
        with screen.working():
            answers = student.answers(batch)
        for text, answer in zip(batch, answers, strict=True):
            screen.print_line(_record(text, answer) if as_json else _on_one_line(answer.text))


def _inputs(texts: Sequence[str], file: Path | None, screen: Screen) -> list[str]:
    """What is to be answered. Raises DataError when there is nothing."""
    if texts and file:
        raise DataError("There are texts and a file.", hint="Give either texts or --file.")
    if texts:
        return _without_empty(texts, screen)
    content, name = (_read(file), str(file)) if file else (read_standard_input("input"), "standard input")
    lines = content.splitlines()
    first = next((line for line in lines if line.strip()), "")
    is_rows = name.endswith((".jsonl", ".ndjson")) or _has_input(first)
    return _without_empty(list(_rows(lines, name)) if is_rows else lines, screen)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not text.", hint="Save it as plain UTF-8 text, an input a line.") from error


def _has_input(line: str) -> bool:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and "input" in row


def _rows(lines: Sequence[str], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            text = row["input"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(
                f"Line {number} of {name} is no row with an input: {line[:60]!r}.", hint='Write {"input": "…"}.'
            ) from error
        if not isinstance(text, str):
            raise DataError(f"The input in line {number} of {name} is no text: {text!r}.", hint="Put it into quotes.")
        yield text


def _without_empty(texts: Sequence[str], screen: Screen) -> list[str]:
    kept = [text for text in texts if text.strip()]
    if not kept:
        raise DataError("There is no input.", hint='prompt2model predict RUN "a text", --file FILE, or standard input.')
    if len(kept) < len(texts):
        screen.say(f"{len(texts) - len(kept)} empty inputs were left out.", "yellow")
    return kept


def _record(text: str, answer: "Answer") -> dict[str, str | float]:
    record: dict[str, str | float] = {"input": text, "output": answer.text}
    return record if answer.probability is None else {**record, "probability": round(answer.probability, 4)}


def _on_one_line(text: str) -> str:
    """So that the answers stay in step with the inputs; JSON keeps every line end."""
    return " ".join(text.splitlines())
