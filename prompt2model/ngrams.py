"""Every word n-gram of a body of text: how often it occurs and where, exactly, in well under a millisecond.

A suffix array, as infini-gram keeps of trillions of tokens (Liu et al., 2024, https://arxiv.org/abs/2401.17377), but
sorted only as deep as n-grams are asked for: five sorts do for 16 words, by prefix doubling (Manber and Myers, 1993,
https://doi.org/10.1137/0222058).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prompt2model.wording import words

DEEPEST = 16
"""Words by which the suffixes are sorted; a power of two. Of longer n-grams the rest is compared where these stand."""
BETWEEN = 0
"""The number between two texts; words count from 1. No n-gram reaches over it."""


class Position(NamedTuple):
    """Where an n-gram occurs."""

    text: int
    word: int


class NGrams:
    """An index over texts, made once: 8 bytes a word, and the words."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._numbers: dict[str, int] = {}
        self._tokens, self._starts = self._numbered(texts)
        self._order = _suffixes(self._tokens)

    def count(self, phrase: str) -> int:
        """How often the phrase's words occur one after the other. Raises ValueError for a phrase without words."""
        return len(self._found(words(phrase)))

    def positions(self, phrase: str) -> list[Position]:
        """Every occurrence of the phrase: which text, and which word of it, from 0."""
        return sorted(self._position(int(place)) for place in self._found(words(phrase)))

    def shared(self, tokens: Sequence[str], n: int, *, most_texts: int | None = None) -> str | None:
        """The first n-gram of the words that occurs here, in `most_texts` texts at most; none where none does."""
        grams = (tokens[start : start + n] for start in range(len(tokens) - n + 1))
        return next((" ".join(gram) for gram in grams if self._is_shared(gram, most_texts)), None)

    def _is_shared(self, gram: Sequence[str], most_texts: int | None) -> bool:
        places = self._found(gram)
        if most_texts is None or len(places) <= most_texts:
            return len(places) > 0
        return len(np.unique(np.searchsorted(self._starts, places, side="right"))) <= most_texts

    def _numbered(self, texts: Iterable[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The words of all texts as numbers, BETWEEN in front of each text; and where each text's words start."""
        parts: list[NDArray[np.int32]] = []
        starts, length = [], 0
        for text in texts:
            numbers = [self._numbers.setdefault(word, len(self._numbers) + 1) for word in words(text)]
            parts.append(np.array([BETWEEN, *numbers], dtype=np.int32))
            starts.append(length + 1)
            length += len(numbers) + 1
        return np.concatenate([*parts, np.zeros(1, np.int32)]), np.array(starts, dtype=np.int64)

    def _found(self, phrase: Sequence[str]) -> NDArray[np.int32]:
        """Where the phrase begins, as places in all the words, in no order."""
        if not phrase:
            raise ValueError("an n-gram has a word at least")
        wanted = [self._numbers.get(word, -1) for word in phrase]
        if -1 in wanted:
            return self._order[:0]
        begun, rest = wanted[:DEEPEST], wanted[DEEPEST:]
        places = self._order[self._bound(begun, after=False) : self._bound(begun, after=True)]
        for further, number in enumerate(rest, start=DEEPEST):  # BETWEEN ends the last text: no place is beyond
            places = places[self._tokens[(places + further).clip(max=len(self._tokens) - 1)] == number]
        return places

    def _bound(self, wanted: list[int], *, after: bool) -> int:
        """The first suffix that does not come before what is wanted; with `after`, that comes behind all of it."""
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2
            place = self._order[middle]
            begins = self._tokens[place : place + len(wanted)].tolist()
            if begins < wanted or (after and begins == wanted):
                low = middle + 1
            else:
                high = middle
        return low

    def _position(self, place: int) -> Position:
        text = int(np.searchsorted(self._starts, place, side="right")) - 1
        return Position(text, place - int(self._starts[text]))


def _suffixes(tokens: NDArray[np.int32]) -> NDArray[np.int32]:
    """Every place, in the order of the DEEPEST words from there on, (words,)."""
    ranks, depth = tokens.astype(np.int64), 1
    while True:
        order = np.argsort(ranks, kind="stable")
        if depth >= DEEPEST:
            return order.astype(np.int32)
        arranged = ranks[order]
        ranks[order] = np.cumsum(np.concatenate([[0], arranged[1:] != arranged[:-1]]))
        behind = np.concatenate([ranks[depth:] + 1, np.zeros(min(depth, len(ranks)), np.int64)])  # 0 is the end
        ranks, depth = ranks * (len(ranks) + 1) + behind, depth * 2
