"""Every divergence against torch's and scipy's own in float64, its laws, and `summed`, which must change nothing."""

from functools import partial

import pytest
import torch
from scipy.spatial.distance import cosine, jensenshannon, sqeuclidean
from scipy.special import rel_entr
from torch import Tensor
from torch.nn import functional

from prompt2model.batches import Row
from prompt2model.heads import ending
from prompt2model.losses import (
    Ending,
    cosine_distance,
    cross_entropy,
    forward_kl,
    jensen_shannon,
    reverse_kl,
    sampled_forward_kl,
    squared_distance,
    summed,
    top_k_forward_kl,
    weighted_sum,
)
from prompt2model.student import adapt, load

pytestmark = pytest.mark.usefixtures("few_or_all_rows")


def top_k(student: Tensor, teacher: Tensor, k: int) -> Tensor:
    """The forward KL to the teacher's k likeliest tokens."""
    log_p, ids = teacher.float().log_softmax(-1).topk(k, -1)
    return top_k_forward_kl(student, ids, log_p)


def drawn(student: Tensor, teacher: Tensor) -> Tensor:
    """The forward KL to sixteen tokens of the teacher, at fixed places of its cumulative distribution."""
    log_p = teacher.float().log_softmax(-1)
    places = ((torch.arange(16) + 0.5) / 16).expand(len(teacher), -1).contiguous()
    ids = torch.searchsorted(log_p.exp().cumsum(-1), places, right=True).clamp(max=teacher.shape[-1] - 1)
    return sampled_forward_kl(student, ids, log_p.gather(-1, ids))


DENSE = {
    "forward KL": forward_kl,
    "reverse KL": reverse_kl,
    **{f"Jensen-Shannon {beta}": partial(jensen_shannon, beta=beta) for beta in (0.0, 0.1, 0.5, 0.9, 1.0)},
}
KEPT = {f"forward KL of {k} tokens": partial(top_k, k=k) for k in (8, 50)}
DRAWN = {"forward KL of drawn tokens": drawn}
DISTANCES = {"cosine": cosine_distance, "squared": squared_distance}
DIVERGENCES = DENSE | KEPT | DRAWN | DISTANCES


def each_of(*names: str):
    """A test for some of the divergences, whose law it is."""
    return pytest.mark.parametrize("divergence", names, indirect=True)


