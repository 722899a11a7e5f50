"""Which columns of a table are the task's input, output and rationale: as named, or by names or content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from prompt2model.config import RetrieveConfig
from prompt2model.errors import DataError
from prompt2model.pairs import role
from prompt2model.records import TaskSpec
from prompt2model.registry import did_you_mean
from prompt2model.spelling import same_label
from prompt2model.streams import short

KNOWN: tuple[tuple[tuple[str, ...], str], ...] = (
    (("instruction", "input"), "output"),
    (("instruction", "context"), "response"),
    (("instruction",), "output"),
    (("instruction",), "response"),
    (("input",), "output"),
    (("inputs",), "targets"),
    (("prompt",), "completion"),
    (("prompt",), "response"),
    (("query",), "response"),
    (("source",), "target"),
    (("src",), "tgt"),
    (("context", "question"), "answers"),
    (("context", "question"), "answer"),
    (("passage", "question"), "answer"),
    (("question",), "answers"),
    (("question",), "answer"),
    (("question",), "solution"),
    (("problem",), "solution"),
    (("document",), "summary"),
    (("article",), "summary"),
    (("article",), "highlights"),
    (("dialogue",), "summary"),
    (("text",), "summary"),
    (("review",), "sentiment"),
    *((("premise", "hypothesis"), label) for label in ("label", "gold_label")),
    *((("sentence1", "sentence2"), label) for label in ("label", "gold_label")),
    (("question1", "question2"), "label"),
    (("text",), "label"),
    (("sentence",), "label"),
)
"""Columns that go together wherever they occur: what is read, and what is written."""
NAME_THEM = "Name them: --set retrieve.input_column=NAME --set retrieve.output_column=NAME (inputs may be A,B)."
CONVERSATIONS = ("messages", "conversations", "conversation")
HEADINGS = ("title", "headline", "subject")
"""Beside a column of texts these are not what the task is about."""
SAMPLE_ROWS = 200
FITTING_SHARE = 0.6
"""Share of a column's values that have to be labels of the task for it to count as their column."""
CLEARLY_LONGER = 3.0


