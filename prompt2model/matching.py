"""How well texts match a query: BM25 over lightly normalised words, as a share of the best that could be hoped for."""

import math
import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from rank_bm25 import BM25Plus

HOPED_WORDS = 3
"""A text that holds as much of a query as its three rarest words is a full match; no card repeats an instruction."""
INVARIABLE = frozenset(("news", "series", "species", "yes", "lens", "always", "perhaps", "besides"))
"""Words that end in s and are no plurals."""

FUNCTION_WORDS = """
a about above all also an and any are as at be been below between but by can do does each either every few following
for from give given gives has have how i if in into is it its just like make me more most must my no not of on one
only or other our out over per please same say says should so some such task tell than that the their them then
there these they this those to two up us use used using very want was we were what when where whether which while
who whose why will with without would you your eg ie etc
"""
"""Words that say nothing about what a text is about."""

_STOPWORDS = frozenset(FUNCTION_WORDS.split())
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The text's words: split at camelCase, hyphens and digits' ends, lower case, singular, no function words."""
    parts = _WORD.findall(_BOUNDARY.sub(" ", text))
    return [_singular(part) for part in map(str.lower, parts) if part not in _STOPWORDS]


@lru_cache(maxsize=100_000)
def _singular(word: str) -> str:
    """The word without a plural ending; crude, and the same on both sides."""
    if len(word) < 4 or word in INVARIABLE or word.endswith(("ss", "us", "is")) or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("xes", "ches", "shes", "sses", "zes")) else word[:-1]


class Index:
    """Texts, ready to be asked how well they match a query.

    BM25 with an inverse document frequency that is never negative: BM25+ with delta = 0 (Lv and Zhai, 2011,
    https://doi.org/10.1145/2063576.2063584), as `rank_bm25` has it.
    """

    def __init__(self, texts: Iterable[str], *, k1: float = 1.2, b: float = 0.75) -> None:
        words = [words_of(text) for text in texts]
        self._size = len(words)
        # An index of no words at all would divide by their number.
        self._bm25 = BM25Plus([each or [""] for each in words] or [[""]], k1=k1, b=b, delta=0)

    def match(self, query: str) -> list[float]:
        """For each text a number from 0 to 1.

        1 is the best match of all, unless even that holds less of the query than HOPED_WORDS of its rarest words
        (a word that no text holds is as rare as can be): then nothing matches fully.
        """
        asked = list(dict.fromkeys(words_of(query)))
        if not asked or not self._size:
            return [0.0] * self._size
        known = [word for word in asked if word in self._bm25.idf]
        scores = np.asarray(self._bm25.get_scores(known))  # (texts,)
        hoped = sum(sorted(map(self._rarity, asked), reverse=True)[:HOPED_WORDS])
        return [float(score) for score in scores / max(float(scores.max()), hoped)]

    def shared(self, query: str, most: int = 5) -> list[list[str]]:
        """For each text the query's words that it holds, the rarest first."""
        asked = sorted(dict.fromkeys(words_of(query)), key=lambda word: (-self._rarity(word), word))
        texts = self._bm25.doc_freqs[: self._size]
        return [[word for word in asked if word in held][:most] for held in texts]

    def _rarity(self, word: str) -> float:
        return float(self._bm25.idf.get(word, math.log(self._bm25.corpus_size + 1)))
