"""Where a text encloses lines that are a value whatever they hold: code between fences, docstrings."""

import re

_FENCE = re.compile(r"(?:^|[:：])[ \t]*(```|~~~)[\w+-]*[ \t]*$")
_TRIPLE_QUOTES = ('"""', "'''")


def enclosures(lines: list[str]) -> list[tuple[int, int]]:
    """The numbers of the lines that open and close each; one that does not end encloses nothing."""
    found: list[tuple[int, int]] = []
    last = {line.strip(): number for number, line in enumerate(lines)}
    start = 0
    while start < len(lines):
        end = _fence_end(lines, start, last) or _docstring_end(lines, start)
        found.extend([(start, end)] if end else [])
        start = (end or start) + 1
    return found


def _fence_end(lines: list[str], start: int, last: dict[str, int]) -> int:
    """The next line that is nothing but the fence; `last` tells where no line is any more."""
    opening = _FENCE.search(lines[start])
    if not opening or last.get(opening[1], 0) <= start:
        return 0
    return next(number for number in range(start + 1, len(lines)) if lines[number].strip() == opening[1])


def _docstring_end(lines: list[str], start: int) -> int:
    """The end of an indented text between triple quotes."""
    mark = next((mark for mark in _TRIPLE_QUOTES if lines[start].count(mark) % 2), "")
    for number in range(start + 1, len(lines)) if mark else ():
        if lines[number].strip() and lines[number][0] not in " \t":
            return 0
        if mark in lines[number]:
            return number
    return 0
