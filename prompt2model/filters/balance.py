"""Drops rows of which there are too many: of one label, of one length, of one topic."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from prompt2model.embeddings import embed, is_at_hand
from prompt2model.filters import Sieve
from prompt2model.records import Dropped, Example, TaskSpec
from prompt2model.twins import words

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ()

MOST_TIMES = 2
"""How many times its fair share a label, or a band of lengths, may have."""
FREE_ROWS = 16
"""Rows that are kept whatever they are: a handful has no shares."""
ALIKE = 0.6
"""Cosine of embeddings from which two inputs are on one topic."""
MOST_ON_TOPIC = 0.1
"""Share of all rows that may be on the topic of one row."""

logger = logging.getLogger(__name__)


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate that has not more rows like it than its kind's fair share allows, those of all labels in turn.

    Topics are told by embeddings, where the extra `rerank` is installed and its model is at hand; it is said when not.
    """
    counts = _Counts(sieve)
    topics = sieve.once(_Topics)
    vectors = topics.vectors([row.input for row in candidates])
    judged: dict[int, Example | Dropped] = {}
    for place in _in_turn(candidates, sieve.task):
        row = candidates[place]
        crowded = counts.crowded(row) or ("topic" if vectors is not None and topics.is_crowded(vectors[place]) else "")
        if crowded:
            judged[place] = Dropped(reason=f"too many of this {crowded}", text=row.input)
        else:
            counts.add(row)
            if vectors is not None:
                topics.add(vectors[place])
            judged[place] = row
    return [judged[place] for place in range(len(candidates))]


def _in_turn(candidates: Sequence[Example], task: TaskSpec) -> list[int]:
    """Their places, one of each label after the other: they are often written label by label."""
    seen, ranks = Counter[str](), list[int]()
    for row in candidates:
        label = row.output if task.kind == "classification" else ""
        ranks.append(seen[label])
        seen[label] += 1
    return sorted(range(len(candidates)), key=ranks.__getitem__)


def length_band(row: Example) -> int:
    """1 word, 2 to 3, 4 to 7, 8 to 15 and so on: each band is twice as wide as the one before."""
    return len(words(row.input)).bit_length()


class _Counts:
    """Rows by label and by length."""

    def __init__(self, sieve: Sieve) -> None:
        self._task = sieve.task
        self._of: dict[str, Counter[str]] = {"label": Counter(), "length": Counter()}
        for row in sieve.kept:
            self.add(row)

    def add(self, row: Example) -> None:
        for what, name in _kinds(row, self._task).items():
            self._of[what][name] += 1

    def crowded(self, row: Example) -> str:
        """Of what kind there are too many already; "" where of none."""
        for what, name in _kinds(row, self._task).items():
            counts = self._of[what]
            kinds = len(self._task.labels) if what == "label" else len({*counts, name})
            fair = max(counts.total(), FREE_ROWS) / kinds
            if kinds > 1 and counts[name] >= MOST_TIMES * fair:
                return what
        return ""


def _kinds(row: Example, task: TaskSpec) -> dict[str, str]:
    label = {"label": row.output} if task.kind == "classification" else {}
    return {**label, "length": str(length_band(row))}


class _Topics:
    """What has been written about, as directions."""

    def __init__(self, sieve: Sieve) -> None:
        self._known = is_at_hand()
        self._rows: list[Any] = []
        if not self._known:
            logger.info("The filter balance does not look at topics: no embedding model is at hand.")
        elif sieve.kept:
            self._rows = list(embed([row.input for row in sieve.kept]))

    def vectors(self, texts: Sequence[str]) -> Any:
        """(texts, dimensions), or none."""
        return embed(texts) if self._known and texts else None

    def add(self, vector: Any) -> None:
        self._rows.append(vector)

    def is_crowded(self, vector: Any) -> bool:
        if len(self._rows) < FREE_ROWS:
            return False
        near = int((np.stack(self._rows) @ vector >= ALIKE).sum())
        return near >= MOST_ON_TOPIC * len(self._rows)
