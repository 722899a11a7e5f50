"""An example as a description writes it, and the words that people put before its two halves."""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from prompt2model.errors import TaskError
from prompt2model.vocabulary import words

SHOWN_CHARACTERS = 60

ARROW = r"(?:[-–—=]{1,3}>|→|⇒|⟶|➜|➔|↦|\|->)"
"""A regular expression for what stands between the halves of `text -> label`."""

_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "‘": "’", "`": "`", "「": "」"}
_MARKED = re.compile(r"\A(\*\*|__|\*|`)(?=\S)(.+?)(?<=\S)\1\Z", re.DOTALL)


@dataclass(frozen=True)
class Pair:
    """One example, before it is known where it came from."""

    input: str
    output: str
    rationale: str | None = None


Read = tuple[list[Pair], str, Counter[str]]
"""What a reader of a notation gives: the pairs, the text around them, and how many were left out, by reason."""


@lru_cache(maxsize=4096)
def role(key: str) -> str:
    """One of input, output, rationale, instruction, setting; or nothing, for a word that is none of these."""
    word = key.casefold().strip()
    for name in ("input", "output", "rationale", "instruction", "setting"):
        if word in words("roles", name):
            return name
    *before, last = word.split() or [""]
    return last if len(before) == 1 and last in ("input", "output") else ""


def pair_of(row: Any, number: int) -> Pair:
    """The pair in a mapping, by the names of its keys, or in a list of two. Raises TaskError when it is neither."""
    if isinstance(row, list) and len(row) == 2:
        return Pair(text_of(row[0]), text_of(row[1]))
    if not isinstance(row, dict):
        raise TaskError(f"Example {number} is {shortened(text_of(row))!r}.", hint="Write it as {input: …, output: …}.")
    fields = {str(key).strip().lower(): value for key, value in row.items()}
    wanted = "output" if "output" in fields else next((key for key in fields if role(key) == "output"), "")
    given = ["input"] if "input" in fields else [key for key in fields if role(key) == "input" and key != wanted]
    rationale = next((text_of(fields[key]) for key in fields if role(key) == "rationale"), "")
    texts = [text_of(fields[key]) for key in given]
    lines = [f"{key}: {text}" for key, text in zip(given, texts, strict=True)]
    return Pair(texts[0] if len(texts) == 1 else "\n".join(lines), text_of(fields.get(wanted)), rationale or None)


def text_of(value: Any) -> str:
    """A scalar as it is written; anything nested as JSON."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_complete(pairs: Iterable[Pair]) -> list[Pair]:
    """The pairs. Raises TaskError that names the first one lacking its input or its output."""
    checked = list(pairs)
    for number, pair in enumerate(checked, start=1):
        if not pair.output.strip():
            raise missing("output", number, pair.input)
        if not pair.input.strip():
            raise missing("input", number, pair.output)
    return checked


def missing(half: str, number: int, other: str) -> TaskError:
    """The error for an example of which only the other half is there."""
    there = "input" if half == "output" else "output"
    return TaskError(
        f"Example {number} has no {half}; its {there} is {shortened(other)!r}.",
        hint=f"Write the {half} after it, or take the example out.",
    )


def shortened(text: str) -> str:
    """The text's beginning, for a message."""
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def unquote(text: str) -> str:
    """The text without the one pair of quotes that encloses all of it."""
    stripped = text.strip()
    if len(stripped) < 2 or _QUOTES.get(stripped[0]) != stripped[-1]:
        return stripped
    inside = stripped[1:-1]
    return stripped if stripped[0] in inside or stripped[-1] in inside else inside


def strip_marks(text: str) -> str:
    """The text without the bold, italic or code marks that enclose all of it."""
    return _MARKED.sub(r"\2", text.strip())
