"""Metrics, one file each. A plug-in here is a module with

    KINDS               kinds of task it fits
    HIGHER_IS_BETTER    True or False
    compute(predictions: Sequence[str], references: Sequence[str]) -> float      over all rows
    per_row(predictions, references) -> list[float]     only where compute is the mean of it: makes intervals cheap
    counts(predictions, references) -> Array (rows, k)  and  score(totals: Array (k,)) -> float
                        only where compute is a function of sums over rows: makes the intervals of the others cheap

All are on a scale from 0 to 1 and raise DataError when the two lists differ in length or are empty.
"""

from collections.abc import Sequence

from prompt2model.errors import DataError


def check(predictions: Sequence[str], references: Sequence[str]) -> None:
    """Raises DataError when the two lists differ in length or are empty."""
    if len(predictions) != len(references):
        raise DataError(f"{len(predictions)} predictions stand beside {len(references)} references.")
    if not references:
        raise DataError(
            "There is no row to measure on.", hint="Give labelled rows with --data, or --set split.test=0.15."
        )
