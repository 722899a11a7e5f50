"""The mean over the labels of each label's F1, so that a rare label weighs as much as a common one.

The labels are those that occur in the references; an answer outside them is a miss of the true label.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prompt2model.metrics import check

KINDS = ("classification",)
HIGHER_IS_BETTER = True


def compute(predictions: Sequence[str], references: Sequence[str]) -> float:
    """As scikit-learn's `f1_score(average="macro")` over the labels of the references."""
    return score(counts(predictions, references).sum(axis=0))


def counts(predictions: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """For each row, of each label: hit or not, answered or not, true or not, (rows, 3 * labels)."""
    check(predictions, references)
    labels = np.array(sorted(set(references)), dtype=object)
    guessed = np.array(predictions, dtype=object)[:, None] == labels  # (rows, labels)
    true = np.array(references, dtype=object)[:, None] == labels  # (rows, labels)
    return np.concatenate([guessed & true, guessed, true], axis=1).astype(np.float64)


def score(totals: NDArray[np.float64]) -> float:
    """The mean F1 of the labels that have a row; 2 hits / (answered + true)."""
    hits, guessed, true = totals.reshape(3, -1)  # (labels,) each
    occurs = true > 0
    return float(np.mean(2 * hits[occurs] / (guessed + true)[occurs]))
