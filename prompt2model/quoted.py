"""Examples as `input="…"` and `output="…"`, the predecessor's notation."""

import re
from collections import Counter
from itertools import zip_longest

from prompt2model.errors import TaskError
from prompt2model.pairs import Pair, Read, missing, shortened

_CLOSING = {'"': '"', "“": "”", "'": "'"}
_KEY = re.compile(
    r"(?:^[ \t>*+-]*(?:\d+[.)][ \t]*)?|(?<=[\"”'])[)}\]]*(?:[,;][ \t]*|[ \t]+)|(?<=[.!?:：])[ \t]+)[({\[]*"
    r"(input|output)[ \t]*=[ \t]*(\"\"\"|[\"“'])",
    re.IGNORECASE | re.MULTILINE,
)
_ESCAPE = re.compile(r"\\([\"'\\nt])")
_TAIL = re.compile(r"[ \t]*[,;)}\]]*")


def read_quoted(text: str) -> Read:
    """Values between quotes, over several lines if need be, with quotes inside them, escaped or not.

    `\\n`, `\\t`, `\\"` and `\\\\` are read as in Python. Raises TaskError for a half without the other, or without an
    end.
    """
    keys = list(_KEY.finditer(text))
    pairs: list[Pair] = []
    rest: list[str] = []
    given, end = None, 0
    for key, following in zip_longest(keys, keys[1:]):
        rest.append(text[end : key.start()])
        value, end = _value(text, key, following.start() if following else len(text), len(pairs) + 1)
        is_input = key[1].lower() == "input"
        if is_input == (given is not None):
            raise (
                missing("output", len(pairs) + 1, given)
                if given is not None
                else missing("input", len(pairs) + 1, value)
            )
        if given is not None:
            pairs.append(Pair(given, value))
        given = value if is_input else None
    if given is not None:
        raise missing("output", len(pairs) + 1, given)
    return pairs, "".join([*rest, text[end:]]), Counter()


def _value(text: str, key: re.Match[str], limit: int, number: int) -> tuple[str, int]:
    """The value that begins after the key, and where it ends: before `limit`, where the next key begins."""
    start, opening = key.end(), key[2]
    closing = _CLOSING.get(opening, opening)
    ends = _ends(text[start:limit], closing)
    if not ends and opening == '"""':  # two quotes that begin the value, after the one that opens it
        start, closing = start - 2, '"'
        ends = _ends(text[start:limit], closing)
    segment = text[start:limit]
    if not ends:
        raise TaskError(
            f"The {key[1]} of example {number} has no closing quote: {shortened(segment)!r}.",
            hint=f"End it with {closing} at the end of a line.",
        )
    end = next((end for end in ends if _is_balanced(segment[end.end() :], closing)), ends[-1])
    tail = _TAIL.match(text, start + end.end())
    return _unescape(segment[: end.start()]), tail.end() if tail else limit


def _ends(segment: str, closing: str) -> list[re.Match[str]]:
    """Where the value may end: at an unescaped quote at the end of a line or before the next key."""
    return list(re.finditer(rf"(?<!\\){closing}(?=[ \t]*[,;)}}\]]*[ \t]*(?:\n|\Z))", segment))


def _is_balanced(after: str, closing: str) -> bool:
    """Whether the quotes after a possible end come in pairs; if not, the true end is further on."""
    return closing == "'" or len(re.findall(rf"(?<!\\){closing}", after)) % 2 == 0


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text)
