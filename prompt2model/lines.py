"""Examples that fit on lines: JSON rows, tables, arrows, lists, and blocks of two lines."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from prompt2model.pairs import ARROW, Pair, Read, check_complete, pair_of, role, strip_marks, unquote
from prompt2model.vocabulary import any_of, words

_BULLET = re.compile(r"^[ \t]*(?:[-*+•][ \t]+|\d+[.)][ \t]+|(?:example|ex\.?)[ \t]*\d*[:.)][ \t]*)", re.IGNORECASE)
_ANNOUNCES = re.compile(rf"{any_of('examples', 'example')}[^.\n]{{0,30}}[:：]?[ \t*_]*$", re.IGNORECASE)
_ASKS = re.compile(rf"(?:please |you |given )?{any_of('asks', 'write')}|{any_of('asks', 'sort')}", re.IGNORECASE)


def _nothing(text: str) -> Read:
    return [], text, Counter()


def _side(text: str) -> str:
    return unquote(strip_marks(text))


# {"input": "…", "output": "…"}


def read_json_rows(text: str) -> Read:
    """Lines that are JSON objects with an input or an output; their strings may hold the other line ends of Unicode."""
    lines = text.split("\n")
    rows = {number: row for number, line in enumerate(lines) if (row := _json_row(line.strip().rstrip(",")))}
    pairs = check_complete(pair_of(row, number) for number, row in enumerate(rows.values(), start=1))
    return pairs, "\n".join(line for number, line in enumerate(lines) if number not in rows), Counter()


def _json_row(line: str) -> dict[str, Any]:
    if not (line.startswith("{") and line.endswith("}")):
        return {}
    try:
        row = json.loads(line, parse_int=str, parse_float=str)
    except (json.JSONDecodeError, RecursionError):
        return {}
    return row if isinstance(row, dict) and {role(str(key)) for key in row} & {"input", "output"} else {}


# | text | label |

_DELIMITER = re.compile(r"^[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_MARKS = "\t,;"
_MAX_COLUMNS = 8


def read_tables(text: str) -> Read:
    """A Markdown table; rows under a header that names both halves; or two cells a line, below an announcement."""
    lines = text.splitlines()
    for number in range(1, len(lines)):
        if "|" in lines[number] and "|" in lines[number - 1] and _DELIMITER.match(lines[number]):
            end = _end(lines, number + 1, "|")
            rows = [_cells(line) for line in lines[number + 1 : end]]
            pairs = _table(_cells(lines[number - 1]), rows)
            if pairs:
                return pairs, "\n".join(lines[: number - 1] + lines[end:]), Counter()
    for number, mark in product(range(len(lines) - 1), _MARKS):
        header = [cell.strip() for cell in lines[number].split(mark)]
        if _names_both_halves(header):
            end = _end(lines, number + 1, mark)
            rows = list(csv.reader(lines[number + 1 : end], delimiter=mark, skipinitialspace=True))
            pairs = _table(header, rows)
            if pairs:
                return pairs, "\n".join(lines[:number] + lines[end:]), Counter()
    return _announced_rows(text)


def _announced_rows(text: str) -> Read:
    """`Hello\tBonjour`, or at least two lines `Hello | Bonjour`, directly below a line that speaks of examples."""
    lines = text.splitlines()
    for above, mark in product([number for number, line in enumerate(lines) if _ANNOUNCES.search(line.strip())], "\t|"):
        start = next((number for number in range(above + 1, len(lines)) if lines[number].strip()), len(lines))
        end = _end(lines, start, mark)
        rows = [_row(line, mark) for line in lines[start:end] if not _DELIMITER.match(line)]
        if len(rows) > (mark == "|") and len(rows) == end - start and all(len(row) == 2 and all(row) for row in rows):
            return [Pair(*row) for row in rows], "\n".join(lines[:start] + lines[end:]), Counter()
    return _nothing(text)


def _row(line: str, mark: str) -> list[str]:
    return [_side(cell) for cell in _BULLET.sub("", line.strip(), count=1).strip(mark).split(mark)]


def _end(lines: list[str], start: int, mark: str) -> int:
    """The first line that has no such mark."""
    return next((number for number in range(start, len(lines)) if mark not in lines[number]), len(lines))


def _names_both_halves(header: list[str]) -> bool:
    return {role(name) for name in header} >= {"input", "output"} and len(header) == len(set(header))


def _cells(line: str) -> list[str]:
    bare = line.strip().removeprefix("|")
    bare = bare if bare.endswith("\\|") else bare.removesuffix("|")
    return [cell.strip().replace("\\|", "|").replace("<br>", "\n") for cell in re.split(r"(?<!\\)\|", bare)]


def _table(header: list[str], rows: list[list[str]]) -> list[Pair]:
    """The rows as pairs; none where the header does not tell which column is which."""
    columns = _columns([strip_marks(name).casefold() for name in header[:_MAX_COLUMNS]])
    if columns is None or any(len(row) > len(header) for row in rows):
        return []
    given, wanted = columns
    full = [[*row, *[""] * (len(header) - len(row))] for row in rows]
    return check_complete(Pair(_joined(header, row, given), _side(row[wanted])) for row in full)


def _columns(names: list[str]) -> tuple[list[int], int] | None:
    """The input columns and the output column, by their names; two that no name explains are input and output."""
    free = [number for number, name in enumerate(names) if name not in words("roles", "number")]
    plain = [number for number in free if names[number] not in words("roles", "explanation")]
    given = [number for number in free if role(names[number]) == "input"]
    wanted = [number for number in free if role(names[number]) == "output"]
    others = [number for number in given or plain if number not in wanted]
    if wanted and others:
        return others, wanted[-1]
    if len(plain) == 2 and (given or len(free) == 2) and not wanted:
        first = given[:1] or plain[:1]
        return first, next(number for number in plain if number not in first)
    return None


def _joined(header: list[str], row: list[str], columns: list[int]) -> str:
    """One column's cell as it is, several as lines with their names."""
    if len(columns) == 1:
        return _side(row[columns[0]])
    return "\n".join(f"{header[column]}: {row[column]}" for column in columns)


