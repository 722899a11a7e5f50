"""Losses as pure functions on tensors. Everything is computed in float32, whatever the logits come in.

A divergence compares a student's and a teacher's logits token by token, (N, V) each, and gives (N,) in nats. `summed`
is the one place that sums over tokens, a chunk of them at a time, for all of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from prompt2model.blocks import blocks
from prompt2model.gradients import by_autograd

CHUNK_TOKENS = 1024
"""Tokens whose logits exist at the same time: in bfloat16 those of a vocabulary of 49,152 take 100 MB, their gradient
as much, and on a GPU each float32 copy twice that."""
RULED_OUT = -1e30
"""The log-probability of what cannot be, in float32: 0 · ∞ would be no number."""


class Ending(NamedTuple):
    """What is left of a student's forward pass: its head."""

    states: Tensor
    """(N, H), what the head reads at the counted positions."""
    head: Callable[[Tensor], Tensor]
    """(n, H) -> (n, V) logits."""
    parameters: tuple[Tensor, ...]
    """The head's own."""
    hidden: tuple[Tensor, ...] = ()
    """(N, H) each, what the layers that were asked for give there."""


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log q(target) of each token. logits (N, V), targets (N,) -> (N,)."""
    return functional.cross_entropy(logits.float(), targets, reduction="none")


@torch.no_grad()
def log_probabilities(logits: Tensor, tokens: Tensor) -> Tensor:
    """log q(token) of each row's token, in nats, for use without a gradient. logits (N, V), tokens (N,) -> (N,)."""
    parts = [-cross_entropy(logits[rows], tokens[rows]) for rows in blocks(logits)]
    return torch.cat(parts) if parts else logits.new_zeros(0, dtype=torch.float32)


def forward_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p ‖ q) = Σ_v p (log p − log q), p the teacher, q the student. (N, V), (N, V) -> (N,).

    Both are softened by the temperature; the square of it keeps the gradient's scale (Hinton et al., 2015,
    https://arxiv.org/abs/1503.02531, section 2).
    """
    return temperature**2 * _kl(_log_softmax(teacher, temperature), _log_softmax(student, temperature))


def reverse_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(q ‖ p) = Σ_v q (log q − log p), p the teacher, q the student. (N, V), (N, V) -> (N,)."""
    return temperature**2 * _kl(_log_softmax(student, temperature), _log_softmax(teacher, temperature))


def jensen_shannon(student: Tensor, teacher: Tensor, beta: float, temperature: float = 1.0) -> Tensor:
    """The generalised Jensen-Shannon divergence, β KL(p ‖ m) + (1−β) KL(q ‖ m), m = βp + (1−β)q. -> (N,).

    Agarwal et al., 2024, https://arxiv.org/abs/2306.13649, eq. 1. At its ends, where the definition vanishes, it is
    what it tends to when divided by β or 1−β: the forward KL at 0, the reverse KL at 1, as usual.
    """
    if beta == 0.0:
        return forward_kl(student, teacher, temperature)
    if beta == 1.0:
        return reverse_kl(student, teacher, temperature)
    log_p, log_q = _log_softmax(teacher, temperature), _log_softmax(student, temperature)
    weights = log_p.new_tensor([beta, 1.0 - beta]).log()
    log_m = torch.logaddexp(log_p + weights[0], log_q + weights[1])
    return temperature**2 * (beta * _kl(log_p, log_m) + (1.0 - beta) * _kl(log_q, log_m))


