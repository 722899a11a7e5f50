"""Drops inputs that put the words of an earlier one a little differently: ROUGE-L above 0.7, as in Self-Instruct."""

from collections.abc import Sequence

from prompt2model.filters import Sieve, without_likes
from prompt2model.records import Dropped, Example
from prompt2model.rewordings import Rewordings

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ()

MOST_ALIKE = 0.7
"""ROUGE-L (F1) with any kept input: Wang et al., 2022, https://arxiv.org/abs/2212.10560.

Made for instructions, which say the same thing when they share their words. It is stricter than `duplicate`, and where
one word decides the label ("I really love it", "I really hate it": 0.75) it drops rows that teach something.
"""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate, or the row that it is a rewording of."""
    return without_likes(candidates, sieve, _empty, lambda text, like: "reworded")


def _empty(sieve: Sieve) -> Rewordings:
    return Rewordings(MOST_ALIKE)
