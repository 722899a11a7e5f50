"""The words by which descriptions are read, from `vocabulary.toml`: as sets, and as parts of regular expressions."""

import re
import tomllib
from functools import cache
from pathlib import Path


@cache
def words(section: str, name: str) -> tuple[str, ...]:
    """The words of one entry, in its order."""
    entry = _entries()[section][name]
    return tuple(entry.split()) if isinstance(entry, str) else tuple(entry)


@cache
def any_of(section: str, name: str) -> str:
    """A regular expression for any of the words, whole; Chinese and Japanese words have no borders to look at."""
    found = words(section, name)
    whole = [word for word in found if not _is_unspaced(word)]
    bare = [re.escape(word) for word in found if _is_unspaced(word)]
    bounded = rf"(?<!\w)(?:{'|'.join(map(_stem, whole))})(?!\w)"
    return rf"(?:{'|'.join([bounded, *bare])})"


def _stem(word: str) -> str:
    return re.escape(word).replace(r"\*", r"\w*").replace(r"\ ", r"\s+")


def _is_unspaced(word: str) -> bool:
    return any(character >= "\u2e80" for character in word)


@cache
def _entries() -> dict[str, dict[str, str | list[str]]]:
    path = Path(__file__).with_name("vocabulary.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))
