"""Rewordings: texts that use the same words in the same order, with some put in, left out or exchanged between them.

Two texts are compared by ROUGE-L (Lin, 2004, https://aclanthology.org/W04-1013), as Self-Instruct compares a new
instruction with all of its pool (Wang et al., 2022, https://arxiv.org/abs/2212.10560). Words are those of `wording`.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from math import floor

import numpy as np

from prompt2model.wording import words

MORE_WORDS = 2
"""Words looked up beyond those that must be: each makes the lists longer and the texts to compare fewer."""
ROUNDING = 1e-9
"""Allowed for in bounds: a text too many is compared, one too few would be missed."""

Word = tuple[str, int]
"""A word, and which of its occurrences in the text."""


class Rewordings:
    """Texts in the order they were added, and for a new text the first of which ROUGE-L is above `threshold`.

    Exact, and not quadratic in practice. A common subsequence is no longer than the common words are many, so a text of
    m words needs more than threshold * m / (2 - threshold) of them in common with any other. Only texts that are listed
    under enough of its rarest words can have that many; their subsequences are compared.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._texts: list[str] = []
        self._words: list[list[str]] = []
        self._lengths = array("i")
        self._containing: dict[Word, array[int]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Remember the text."""
        found = words(text)
        for word in _counted(found):
            self._containing.setdefault(word, array("i")).append(len(self._texts))
        self._texts.append(text)
        self._words.append(found)
        self._lengths.append(len(found))

    def find(self, text: str) -> str | None:
        """The first text of which this one is a rewording; none where there is no such text."""
        ours = words(text)
        places = _places(ours)
        for index in self._candidates(ours):
            theirs = self._words[index]
            if _f1(common_words(places, len(ours), theirs), len(ours), len(theirs)) > self.threshold:
                return self._texts[index]
        return None

    def _candidates(self, ours: Sequence[str]) -> list[int]:
        """Every text that may be close enough, in order, and few others."""
        total = len(ours)
        need = floor(self.threshold * total / (2 - self.threshold) - ROUNDING) + 1
        looked_up = min(total, total - need + 1 + MORE_WORDS)
        lists = sorted((self._containing.get(word, ()) for word in _counted(ours)), key=len)[:looked_up]
        listed = [np.frombuffer(one, dtype=np.int32) for one in lists if isinstance(one, array)]
        if not listed:
            return []
        shared = np.bincount(np.concatenate(listed))  # (texts,) of the words looked up
        some = np.flatnonzero(shared >= max(1, need - (total - looked_up)))
        lengths = np.frombuffer(self._lengths, dtype=np.int32)[some]
        most = np.minimum(shared[some] + (total - looked_up), lengths)  # common words
        reach = 2 * most > self.threshold * (total + lengths) - ROUNDING
        return [int(index) for index in some[reach]]


def common_words(places: dict[str, int], total: int, theirs: Sequence[str]) -> int:
    """The length of the longest common subsequence, a bit for each of our `total` words and all of them at once.

    `places` has for each word the bits at which it stands. Hyyrö, 2004, Bit-parallel LCS-length computation revisited.
    """
    everywhere = (1 << total) - 1
    unmatched = everywhere
    for word in theirs:
        matches = unmatched & places.get(word, 0)
        unmatched = (unmatched + matches) | (unmatched - matches)
    return total - (unmatched & everywhere).bit_count()


def _places(found: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for bit, word in enumerate(found):
        places[word] = places.get(word, 0) | (1 << bit)
    return places


def _counted(found: Sequence[str]) -> Iterator[Word]:
    """The words, told apart by their occurrence: texts then share as many as their multisets do."""
    seen: Counter[str] = Counter()
    for word in found:
        seen[word] += 1
        yield word, seen[word]


def _f1(common: int, ours: int, theirs: int) -> float:
    return 2 * common / (ours + theirs) if common else 0.0
