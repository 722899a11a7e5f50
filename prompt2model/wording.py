"""A text's words, as texts are compared: without case, punctuation and spacing.

Where a script writes no spaces, every character counts as a word.
"""

import re
import unicodedata

_IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Kana and Han
_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
_UNSPACED = re.compile(f"([{_IDEOGRAPHS}{_LETTERS}])")
_OF_A_WORD = ((re.compile(f"[{_IDEOGRAPHS}]"), 2), (re.compile(f"[{_LETTERS}]"), 4))
"""Scripts without spaces, and of about how many characters a word of theirs is."""

_SIGN = re.compile(r"[-*/](?=\s*\d)")
_SIGNS = {"-": " − ", "*": " × ", "/": " ÷ "}  # signs of mathematics, which are no punctuation


def normalise(text: str) -> str:
    """The text in lower case, without punctuation, with single spaces. A text of punctuation alone stays itself.

    Signs before a number are words: 12 - 4 is not 12 * 4, nor 5 the same as -5.
    """
    signed = _SIGN.sub(lambda sign: _SIGNS[sign[0]], unicodedata.normalize("NFKC", text).casefold())
    return one_line(signed.translate(_SPACES)) or one_line(signed)


def words(text: str) -> list[str]:
    """The normalised text's words; in scripts without spaces its characters."""
    return spaced(normalise(text)).split()


def spaced(text: str) -> str:
    """The text with spaces around each character of a script that writes none."""
    return _UNSPACED.sub(r" \1 ", text)


def is_unspaced(character: str) -> bool:
    """Whether it is of a script that writes no spaces."""
    return _UNSPACED.match(character) is not None


def characters_a_word(words: list[str]) -> int:
    """How many of these make a word as other scripts have them: 1, and more where most are single characters."""
    for script, pieces in _OF_A_WORD:
        if 2 * sum(bool(script.fullmatch(word)) for word in words) > len(words):
            return pieces
    return 1


def one_line(text: str) -> str:
    """The text with single spaces."""
    return " ".join(text.split())


def folded(text: str) -> str:
    """The text without case, and with single spaces."""
    return one_line(text.casefold())


class _Spaces(dict[int, str]):
    """For str.translate: a space for each character that is no letter, mark, digit or symbol (emoji are symbols)."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character if unicodedata.category(character)[0] in "LMNS" else " "
        self[code] = kept
        return kept


_SPACES = _Spaces()
