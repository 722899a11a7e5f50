"""Gradients that go to their sums directly are those of autograd."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from prompt2model import blocks
from prompt2model.batches import Row
from prompt2model.gradients import Gradients
from prompt2model.heads import ending
from prompt2model.losses import Ending, cross_entropy, summed
from prompt2model.student import load

PASSES = (torch.tensor([[1, 2, 3], [5, 5, 5]]), torch.tensor([[1, 9, 10]]))


class Words(nn.Module):
    """Tokens are read and, where tied, written with the same weights; one of them is padding."""

    def __init__(self, *, is_tied: bool = True, bias: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read, self.between = nn.Embedding(11, 4, padding_idx=3), nn.Linear(4, 4)
        self.written = nn.Linear(4, 11, bias=bias)
        if is_tied:
            self.written.weight = self.read.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.written(self.between(self.read(ids)))


@pytest.fixture(autouse=True, params=[1, 12, 1 << 19])
def at_once(request, monkeypatch):
    """However many rows of a head's gradient are made at once, they are the same."""
    monkeypatch.setattr(blocks, "AT_ONCE", request.param)


@contextmanager
def gradients_of(model: Words) -> Iterator[Gradients]:
    found = Gradients(list(model.parameters()))
    with found.adding_directly(model.read, model.written):
        yield found