@pytest.fixture(params=DIVERGENCES)
def divergence(request):
    return DIVERGENCES[request.param]


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """A student's and a teacher's logits, (20, 50) each."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(20, 50, generator=generator) for _ in range(2))
    return student, teacher


def laws(student: Tensor, teacher: Tensor, temperature: float = 1.0):
    """The two distributions in float64, as numpy knows them: teacher, student."""
    return tuple((logits.double() / temperature).softmax(-1).numpy() for logits in (teacher, student))


# Against others


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_the_forward_kl_is_that_of_torch_and_of_scipy(pair, temperature):
    found = forward_kl(*pair, temperature).double()
    log_q, log_p = (functional.log_softmax(logits.double() / temperature, -1) for logits in pair)
    torchs = functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    p, q = laws(*pair, temperature)
    scipys = torch.from_numpy(rel_entr(p, q).sum(-1))
    for expected in (torchs, scipys):
        torch.testing.assert_close(found, temperature**2 * expected, rtol=1e-5, atol=1e-5)


def test_the_reverse_kl_is_that_of_torch_and_of_scipy(pair):
    found = reverse_kl(*pair).double()
    log_q, log_p = (functional.log_softmax(logits.double(), -1) for logits in pair)
    torchs = functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    p, q = laws(*pair)
    for expected in (torchs, torch.from_numpy(rel_entr(q, p).sum(-1))):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_jensen_shannon_at_a_half_is_the_square_of_scipys_distance(pair):
    expected = torch.from_numpy(jensenshannon(*laws(*pair), axis=-1) ** 2)
    torch.testing.assert_close(jensen_shannon(*pair, 0.5).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_jensen_shannon_is_the_two_kls_to_the_mixture(pair, beta):
    p, q = laws(*pair)
    mixture = beta * p + (1 - beta) * q
    expected = beta * rel_entr(p, mixture).sum(-1) + (1 - beta) * rel_entr(q, mixture).sum(-1)
    torch.testing.assert_close(jensen_shannon(*pair, beta).double(), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


def test_the_gradient_of_the_forward_kl_is_that_of_cross_entropy_with_soft_targets(pair):
    student, teacher = pair[0].requires_grad_(), pair[1]
    (found,) = torch.autograd.grad(forward_kl(student, teacher).sum(), student)
    soft = functional.cross_entropy(student, teacher.softmax(-1), reduction="sum")
    torch.testing.assert_close(found, torch.autograd.grad(soft, student)[0], rtol=1e-5, atol=1e-6)


def test_the_distances_of_states_are_scipys(pair):
    both = [logits.double().numpy() for logits in pair]
    for distance, expected in (
        (cosine_distance, [cosine(one, other) for one, other in zip(*both, strict=True)]),
        (squared_distance, [sqeuclidean(one, other) / 50 for one, other in zip(*both, strict=True)]),
    ):
        torch.testing.assert_close(distance(*pair).double(), torch.tensor(expected), rtol=1e-5, atol=1e-5)


# Laws


def test_a_divergence_is_zero_between_equals(divergence, pair):
    torch.testing.assert_close(divergence(pair[0], pair[0].clone()), torch.zeros(20), rtol=0, atol=2e-6)


@each_of(*DENSE, *KEPT, *DISTANCES)
def test_between_equals_its_gradient_is_zero_too(divergence, pair):
    student = pair[0].requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(student, student.detach().clone()).sum(), student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


@each_of(*DENSE, *KEPT, *DISTANCES)
def test_a_divergence_is_never_negative(divergence, pair):
    for scale in (1e-3, 0.1, 1.0, 30.0):
        assert (divergence(scale * pair[0], scale * pair[1]) >= -1e-6).all()
    assert (divergence(*pair) > 0.01).all()


def test_jensen_shannon_is_bounded_by_the_entropy_of_its_weights(pair):
    torch.testing.assert_close(jensen_shannon(1e4 * pair[0], 1e4 * pair[1], 0.5).max(), torch.tensor(2.0).log())


def test_the_ends_of_jensen_shannon_are_the_two_kls(pair):
    torch.testing.assert_close(jensen_shannon(*pair, 0.0), forward_kl(*pair))
    torch.testing.assert_close(jensen_shannon(*pair, 1.0), reverse_kl(*pair))
    for beta, end in ((1e-4, forward_kl), (1 - 1e-4, reverse_kl)):
        near = jensen_shannon(*(logits.double() / 4 for logits in pair), beta) / min(beta, 1 - beta)
        torch.testing.assert_close(near, end(*(logits / 4 for logits in pair)), rtol=2e-2, atol=2e-3)


@each_of(*DENSE)
def test_a_high_temperature_leaves_half_the_mean_square_of_centred_logits(divergence, pair):
    """Hinton et al., 2015, section 2.1: the square of the temperature keeps the loss from vanishing."""
    student, teacher = (logits - logits.mean(-1, keepdim=True) for logits in pair)
    expected = (student - teacher).square().mean(-1) / 2
    beta = divergence.keywords["beta"] if isinstance(divergence, partial) else 0.0
    found = divergence(student, teacher, temperature=200.0)
    share = beta * (1 - beta) if 0 < beta < 1 else 1.0
    torch.testing.assert_close(found, share * expected, rtol=5e-2, atol=5e-3)


@each_of(*DENSE, *KEPT, *DRAWN)
def test_a_token_that_the_teacher_rules_out_leaves_value_and_gradient_finite(divergence, pair):
    student, teacher = pair[0].requires_grad_(), pair[1].clone()
    teacher[:, 3] = float("-inf")
    found = divergence(student, teacher).sum()
    (gradient,) = torch.autograd.grad(found, student)
    assert torch.isfinite(found)
    assert torch.isfinite(gradient).all()


def test_logits_in_bfloat16_are_compared_in_float32(divergence, pair):
    rough = [logits.bfloat16() for logits in pair]
    found = divergence(*rough)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, divergence(*(logits.float() for logits in rough)))


# Summed over tokens


def head_of(states: Tensor) -> tuple[Ending, Tensor]:
    weight = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    return Ending(states, lambda states: states @ weight.T, (weight,)), weight


def value_and_gradients(divergence, tokens: int, chunk: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(tokens, 8, generator=generator).requires_grad_()
    teacher, weights = torch.randn(tokens, 50, generator=generator), torch.rand(tokens, generator=generator)
    end, weight = head_of(states)
    beside = Ending(teacher, lambda logits: logits, ())
    if chunk:
        total = summed(lambda q, _, p: divergence(q, p), end, weights, teacher=beside, chunk_tokens=chunk)
    else:  # as it is defined
        total = weighted_sum(divergence(end.head(states), teacher), weights)
    return total.detach(), *torch.autograd.grad(3 * total, [states, weight])


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_size_of_chunks_changes_neither_value_nor_gradient(divergence, chunk):
    whole = value_and_gradients(divergence, 20, 0)
    for found, expected in zip(value_and_gradients(divergence, 20, chunk), whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("chunk", [1, 1000])
def test_without_a_counted_token_the_sum_is_zero_and_has_a_gradient(divergence, chunk):
    value, of_states, of_weight = value_and_gradients(divergence, 0, chunk)
    assert value == 0.0
    assert of_states.shape == (0, 8)
    assert not of_weight.any()


def test_a_token_without_weight_counts_for_nothing(divergence, pair):
    weights = torch.ones(20)
    weights[5:] = 0.0
    few = weighted_sum(divergence(pair[0][:5], pair[1][:5]), torch.ones(5))
    torch.testing.assert_close(weighted_sum(divergence(*pair), weights), few)


@pytest.fixture(params=["tiny_decoder", "tiny_encoder_decoder"])
def loaded(request):
    return load(request.getfixturevalue(request.param), precision="float32")


def masked_difference(divergence, model, codec, scramble: bool) -> Tensor:
    """The divergence from a fixed teacher, with whatever stands behind the rows' ends."""
    rows = [Row((5, 6, 7, 8), (9, 10, codec.end)), Row((5,), (codec.end,))]
    batch = codec.collate(rows)
    if scramble:
        read = "decoder_input_ids" if codec.architecture == "encoder-decoder" else "input_ids"
        batch.inputs[read][1, 1:] = 77
    teacher = torch.randn(4, model.config.vocab_size, generator=torch.Generator().manual_seed(3))
    return summed(lambda logits, place: divergence(logits, teacher[place]), ending(model, batch), batch.weights)


