"""MiniLLM's arithmetic against loops, autograd and its own laws."""

import pytest
import torch

from prompt2model.policy import clipped, importance, to_come, whitened

REWARDS = torch.tensor([1.0, -2.0, 4.0, 8.0])


@pytest.mark.parametrize(
    ("with_own", "normalise", "expected"),
    [
        (False, False, [10, 12, 8, 0]),
        (False, True, [10 / 3, 6, 8, 0]),
        (True, False, [11, 10, 12, 8]),
        (True, True, [11 / 4, 10 / 3, 6, 8]),
    ],
)
def test_what_is_to_come_is_summed_or_averaged_with_or_without_the_tokens_own(with_own, normalise, expected):
    found = to_come(REWARDS, with_own=with_own, normalise=normalise)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("normalise", [False, True])
def test_after_the_last_token_nothing_is_to_come_and_no_division_by_zero(normalise):
    assert to_come(torch.tensor([5.0]), normalise=normalise).tolist() == [0.0]


def test_nothing_leaks_through_what_is_to_come():
    rewards = REWARDS.clone().requires_grad_()
    assert not to_come(rewards).requires_grad


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_the_mean_importance_under_the_mixture_is_one(share):
    torch.manual_seed(0)
    p, q = (torch.randn(50, dtype=torch.float64).mul(3).log_softmax(-1) for _ in range(2))
    mixture = share * p.exp() + (1 - share) * q.exp()
    found = importance(q, p, share)
    torch.testing.assert_close(found, q.exp() / mixture)
    torch.testing.assert_close((mixture * found).sum(), torch.tensor(1.0).double())
    assert found.max() <= 1 / (1 - share) + 1e-12


@pytest.mark.parametrize("advantage", [2.0, -2.0])
@pytest.mark.parametrize(("ratio", "is_bound"), [(1.0, False), (1.1, False), (1.5, True), (0.5, True)])
def test_a_ratio_that_has_moved_too_far_in_the_wanted_direction_has_no_gradient(advantage, ratio, is_bound):
    log_q = torch.tensor([-1.0], requires_grad=True)
    old = log_q.detach() - torch.tensor(ratio).log()
    value = clipped(log_q, old, torch.tensor([advantage]), 0.2)
    value.sum().backward()
    goes_on = (ratio - 1) * advantage > 0
    expected = 0.0 if is_bound and goes_on else -ratio * advantage
    assert float(log_q.grad) == pytest.approx(expected, rel=1e-5)


def test_without_a_bound_every_ratio_has_its_gradient():
    log_q = torch.tensor([-1.0, -1.0], requires_grad=True)
    clipped(log_q, torch.tensor([-4.0, -0.5]), torch.tensor([1.0, -1.0]), 0.0).sum().backward()
    torch.testing.assert_close(log_q.grad, -torch.tensor([3.0, -0.5]).exp() * torch.tensor([1.0, -1.0]))


def test_whitened_values_are_those_of_torch_over_all_answers_together():
    torch.manual_seed(0)
    answers = [torch.randn(length) * 3 + 5 for length in (4, 1, 7)]
    whole = torch.cat(answers)
    sums = (float(whole.sum()), float(whole.square().sum()), float(len(whole)))
    found = torch.cat([whitened(answer, *sums) for answer in answers])
    torch.testing.assert_close(found, (whole - whole.mean()) / whole.std(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("values", [[3.0], []])
def test_one_value_or_none_is_left_as_it_is(values):
    given = torch.tensor(values)
    assert torch.equal(whitened(given, float(given.sum()), float(given.square().sum()), float(len(given))), given)


def test_equal_values_are_whitened_to_zero():
    assert whitened(torch.tensor([0.3, 0.3]), 0.6, 0.18, 2.0).abs().max() < 1e-3
