"""A description read without a model: the examples by their notation, the instruction from what is left.

Only what is written is read: a notation that does not fit leaves the text in the instruction.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from prompt2model.data_blocks import read_data
from prompt2model.front_matter import Declared, read_front_matter
from prompt2model.keyed import AFTER_EXAMPLE, BEFORE_EXAMPLE, EXAMPLE, read_keyed
from prompt2model.labels import find_labels
from prompt2model.lines import read_arrows, read_blocks, read_json_rows, read_lists, read_tables
from prompt2model.pairs import Pair, Read
from prompt2model.quoted import read_quoted
from prompt2model.vocabulary import words

Labels = tuple[str, ...]

NOTATIONS: tuple[Callable[[str, Labels], Read], ...] = (
    lambda text, labels: read_quoted(text),
    lambda text, labels: read_data(text),
    lambda text, labels: read_json_rows(text),
    lambda text, labels: read_tables(text),
    lambda text, labels: read_keyed(text),
    read_arrows,
    read_lists,
    read_blocks,
)
"""In the order of trust; the first that finds an example reads the description."""


@dataclass(frozen=True)
class Reading:
    """What the notation alone tells."""

    instruction: str
    pairs: tuple[Pair, ...]
    declared: Declared
    dropped: Counter[str]
    has_unread: bool
    """Whether the instruction still seems to hold examples."""


def read_notation(text: str) -> Reading:
    """The examples and the instruction around them. Raises TaskError for half an example."""
    declared, body = read_front_matter(text)
    pairs, rest, dropped = _read_body(body)
    prose = "\n\n".join(part.strip("\n") for part in (declared.instruction, rest) if part.strip())
    found = (*declared.pairs, *pairs)
    return Reading(
        instruction=_tidied(prose) if found else prose.strip(),
        pairs=found,
        declared=declared,
        dropped=dropped,
        has_unread=not found and _speaks_of_examples(prose),
    )


def without(text: str, pieces: Labels) -> str:
    """The text without the lines that hold nothing but these pieces, a few signs and a key."""
    parts = sorted({part.strip() for piece in pieces for part in piece.splitlines()} - {""}, key=len, reverse=True)
    return _tidied("\n".join(line for line in text.splitlines() if not _consists_of(line, parts)))


def _consists_of(line: str, parts: list[str]) -> bool:
    left = line
    for part in parts:
        left = left.replace(part, "", 1)
    return left != line and len(re.findall(r"\w+", left)) <= 2


def _read_body(body: str) -> Read:
    labels = find_labels(body)
    for read in NOTATIONS:
        pairs, rest, dropped = read(body, labels)
        if pairs or dropped:
            return pairs, rest, dropped
    return [], body, Counter()


_ANNOUNCES = re.compile(rf"^[\W_]*{BEFORE_EXAMPLE}{EXAMPLE}(?:\s*\#?\d+)?{AFTER_EXAMPLE}[\W_]*$", re.IGNORECASE)
_TRAILING = re.compile(
    rf"(?:(?<=[.!?。！？])[ \t]*{BEFORE_EXAMPLE}{EXAMPLE}[ \t]*[:：]?"
    rf"|,[ \t]+{BEFORE_EXAMPLE}{EXAMPLE}[ \t]*[:：])[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_TITLE = re.compile(
    rf"^[#*_ \t]*(?:{'|'.join(words('roles', 'instruction'))})[ \t]*[*_]*(?:[:：][*_ \t]*|(?=\n|\Z))",
    re.IGNORECASE | re.MULTILINE,
)
_EMPTY_LIST = re.compile(r"^[ \t]*\[\s*\][ \t]*$", re.MULTILINE)
_EMPTY_FENCE = re.compile(r"^[ \t]*```[\w+-]*[ \t]*\n\s*```[ \t]*$", re.MULTILINE)
_PROSE = re.compile(r"(?![\W_]*\Z)(?!```)")
_RULE = re.compile(r"^[ \t]*(?:[-=*_#~][ \t]*){3,}$", re.MULTILINE)
_TOLD = re.compile(
    rf"\b(?:for {EXAMPLE}|e\.g\.|like this|as follows|zum Beispiel|por ejemplo|par exemple)[^\n]*[\"“«„'`]",
    re.IGNORECASE,
)
_INLINE = re.compile(r"(?:\binput[:：].{1,200}?\boutput[:：].{1,200}?){2}", re.IGNORECASE)


def _tidied(prose: str) -> str:
    """The instruction without headings that announce examples, empty fences, rules and the word "Instruction:"."""
    lines = [line.rstrip() for line in prose.splitlines()]
    below = [*lines[1:], ""]
    text = "\n".join(line for line, following in zip(lines, below, strict=False) if not _is_left_over(line, following))
    text = _RULE.sub("", _EMPTY_FENCE.sub("", _EMPTY_LIST.sub("", _TRAILING.sub("", text))))
    return re.sub(r"\n{3,}", "\n\n", _TITLE.sub("", text)).strip()


def _is_left_over(line: str, following: str) -> bool:
    """Whether the line announces examples that are no longer there."""
    return bool(_ANNOUNCES.match(line)) and not _PROSE.match(following)


def _speaks_of_examples(prose: str) -> bool:
    """Whether examples are announced, or told in the running text, or stand there as data or behind keys."""
    announced = any(_ANNOUNCES.match(line) for line in prose.splitlines())
    is_data = all(f'"{half}":' in prose for half in ("input", "output"))
    return announced or is_data or any(sign.search(prose) for sign in (_TRAILING, _TOLD, _INLINE))
