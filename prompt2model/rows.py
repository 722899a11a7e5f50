"""Rows of `--data`: a file or a data set on the Hub, read as examples of the task."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from prompt2model import hub
from prompt2model.cells import as_text, first_exchange, flat, joined, output_text
from prompt2model.choices import MAX_WORDS
from prompt2model.columns import Columns, NoColumn, choose
from prompt2model.config import RetrieveConfig
from prompt2model.errors import DataError, HubError
from prompt2model.headers import check_header
from prompt2model.records import Example, Record, Source, TaskSpec
from prompt2model.spelling import same_label
from prompt2model.streams import short
from prompt2model.tables import FORMATS, Row, Table, read_table

HUB_NAME = re.compile(r"(?P<id>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[^@]+))?(?:@(?P<split>\S+))?")
READ_SECONDS = 600.0
"""Longest that reading the rows of a data set from the Hub may take."""
WIDER = 20
"""How many times more rows are looked through when the first ones lack a label: many files are sorted by it."""
SHOWN_VALUES = 8
MOST_LIKE_LABELS, ROWS_OF_A_LABEL = 20, 10
"""Outputs seem to be labels where there are so many different ones at most, and so many rows of each on average."""


class Rows(Record):
    """Examples read from one source, and how they were read."""

    examples: tuple[Example, ...]
    columns: dict[str, str]
    """What was read as `input`, as `output` and, where there is such a column, as `rationale`."""
    licence: str = ""
    dropped: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_rows(source: str, task: TaskSpec, config: RetrieveConfig) -> Rows:
    """The first `max_rows` rows of a file, or of a data set on the Hub (`owner/name[:config][@split]`), in order.

    When one of the task's labels is not among them, rows are taken evenly from a longer stretch instead. Raises
    DataError when the rows cannot be read as examples of the task, and HubError when the Hub refuses.
    """
    read = _reader(source, config)
    loaded = read(config.max_rows)
    told = _check_header(loaded, task, config)
    columns = choose(loaded.table.rows, task, config, name=loaded.name, doubts=told)
    taken = _take(loaded, columns, task)
    if taken.lacks and taken.examples and not loaded.table.is_whole:
        wider = _wider(read, loaded, columns, task, config)
        taken = wider if wider and len(wider.lacks) < len(taken.lacks) else taken
    if not taken.examples:
        raise _nothing_left(loaded, columns, task, taken.dropped)
    return Rows(
        examples=tuple(taken.examples),
        columns=columns.shown(),
        licence=loaded.licence,
        dropped=dict(taken.dropped.most_common()),
        notes=(*told, *_notes(taken, columns, task)),
    )


def read_test(source: str, task: TaskSpec, config: RetrieveConfig) -> Rows:
    """Rows to measure on, by the columns that the settings name for rows to learn from, within the usual limits.

    A column that is named and not there is inferred, and a note says so. Raises as `read_rows` does.
    """
    reading = RetrieveConfig(input_column=config.input_column, output_column=config.output_column, hub=config.hub)
    notes: list[str] = []
    while True:
        try:
            read = read_rows(source, task, reading)
        except NoColumn as error:
            reading, notes = reading.model_copy(update={error.setting: "auto"}), [*notes, error.message]
            continue
        what = " and ".join(f"{column} as {what}" for what, column in read.columns.items())
        return read.model_copy(update={"notes": (*read.notes, *notes, *([f"Read were {what}."] if notes else []))})


def read_raw(source: str, config: RetrieveConfig) -> tuple[str, list[Row]]:
    """The source's full name and its first `max_rows` rows with all their columns, whatever they are about.

    Raises DataError when they cannot be read, and HubError when the Hub refuses.
    """
    loaded = _reader(source, config)(config.max_rows)
    return loaded.name, loaded.table.rows


def is_on_hub(source: str) -> bool:
    """Whether the source can only be a data set on the Hub: no path here, and not written like one."""
    is_path = source.startswith((".", "/", "~")) or source.endswith((*FORMATS, ".gz"))
    return not is_path and not Path(source).expanduser().exists() and bool(HUB_NAME.fullmatch(source))


@dataclass(frozen=True)
class _Loaded:
    """Rows as they stand in their source, label numbers decoded."""

    name: str
    table: Table
    licence: str = ""


@dataclass
class _Taken:
    """Rows as examples."""

    examples: list[Example]
    dropped: Counter[str]
    lacks: list[str]
    """Labels of the task that no example has."""
    respelled: dict[str, str]
    """Outputs that are a label in other letters, and the label."""
    stretch: str = ""
    """Where the rows were taken from when they are not the first ones."""


# Sources


def _reader(source: str, config: RetrieveConfig) -> Callable[[int], _Loaded]:
    """A function that reads the first so many rows. What can be refused without reading is refused here."""
    path = Path(source).expanduser()
    if path.is_file():
        return lambda max_rows: _from_file(path, max_rows)
    name = HUB_NAME.fullmatch(source)
    if name is None or not is_on_hub(source):
        raise _no_file(source, path)
    if config.hub == "off":
        raise HubError(f"{source} is no file, and the Hub is not asked.", hint="Drop --set retrieve.hub=off.")
    files = hub.find_data(name["id"], name["config"] or "", name["split"] or "")
    return lambda max_rows: _from_hub(files, max_rows, config.max_download_bytes)


def _from_file(path: Path, max_rows: int) -> _Loaded:
    try:
        with path.open("rb") as file:
            return _Loaded(path.name, _decoded(read_table(file, path.name, max_rows=max_rows), {}))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", hint="May this user read it?") from error


def _from_hub(files: hub.DataFiles, max_rows: int, max_bytes: int) -> _Loaded:
    def read() -> Table:
        rows: list[Row] = []
        table = Table(rows, is_whole=True)
        for path in files.paths:
            if len(rows) >= max_rows:
                return replace(table, rows=rows, is_whole=False)
            with hub.open_file(files, path) as file:
                table = read_table(file, f"{files.id}/{path}", max_rows=max_rows - len(rows), max_bytes=max_bytes)
            rows.extend(table.rows)
        return replace(table, rows=rows)

    table = hub.ask(files.id, read, timeout_seconds=READ_SECONDS)
    return _Loaded(f"{files.id}:{files.config}@{files.split}", _decoded(table, files.labels), files.licence)


def _no_file(source: str, path: Path) -> DataError:
    if path.is_dir():
        inside = sorted(one.name for one in path.iterdir() if one.name.removesuffix(".gz").endswith(tuple(FORMATS)))
        hint = f"Name a file in it: {', '.join(inside[:SHOWN_VALUES])}" if inside else "Name a file of rows."
        return DataError(f"{source} is a folder, not a file of rows.", hint=hint)
    folder = path.parent if path.parent.is_dir() else Path()
    near = get_close_matches(path.name, [one.name for one in folder.iterdir()], n=3)
    hint = f"Did you mean {' or '.join(str(folder / one) for one in near)}?" if near else "Check the path."
    return DataError(f"There is no file {source}.", hint=f"{hint} A data set on the Hub is named owner/name.")


def _decoded(table: Table, known: Mapping[str, tuple[str, ...]]) -> Table:
    """The table with label names in place of their numbers, and with columns of named texts taken apart."""
    labels = {**known, **table.labels}
    rows = [{column: _label(value, labels.get(column)) for column, value in flat(row).items()} for row in table.rows]
    return replace(table, rows=rows, labels=labels)


def _label(value: Any, names: Sequence[str] | None) -> Any:
    """The label's name; nothing for a number without one, by which test sets mark a label that is kept secret."""
    is_number = isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"-?\d+", value))
    if names is None or not is_number or value in names:
        return value
    return names[int(value)] if 0 <= int(value) < len(names) else None


