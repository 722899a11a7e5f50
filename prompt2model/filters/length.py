"""Drops rows that are longer or shorter by far than what people wrote for the task."""

import sys
from collections.abc import Sequence

from prompt2model.filters import Sieve
from prompt2model.records import Dropped, Example

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ()

FACTOR = 4
"""How many times longer or shorter than all real rows a text may be: a handful of examples do not show the range."""
SLACK = 40
"""Characters more or less that are allowed beyond: the longest and the shortest of a few short texts say little."""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate of a usual length. Where no row is by a person nothing is known, and all are kept."""
    real = [row for row in sieve.kept if row.is_real]
    inputs, outputs = _usual([row.input for row in real]), _usual([row.output for row in real])
    if sieve.task.kind == "classification":  # a label has its own length
        outputs = _usual([])
    return [row if len(row.input) in inputs and len(row.output) in outputs else _dropped(row) for row in candidates]


def _usual(texts: Sequence[str]) -> range:
    """In characters."""
    lengths = [len(text) for text in texts]
    return range(min(lengths) // FACTOR - SLACK, max(lengths) * FACTOR + SLACK + 1) if lengths else range(sys.maxsize)


def _dropped(row: Example) -> Dropped:
    return Dropped(reason="length unlike the examples", text=f"{row.input} → {row.output}")
