"""chrF++: the overlap of character 6-grams and word 2-grams over all rows; for texts in any language.

Popović, 2017, https://aclanthology.org/W17-4770, through `sacrebleu`; its score of 0 to 100 is divided by 100.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import CHRF

from prompt2model.metrics import check

KINDS = ("generation",)
HIGHER_IS_BETTER = True


class Chrf(CHRF):  # type: ignore[misc]
    """sacrebleu's chrF++, in its two halves: it keeps the step between them for subclasses."""

    def __init__(self) -> None:
        super().__init__(word_order=2)

    def counts(self, predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
        """N-grams of the answer, of the reference and in both, for each order, (rows, 3 * 8)."""
        return np.array(self._extract_corpus_statistics(predictions, [list(references)]), dtype=np.float64)

    def score_of(self, totals: NDArray[np.float64]) -> float:
        """The score of summed counts, from 0 to 100."""
        return float(self._compute_score_from_stats(totals.tolist()).score)


def compute(predictions: Sequence[str], references: Sequence[str]) -> float:
    """sacrebleu's corpus score; rows are not averaged, their n-grams are summed."""
    return score(counts(predictions, references).sum(axis=0))


def counts(predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Each row's n-gram counts, (rows, 3 * 8)."""
    check(predictions, references)
    return Chrf().counts(predictions, references)


def score(totals: NDArray[np.float64]) -> float:
    """chrF++ of the summed counts, from 0 to 1."""
    return Chrf().score_of(totals) / 100
