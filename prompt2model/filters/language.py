"""Drops inputs that are in another language than the task's."""

from collections.abc import Sequence

from prompt2model.filters import Sieve
from prompt2model.language import probability
from prompt2model.records import Dropped, Example
from prompt2model.wording import characters_a_word, words

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ()

FEW_WORDS = 2
UNLIKELY = 0.01
"""Below it, a text is not in the task's language. Of 5,700 English inputs by people, down to one word, none is."""


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate that may be in the task's language; outputs may be in any, as in a translation."""
    return [row if _may_be(row.input, sieve.task.language) else _dropped(row) for row in candidates]


def _may_be(text: str, language: str) -> bool:
    """A word or two may be names, and tell nothing."""
    found = words(text)
    likely = probability(text, language) if len(found) > FEW_WORDS * characters_a_word(found) else None
    return likely is None or likely >= UNLIKELY


def _dropped(row: Example) -> Dropped:
    return Dropped(reason="another language", text=row.input)