def _check_header(loaded: _Loaded, task: TaskSpec, config: RetrieveConfig) -> list[str]:
    """Notes on the line that names the columns; a person who names one of them has looked at it."""
    if (config.input_column, config.output_column) != ("auto", "auto"):
        return []
    otherwise = "if these are the names, say which you mean with --set retrieve.input_column=NAME."
    return check_header(loaded.table, task.labels, loaded.name, otherwise=otherwise)


# Examples


def _take(loaded: _Loaded, columns: Columns, task: TaskSpec) -> _Taken:
    """The rows that are examples of the task, in order, each once; the others are counted by reason."""
    pairs = [_pair(row, columns) for row in loaded.table.rows]
    reasons = [as_text(row.get(columns.rationale)) if columns.rationale else "" for row in loaded.table.rows]
    labels = _spelled([output for _, output in pairs if output], task.labels)
    dropped: Counter[str] = Counter()
    found: dict[tuple[str, str, str], Example] = {}
    for number, (row, (text, output), why) in enumerate(zip(loaded.table.rows, pairs, reasons, strict=True)):
        answer = labels.get(output, "") if task.labels else output
        reason = (
            (not text and "empty input")
            or (not output and "empty output")
            or (not answer and "output is none of the labels")
            or ((text, answer, why) in found and "same row again")
        )
        if reason:
            dropped[reason] += 1
        else:
            source = _written_by_a_teacher(row) or Source(kind="data", name=loaded.name, row=number)
            found[text, answer, why] = Example(input=text, output=answer, source=source, rationale=why or None)
    seen = {answer for _, answer, _ in found}
    return _Taken(
        examples=list(found.values()),
        dropped=dropped,
        lacks=[label for label in task.labels if label not in seen],
        respelled={output: label for output, label in labels.items() if output != label},
    )


def _written_by_a_teacher(row: Row) -> Source | None:
    """Where a row came from that `generate` left: whoever gives it back, a person has not written it."""
    taken_apart = {name.removeprefix("source."): value for name, value in row.items() if name.startswith("source.")}
    try:
        source = Source.model_validate(row.get("source") or taken_apart)
    except ValidationError:
        return None
    return source if source.kind == "teacher" else None