def test_what_stands_at_masked_positions_never_counts(divergence, loaded):
    kept, scrambled = (masked_difference(divergence, *loaded, scramble) for scramble in (False, True))
    torch.testing.assert_close(kept, scrambled)


@pytest.mark.parametrize("trained", ["everything", "adapters", "the head alone", "all but the head"])
def test_chunks_give_every_parameter_its_gradient_frozen_heads_and_adapters_too(loaded, trained):
    model, codec = loaded
    model = adapt(model, 4 if trained == "adapters" else 0).eval()
    head = {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "head" in trained:
            parameter.requires_grad_((id(parameter) in head) == (trained == "the head alone"))
    whole, parts = (gradients(model, codec, chunk) for chunk in (1000, 2))
    assert any(gradient.abs().max() > 1e-4 for gradient in whole.values())
    assert whole.keys() == parts.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-5)


def gradients(model, codec, chunk: int) -> dict[str, Tensor]:
    """Of the answer's likelihood and the forward KL to a fixed teacher, by parameter."""
    batch = codec.collate([Row((5, 6, 7, 8), (9, 10, 11, codec.end)), Row((5,), (6, codec.end))])
    teacher = torch.randn(6, model.config.vocab_size, generator=torch.Generator().manual_seed(4))
    model.zero_grad()

    def of_tokens(logits: Tensor, place: slice) -> Tensor:
        return forward_kl(logits, teacher[place]) + cross_entropy(logits, batch.targets[place])

    summed(of_tokens, ending(model, batch), batch.weights, chunk_tokens=chunk).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
