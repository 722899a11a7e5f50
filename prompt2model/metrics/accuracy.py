"""The share of answers that are exactly the label."""

from collections.abc import Sequence

from prompt2model.metrics import check

KINDS = ("classification",)
HIGHER_IS_BETTER = True


def compute(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The mean over all rows, as scikit-learn's `accuracy_score`."""
    rows = per_row(predictions, references)
    return sum(rows) / len(rows)


def per_row(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """1 where the answer is the label, letter by letter, else 0."""
    check(predictions, references)
    return [float(guess == truth) for guess, truth in zip(predictions, references, strict=True)]