def _pair(row: Row, columns: Columns) -> tuple[str, str]:
    if not columns.output:
        return first_exchange(row.get(columns.inputs[0]))
    return joined(row, columns.inputs), output_text(columns.output, row.get(columns.output))


def _spelled(outputs: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """For each output that is a label, that label as the task spells it."""
    found: dict[str, str] = {}
    for output in dict.fromkeys(outputs) if labels else ():
        place = same_label(output.removesuffix(".0"), labels)
        if place is not None:
            found[output] = labels[place]
    for output in dict.fromkeys(outputs) if labels else ():
        longer = [label for label in labels if label.casefold().startswith(output.casefold())]
        # "pos" is "positive" when nothing else in the column is.
        if output not in found and len(output) >= 3 and len(longer) == 1 and longer[0] not in found.values():
            found[output] = longer[0]
    return found


def _wider(
    read: Callable[[int], _Loaded], first: _Loaded, columns: Columns, task: TaskSpec, config: RetrieveConfig
) -> _Taken | None:
    """Rows taken evenly from a longer stretch; none when it cannot be read, for its size or for a broken line."""
    try:
        longer = read(config.max_rows * WIDER)
    except DataError:
        return None
    taken = _take(longer, columns, task)
    count = len(taken.examples)
    if count > config.max_rows:
        taken.examples = [taken.examples[place * count // config.max_rows] for place in range(config.max_rows)]
    taken.stretch = (
        f"The first {len(first.table.rows)} rows lack a label; "
        f"{len(taken.examples)} were taken evenly from the first {len(longer.table.rows)}."
    )
    return taken


def _notes(taken: _Taken, columns: Columns, task: TaskSpec) -> list[str]:
    """What a person should know about how the rows were read."""
    outputs: dict[str, set[str]] = {}
    for example in taken.examples:
        outputs.setdefault(example.input, set()).add(example.output)
    written = sum(not example.is_real for example in taken.examples)
    silent = 0 if task.labels else taken.dropped["empty output"]
    disputed = sum(len(answers) > 1 for answers in outputs.values())
    spellings = ", ".join(f"{output!r} as {label!r}" for output, label in list(taken.respelled.items())[:SHOWN_VALUES])
    notes = [
        taken.stretch,
        not columns.output and "Of each conversation the first question and its answer are read.",
        spellings and f"Labels are read in the task's spelling: {spellings}.",
        silent
        and f"{silent} rows with an empty output were left out; to teach an empty answer, give it a word, like none.",
        disputed and f"{disputed} inputs have more than one output.",
        not task.labels and _like_labels([example.output for example in taken.examples]),
        written
        and f"{written} rows say that a teacher wrote them, and do not count as a person's. Of those that you have put "
        "right, drop the field source.",
        taken.lacks and f"No row has the label {', '.join(map(repr, taken.lacks))}.",
    ]
    return [note for note in notes if note]


def _like_labels(outputs: Sequence[str]) -> str:
    """What to do where the outputs of a task without labels seem to be some."""
    found = Counter(outputs)
    if not 2 <= len(found) <= min(MOST_LIKE_LABELS, len(outputs) // ROWS_OF_A_LABEL):
        return ""
    if any(len(output.split()) > MAX_WORDS for output in found) or all(re.fullmatch(r"[-\d.,]+", one) for one in found):
        return ""
    setting = shlex.quote(f"parse.labels={json.dumps(sorted(found), ensure_ascii=False)}")
    return f"All outputs are among {len(found)} texts. To have them learned as labels: --set {setting}"


def _nothing_left(loaded: _Loaded, columns: Columns, task: TaskSpec, dropped: Counter[str]) -> DataError:
    rows = loaded.table.rows
    if dropped["output is none of the labels"]:
        return _no_label_fits(loaded.name, columns, [_pair(row, columns)[1] for row in rows], task.labels)
    shown = columns.shown()
    counts = ", ".join(f"{reason}: {count}" for reason, count in dropped.most_common())
    return DataError(
        f"None of the {len(rows)} rows of {loaded.name} can be used ({counts}).",
        hint=f"Read were {shown['input']!r} as input and {shown['output']!r} as output; "
        "others are named with --set retrieve.input_column=NAME and retrieve.output_column=NAME.",
    )


def _no_label_fits(name: str, columns: Columns, outputs: Sequence[str], labels: Sequence[str]) -> DataError:
    found = [output for output, _ in Counter(output for output in outputs if output).most_common(SHOWN_VALUES)]
    column = columns.shown()["output"]
    if all(re.fullmatch(r"-?\d+([.]\d+)?", output) for output in found):
        hint = f"These look like numbers of labels: write the labels' names into the column {column!r} instead."
    else:
        hint = "Name the column of labels with --set retrieve.output_column=NAME, or the labels with parse.labels."
    return DataError(
        f"No value of the column {column!r} of {name} is a label of the task. "
        f"Found: {short(', '.join(found))}. Labels: {short(', '.join(labels))}.",
        hint=hint,
    )
