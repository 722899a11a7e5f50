"""Drops rows of which there are too many: of one label, of one length, of one topic."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from prompt2model.embeddings import embed, is_at_hand
from prompt2model.filters import Sieve
from prompt2model.records import Dropped, Example, TaskSpec
from prompt2model.wording import words

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ()

MOST_TIMES = 2
"""How many times its fair share a label may have, or a band of lengths its share of what people wrote."""
RARE = 0.05
"""Share of the rows below which a band of lengths takes nothing away from the others."""
FREE_ROWS = 16
"""Shares are taken of so many rows at least: a handful has none."""
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


def most_of_label(labels: int) -> float:
    """The share that one of so many labels may have: of two, three quarters, for twice its half would be all."""
    return min(MOST_TIMES / labels, (1 + 1 / labels) / 2)


class _Counts:
    """Written rows by label, for what people gave is no reason to write less of it, and all rows by length."""

    def __init__(self, sieve: Sieve) -> None:
        self._task = sieve.task
        self._real = Counter(length_band(row) for row in sieve.kept if row.is_real)
        self._of: dict[str, Counter[str]] = {"label": Counter(), "length": Counter()}
        for row in sieve.kept:
            self.add(row)

    def add(self, row: Example) -> None:
        for what, name in _kinds(row, self._task).items():
            self._of[what][name] += what == "length" or not row.is_real

    def crowded(self, row: Example) -> str:
        """Of what kind there are too many already; "" where of none."""
        for what, name in _kinds(row, self._task).items():
            counts = self._of[what]
            most = most_of_label(len(self._task.labels)) if what == "label" else self._most_of_length(name)
            if counts[name] and counts[name] + 1 > most * max(counts.total() + 1, FREE_ROWS):
                return what
        return ""

    def _most_of_length(self, band: str) -> float:
        counts = self._of["length"]
        bands = {name for name, count in counts.items() if count >= RARE * counts.total()}
        real = self._real[int(band)] / max(self._real.total(), FREE_ROWS)
        return MOST_TIMES * max(1 / len({*bands, band}), real)


def _kinds(row: Example, task: TaskSpec) -> dict[str, str]:
    label = {"label": row.output} if task.kind == "classification" else {}
    return {**label, "length": str(length_band(row))}


class _Topics:
    """What has been written about, as directions."""

    def __init__(self, sieve: Sieve) -> None:
        self._known = is_at_hand()
        self._count, self._room = 0, np.zeros((0, 0), np.float32)
        if not self._known:
            logger.info("The filter balance does not look at topics: no embedding model is at hand.")
        elif sieve.kept:
            for vector in embed([row.input for row in sieve.kept]):
                self.add(vector)

    def vectors(self, texts: Sequence[str]) -> Any:
        """(texts, dimensions), or none."""
        return embed(texts) if self._known and texts else None

    def add(self, vector: Any) -> None:
        if self._count == len(self._room):  # twice the room, so that few rows are copied often
            more = np.zeros((max(self._count, FREE_ROWS), len(vector)), np.float32)
            self._room = np.concatenate([self._room.reshape(-1, len(vector)), more])
        self._room[self._count] = vector
        self._count += 1

    def is_crowded(self, vector: Any) -> bool:
        if self._count < FREE_ROWS:
            return False
        near = int((self._room[: self._count] @ vector >= ALIKE).sum())
        return near >= MOST_ON_TOPIC * self._count
