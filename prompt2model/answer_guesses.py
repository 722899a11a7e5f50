"""Sets of answers that an instruction may name: worth nothing unless examples bear them out."""

import re
from collections.abc import Iterator
from itertools import islice

from prompt2model.asks import sentences
from prompt2model.choices import CHAIN, EXAMPLES_AHEAD, MAX_PLACES, OR, QUOTED, are_labels, bare, split_list

MAX_CHARACTERS = 1000
"""Of a sentence or a list that is looked at."""

_LEADS = (
    re.compile(r"\b(?:is|are|be|being|as) either\s+", re.IGNORECASE),
    re.compile(r"[:：]\s+(?=\S)"),
    re.compile(r"\b(?:labels|classes|categories|options)\s+(?=\S)", re.IGNORECASE),
)
_OR = re.compile(OR, re.IGNORECASE)
_CODE_BEHIND = re.compile(r"\w \((-?\d{1,2})\)")
_CODE_BEFORE = re.compile(r"(?<![\w.-])(-?\d{1,2})\s?(?:[-–—=:)]|is|for|when)\s([^,;.\n]+)")
_RANGE = re.compile(r"\b([A-Z])\s?(?:-|–|to)\s?([A-Z])\b")


def lists(text: str) -> Iterator[list[str]]:
    """Whatever list stands behind a colon, behind `labels`, or behind `either`."""
    for lead in _LEADS:
        for found in islice(lead.finditer(text), MAX_PLACES):
            items = split_list(text[found.end() :][:MAX_CHARACTERS], choice=True)
            if are_labels(items, max_words=3):
                yield items


def whatever(text: str) -> Iterator[list[str]]:
    """Other sets, from the likeliest on."""
    for sentence in sentences(text):
        yield from _chains(sentence) if len(sentence) <= MAX_CHARACTERS and _OR.search(sentence) else ()
    yield _CODE_BEHIND.findall(text)
    coded = _CODE_BEFORE.findall(text)
    yield [code for code, _ in coded]
    yield [bare(name) for _, name in coded]
    yield [bare(item) for item in re.findall(QUOTED, text)]
    for first, last in _RANGE.findall(text):
        yield [chr(letter) for letter in range(ord(first), ord(last) + 1)]


def _chains(sentence: str) -> Iterator[list[str]]:
    for chain in CHAIN.finditer(sentence):
        items = [] if EXAMPLES_AHEAD.search(sentence[: chain.start()]) else split_list(chain[0])
        is_led = items[1:] and all(map(str.isupper, items[1:])) and not items[0].isupper()
        yield items[1:] if is_led else items  # `restaurants, A or B`
