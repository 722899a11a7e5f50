"""Drops rows that share thirteen words in a row, or nearly all of them, with a row that is measured on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from prompt2model.filters import Sieve
from prompt2model.minhash import MinHashes
from prompt2model.ngrams import NGrams
from prompt2model.records import Dropped, Example
from prompt2model.wording import characters_a_word, words

NEEDS = ()
KINDS = ("classification", "generation")
LOOKS_AT = ("test",)

SHARED_WORDS = 13
"""As GPT-3's evaluation was cleaned: Brown et al., 2020, https://arxiv.org/abs/2005.14165, appendix C. Where no
spaces are written, as many characters as so many words have."""

APART = "␟"
"""Between input and output, so that no words reach from one into the other."""


class Options(BaseModel):
    """What is no leak."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    common_rows: int = Field(
        10, ge=0, description="Words that more test rows than these share are the task's own, and no leak; 0: all are."
    )


logger = logging.getLogger(__name__)


def sift(candidates: Sequence[Example], sieve: Sieve) -> list[Example | Dropped]:
    """Each candidate, or what of it is measured on.

    That is the test that was set apart, else the rows of the data that was given: any of them may become the test.
    """
    measured_on, common = sieve.once(_measured_on), sieve.options("contamination").common_rows or None
    return [_judged(row, measured_on, common) for row in candidates]


@dataclass(frozen=True)
class _MeasuredOn:
    grams: NGrams
    """Of each row's input and output."""
    inputs: MinHashes


def _measured_on(sieve: Sieve) -> _MeasuredOn:
    rows = sieve.test or [row for row in sieve.kept if row.source.kind == "data"]
    if not rows:
        logger.warning(
            "The filter contamination has nothing to compare with: no test and no data was given (--test-data, --data)."
        )
    inputs = MinHashes(sieve.config.near_twin)
    for row in rows:
        inputs.add(row.input)
    return _MeasuredOn(NGrams(f"{row.input} {APART} {row.output}" for row in rows), inputs)


def _judged(row: Example, measured_on: _MeasuredOn, common: int | None) -> Example | Dropped:
    for text in (row.input, row.output):
        tokens = words(text)
        shared = measured_on.grams.shared(tokens, SHARED_WORDS * characters_a_word(tokens), most_texts=common)
        if shared is not None:
            return Dropped(reason="shares 13 words with a test row", text=f"{text} ⊇ {shared}")
    twin = measured_on.inputs.find(row.input)
    return row if twin is None else Dropped(reason="near twin of a test row", text=f"{row.input} ≈ {twin}")
