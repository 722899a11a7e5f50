"""Near twins among any number of texts, of any length: MinHash signatures in bands, checked by the texts themselves.

The share of equal numbers in two signatures estimates the Jaccard index of the texts' word n-grams (Broder, 1997,
https://doi.org/10.1109/SEQUEN.1997.666900). Texts that agree in all numbers of some band are looked at (locality-
sensitive hashing, Indyk and Motwani, 1998, https://doi.org/10.1145/276698.276876). What is called a twin has been
compared n-gram by n-gram, so none is wrong; MISSED bounds the chance that one is overlooked.
"""

from array import array
from functools import lru_cache
from math import comb

import numpy as np
from numpy.typing import NDArray

from prompt2model.jaccard import HALF, MIXING, Hashes, likenesses, ngram_hashes
from prompt2model.wording import normalise

NUMBERS = 128
"""In a signature."""
MISSED = 1e-6
"""Most of the chance that two texts just alike enough share no band, and that their signatures seem too far apart."""
MOST_KEPT = 512
"""N-grams of a text that are kept; those of longer texts are made anew where they are compared."""

_RNG = np.random.default_rng(0)
_FACTORS = _RNG.integers(1 << 63, size=NUMBERS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_SHIFTS = _RNG.integers(1 << 63, size=NUMBERS, dtype=np.uint64)


class MinHashes:
    """Texts in the order they were added, and for a new text the one most like it, if it reaches `threshold`.

    A text costs some kilobytes however long it is, and looking for twins about the same however many there are, unless
    very many are half alike, as those made by one template are.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._bands, self._rows = bands(threshold)
        self._least = least_equal(threshold)
        self._texts: list[str] = []
        self._grams: list[Hashes | None] = []
        self._first: dict[str, int] = {}
        """Of each normalised text."""
        self._signatures = array("I")
        self._alike: dict[int, list[int]] = {}
        """Texts by a band of their signature."""

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Remember the text."""
        place, signed, grams = len(self._texts), signature(text), ngram_hashes(text)
        self._first.setdefault(normalise(text), place)
        for key in self._keys(signed):
            self._alike.setdefault(key, []).append(place)
        self._signatures.frombytes(signed.tobytes())
        self._texts.append(text)
        self._grams.append(grams if len(grams) <= MOST_KEPT else None)

    def find(self, text: str) -> str | None:
        """The earlier text most like this one, the first of equals; none where no text reaches the threshold."""
        same = self._first.get(normalise(text))
        if same is not None:
            return self._texts[same]
        places = self._candidates(text)
        alike = likenesses(ngram_hashes(text), [self._hashes(place) for place in places])
        likeness, place = max(zip(alike, (-place for place in places), strict=True), default=(0.0, 0))
        return self._texts[-place] if likeness >= self.threshold else None

    def _hashes(self, place: int) -> Hashes:
        kept = self._grams[place]
        return ngram_hashes(self._texts[place]) if kept is None else kept

    def _candidates(self, text: str) -> list[int]:
        """Texts that share a band, of which the signature as a whole does not say that they are far away."""
        signed = signature(text)
        found = sorted({place for key in self._keys(signed) for place in self._alike.get(key, ())})
        if not found:
            return []
        others = np.frombuffer(self._signatures, dtype=np.uint32).reshape(-1, NUMBERS)[found]
        equal = (others == signed).sum(axis=1)  # (found,)
        return [place for place, count in zip(found, equal, strict=True) if count >= self._least]

    def _keys(self, signed: NDArray[np.uint32]) -> list[int]:
        """One number for each band and what is in it."""
        banded = signed[: self._bands * self._rows].reshape(self._bands, self._rows).astype(np.uint64)
        mixed = np.arange(self._bands, dtype=np.uint64)
        for column in banded.T:
            mixed = (mixed + column) * MIXING
            mixed ^= mixed >> HALF
        keys: list[int] = mixed.tolist()
        return keys


def least_equal(threshold: float) -> int:
    """How many equal numbers two texts just alike enough have at least: of NUMBERS, by the binomial law."""
    missed = 0.0
    for equal in range(NUMBERS + 1):
        missed += comb(NUMBERS, equal) * threshold**equal * (1 - threshold) ** (NUMBERS - equal)
        if missed > MISSED:
            return equal
    return NUMBERS


def bands(threshold: float) -> tuple[int, int]:
    """How many bands, of how many numbers each: the longest of which enough fit to miss next to nothing."""
    for rows in range(NUMBERS, 0, -1):
        for count in range(1, NUMBERS // rows + 1):
            if (1 - threshold**rows) ** count <= MISSED:
                return count, rows
    return NUMBERS, 1


@lru_cache(maxsize=1024)  # what is looked for and not found is added next
def signature(text: str) -> NDArray[np.uint32]:
    """For each of NUMBERS orders of all n-grams the least that the text has, (NUMBERS,)."""
    mixed = ngram_hashes(text)  # (n-grams,)
    mixed = (mixed ^ (mixed >> HALF)) * MIXING
    scattered = (mixed[:, None] * _FACTORS + _SHIFTS) >> HALF  # (n-grams, NUMBERS)
    least: NDArray[np.uint64] = scattered.min(axis=0)
    return least.astype(np.uint32)
