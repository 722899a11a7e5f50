"""What a run's teacher has cost, beside what the plan said, in lines for a terminal."""

from collections.abc import Sequence

from prompt2model.accounts import Entry, total
from prompt2model.plans import Step
from prompt2model.records import Spent


def spent_lines(ledger: Sequence[Entry], planned: Sequence[Step], minutes: float) -> list[str]:
    """What a paid teacher was asked and has cost, by stage, and how far off the plan was; `minutes` have passed."""
    if not planned:
        return []
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
    return [
        f"teacher {tokens}, {_usd(spent)}" + (f": {', '.join(by_stage)}" if by_stage else "") + cached,
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
