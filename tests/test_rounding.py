"""float32 to bfloat16 with thresholds: exact where it can be, a neighbour elsewhere, and right in the mean."""

import pytest
import torch

from prompt2model import rounding
from prompt2model.rounding import round_into


def rounded(*exact: torch.Tensor) -> list[torch.Tensor]:
    found = [torch.empty_like(one, dtype=torch.bfloat16) for one in exact]
    round_into(found, exact)
    return found


def test_what_bfloat16_has_stays_as_it_is():
    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int16).view(torch.bfloat16)
    every = every[every.isfinite()]
    found = rounded(every.float())[0]
    assert torch.equal(found, every)
    assert torch.equal(found.signbit(), every.signbit())


def test_what_lies_between_two_numbers_becomes_one_of_them():
    torch.manual_seed(0)
    exact = torch.randn(100_000) * torch.logspace(-30, 30, 100_000)
    found = rounded(exact)[0].float()
    bits = exact.view(torch.int32) & -65536
    nearer_zero, further = bits.view(torch.float32), (bits + 65536).view(torch.float32)
    assert ((found == nearer_zero) | (found == further)).all()
    assert (found == nearer_zero).any()
    assert (found == further).any()


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.97])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_as_large_a_share_of_many_weights_takes_the_step_as_they_have_moved_of_it(share, sign):
    exact = torch.full((200_000,), sign * (1.0 + share / 128))  # 1 and 1 + 1/128 are neighbours
    found = rounded(exact)[0].float()
    assert float((found != sign).float().mean()) == pytest.approx(share, abs=0.005)
    assert float(found.double().mean()) == pytest.approx(float(exact[0]), abs=0.005 / 128)


def test_neighbours_in_a_row_and_in_a_column_have_thresholds_of_their_own():
    found = rounded(torch.full((512, 576), 1.0 + 0.5 / 128))[0] == 1.0
    for alike in ((found[1:] == found[:-1]), (found[:, 1:] == found[:, :-1])):
        assert float(alike.float().mean()) == pytest.approx(0.5, abs=0.01)


def test_the_same_weights_become_the_same_whatever_their_layout_is():
    torch.manual_seed(0)
    exact = [torch.randn(7, 50), torch.randn(3), torch.randn(())]
    once, again = rounded(*exact), rounded(*exact)
    turned = rounded(exact[0].t().contiguous().t(), *exact[1:])
    for one, two, three in zip(once, again, turned, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@pytest.mark.parametrize("first", [0, 100, rounding.PATTERN - 50, rounding.PATTERN + 1])
def test_weights_that_are_rounded_apart_are_rounded_as_together(first):
    exact = 1.0 + torch.linspace(0, 1, 300) / 128
    together = torch.empty(300, dtype=torch.bfloat16)
    round_into([together], [exact], first)
    for start in range(0, 300, 100):
        apart = torch.empty(100, dtype=torch.bfloat16)
        round_into([apart], [exact[start : start + 100]], first + start)
        assert torch.equal(apart, together[start : start + 100])


def test_memory_at_hand_changes_nothing():
    torch.manual_seed(0)
    exact = [torch.randn(7, 50), torch.randn(3)]
    found = [torch.empty_like(one, dtype=torch.bfloat16) for one in exact]
    memory = torch.full((400,), float("nan"))
    round_into(found, exact, memory=memory)
    assert (~memory.isnan()).tolist() == [True] * 353 + [False] * 47
    for one, other in zip(found, rounded(*exact), strict=True):
        assert torch.equal(one, other)


def test_the_pattern_comes_again_where_it_ends():
    exact = torch.full((2 * rounding.PATTERN + 5,), 1.0 + 0.5 / 128)
    first, second, rest = rounded(exact)[0].split(rounding.PATTERN)
    assert torch.equal(first, second)
    assert torch.equal(first[:5], rest)
