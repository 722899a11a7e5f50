"""Whether one contender does better than another on the same rows, in a sentence."""

from collections.abc import Sequence
from typing import Literal

from prompt2model import registry
from prompt2model.bootstrap import Difference, paired_difference

FEWEST_TO_TELL = 10
"""Rows below which no difference is called one: a handful that agree have an interval without width."""


def compared(
    one: str,
    other: str,
    answers: tuple[Sequence[str], Sequence[str]],
    truth: Sequence[str],
    *,
    metric: str,
    kind: Literal["real", "synthetic"],
    resamples: int = 1000,
    seed: int = 0,
) -> str:
    """Whether `one` differs from `other` by more than the noise, given the answers of both to the same rows."""
    rows = f"{len(truth)} {kind} row" + "s" * (len(truth) != 1)
    if len(truth) < FEWEST_TO_TELL:
        return f"{rows}: too few to tell {one[:1].lower()}{one[1:]} from {other}."
    how = registry.load("metrics", metric)
    apart = paired_difference(how, *answers, truth, resamples=resamples, seed=seed)
    verdict = _verdict(apart, higher_is_better=how.HIGHER_IS_BETTER)
    points = f"{100 * apart.value:+.1f} points [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}]"
    return f"{one} {verdict.format(other)}: {points} of {metric} on {rows}."


def _verdict(apart: Difference, *, higher_is_better: bool) -> str:
    if not apart.is_more_than_noise:
        return "differs from {} by no more than the noise"
    is_better = (apart.value > 0) == higher_is_better
    return f"is {'better' if is_better else 'worse'} than {{}} by more than the noise"
