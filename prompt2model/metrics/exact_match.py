"""The share of answers that are the expected text, spaces and number formats aside.

Runs of white space count as one space and none counts at the ends; case and punctuation count. Where the reference
ends in a line `#### answer` (as in GSM8K, https://arxiv.org/abs/2110.14168), only what follows the last `####` is
compared, and numbers by value: 1,000 is 1000.0 and $5 is 5.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

from prompt2model.metrics import check
from prompt2model.wording import one_line

KINDS = ("classification", "generation")
HIGHER_IS_BETTER = True

MARK = "####"
FINAL_LINE = re.compile(rf"^[ \t]*{MARK}[^\n]*\S[^\n]*\s*\Z", re.MULTILINE)
NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?(?<=\d)", re.ASCII)


def compute(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The mean over all rows."""
    rows = per_row(predictions, references)
    return sum(rows) / len(rows)


def per_row(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """1 where the answer is the reference after normalisation, else 0."""
    check(predictions, references)
    return [float(_same(guess, truth)) for guess, truth in zip(predictions, references, strict=True)]


def _same(guess: str, truth: str) -> bool:
    if FINAL_LINE.search(truth):
        return _value(_final(guess)) == _value(_final(truth))
    return one_line(guess) == one_line(truth)


def _final(text: str) -> str:
    """What follows the last mark, or the whole text where there is none."""
    return one_line(text.rsplit(MARK, 1)[-1])


def _value(text: str) -> Decimal | str:
    """The number that the text is, or the text."""
    bare = text.replace("$", "").removesuffix(".").strip()
    return Decimal(bare.replace(",", "")) if NUMBER.fullmatch(bare) else text
