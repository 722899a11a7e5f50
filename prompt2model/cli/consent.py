"""Nothing that costs money starts before its price is on the screen, and somebody has agreed."""

from collections.abc import Callable, Iterable

from prompt2model.cli.screen import Screen
from prompt2model.config import Config
from prompt2model.errors import ConfigError, TeacherError
from prompt2model.ledger import billed_as, price, price_line
from prompt2model.plans import Step
from prompt2model.teachers import check_teacher, choose_teacher, open_teacher


def accept_cost(config: Config, steps: Callable[[], Iterable[Step]], screen: Screen, *, yes: bool) -> list[Step]:
    """Say who teaches and what `steps` may cost, and ask where that is money; a budget is consent up to it.

    `steps` is called only when there is something to reckon; what it says is handed on. Raises ConfigError when nobody
    agrees.
    """
    check_teacher(config.teacher, config.teacher_options)
    name, reason = choose_teacher(config.teacher)
    screen.say(f"Teacher: {name} ({reason}); {price_line(billed_as(name, config.teacher_options))}.", "dim")
    if price(name) is not None and not is_dear(name):
        return []
    full = _full_name(name)
    planned = _planned(full if is_dear(full) else name, steps, screen)
    if full != name and is_dear(full):
        if not any(step.most_requests for step in planned):
            return planned
        screen.say(f"Its only model is {full}; {price_line(billed_as(full, config.teacher_options))}.", "dim")
        if not (yes or config.budget_usd):
            raise ConfigError(
                f"{full} costs money, and what the run may cost is not known while the model is not named.",
                hint=f"--teacher {full} names it; --budget 5 lets it cost 5 US dollars at most, --yes accepts it.",
            )
        return planned
    cost = _cost(planned)
    if not cost:
        return []
    if not (yes or config.budget_usd or screen.is_interactive):
        raise ConfigError(
            f"{name} costs money, and nobody has agreed to that. {cost}",
            hint="--yes accepts it, --budget 5 lets it cost 5 US dollars at most, --teacher transformers:… is free.",
        )
    if yes or config.budget_usd:
        screen.say(cost)
    elif not screen.accept(f"{cost} Go on with {name}?"):  # in one piece: a quiet screen shows nothing else
        raise ConfigError(
            "Nobody agreed, so the teacher was not asked.",
            hint="--budget 5 sets a limit; build --dry-run shows what would run.",
        )
    return planned


def is_dear(name: str) -> bool:
    """Whether the teacher is known to cost money."""
    known = price(name)
    return known is not None and bool(known.input or known.output)


def _full_name(name: str) -> str:
    """The name with the server's only model, where it is an address without one; as it is where nobody answers."""
    if not name.startswith(("http:", "https:")) or "#" in name:
        return name
    try:
        return open_teacher(name).name
    except TeacherError:  # a finished run needs no server; one that needs it says so
        return name


def _planned(name: str, steps: Callable[[], Iterable[Step]], screen: Screen) -> list[Step]:
    """The steps, when the teacher may cost money."""
    from prompt2model.planning import is_paid  # loads torch

    if not is_paid(name):
        return []
    with screen.working(silently=True):
        return list(steps())


def _cost(planned: list[Step]) -> str:
    """What it comes to, in words; nothing when it is free."""
    requests = sum(step.most_requests for step in planned)
    usd, most_usd = sum(step.usd for step in planned), sum(step.most_usd for step in planned)
    if most_usd:
        return (
            f"That is about ${usd:.2f} for up to {requests:,} requests, ${most_usd:.2f} when every answer is as long "
            "as it may be; --budget sets a limit."
        )
    return f"That is up to {requests:,} requests at a price that is not known." if requests else ""
