"""A plan: what a run would do, stage by stage, and what that would take."""

from pathlib import Path

from prompt2model.records import Record


class Step(Record):
    """What one stage would do."""

    stage: str
    does: str
    is_kept: bool = False
    """Whether its record would be read back, and nothing done."""
    requests: int = 0
    """To the teacher, as many as are usual."""
    most_requests: int = 0
    """As many as there may be, if none is sent a second time."""
    tokens: int = 0
    """Read, written or learned from, by whichever model."""
    teacher_tokens: int = 0
    """Those among them that the teacher reads or writes."""
    minutes: float = 0.0
    usd: float = 0.0
    most_usd: float = 0.0
    """About what those cost with every answer as long as it may be; only a budget is a bound."""


class Plan(Record):
    """What a whole run would do, on this machine."""

    folder: Path
    teacher: str
    teacher_reason: str
    price: str
    is_paid: bool
    is_price_known: bool
    base: str
    base_reason: str
    precision: str
    steps: tuple[Step, ...]
    assumed: str = ""
    """What the minutes of a teacher elsewhere stand on."""
    budget_usd: float = 0.0

    @property
    def requests(self) -> int:
        return sum(step.requests for step in self.steps)

    @property
    def tokens(self) -> int:
        return sum(step.tokens for step in self.steps)

    @property
    def minutes(self) -> float:
        return sum(step.minutes for step in self.steps)

    @property
    def usd(self) -> float:
        return sum(step.usd for step in self.steps)

    @property
    def most_usd(self) -> float:
        return sum(step.most_usd for step in self.steps)
