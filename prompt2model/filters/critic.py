"""Drops rows that a small classifier, trained on a person's marks, would not accept: `prompt2model mark RUN` first."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prompt2model.embeddings import embed
from prompt2model.errors import ConfigError
from prompt2model.filters import Sieve
from prompt2model.marks import LEAST_MARKS, Mark
from prompt2model.records import Dropped, Example

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ("marks",)

PRECISION = 0.9
"""Share of good rows that is aimed at among those that are kept, as estimated on the marks."""
FOLDS = 5

logger = logging.getLogger(__name__)


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate that the critic accepts; it is trained once a run.

    Symbolic knowledge distillation (West et al., 2022, https://arxiv.org/abs/2110.07178): a critic that throws away
    much and is right buys more than volume does. Raises ConfigError when there are too few marks.
    """
    critic = sieve.once(_trained)
    if not candidates:
        return []
    scores = critic.scores([_text(row) for row in candidates])
    return [
        row if score >= critic.threshold else Dropped(reason="the critic", text=f"{row.input} → {row.output}")
        for row, score in zip(candidates, scores, strict=True)
    ]


@dataclass(frozen=True)
class _Critic:
    model: Any
    threshold: float

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """The probability that each is accepted, (texts,)."""
        found: NDArray[np.float64] = self.model.predict_proba(embed(texts))[:, 1]
        return found


def _trained(sieve: Sieve) -> _Critic:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    accepted = np.array([mark.accepted for mark in sieve.marks], dtype=bool)
    _check_enough(accepted)
    vectors = embed([_text(mark) for mark in sieve.marks])  # (marks, dimensions)
    model = LogisticRegression(C=10.0, max_iter=1000)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    unseen = cross_val_predict(model, vectors, accepted, cv=folds, method="predict_proba")[:, 1]
    threshold, precision, recall = choose_threshold(unseen, accepted)
    logger.info(
        "The critic was trained on %d marks; by their estimate %.0f %% of what it keeps is good, of %.0f %% before, "
        "and it keeps %.0f %% of what is good.",
        len(accepted), 100 * precision, 100 * accepted.mean(), 100 * recall,
    )  # fmt: skip
    if precision < PRECISION:
        logger.warning("That is less than the %.0f %% aimed at: more marks may help.", 100 * PRECISION)
    return _Critic(model.fit(vectors, accepted), threshold)


def choose_threshold(scores: NDArray[np.float64], accepted: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The threshold, its precision and its recall: of those that reach PRECISION the one that keeps the most good rows,
    and no bad one more than it must; where none reaches it, the most precise. Half way to the next mark below.

    At least LEAST_MARKS rows stand above it: the precision of one row says nothing.
    """
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(accepted[order])  # (marks,) good ones among the so many highest
    precision = found / np.arange(1, len(order) + 1)
    last = np.append(np.diff(scores[order]) < 0, True)  # rows of one score stand or fall together
    usable = np.flatnonzero(last & (np.arange(1, len(order) + 1) >= LEAST_MARKS))
    reaching = usable[precision[usable] >= PRECISION]
    ranked = np.lexsort((precision[reaching], found[reaching])) if len(reaching) else np.argsort(precision[usable])
    place = int((reaching if len(reaching) else usable)[ranked[-1]])
    lowest, next_lower = scores[order[place]], scores[order[min(place + 1, len(order) - 1)]]
    return float((lowest + next_lower) / 2), float(precision[place]), float(found[place] / accepted.sum())


def _text(row: Example | Mark) -> str:
    return f"{row.input}\n{row.output}"


def _check_enough(accepted: NDArray[np.bool_]) -> None:
    good, bad = int(accepted.sum()), int((~accepted).sum())
    if min(good, bad) < LEAST_MARKS:
        raise ConfigError(
            f"The critic needs {LEAST_MARKS} accepted and {LEAST_MARKS} rejected rows; there are {good} and {bad}.",
            hint="Build the run without it, mark rows with: prompt2model mark RUN; then build it again with it. "
            "The command generate takes --marks RUN.",
        )
