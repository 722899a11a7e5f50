"""Records as a terminal shows them: a line for each stage, tables, and what to type next."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from prompt2model import registry
from prompt2model.ledger import price_line
from prompt2model.records import (
    Artifact,
    DataCard,
    Found,
    Made,
    Ranked,
    Record,
    Report,
    Splits,
    Student,
    TaskSpec,
)
from prompt2model.settings import Setting, toml_value
from prompt2model.wording import one_line

if TYPE_CHECKING:  # they load torch
    from prompt2model.data_report import DataFigures
    from prompt2model.doctor import Machine
    from prompt2model.plugin_facts import Facts

SHOWN_LABELS = 8
WIDTH = 60
"""Characters of a text that is only hinted at."""


# Stages


def stage_line(record: Record) -> str:
    """What a stage has made, in one line."""
    match record:
        case TaskSpec():
            return _parsed(record)
        case Found():
            rows = f"; {len(record.examples)} rows from {', '.join(record.columns)}" if record.columns else ""
            return f"base {record.base}, {record.base_reason}{rows}{_dropped(record.dropped)}"
        case Made():
            return _written(record)
        case Splits():
            sides = len(record.train), len(record.validation), len(record.test)
            return "{} rows to learn from, {} to choose by, {} to measure on".format(*sides) + _dropped(record.dropped)
        case Student():
            return _trained(record)
        case Report():
            return _measured(record)
        case Artifact():
            return f"{record.format} in {short(record.folder)}, {_bytes(folder_bytes(record.folder))}"
    raise TypeError(f"{type(record).__name__} is not what a stage makes")


def short(path: Path) -> str:
    """The path from here, if it is below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def notes_of(record: Record) -> tuple[str, ...]:
    """What a person should check about a stage."""
    match record:
        case TaskSpec() | Found() | Splits() | Student():
            return record.notes
        case Made():
            return (record.statement,) if record.statement.startswith(("Stopped", "Complete,")) else ()
    return ()


def _parsed(task: TaskSpec) -> str:
    labels = f", labels {_some(task.labels)}" if task.labels else ""
    examples = f", {len(task.examples)} examples" if task.examples else ""
    language = f", inputs in {task.language!r}" if task.language != "en" else ""
    return f"{task.kind}{labels}, {task.metric}{examples}{language}{_dropped(task.dropped)}"


def _written(made: Made) -> str:
    if not made.examples and not made.explained:
        return "nothing was to be written"
    spent = made.spent
    cost = f", ${spent.usd:.4f}" if spent.usd else ""
    asked = f"{spent.requests} requests" + (f" ({spent.cached} from the cache)" if spent.cached else "")
    rationales = sum(row.rationale is not None for row in (*made.explained, *made.examples))
    thoughts = f" and {rationales} rationales" if rationales else ""
    return f"{len(made.examples)} rows{thoughts} by {made.teacher} in {asked}{cost}{_dropped(made.dropped)}"


def _trained(student: Student) -> str:
    best = next((one for one in student.history if one.step == student.best_step), None)
    score = f"best {best.metric} {best.score:.3f} at step {student.best_step} of " if best and best.metric else ""
    return (
        f"{score}{student.steps} steps, {_duration(student.seconds)}, {student.tokens_per_second:.0f} tokens/s, "
        f"{student.precision}"
    )


def _measured(report: Report) -> str:
    if not report.measured:
        return "no test rows, nothing measured"
    first, metric = report.measured[0], report.measured[0].scores[0].metric if report.measured[0].scores else ""
    scores = [
        f"{one.who} {100 * one.scores[0].value:.1f}" for one in report.measured if one.rows == first.rows and one.scores
    ]
    return f"{metric} on {first.n} {first.rows} rows: {', '.join(scores)}"


