"""What MiniLLM's policy gradient is made of, as pure functions on tensors of tokens.

Gu et al., 2024, https://arxiv.org/abs/2306.08543. Here p is the teacher, q the student, and p~ the law that answers
were drawn from. What is known of one answer stands in (T,): nothing is padded, so that nothing counts by mistake.
"""

import torch
from torch import Tensor


def importance(log_q: Tensor, log_p: Tensor, share: float) -> Tensor:
    """w_t = q(y_t) / p~(y_t), where p~ = share · p + (1 − share) · q: section 2.2, of each token alone. -> (T,)

    Its mean under p~ is one at every position, so it never changes what a sum over the vocabulary is worth.
    """
    return torch.reciprocal(share * (log_p - log_q).exp() + (1.0 - share))


def to_come(rewards: Tensor, *, with_own: bool = False, normalise: bool = True) -> Tensor:
    """R_{t+1}, the sum of the rewards after each token, or R_t with the token's own; normalised their mean, eq. 6.

    Tokens count from 0, so that T − t − 1 of them follow token t; nothing follows the last, whose R is 0. (T,) -> (T,)
    """
    total: Tensor = rewards.flip(0).cumsum(0).flip(0)  # (T,), R_t
    counts = torch.arange(len(rewards), 0, -1, device=rewards.device)  # (T,)
    if not with_own:
        total, counts = torch.cat([total[1:], total.new_zeros(1)]), counts - 1
    return (total / counts.clamp(min=1) if normalise else total).detach()


def whitened(values: Tensor, total: float, squares: float, count: float) -> Tensor:
    """The values less the mean, over the deviation, of `count` numbers with this sum and sum of squares."""
    if count < 2:
        return values
    mean = total / count
    deviation = (max(squares / count - mean**2, 0.0) * count / (count - 1)) ** 0.5
    found: Tensor = (values - mean) / (deviation + 1e-8)
    return found


def clipped(log_q: Tensor, old_log_q: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """−min(ρ A, clip(ρ, 1 − ε, 1 + ε) A), ρ = q / q_old: what PPO minimises. (N,) each -> (N,)

    Schulman et al., 2017, https://arxiv.org/abs/1707.06347, eq. 7. At ρ = 1 its gradient is −A ∇ log q. With `clip` 0
    nothing is clipped.
    """
    ratio = (log_q - old_log_q).exp()
    if not clip:
        return -ratio * advantages
    return -torch.minimum(ratio * advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * advantages)