def assert_alike(found: dict[int, Tensor], plain: Words) -> None:
    of_plain = [parameter.grad for parameter in plain.parameters()]
    assert len(found) == len(of_plain)
    for place, gradient in enumerate(of_plain):
        rounding = 1e-5 if gradient.dtype == torch.float32 else 3e-2
        torch.testing.assert_close(found[place].float(), gradient.float(), rtol=rounding, atol=rounding)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_are_those_of_autograd(dtype, is_tied, bias):
    model = Words(is_tied=is_tied, bias=bias).to(dtype)
    plain = deepcopy(model)
    head = next(place for place, weight in enumerate(model.parameters()) if weight is model.written.weight)
    with gradients_of(model) as gradients:
        for number, ids in enumerate(PASSES):
            for one in (model, plain):
                one(ids).float().square().sum().backward()
            if number == 0 and not (is_tied and bias):  # else it is the embedding's sum, too
                assert (head in gradients.sums) != bias
            gradients.accumulate()
    assert_alike(gradients.found(), plain)
    assert dtype == torch.float32 or all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_reaches_a_tied_head_is_in_a_sum_before_autograd_has_written_a_gradient(dtype):
    model = Words().to(dtype)
    with gradients_of(model) as gradients:
        given = torch.randn(2, 4, dtype=dtype, requires_grad=True)
        model.written(given).sum().backward()
    expected = given.detach().float().sum(0).expand(11, 4)
    torch.testing.assert_close(gradients.sums[0], expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(given.grad, model.read.weight.detach().sum(0).expand(2, 4))


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_further_step_begins_without_gradients_and_with_the_memory_at_hand(dtype, is_tied):
    model = Words(is_tied=is_tied).to(dtype)
    steps, memory = list[list[Tensor]](), set[int]()
    with gradients_of(model) as gradients:
        for ids in (PASSES[0], PASSES[1], PASSES[0]):
            model(ids).float().square().sum().backward()
            steps.append([gradient.clone() for gradient in gradients.found().values()])
            memory |= {gradients.found()[0].data_ptr()}
            gradients.clear()
            assert gradients.found() == {}
    for first, last in zip(steps[0], steps[2], strict=True):
        assert torch.equal(first, last)
    assert len(memory) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk_tokens", [1, 2, 100])
def test_a_loss_in_chunks_that_asks_for_the_heads_gradient_gets_it(chunk_tokens, dtype):
    model = Words().to(dtype)
    plain = deepcopy(model)
    targets, weights = torch.tensor([1, 2, 4, 7, 0, 10]), torch.linspace(0.5, 1, 6)

    def loss(of: Words) -> Tensor:
        end = Ending(of.between(of.read(PASSES[0])).flatten(0, 1), of.written, tuple(of.written.parameters()))
        return 3.0 * summed(
            lambda logits, place: cross_entropy(logits, targets[place]), end, weights, chunk_tokens=chunk_tokens
        )

    with gradients_of(model) as gradients:
        loss(model).backward()
    loss(plain).backward()
    assert_alike(gradients.found(), plain)


def test_a_head_whose_states_need_no_gradient_learns_by_autograd():
    model = Words(is_tied=False)
    with gradients_of(model) as gradients:
        model.written(torch.ones(1, 4)).sum().backward()
    assert torch.equal(gradients.found()[3], torch.ones(11, 4))


def test_mixed_precision_is_left_to_autograd():
    model = Words()
    plain = deepcopy(model)
    with gradients_of(model) as gradients, torch.autocast("cpu", torch.bfloat16):
        model(PASSES[0]).float().square().sum().backward()
        plain(PASSES[0]).float().square().sum().backward()
    for place, parameter in enumerate(plain.parameters()):
        torch.testing.assert_close(gradients.found()[place], parameter.grad, rtol=2e-2, atol=2e-2)


def test_logits_may_be_changed_in_place():
    model = Words()
    plain = deepcopy(model)
    with gradients_of(model) as gradients:
        for one in (model, plain):
            logits = one(PASSES[0])
            logits *= 2
            logits[..., 3] = -100.0
            logits.square().sum().backward()
    assert_alike(gradients.found(), plain)


def test_gradients_that_were_set_to_none_are_forgotten():
    model = Words()
    with gradients_of(model) as gradients:
        model(PASSES[0]).sum().backward()
        model.zero_grad()
        assert gradients.found() == {}
        model(PASSES[0]).sum().backward()
    assert gradients.found()[0] is model.read.weight.grad


def test_memory_that_a_step_did_not_use_is_let_go():
    model = Words().bfloat16()
    gradients = Gradients(list(model.parameters()))
    for is_direct in (True, False):
        with gradients.adding_directly(model.read, model.written) if is_direct else nullcontext():
            model(PASSES[0]).float().sum().backward()
        gradients.clear()
        assert bool(gradients.spare) == is_direct


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk_tokens", [1, 100])
def test_models_gradients_are_those_of_autograd(base, dtype, chunk_tokens):
    model, codec = load(base, precision="float32" if dtype == torch.float32 else "bfloat16")
    plain = deepcopy(model.train())
    rows = [Row((5, 6, 7), (8, 9, codec.end)), Row((5, 6), (7, codec.end))]
    batch = codec.collate(rows)
    gradients = Gradients([weight for weight in model.parameters() if weight.requires_grad])
    with gradients.adding_directly(model.get_input_embeddings(), model.get_output_embeddings()):
        for one in (model, plain):
            torch.manual_seed(0)  # dropout
            end = ending(one, batch)
            summed(
                lambda logits, place: cross_entropy(logits, batch.targets[place]),
                end,
                batch.weights,
                chunk_tokens=chunk_tokens,
            ).backward()
    found = gradients.found()
    learned = [weight for weight in plain.parameters() if weight.requires_grad]
    for place, weight in enumerate(learned):
        rounding = 1e-4 if dtype == torch.float32 else 5e-2
        torch.testing.assert_close(found[place].float(), weight.grad.float(), rtol=rounding, atol=rounding / 10)


def test_outside_nothing_is_watched():
    model = Words().bfloat16()
    with gradients_of(model) as gradients:
        pass
    model(PASSES[0]).float().sum().backward()
    assert gradients.sums == {}
    assert model.read.weight.grad is not None


def test_what_was_read_may_be_changed_in_place():
    model = Words()
    with gradients_of(model):
        read = model.read(torch.tensor([[1, 2]]))
        read *= 2
        read.sum().backward()
    assert model.read.weight.grad[1].tolist() == [2.0] * 4
