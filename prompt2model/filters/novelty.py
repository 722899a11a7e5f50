"""Drops inputs that say almost the same as an example of the user, a given row, or one written before."""

from collections.abc import Sequence

from prompt2model.filters import Sieve
from prompt2model.records import Dropped, Example
from prompt2model.twins import Twins

NEEDS = ()
KINDS = ("classification", "generation")


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate, or the row that it is a near twin of."""
    batch = Twins(sieve.twins.threshold)
    judged: list[Example | Dropped] = []
    for row in candidates:
        twin = sieve.twins.find(row.input)
        twin = batch.find(row.input) if twin is None else twin
        if twin is None:
            batch.add(row.input)
        judged.append(row if twin is None else Dropped(reason="near twin", text=f"{row.input} ≈ {twin}"))
    return judged