def top_k_forward_kl(student: Tensor, ids: Tensor, log_p: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(p ‖ q) of which only p's k likeliest tokens are known; all others are one token. -> (N,)

    student (N, V) logits, ids and log_p (N, k), p at the same temperature. It is never above the whole KL, and equal to
    it for k = V: what is lost is the difference within the tail.
    """
    scaled = student.float() / temperature
    whole = scaled.logsumexp(-1, keepdim=True)  # (N, 1)
    log_p = log_p.clamp(min=RULED_OUT)
    known = _kl(log_p, scaled.gather(-1, ids.long()) - whole)
    if ids.shape[-1] == student.shape[-1]:
        return temperature**2 * known
    rest = (1.0 - log_p.exp().sum(-1)).clamp(min=0.0)  # (N,), the tail's probability
    tail = scaled.scatter(-1, ids.long(), RULED_OUT).logsumexp(-1)
    log_q_rest = (tail - whole.squeeze(-1)).clamp(min=RULED_OUT)
    return temperature**2 * (known + torch.xlogy(rest, rest) - rest * log_q_rest)


def sampled_forward_kl(student: Tensor, ids: Tensor, log_p: Tensor, temperature: float = 1.0) -> Tensor:
    """The mean of log p − log q over k tokens drawn from p: KL(p ‖ q) without bias, and so is its gradient. -> (N,)

    Random-sampling distillation, https://arxiv.org/abs/2503.16870, section 3, with the teacher as the proposal. student
    (N, V) logits, ids and log_p (N, k), p at the same temperature.
    """
    scaled = student.float() / temperature
    log_q = scaled.gather(-1, ids.long()) - scaled.logsumexp(-1, keepdim=True)
    return temperature**2 * (log_p - log_q).mean(-1)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cos of two states, (N, H), (N, H) -> (N,). DistilBERT (Sanh et al., 2019), https://arxiv.org/abs/1910.01108."""
    return 1.0 - functional.cosine_similarity(student.float(), teacher.float(), -1)


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean square of the difference of two states, (N, H), (N, H) -> (N,)."""
    return (student.float() - teacher.float()).square().mean(-1)


def weighted_sum(per_token: Tensor, weights: Tensor) -> Tensor:
    """The sum over tokens, each times its weight: (N,), (N,) -> ().

    Of no token it is zero and still has a gradient, so that a process with an empty batch keeps step with the others.
    """
    return torch.sum(per_token * weights)


def summed(
    loss: Callable[..., Tensor],
    end: Ending,
    weights: Tensor,
    *,
    teacher: Ending | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Tensor:
    """Σ_n weights_n · loss_n, without all logits in memory at the same time. -> ()

    `loss(logits, place)` gives the losses (n,) of some tokens, those at `place`, a slice of the N; beside a teacher it
    is `loss(logits, place, wanted)`, with the teacher's logits (n, V') of these tokens, through which no gradient goes.
    It must depend on the student through its logits alone: their gradient is taken in the forward pass, when they exist
    anyway, so that nothing is computed twice.
    """

    def of_chunk(states: Tensor, place: slice) -> Tensor:
        with torch.no_grad():
            beside = () if teacher is None else (teacher.head(teacher.states[place]),)
        logits = end.head(states)
        found: Tensor = _InBlocks.apply(loss, weights, place.start, logits, *beside)  # type: ignore[no-untyped-call]
        return found

    places = [slice(start, start + chunk_tokens) for start in range(0, max(len(weights), 1), chunk_tokens)]
    if len(places) == 1 or not torch.is_grad_enabled():
        return torch.stack([of_chunk(end.states[place], place) for place in places]).sum()
    total: Tensor = _Chunked.apply(of_chunk, places, end.states, *end.parameters)  # type: ignore[no-untyped-call]
    return total


class _InBlocks(torch.autograd.Function):
    """The weighted sum of the losses of a chunk's logits, with their gradient already taken on the way."""

    @staticmethod
    def forward(
        ctx: Any, loss: Callable[..., Tensor], weights: Tensor, start: int, logits: Tensor, *beside: Tensor
    ) -> Tensor:
        is_learned, several = ctx.needs_input_grad[3], blocks(logits)
        total = logits.new_zeros((), dtype=torch.float32)
        ctx.gradient = torch.empty_like(logits) if is_learned and len(several) != 1 else None
        for rows in several:
            part, place = logits[rows].detach().requires_grad_(is_learned), slice(start + rows.start, start + rows.stop)
            with torch.set_grad_enabled(is_learned):
                value = weighted_sum(loss(part, place, *(table[rows] for table in beside)), weights[place])
            if is_learned:
                (gradient,) = torch.autograd.grad(value, part)
                if ctx.gradient is None:
                    ctx.gradient = gradient
                else:
                    ctx.gradient[rows] = gradient
            total += value.detach()
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        of_logits, ctx.gradient = ctx.gradient, None  # there is no second time, and memory is short
        return None, None, None, of_logits.mul_(gradient), *[None] * (len(ctx.needs_input_grad) - 4)


class _Chunked(torch.autograd.Function):
    """The sum of a function over chunks of its first argument, with the gradient already taken on the way."""

    @staticmethod
    def forward(
        ctx: Any, of_chunk: Callable[[Tensor, slice], Tensor], places: list[slice], states: Tensor, *parameters: Tensor
    ) -> Tensor:
        total = states.new_zeros((), dtype=torch.float32)
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        of_states, of_parameters = torch.empty_like(states), [torch.zeros_like(p, dtype=torch.float32) for p in trained]
        for place in places:
            with torch.enable_grad(), by_autograd():
                part = states[place].detach().requires_grad_()
                value = of_chunk(part, place)
            found = torch.autograd.grad(value, [part, *trained])
            of_states[place] = found[0]
            for gradient, share in zip(of_parameters, found[1:], strict=True):
                gradient += share
            total += value.detach()
        ctx.gradients = (of_states, iter(of_parameters))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        of_states, of_parameters = ctx.gradients
        wanted = ctx.needs_input_grad[3:]
        shares = [next(of_parameters).mul_(gradient) if is_wanted else None for is_wanted in wanted]
        return None, None, of_states * gradient, *shares


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    """In float32, and finite where a token is ruled out, so that value and gradient are numbers."""
    return functional.log_softmax(logits.float() / temperature, -1).clamp(min=RULED_OUT)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Σ_v p (log p − log q). (N, V), (N, V) -> (N,)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
