"""Drops inputs that are in another language than the task's."""

from collections.abc import Sequence

from prompt2model.filters import Sieve
from prompt2model.language import probability
from prompt2model.records import Dropped, Example

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ()

UNLIKELY = 0.01
"""Below it, a text is not in the task's language. Of 5,700 English inputs by people, down to one word, none is."""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate that may be in the task's language; outputs may be in any, as in a translation."""
    return [row if _may_be(row.input, sieve.task.language) else _dropped(row) for row in candidates]


def _may_be(text: str, language: str) -> bool:
    likely = probability(text, language)
    return likely is None or likely >= UNLIKELY


def _dropped(row: Example) -> Dropped:
    return Dropped(reason="another language", text=row.input)
