"""Which rows a step learns from: every lesson once in a pass, in steps of the usual size."""

from collections import Counter

import pytest

from prompt2model.batches import Lesson, Row
from prompt2model.supply import Block, Supply

BATCH_ROWS = 8


def lessons(count: int) -> list[Lesson]:
    return [(Row((number,), (1,) * (1 + number % 5)),) for number in range(count)]


@pytest.mark.parametrize("kept", [1, 3, 8, 20, 37, 50, 60])
@pytest.mark.parametrize("passes", [1, 2])
def test_what_is_kept_of_a_round_is_learned_once_in_a_pass_in_steps_of_the_usual_size(kept: int, passes: int) -> None:
    supply = Supply(lessons(50), BATCH_ROWS, 0, lambda drawn, number, learned: lessons(kept), Block(0, passes))
    for first in range(0, supply.steps_per_epoch * 2, supply.steps_per_epoch // passes):
        steps = [supply.rows(first + own) for own in range(supply.steps_per_epoch // passes)]
        assert Counter(row.prompt[0] for rows in steps for row in rows) == Counter(range(kept))
        filled = [rows for rows in steps if rows]
        assert steps[: len(filled)] == filled
        assert len(filled) == min(-(-kept // BATCH_ROWS), len(steps))
