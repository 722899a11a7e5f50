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
_OWN_BACKSLASHES = re.compile(
    r"\\(?![\"'\\nt])|\\(?:n(?:eq?|u|abla|ot)|t(?:imes|heta|ext\w*|au|an|ilde|o))\b|(?:\A|\s)[A-Za-z]:\\"
)
"""An escape that none of ours is, `\\neq`, `\\times`, `C:\\new`."""
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_TAIL = re.compile(r"[ \t]*[,;)}\]]*")


def read_quoted(text: str) -> Read:
    """Values between quotes, over several lines if need be, with quotes inside them, escaped or not.

    `\\n`, `\\t`, `\\"` and `\\\\` are read as in Python, where no other backslashes are there. Raises TaskError for a
    half without the other, or without an end.
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
    end = _true_end(segment, ends, closing)
    tail = _TAIL.match(text, start + end.end())
    return _unescape(segment[: end.start()]), tail.end() if tail else limit


def _true_end(segment: str, ends: list[re.Match[str]], closing: str) -> re.Match[str]:
    """The last end before a blank line, if nothing but blanks follows it there; else the first one after which the
    quotes come in pairs."""
    blank = _BLANK_LINE.search(segment, ends[0].end())
    here = [end for end in ends if blank is None or end.start() < blank.start()]
    follows = segment[here[-1].end() : blank.start() if blank else len(segment)]
    paired = [end for end in ends if _is_balanced(segment[end.end() :], closing)]
    if not follows.strip(" \t\n,;)}]") and here[-1] in paired:
        return here[-1]
    return paired[0] if paired else ends[-1]


def _ends(segment: str, closing: str) -> list[re.Match[str]]:
    """Where the value may end: at an unescaped quote at the end of a line or before the next key."""
    return list(re.finditer(rf"(?<!\\){closing}(?=[ \t]*[,;)}}\]]*[ \t]*(?:\n|\Z))", segment))


def _is_balanced(after: str, closing: str) -> bool:
    """Whether the quotes after a possible end come in pairs; if not, the true end is further on."""
    return closing == "'" or len(re.findall(rf"(?<!\\){closing}", after)) % 2 == 0


def _unescape(text: str) -> str:
    """As Python reads it, unless it is code, a formula or a path that has backslashes of its own."""
    if "\n" in text or _OWN_BACKSLASHES.search(text):
        return re.sub(r"\\([\"'])", r"\1", text)
    return _ESCAPE.sub(lambda match: {"n": "\n", "t": "\t"}.get(match[1], match[1]), text)