# text -> label

_ARROW = re.compile(rf"^(.*?\S)[ \t]*{ARROW}[ \t]*(\S.*)?$")


def read_arrows(text: str, labels: Sequence[str]) -> Read:
    """Lines `text -> label`. One that could be the instruction (`Translate English -> French`) is the instruction."""
    lines = text.splitlines()
    bare = {number: _BULLET.sub("", line.strip(), count=1) for number, line in enumerate(lines)}
    found = {number: match for number, line in bare.items() if (match := _ARROW.match(line))}
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if _ASKS.match(lines[first].strip() if lines else ""):
        found.pop(first, None)
    sides = {number: (_side(match[1]), _side(match[2] or "")) for number, match in found.items()}
    if not sides or _explain_labels(sides.values(), labels) or _is_prose(lines, list(sides)):
        return _nothing(text)
    pairs = check_complete(Pair(*pair) for pair in sides.values())
    return pairs, "\n".join(line for number, line in enumerate(lines) if number not in sides), Counter()


def _explain_labels(sides: Iterable[tuple[str, str]], labels: Sequence[str]) -> bool:
    """Whether all left sides are labels: then the right sides explain them."""
    known = {label.casefold() for label in labels}
    return bool(known) and all(left.casefold() in known for left, _ in sides)


_SENTENCES = re.compile(r"[.!?:]\s+\S")
_TOLD = re.compile(rf"(?:{any_of('examples', 'example')}|such as|like this)[ ,:]", re.IGNORECASE)


def _is_prose(lines: list[str], numbers: list[int]) -> bool:
    """A single arrow that is the whole description, or amid a paragraph's sentences, or told as an example."""
    if len(numbers) > 1:
        return False
    number, filled = numbers[0], [bool(line.strip()) for line in lines]
    is_paragraph = not any(filled[max(number - 1, 0) : number] + filled[number + 1 : number + 2])
    is_sentence = bool(_SENTENCES.search(lines[number])) and not _BULLET.match(lines[number])
    return sum(filled) == 1 or bool(_TOLD.search(lines[number])) or (is_sentence and not is_paragraph)


