"""Losses as pure functions on tensors. Everything is computed in float32, whatever the logits come in."""

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """-log q(target) of each token, in nats. logits (N, V), targets (N,) -> (N,)."""
    return functional.cross_entropy(logits.float(), targets, reduction="none")


def weighted_sum(per_token: Tensor, counted: Tensor, weights: Tensor) -> Tensor:
    """The sum over counted tokens, each times the weight of its row: (N,), (B, T) bool, (B,) -> ().

    `per_token` holds one number for each counted position, in row-major order. Without any counted token the sum is
    zero and still has a gradient, so that a process with an empty batch keeps step with the others.
    """
    row = counted.nonzero()[:, 0]  # (N,)
    return torch.sum(per_token * weights[row])
