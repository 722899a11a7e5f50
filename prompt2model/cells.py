"""What a cell of a table says, as text: numbers, lists of answers, nested columns, conversations."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

USER = frozenset(("user", "human"))
SETS = frozenset(
    ("label", "labels", "tags", "entities", "keywords", "keyphrases", "topics", "categories", "genres", "intents")
)
"""Columns of which a list is read as a whole."""
ASSISTANT = frozenset(("assistant", "gpt", "model", "bot", "chatgpt"))


def as_text(value: Any) -> str:
    """The cell as a person would write it; empty when it is missing, or holds bytes."""
    if isinstance(value, str):
        return value.strip()
    if value is None or isinstance(value, bytes) or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping) and "text" in value:
        return as_text(value["text"])
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, default=str) if value else ""
    return first_text(value) if isinstance(value, Sequence) else str(value)


def output_text(column: str, value: Any) -> str:
    """An output cell: of several answers the first, and all of what is a set by the column's name, as tags are."""
    is_set = column.rpartition(".")[2].casefold() in SETS
    if is_set and isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(filter(None, map(as_text, value)))
    return as_text(value)


def first_text(values: Sequence[Any]) -> str:
    """The first of several answers that is one; they are different ways to say the same."""
    return next((text for text in map(as_text, values) if text), "")


def words_or_text(value: Any) -> str:
    """An input cell: a list of texts is one text cut into words or lines, not a choice between them."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        texts = [text for text in map(as_text, value) if text]
        return ("\n" if any(" " in text for text in texts) else " ").join(texts)
    return as_text(value)


def joined(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    """One cell as it is, or several with their names before them; empty ones are left out."""
    if len(columns) == 1:
        return words_or_text(row.get(columns[0]))
    parts = ((column, words_or_text(row.get(column))) for column in columns)
    return "\n".join(f"{column}: {text}" for column, text in parts if text)


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with columns of named texts taken apart: `translation` becomes `translation.en` and `translation.de`."""
    cells: dict[str, Any] = {}
    for column, value in row.items():
        if isinstance(value, Mapping) and value and all(isinstance(one, str) for one in value.values()):
            cells |= {f"{column}.{key}": inner for key, inner in value.items()}
        else:
            cells[column] = value
    return cells


def first_exchange(turns: Any) -> tuple[str, str]:
    """What the user says first and what the assistant answers; empty texts where the turns are not of that kind."""
    said = [_turn(turn) for turn in turns if isinstance(turn, Mapping)] if isinstance(turns, Sequence) else []
    asked = next((place for place, (who, _) in enumerate(said) if who in USER), len(said))
    answers = [text for who, text in said[asked + 1 : asked + 2] if who in ASSISTANT]
    return (said[asked][1], answers[0]) if answers else ("", "")


def _turn(turn: Mapping[str, Any]) -> tuple[str, str]:
    """Who, and what; as `role` and `content`, or as `from` and `value`; content may come in parts."""
    content = turn.get("content", turn.get("value"))
    return str(turn.get("role", turn.get("from"))).lower(), words_or_text(content)