class NoColumn(DataError):
    """A column that the settings name is not there."""

    def __init__(self, setting: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.setting = setting


@dataclass(frozen=True)
class Columns:
    """The columns that were chosen."""

    inputs: tuple[str, ...]
    output: str
    """Empty where one column holds whole conversations."""
    rationale: str = ""
    """Empty where no column holds reasons for the output."""

    def shown(self) -> dict[str, str]:
        """For the person: what is read as input and what as output."""
        if self.output:
            reasons = {"rationale": self.rationale} if self.rationale else {}
            return {"input": " + ".join(self.inputs), "output": self.output, **reasons}
        return {"input": f"{self.inputs[0]} (user)", "output": f"{self.inputs[0]} (assistant)"}


def choose(
    rows: Sequence[Mapping[str, Any]], task: TaskSpec, config: RetrieveConfig, *, name: str, doubts: Sequence[str] = ()
) -> Columns:
    """The input and output columns of the rows of `name`.

    Raises NoColumn when a column of the settings does not exist, DataError when it is not clear which are meant: that
    lists the columns and the first row, says how to name them, and what is in doubt about the names.
    """
    sample = _Sample(rows)
    inputs, outputs = sample.named("input_column", config, name), sample.named("output_column", config, name)
    if not inputs and not outputs and (conversations := sample.conversations()):
        return Columns((conversations,), "")
    output = outputs[0] if outputs else _output(sample, task, inputs)
    inputs = inputs or (_inputs(sample, task, output) if output else ())
    if inputs and output:
        left = [column for column in sample.columns if column not in (*inputs, output)]
        return Columns(inputs, output, _only(column for column in left if role(column) == "rationale"))
    raise DataError(
        f"It is not clear which columns of {name} are input and output: {', '.join(sample.columns)}. "
        f"The first row: {short(dict(rows[0]))}",
        hint=" ".join((NAME_THEM, *doubts)),
    )


def _output(sample: "_Sample", task: TaskSpec, inputs: tuple[str, ...]) -> str:
    """The column that holds the task's labels; where none does, the one whose name says that it is an output."""
    left = [column for column in sample.columns if column not in inputs]
    fitting = [column for column in left if sample.fits(column, task.labels)]
    known = {output for asked, output in sample.known() if not inputs or set(asked) <= set(inputs)}
    for candidates in (fitting, known):
        clear = [column for column in candidates if len(candidates) == 1 or column == "output"]
        if candidates:
            return clear[0] if clear else _only(column for column in candidates if role(column) == "output")
    return _only(column for column in left if role(column) == "output")


def _inputs(sample: "_Sample", task: TaskSpec, output: str) -> tuple[str, ...]:
    """The columns that go with the output by name; else the one of texts, or of far the longest ones."""
    known = [inputs for inputs, other in sample.known() if other == output]
    if known:
        return max(known, key=len)
    texts = [column for column in sample.texts() if column != output and not sample.fits(column, task.labels)]
    said = [column for column in texts if role(column) == "input"]
    if len(said) > 1:
        said = [column for column in said if column.lower() not in HEADINGS]
        return (said[0],) if len(said) == 1 else ()
    longest = sorted(said or texts, key=sample.length, reverse=True)
    is_clear = len(longest) == 1 or (
        len(longest) > 1 and sample.length(longest[0]) >= CLEARLY_LONGER * sample.length(longest[1])
    )
    return (longest[0],) if is_clear else ()


def _only(found: Any) -> str:
    columns = list(found)
    return columns[0] if len(columns) == 1 else ""


class _Sample:
    """A table's first rows, to look at."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows = rows[:SAMPLE_ROWS]
        self.columns = tuple(dict.fromkeys(column for row in self.rows for column in row))

    def named(self, setting: str, config: RetrieveConfig, name: str) -> tuple[str, ...]:
        """The columns of a setting: none for `auto`, one, or several joined by commas."""
        value: str = getattr(config, setting)
        if value == "auto":
            return ()
        wanted = [value] if value in self.columns else [one.strip() for one in value.split(",")]
        for column in wanted:
            if column not in self.columns:
                raise NoColumn(setting, f"{name} has no column {column!r}.", did_you_mean(column, list(self.columns)))
        return tuple(wanted)

    def conversations(self) -> str:
        """The column that holds lists of turns, if there is one."""
        found = (column for column in self.columns if column.lower() in CONVERSATIONS)
        return next((column for column in found if any(map(_is_turns, self.values(column)))), "")

    def known(self) -> list[tuple[tuple[str, ...], str]]:
        """The rows of KNOWN whose columns are all here, as they are written here."""
        written = {column.strip().lower().replace(" ", "_"): column for column in self.columns}
        return [
            (tuple(written[one] for one in inputs), written[output])
            for inputs, output in KNOWN
            if {*inputs, output} <= written.keys()
        ]

    def fits(self, column: str, labels: Sequence[str]) -> bool:
        """Whether the column's values are labels of the task."""
        values = [str(value) for value in self.values(column)]
        fitting = sum(same_label(value, labels) is not None for value in values) if labels else 0
        return bool(values) and fitting >= FITTING_SHARE * len(values)

    def texts(self) -> list[str]:
        """The columns of texts of more than a word; if there is none, those of words."""
        of_words = [column for column in self.columns if self._share_of_words(column) > 0.5]
        return [column for column in of_words if self._words(column) >= 2] or of_words

    def length(self, column: str) -> float:
        """The mean length of the column's values, in characters."""
        return fmean(len(str(value)) for value in self.values(column) or [""])

    def values(self, column: str) -> list[Any]:
        """What is in the column, without what is missing or empty."""
        return [row[column] for row in self.rows if row.get(column) not in (None, "", [], {})]

    def _share_of_words(self, column: str) -> float:
        values = self.values(column)
        return fmean(isinstance(value, str) and any(map(str.isalpha, value)) for value in values) if values else 0.0

    def _words(self, column: str) -> float:
        return fmean(len(str(value).split()) for value in self.values(column))


def _is_turns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, dict) for turn in value)
