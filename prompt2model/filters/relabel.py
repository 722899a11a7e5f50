"""Gives each row the label that the teacher, asked afresh, is sure of; drops rows of which it is not.

A weak teacher judges better than it writes: of what it wrote for one label and calls by another, most is of that other
one, and near enough to both to show a student where they part. `agreement` throws these rows away, and keeps those that
the teacher has hardly an opinion of.
"""

from collections.abc import Sequence

from prompt2model.filters import Sieve
from prompt2model.records import Dropped, Example
from prompt2model.second_opinion import disagreed, fresh_probabilities

NEEDS = ("logprobs",)
KINDS = ("classification",)
LOOKS_AT = ()

SURE = 1.5
"""How many times as likely as the next one a label has to be. What teaches least are the rows below that."""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate with the teacher's probabilities of all labels, and with its own label or a surer one."""
    return [
        _labelled(row, found) for row, found in zip(candidates, fresh_probabilities(candidates, sieve), strict=True)
    ]


def _labelled(row: Example, fresh: dict[str, float] | Dropped) -> Example | Dropped:
    if isinstance(fresh, Dropped):
        return fresh
    label, next_best = sorted(fresh, key=fresh.__getitem__, reverse=True)[:2]
    if fresh[label] < SURE * fresh[next_best]:
        return Dropped(
            reason="teacher unsure", text=f"{row.input} → {row.output}; asked afresh: {label} or {next_best}"
        )
    if label == row.output:
        return row.model_copy(update={"probabilities": fresh})
    if row.rationale:  # it argues for the label that it came with
        return disagreed(row, label)
    return row.model_copy(update={"output": label, "probabilities": fresh, "confidence": None})
