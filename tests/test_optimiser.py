"""AdamW against torch's own, master weights under bfloat16, and the learning rate."""

import pytest
import torch

from prompt2model import pieces as module
from prompt2model.optimiser import BETAS, MasterAdamW, learning_rate


@pytest.fixture(autouse=True, params=[1, 12, 1 << 21])
def at_once(request, monkeypatch):
    """However many weights are updated at once, the steps are the same."""
    monkeypatch.setattr(module, "MOST_AT_ONCE", request.param)


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape).to(dtype).requires_grad_() for shape in ((7, 5), (3,))]


def gradients(step: int) -> list[torch.Tensor]:
    torch.manual_seed(100 + step)
    return [torch.randn(7, 5) * 3, torch.randn(3)]


def take_steps(optimiser: MasterAdamW, steps: range, rate: float = 0.01) -> None:
    for step in steps:
        for parameter, gradient in zip(optimiser.parameters, gradients(step), strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        optimiser.gradients.accumulate()
        optimiser.step(rate)


def test_float32_weights_take_exactly_the_steps_of_torchs_adamw():
    ours, theirs = parameters(), parameters()
    take_steps(MasterAdamW(ours), range(20))
    reference = torch.optim.AdamW(theirs, lr=0.01, betas=BETAS, weight_decay=0.0, fused=True)
    for step in range(20):
        for parameter, gradient in zip(theirs, gradients(step), strict=True):
            parameter.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        reference.step()
    exact = module.MOST_AT_ONCE > 1  # pieces of a row end in other instructions
    torch.testing.assert_close(ours, theirs, rtol=0 if exact else 1e-6, atol=0)


def test_updates_smaller_than_the_spacing_of_bfloat16_are_kept():
    weight = torch.full((4,), 1.0, dtype=torch.bfloat16, requires_grad=True)
    plain = torch.full((4,), 1.0, dtype=torch.bfloat16, requires_grad=True)
    optimiser, reference = MasterAdamW([weight]), torch.optim.AdamW([plain], lr=1e-4, betas=BETAS, weight_decay=0.0)
    for _ in range(200):
        weight.grad, plain.grad = torch.ones_like(weight), torch.ones_like(plain)
        optimiser.gradients.accumulate()
        optimiser.step(1e-4)
        reference.step()
    assert torch.equal(plain, torch.ones_like(plain))  # 1 - 0.0001 rounds to 1
    torch.testing.assert_close(optimiser.masters[0], torch.full((4,), 0.98))
    torch.testing.assert_close(weight.float(), torch.full((4,), 0.98), rtol=0, atol=2**-8)


def test_masters_of_bfloat16_weights_follow_the_float32_trajectory():
    rounded = [p.detach().bfloat16().requires_grad_() for p in parameters()]
    full = [p.detach().float().requires_grad_() for p in rounded]
    for optimiser in (half := MasterAdamW(rounded), MasterAdamW(full)):
        for step in range(20):
            for parameter, gradient in zip(optimiser.parameters, gradients(step), strict=True):
                parameter.grad = gradient.bfloat16().to(parameter.dtype)
            optimiser.gradients.accumulate()
            optimiser.step(1e-4)
    for master, parameter, exact in zip(half.masters, rounded, full, strict=True):
        torch.testing.assert_close(master, exact.detach())
        assert ((parameter.float() - master).abs() <= 2**-7 * master.abs()).all()


def test_weights_follow_masters_that_moved_less_than_bfloat16_can_show():
    weight = torch.full((2_000,), 1.0, dtype=torch.bfloat16, requires_grad=True)
    optimiser = MasterAdamW([weight])
    weight.grad = torch.ones_like(weight)
    optimiser.step(1e-3)
    assert (weight != 1.0).any()
    assert float(weight.detach().double().mean()) == pytest.approx(0.999, abs=2e-4)


def test_weights_are_rounded_alike_whatever_is_updated_with_them(monkeypatch):
    def learned(at_once: int) -> list[torch.Tensor]:
        monkeypatch.setattr(module, "MOST_AT_ONCE", at_once)
        kinds = [(100, torch.bfloat16), (50, torch.float32), (70, torch.bfloat16)]
        weights = [torch.ones(size, dtype=kind, requires_grad=True) for size, kind in kinds]
        optimiser = MasterAdamW(weights)
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimiser.step(1e-3)
        return weights

    for one, other in zip(learned(1 << 21), learned(1), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6 if one.dtype == torch.float32 else 0, atol=0)


def test_gradients_of_several_passes_add_up_in_float32():
    weight = torch.zeros(1, dtype=torch.bfloat16, requires_grad=True)
    optimiser = MasterAdamW([weight])
    for gradient in (256.0, 1.0, 1.0):  # bfloat16 has no 257
        weight.grad = torch.tensor([gradient], dtype=torch.bfloat16)
        optimiser.gradients.accumulate()
        assert weight.grad is None
    assert optimiser.gradients.sums[0] == 258.0


def test_gradients_are_clipped_and_the_norm_is_that_before():
    weight = torch.zeros(2, requires_grad=True)
    optimiser = MasterAdamW([weight])
    weight.grad = torch.tensor([30.0, 40.0])
    assert optimiser.step(0.0) == pytest.approx(50.0)
    assert optimiser.moments[0][0].norm() == pytest.approx(1 - BETAS[0])


@pytest.mark.parametrize("parts", [1, 7, 1 << 18])
def test_the_norm_of_bfloat16_gradients_is_taken_in_float32(parts, monkeypatch):
    monkeypatch.setattr("prompt2model.optimiser.NORM_AT_ONCE", parts)
    for dtypes in ((torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32)):
        found = [p.detach().to(dtype).requires_grad_() for p, dtype in zip(parameters(), dtypes, strict=True)]
        for parameter in found:
            parameter.grad = (100 * torch.randn_like(parameter)).t().contiguous().t()
        expected = torch.cat([p.grad.double().flatten() for p in found]).norm()
        assert MasterAdamW(found).step(0.0) == pytest.approx(float(expected), rel=1e-6)


def test_sums_of_gradients_begin_anew_with_every_step():
    weight = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    optimiser = MasterAdamW([weight])
    for gradient in (3.0, 4.0):
        for _ in range(2):
            weight.grad = torch.tensor([gradient, 0.0], dtype=torch.bfloat16)
            optimiser.gradients.accumulate()
        assert optimiser.step(0.0) == 2 * gradient


@pytest.mark.parametrize("gradient", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_change_nothing(gradient):
    weight = torch.ones(2, requires_grad=True)
    optimiser = MasterAdamW([weight])
    weight.grad = torch.tensor([gradient, 1.0])
    assert not optimiser.step(0.1) < float("inf")
    assert torch.equal(weight, torch.ones(2))
    assert weight.grad is None


def test_frozen_weights_are_left_out():
    frozen, free = torch.ones(2), torch.ones(2, requires_grad=True)
    assert MasterAdamW([frozen, free]).parameters == [free]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_optimiser_restored_goes_on_bit_for_bit(dtype):
    straight, first, second = parameters(dtype), parameters(dtype), parameters(dtype)
    take_steps(MasterAdamW(straight), range(10))
    interrupted = MasterAdamW(first)
    take_steps(interrupted, range(6))
    state = {name: tensor.clone() for name, tensor in interrupted.state().items()}
    resumed = MasterAdamW(second)
    resumed.restore(state)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    take_steps(resumed, range(6, 10))
    assert all(torch.equal(a, b) for a, b in zip(straight, second, strict=True))


def test_the_learning_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[99] == pytest.approx(1 / 90)
    assert learning_rate(100, 100, 1.0) == 0.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_handful_of_steps_all_learn(steps):
    assert all(0 < learning_rate(step, steps, 1.0) <= 1.0 for step in range(steps))
    assert learning_rate(0, steps, 1.0) == 1.0


def test_weights_without_a_gradient_stay_beside_others_that_are_clipped():
    learned, left = torch.ones(12, requires_grad=True), torch.ones(12, requires_grad=True)
    optimiser = MasterAdamW([left, learned])
    learned.grad = torch.full((12,), 100.0)
    assert optimiser.step(0.1) > 1
    assert torch.equal(left, torch.ones(12))
    assert not torch.equal(learned, torch.ones(12))


def test_weights_that_do_not_lie_in_a_row_learn_as_others_do():
    plain = torch.randn(6, 4).requires_grad_()
    turned = plain.detach().t().contiguous().t().requires_grad_()
    for weight in (plain, turned):
        optimiser = MasterAdamW([weight])
        weight.grad = torch.arange(24.0).view(6, 4)
        optimiser.step(0.1)
    torch.testing.assert_close(turned, plain)