# - "text": label

_QUOTED_ITEM = re.compile(
    r"^(?P<left>\"[^\"]+\"|“[^”]+”|„[^“”]+[“”]|«[^»]+»|'.+?'|`[^`]+`|「[^」]+」)"
    r"[ \t]*(?:[:：,|=]|[-–—]+)[ \t]*(?P<right>.+)$"
)
_LABELLED = (
    re.compile(r"^(?P<left>.+\S)[ \t]*[(\[](?P<right>[^()\[\]]+)[)\]][.]?$"),
    re.compile(r"^(?P<left>.+\S)(?:[ \t]*[:：|\t=][ \t]*|[ \t]+[-–—]+[ \t]+|,[ \t]+)(?P<right>[^:|\t]+)$"),
)


def read_lists(text: str, labels: Sequence[str]) -> Read:
    """Lists whose items are a text and its label (`- "I love it": positive`, `- I love it (positive)`)."""
    lines = text.splitlines()
    items = {number: _BULLET.sub("", line).strip() for number, line in enumerate(lines) if _BULLET.match(line)}
    sides = {number: pair for number, item in items.items() if (pair := _split(_QUOTED_ITEM, item))}
    announced = any(_ANNOUNCES.search(line.strip()) for line in lines)
    if (len(sides) < 2 and not announced) or _explain_labels(sides.values(), labels):
        sides = _labelled(items, labels)
    if not sides:
        return _nothing(text)
    rest = [line for number, line in enumerate(lines) if number not in sides]
    return check_complete(Pair(*pair) for pair in sides.values()), "\n".join(rest), Counter()


def _split(pattern: re.Pattern[str], item: str) -> tuple[str, str] | None:
    match = pattern.match(item)
    return (_side(match["left"]), _side(match["right"])) if match else None


def _labelled(items: dict[int, str], labels: Sequence[str]) -> dict[int, tuple[str, str]]:
    """Items that end in one of the labels; those that begin with one explain it."""
    known = {label.casefold() for label in labels}
    sides = {}
    for number, item in items.items():
        halves = [pair for pattern in _LABELLED if (pair := _split(pattern, item))]
        fitting = [pair for pair in halves if pair[1].casefold() in known and pair[0].casefold() not in known]
        sides.update({number: fitting[0]} if fitting else {})
    return sides


# Blocks between blank lines

_BLOCK_END = re.compile(r"\n[ \t]*\n|\n(?:#{3,}|-{3,}|\*{3,})[ \t]*\n")


def read_blocks(text: str, labels: Sequence[str]) -> Read:
    """Few-shot blocks: the last line of each is the output.

    They count where the outputs are labels, or below a line that speaks of examples; hard-wrapped paragraphs do not.
    """
    known = {label.casefold() for label in labels}
    announced = False
    pairs: list[Pair] = []
    rest: list[str] = []
    for block in (part.strip("\n") for part in _BLOCK_END.split(text)):
        lines = block.splitlines()
        is_headed = bool(lines) and bool(_ANNOUNCES.search(lines[0]))
        announced = announced or is_headed
        *above, last = lines[is_headed:] or [""]
        if _is_labelled(above, last, known) or (announced and _is_listed(above)):
            pairs.append(Pair("\n".join(above).strip(), _side(last)))
        else:
            rest.append(block)
    return (pairs, "\n\n".join(rest), Counter()) if pairs else _nothing(text)


def _is_listed(above: list[str]) -> bool:
    """Whether one line stands above the output, neither a list's item nor an instruction."""
    return len(above) == 1 and not _BULLET.match(above[0]) and not _ASKS.match(above[0])


def _is_labelled(above: list[str], last: str, known: set[str]) -> bool:
    """Whether a label stands below a text, and not below its like or an announcement of them."""
    if not above or _side(last).casefold() not in known:
        return False
    return not above[0].rstrip().endswith((":", "：")) and not any(_side(line).casefold() in known for line in above)
