"""What a run's teacher has cost, beside what the plan said, in lines for a terminal."""

from collections.abc import Sequence

from prompt2model.accounts import UNNOTED, Entry, total
from prompt2model.plans import Step
from prompt2model.records import Spent


def spent_lines(ledger: Sequence[Entry], planned: Sequence[Step], minutes: float, *, is_done: bool = True) -> list[str]:
    """What a paid teacher was asked and has cost, by stage; how far off the plan was, when what was planned is done.

    `minutes` have passed. What an earlier process had paid and could not note is told apart.
    """
    if not planned or not (is_done or ledger):
        return []
    unnoted = total(entry for entry in ledger if entry.stage == UNNOTED)
    ledger = [entry for entry in ledger if entry.stage != UNNOTED]
    before = [f"        {_usd(unnoted)} was paid or under way when an earlier process ended"] if unnoted.usd else []
    return [*before, *_of_this_process(ledger, planned, minutes, is_done=is_done)]


def _of_this_process(ledger: Sequence[Entry], planned: Sequence[Step], minutes: float, *, is_done: bool) -> list[str]:
    spent, stages = total(ledger), dict.fromkeys(entry.stage for entry in ledger)
    by_stage = [f"{stage} {_usd(total(one for one in ledger if one.stage == stage))}" for stage in stages]
    requests, usd = sum(step.requests for step in planned), sum(step.usd for step in planned)
    said = Spent(
        requests=requests,
        tokens_in=sum(step.teacher_tokens for step in planned),
        usd=usd,
        unpriced=0 if usd else requests,
    )
    again = f" ({spent.tokens_cached:,} of them from the provider's cache)" if spent.tokens_cached else ""
    tokens = f"{spent.tokens_in:,} tokens read{again}, {spent.tokens_out:,} written"
    cached = f" ({spent.cached:,} of {spent.requests:,} answers from the cache)" if spent.cached else ""
    told = f"teacher {tokens}, {_usd(spent)}" + (f": {', '.join(by_stage)}" if by_stage else "") + cached
    if not is_done:
        return [told]
    return [
        told,
        f"        The plan said {_figures(said, sum(step.minutes for step in planned))}",
        f"        it was        {_figures(spent, minutes)}",
    ]


def _figures(spent: Spent, minutes: float) -> str:
    asked = f"{spent.requests:,} requests, {spent.tokens_in + spent.tokens_out:,} tokens"
    return f"{asked}, {minutes:.1f} minutes, {_usd(spent)}"


def _usd(spent: Spent) -> str:
    if not spent.is_price_known:
        return "price unknown"
    known = f"${spent.usd:.2f}" if spent.usd >= 0.1 else f"${spent.usd:.4f}"
    return f"{known} and {spent.unpriced:,} requests whose price is unknown" if spent.unpriced else known
