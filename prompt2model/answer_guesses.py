"""Sets of answers that an instruction may name: worth nothing unless examples bear them out."""

import re
from collections.abc import Iterator

from prompt2model.asks import sentences
from prompt2model.choices import OR, QUOTED, are_labels, bare, split_list

_EITHER = re.compile(r"\b(?:is|are|be|being|as) either\s+", re.IGNORECASE)
_COLON = re.compile(r"[:：]\s+(?=\S)")
_WORD = rf"(?:{QUOTED}|[\w-]+)"
_CHAIN = re.compile(rf"{_WORD}(?:,\s+{_WORD})*,?\s+{OR}\s+{_WORD}", re.IGNORECASE)
_CODE_BEHIND = re.compile(r"\w \((-?\d{1,2})\)")
_CODE_BEFORE = re.compile(r"(?<![\w.-])(-?\d{1,2})\s*(?:[-–—=:]|\))\s*([^,;.\n]+)")
_RANGE = re.compile(r"\b([A-Z])\s*(?:-|–|to)\s*([A-Z])\b")


def whatever(text: str) -> Iterator[list[str]]:
    """Each set, from the likeliest on."""
    for lead in (_EITHER, _COLON):
        for found in lead.finditer(text):
            items = split_list(text[found.end() :], choice=True)
            if are_labels(items, max_words=3):
                yield items
    for sentence in sentences(text):
        for chain in _CHAIN.finditer(sentence):
            first, *rest = split_list(chain[0])
            yield rest if all(map(str.isupper, rest)) and not first.isupper() else [first, *rest]
    yield _CODE_BEHIND.findall(text)
    coded = _CODE_BEFORE.findall(text)
    yield [code for code, _ in coded]
    yield [bare(name) for _, name in coded]
    yield [bare(item) for item in re.findall(QUOTED, text)]
    for first, last in _RANGE.findall(text):
        yield [chr(letter) for letter in range(ord(first), ord(last) + 1)]
