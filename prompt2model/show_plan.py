"""A plan as a terminal shows it."""

from rich.table import Table
from rich.text import Text

from prompt2model.plans import Plan, Step
from prompt2model.show import count, tenths, titled

MOST = (
    "about, with every answer as long as it may be and as many candidates as generate.over_generate allows, "
    "if no request has to be repeated; --budget is a limit"
)


def plan_table(plan: Plan) -> Table:
    """Stage by stage, what would run."""
    table = titled("stage", "what it does", "requests", "tokens", "minutes", "US$ usual–most")
    for column in table.columns[2:]:
        column.justify = "right"
    for step in plan.steps:
        table.add_row(*map(Text, _step(step)), style="dim" if step.is_kept else "")
    table.add_section()
    table.add_row("in all", "", count(plan.requests), count(plan.tokens), tenths(plan.minutes), _in_all(plan))
    return table


def plan_lines(plan: Plan) -> list[str]:
    """What the table does not say."""
    is_run = any(step.stage == "retrieve" for step in plan.steps)
    return [
        *([f"folder   {plan.folder}"] if is_run else []),
        f"teacher  {plan.teacher} ({plan.teacher_reason}); {plan.price}",
        *([f"base     {plan.base}, {plan.base_reason}"] if is_run else []),
        f"here     {plan.precision} is the faster precision; minutes are estimates",
        *([f"there    {plan.assumed}"] if plan.assumed else []),
        *([f"most     {MOST}"] if plan.most_usd else []),
        *([f"budget   ${plan.budget_usd:g}{_is_short(plan)}"] if plan.budget_usd else []),
    ]


def _is_short(plan: Plan) -> str:
    return f", which is less than the usual ${plan.usd:.2f}: it ends before" if plan.budget_usd < plan.usd else ""


def _in_all(plan: Plan) -> str:
    unknown = "?" if plan.is_paid and not plan.is_price_known and plan.requests else "0"
    return _range(plan) or unknown


def _step(step: Step) -> tuple[str, ...]:
    return step.stage, step.does, count(step.requests), count(step.tokens), tenths(step.minutes), _range(step)


def _range(cost: Step | Plan) -> str:
    """What is usual, and what is the most."""
    places = 2 if cost.most_usd >= 0.1 else 4
    return f"{cost.usd:.{places}f}–{cost.most_usd:.{places}f}" if cost.most_usd else ""