def _dropped(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return ""
    named = ", ".join(f"{count} {reason}" for reason, count in list(reasons.items())[:3])
    return f"; dropped {sum(reasons.values())} ({named}{', …' if len(reasons) > 3 else ''})"


# The end of a run


def next_commands(folder: Path, task: TaskSpec) -> list[str]:
    """What one would type next, ready to be copied."""
    text = task.examples[0].input if task.examples else "a text of your own"
    run, shown = quote(str(folder)), quote(one_line(text)[:WIDTH])
    return [
        f"prompt2model predict {run} {shown}",
        f"prompt2model predict {run} --file inputs.txt --json",
        f"prompt2model report {run}",
        f"prompt2model export {run} --out my-model",
    ]


def folder_bytes(folder: Path) -> int:
    """The size of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# Tables


def task_table(task: TaskSpec) -> Table:
    """A description, understood."""
    table = _facts()
    for name, value in (
        ("instruction", task.instruction),
        ("kind", task.kind),
        ("labels", ", ".join(task.labels)),
        ("output", task.output_form),
        ("metric", task.metric),
        ("language", task.language),
        ("dropped", ", ".join(f"{count} {reason}" for reason, count in task.dropped.items())),
        ("notes", "\n".join(task.notes)),
    ):
        if value:
            table.add_row(Text(name), Text(value))
    for number, example in enumerate(task.examples, start=1):
        table.add_row(Text(f"example {number}"), Text(f"{example.input}\n→ {example.output}"))
    return table


def data_table(found: "DataFigures") -> Table:
    """The rows that a teacher wrote, in numbers."""
    table = _facts()
    spread = found.embedding_spread
    for name, value in (
        ("rows", f"{found.rows:,}{_dropped(found.dropped)}"),
        ("sources", ", ".join(f"{count} {name}" for name, count in found.sources.items())),
        ("labels", ", ".join(f"{count} {name}" for name, count in found.labels.items())),
        ("distinct n-grams", ", ".join(f"{n}: {share:.3f}" for n, share in enumerate(found.distinct, start=1))),
        ("self-similarity", f"{found.self_similarity:.3f}"),
        ("embedding spread", "no embedding model is at hand" if spread is None else f"{spread:.3f}"),
        ("price of a row", "unknown" if found.usd_per_row is None else f"${found.usd_per_row:.5f}"),
    ):
        if value:
            table.add_row(Text(name), Text(value))
    return table


def ranking(ranked: Sequence[Ranked]) -> Table:
    """Cards by rank, with the reasons."""
    table = titled("", "score", "at hand", "", "why")
    for place, one in enumerate(ranked, start=1):
        name = one.card.id + (f":{one.card.config}" if isinstance(one.card, DataCard) and one.card.config else "")
        hand = Text("yes", style="green") if one.at_hand else Text("no", style="dim")
        cells = (Text(str(place)), Text(f"{one.score:.2f}"), hand, Text(name, overflow="fold"))
        table.add_row(*cells, Text(", ".join(one.reasons)))
    return table


def settings_table(settings: Sequence[Setting]) -> Table:
    """All settings; those that are not at their default stand out."""
    table = titled("setting", "value", "what it is")
    for one in settings:
        changed = "" if one.value == one.default else f" The default is {_value(one.default)}."
        cells = (Text(one.key, no_wrap=True), Text(_value(one.value)), Text(one.sentence + changed))
        table.add_row(*cells, style="bold" if changed else "")
    return table


def plugins() -> list[tuple[str, str, str]]:
    """(family, name, description) of every plug-in, our own and installed ones; none is imported."""
    return [
        (family, name, registry.describe(family, name))
        for family in registry.FAMILIES
        for name in registry.names(family)
    ]


def plugins_table() -> Table:
    """The plug-ins by family."""
    table, before = titled("family", "name", "what it is"), ""
    for family, name, description in plugins():
        if before and family != before:
            table.add_section()
        table.add_row(Text(family if family != before else ""), Text(name), Text(description))
        before = family
    return table


def plugin_page(facts: "Facts") -> Group:
    """What a plug-in says of itself, and its options."""
    lines = [f"{facts.name}, one of the {facts.family}", "", facts.text, ""]
    lines += [f"For tasks of {' and '.join(facts.kinds)}."] if facts.kinds else []
    lines += [f"The teacher must be able to give: {', '.join(facts.needs)}."] if facts.needs else []
    if not facts.options:
        return Group(Text("\n".join([*lines, "It has no options.", ""])))
    first = next((one for one in facts.options if one.value not in (None, "", ())), facts.options[0])
    return Group(
        Text("\n".join([*lines, ""])),
        settings_table(facts.options),
        Text(f"\nAs in: --set {quote(f'{first.key}={toml_value(first.value)}')}\n"),
    )


def machine_table(machine: "Machine") -> Table:
    """What `doctor` found."""
    table = _facts()
    for name, value in _machine(machine):
        table.add_row(Text(name), Text(value))
    return table


def _machine(machine: "Machine") -> Iterator[tuple[str, str]]:
    speed, size = machine.speed, machine.default_parameters
    yield "cores", str(machine.cores)
    yield "memory", f"{_bytes(machine.free_memory_bytes)} free of {_bytes(machine.memory_bytes)}"
    yield "disk", f"{_bytes(machine.free_disk_bytes)} free at {machine.home}"
    yield "GPU", f"{machine.gpu}, {_bytes(machine.gpu_memory_bytes)}" if machine.gpu else "none"
    yield "precision", f"{speed.precision} is faster here ({speed.operations_per_second / 1e9:.0f} GFLOP/s)"
    yield from ((name, "set" if is_set else "not set") for name, is_set in machine.keys.items())
    yield "Hub", "reachable" if machine.hub else "not reachable"
    yield "at hand", ", ".join(machine.at_hand) or "no base model of the catalogue"
    yield "teacher", f"{machine.teacher} ({machine.teacher_reason}); {price_line(machine.teacher)}"
    yield (
        "speed",
        f"about {speed.writing(size):.0f} tokens/s written, {speed.reading(size):.0f} read, "
        f"{speed.learning(size):.0f} learned from, with the embedded model of {size / 1e6:.0f}M parameters",
    )
    yield "so", "\n".join(machine.says)


def _facts() -> Table:
    """A table of names and values."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def titled(*columns: str) -> Table:
    """A table with these titles."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _some(words: Sequence[str]) -> str:
    return ", ".join(words[:SHOWN_LABELS]) + (
        f" and {len(words) - SHOWN_LABELS} more" if len(words) > SHOWN_LABELS else ""
    )


def _value(value: object) -> str:
    if value is None or isinstance(value, tuple):
        return ", ".join(map(str, value or ())) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value) or "none"


def count(number: int) -> str:
    """The number with its thousands; nothing for none."""
    return f"{number:,}" if number else ""


def tenths(minutes: float) -> str:
    """To a tenth; nothing for none."""
    return f"{minutes:.1f}" if minutes else ""


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.1f} minutes"


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
