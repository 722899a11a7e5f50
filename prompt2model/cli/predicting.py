"""predict: ask a student. What it needs is imported when it is called: help is quick."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prompt2model.cli import options as o
from prompt2model.cli.screen import Screen, read_standard_input
from prompt2model.errors import DataError

if TYPE_CHECKING:
    from prompt2model.answers import Answer
    from prompt2model.inputs import Inputs
    from prompt2model.trained import Trained

AT_A_TIME = 512
"""Inputs that are answered before their answers are printed."""
OURS = ("input", "output", "probability")
"""Keys of a JSON object that no column of the inputs takes the place of."""


def predict(
    run: o.RunFolder,
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Inputs; without any, or for -, standard input is read.", metavar="TEXT"),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="A line an input, or a table (.csv, .jsonl, …) that has `input`; - is standard input.",
            metavar="FILE",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON object a line: input, output, probability of a label.", metavar="")
    ] = False,
    quiet: o.Quiet = False,
) -> None:
    """Ask a run's student, or an exported model: an answer a line, in the order of the inputs."""
    from prompt2model.trained import Trained

    screen, student = Screen(quiet=quiet), Trained(run)
    inputs = _inputs(texts or [], file)
    _say_notes(inputs, screen)
    rows = zip(inputs.texts, inputs.others, _answers(student, inputs.texts, screen), strict=True)
    for text, others, answer in rows:
        screen.print_line(_record(text, answer, others, student) if as_json else _on_one_line(answer))


def _inputs(texts: Sequence[str], file: Path | None) -> "Inputs":
    """What is to be answered. Raises DataError when there is nothing."""
    from prompt2model.inputs import Inputs, inputs_in, read_inputs

    if texts and file:
        raise DataError("There are texts and a file.", hint="Give either texts or --file.")
    if file and str(file) != "-":
        found = read_inputs(file)
    elif texts and list(texts) != ["-"]:
        found = Inputs(list(texts), [{} for _ in texts])
    else:
        found = inputs_in(read_standard_input("input").encode(), "standard input")
    if not any(map(str.strip, found.texts)):
        raise DataError("There is no input.", hint='prompt2model predict RUN "a text", --file FILE, or standard input.')
    return found


def _say_notes(inputs: "Inputs", screen: Screen) -> None:
    empty = sum(not text.strip() for text in inputs.texts)
    for note in (*inputs.notes, *([f"{empty} inputs are empty, and so are their answers."] if empty else [])):
        screen.say(note, "yellow")


def _answers(student: "Trained", texts: Sequence[str], screen: Screen) -> "Iterator[Answer | None]":
    """Each input's answer, none for an empty one; some at a time, so that the first are printed early."""
    rest = iter(texts)
    while batch := list(islice(rest, AT_A_TIME)):
        asked = [text for text in batch if text.strip()]
        with screen.working():
            answers = iter(student.answers(asked) if asked else ())
        yield from (next(answers) if text.strip() else None for text in batch)


def _record(text: str, answer: "Answer | None", others: dict[str, Any], student: "Trained") -> dict[str, Any]:
    """The answer with its input and, behind them, what else the input's row holds."""
    record: dict[str, Any] = {"input": text, "output": answer.text if answer else ""}
    if answer and answer.probability is not None:
        record["probability"] = round(answer.probability, 4)
    elif not answer and student.task.labels:
        record["probability"] = None
    return record | {column: value for column, value in others.items() if column not in OURS}


def _on_one_line(answer: "Answer | None") -> str:
    """So that the answers stay in step with the inputs; JSON keeps every line end."""
    return " ".join(answer.text.splitlines()) if answer else ""
