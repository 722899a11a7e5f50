"""Drops inputs that are there already, or almost word for word so, among any number of rows."""

from collections.abc import Sequence

from prompt2model.filters import Sieve, without_likes
from prompt2model.minhash import MinHashes
from prompt2model.records import Dropped, Example
from prompt2model.wording import normalise

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ()


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate, or the row that it is a twin of: `generate.near_twin` says how much they have in common."""
    return without_likes(candidates, sieve, _empty, _reason)


def _empty(sieve: Sieve) -> MinHashes:
    return MinHashes(sieve.config.near_twin)


def _reason(text: str, twin: str) -> str:
    return "duplicate" if normalise(text) == normalise(twin) else "near twin"
