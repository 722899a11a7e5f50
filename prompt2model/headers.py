"""Whether the first line of separated values names the columns, as it should, or is a row already."""

from collections.abc import Sequence

from prompt2model.columns import CONVERSATIONS, KNOWN
from prompt2model.errors import DataError
from prompt2model.pairs import role
from prompt2model.spelling import same_label
from prompt2model.streams import short
from prompt2model.tables import Table
from prompt2model.vocabulary import words

NAMES = {*CONVERSATIONS, *(column for inputs, output in KNOWN for column in (*inputs, output))}
NAME_WORDS = 3
"""More words than that are a text, not the name of a column."""


def check_header(table: Table, labels: Sequence[str], name: str, *, otherwise: str) -> list[str]:
    """What a person should know about the line that names the columns.

    Raises DataError when no name in it is known and one is a label, is a text, or is a value of its column too; the
    hint is the line to add, or `otherwise`, for a line that does name them.
    """
    notes = ["A column without a name was left out; it holds row numbers or nothing."] if "" in table.header else []
    named = [column for column in table.header if column]
    if not named or any(_is_known(column) and not _is_label(column, labels) for column in named):
        return notes
    answers = [column for column in named if _is_label(column, labels) or _recurs(column, table)]
    texts = [column for column in named if len(column.split()) > NAME_WORDS]
    shown = short(table.separator.join(table.header))
    line = _line_to_add(table, answers)
    if answers or texts:
        raise DataError(
            f"The first line of {name} seems to be a row, not the names of the columns: {shown}",
            hint=f"Add a line above it, as in {line}; {otherwise}",
        )
    doubt = f"None of the names in the first line is known: {shown}. If it is a row, add a line above it, as in {line}."
    return [*notes, doubt]


def _is_known(column: str) -> bool:
    word = column.lower().replace(" ", "_")
    return word in NAMES or bool(role(column)) or word in words("roles", "number")


def _is_label(column: str, labels: Sequence[str]) -> bool:
    return same_label(column, labels) is not None


def _recurs(column: str, table: Table) -> bool:
    return any(row.get(column) == column for row in table.rows)


def _line_to_add(table: Table, answers: Sequence[str]) -> str:
    """A name for each column: `output` above what seems to be the answer, `input` above the longest other text."""
    output = answers[0] if answers else table.header[-1]
    others = [column for column in table.header if column != output] or [output]
    text = max(others, key=len)
    known = {output: "output", text: "input"}
    names = [known.get(column, f"column{place}") for place, column in enumerate(table.header, 1)]
    return table.separator.join(names)
