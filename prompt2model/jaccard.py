"""How alike texts are: the Jaccard index of their word n-grams, n from 1 to 3.

The single words carry short texts, the triples the order of long ones. An n-gram is a number of 64 bits here, so that
one text is compared with many at once; that two n-grams of a million get the same number is less likely than 1e-7.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from prompt2model.wording import words

NGRAMS = (1, 2, 3)
MIXING = np.uint64(0x9E3779B97F4A7C15)
HALF = np.uint64(32)

Hashes = NDArray[np.uint64]
"""The different n-grams of a text, in ascending order, (n-grams,)."""


def similarity(one: str, other: str) -> float:
    """The Jaccard index of the texts' word n-grams: 1 for the same words in the same order, 0 for no common word."""
    return float(likenesses(ngram_hashes(one), [ngram_hashes(other)])[0])


def likenesses(one: Hashes, others: Sequence[Hashes]) -> NDArray[np.float64]:
    """The Jaccard index of one text with each of the others, (others,)."""
    if not others:
        return np.zeros(0)
    lengths = np.array([len(other) for other in others])
    together = np.concatenate(others)
    places = np.searchsorted(one, together).clip(max=len(one) - 1)
    shared = np.add.reduceat(one[places] == together, np.cumsum(lengths) - lengths, dtype=np.int64)
    return np.asarray(shared / (len(one) + lengths - shared))


class Likeness:
    """Texts, each of which is compared with any other text at once: 12 bytes an n-gram."""

    def __init__(self, texts: Sequence[str]) -> None:
        rows = [ngram_hashes(text) for text in texts]
        self._lengths = np.array([len(row) for row in rows], dtype=np.int64)
        grams = np.concatenate([*rows, np.zeros(0, np.uint64)])
        order = np.argsort(grams, kind="stable")
        self._grams = grams[order]
        self._owners = np.repeat(np.arange(len(rows), dtype=np.int32), self._lengths)[order]

    def to(self, text: str) -> NDArray[np.float64]:
        """The Jaccard index of the text with each, (texts,)."""
        wanted = ngram_hashes(text)
        begins, ends = (np.searchsorted(self._grams, wanted, side=side) for side in ("left", "right"))
        sharing = [self._owners[begin:end] for begin, end in zip(begins, ends, strict=True) if end > begin]
        shared = np.bincount(np.concatenate([*sharing, self._owners[:0]]), minlength=len(self._lengths))
        return np.asarray(shared / (len(wanted) + self._lengths - shared))


@lru_cache(maxsize=1024)  # what is looked for and not found is added next
def ngram_hashes(text: str) -> Hashes:
    """The text's word n-grams; the empty text has one of its own, so that it equals itself."""
    tokens = np.array([_number(word) for word in words(text) or [""]], dtype=np.uint64)
    found, grams = tokens * MIXING, []
    for n in NGRAMS:
        if n > len(tokens):
            break
        if n > 1:
            found = (found[:-1] ^ (found[:-1] >> HALF)) * MIXING + tokens[n - 1 :]
        grams.append(found)
    different = np.unique(np.concatenate(grams))
    different.setflags(write=False)
    return different


@lru_cache(maxsize=1 << 16)
def _number(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
