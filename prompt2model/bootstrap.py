"""How far a score could be off: percentile bootstrap intervals over rows.

Efron and Tibshirani, 1993, An Introduction to the Bootstrap, chapter 13. A resample draws as many rows as there are,
with replacement. Two contenders on the same rows are compared on the same resamples, so that what is hard for both
cancels out.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from prompt2model.errors import DataError

Array = NDArray[np.float64]

LEVEL_PERCENT = 95
COSTLY_RESAMPLES = 200
"""Most resamples of a metric that has to be computed anew on each of them."""
CHUNK_CELLS = 2_000_000
"""Most numbers drawn at a time: 16 MB."""


class Metric(Protocol):
    """A metric plug-in; `per_row`, or `counts` and `score`, make it cheap to resample where it has them."""

    def compute(self, predictions: Sequence[str], references: Sequence[str]) -> float:
        """The score over all rows."""
        ...


class Difference(NamedTuple):
    """One contender's score less another's, with the ends of its interval."""

    value: float
    low: float
    high: float

    @property
    def is_more_than_noise(self) -> bool:
        """Whether the interval leaves out no difference at all."""
        return self.low > 0 or self.high < 0


def interval(
    metric: Metric, predictions: Sequence[str], references: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The ends of the score's 95 % interval. Raises DataError when the lists differ in length or are empty."""
    return _ends(_resampled(metric, predictions, references, resamples, seed))


def paired_difference(
    metric: Metric,
    ours: Sequence[str],
    theirs: Sequence[str],
    references: Sequence[str],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """The score of `ours` less that of `theirs` on the same rows, with its 95 % interval."""
    apart = [_resampled(metric, answers, references, resamples, seed) for answers in (ours, theirs)]
    value = metric.compute(ours, references) - metric.compute(theirs, references)
    return Difference(value, *_ends(apart[0] - apart[1]))


def _resampled(
    metric: Metric, predictions: Sequence[str], references: Sequence[str], resamples: int, seed: int
) -> Array:
    """The score on each resample, by the cheapest way that the metric offers, (resamples,)."""
    per_row, counts = getattr(metric, "per_row", None), getattr(metric, "counts", None)
    if per_row:
        scores = np.array(per_row(predictions, references), dtype=np.float64)[:, None]  # (rows, 1)
        return _summed(scores, resamples, seed)[:, 0] / len(references)
    if counts:
        score = cast(Callable[[Array], float], metric.score)  # type: ignore[attr-defined]
        totals = _summed(counts(predictions, references), resamples, seed)
        return np.array([score(total) for total in totals])
    return _recomputed(metric, predictions, references, min(resamples, COSTLY_RESAMPLES), seed)


def _summed(columns: Array, resamples: int, seed: int) -> Array:
    """The columns' sums over the rows of each resample, (resamples, k)."""
    return np.concatenate([times @ columns for times in _times(len(columns), resamples, seed)])


def _recomputed(
    metric: Metric, predictions: Sequence[str], references: Sequence[str], resamples: int, seed: int
) -> Array:
    if not references:
        raise DataError("There is no row to resample.")
    scores = []
    for times in _times(len(references), resamples, seed):
        for drawn in times:
            rows = np.repeat(np.arange(len(references)), drawn.astype(int)).tolist()
            scores.append(metric.compute([predictions[row] for row in rows], [references[row] for row in rows]))
    return np.array(scores)


def _times(rows: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each row is drawn, a chunk of resamples at a time, (chunk, rows)."""
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // rows)
    for start in range(0, resamples, chunk):
        drawn = rng.multinomial(rows, np.full(rows, 1 / rows), size=min(chunk, resamples - start))
        yield drawn.astype(np.float64)


def _ends(scores: Array) -> tuple[float, float]:
    tail = (100 - LEVEL_PERCENT) / 2
    low, high = np.percentile(scores, [tail, 100 - tail])
    return float(low), float(high)
