"""A stage's teacher: what it is asked is counted and shown, and it may go on when the budget is spent."""

import time
from collections.abc import Iterable, Iterator, Sequence

from prompt2model import progress
from prompt2model.conversation import Reply, Request
from prompt2model.errors import BudgetExceeded
from prompt2model.ledger import FREE, cost, price
from prompt2model.records import Spent
from prompt2model.teacher import Around, Teacher

SPENT = "the budget is spent"


class Counted(Around):
    """The teacher, with a count of what this stage asked of it, shown beside the bar: a round may take minutes.

    One that `goes_on` when the budget is spent fails what is left of the requests.
    """

    def __init__(self, teacher: Teacher, advance: progress.Advance, *, goes_on: bool) -> None:
        super().__init__(teacher)
        self.spent = Spent()
        self.exceeded: BudgetExceeded | None = None
        self._goes_on = goes_on
        self._advance = advance
        self._price = FREE if teacher.is_local else price(teacher.name)

    def answer(self, requests: Iterable[Request]) -> Iterator[list[tuple[int, Reply]]]:
        requests = list(requests)
        left = set(range(len(requests)))
        try:
            for group in self._answered(requests):
                left -= {index for index, _ in group}
                yield group
        except BudgetExceeded as error:
            if not self._goes_on:
                raise
            self.exceeded = error
            yield [(index, Reply(finish="failed", failure=SPENT)) for index in sorted(left)]

    def _answered(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Reply]]]:
        began = time.monotonic()
        for group in self.within.answer(requests):
            fresh = [reply for _, reply in group if not reply.cached]
            hits = len(group) - len(fresh)
            known = Spent(requests=hits, cached=hits, seconds=time.monotonic() - began)
            self.spent += cost(fresh, self._price) + known
            self._advance(0, note=f"{self.spent.requests} replies")
            yield group
            began = time.monotonic()
