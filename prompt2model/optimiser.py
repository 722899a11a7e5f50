"""AdamW on float32 master weights, and the learning rate as a pure function of the step."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from prompt2model.gradients import Gradients
from prompt2model.pieces import Piece, pieces_of, together
from prompt2model.rounding import round_into

BETAS = (0.9, 0.98)
"""The second moment forgets within about 50 steps, which suits fine-tunings of a few hundred."""
EPSILON = 1e-8
NORM_AT_ONCE = 1 << 18
"""Numbers of which a processor takes the norm at once, in float32."""


class MasterAdamW:
    """AdamW (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101) that keeps a float32 copy of other weights.

    An update is often smaller than the spacing of bfloat16 numbers, which would round it away; how the masters become
    weights again is told in `rounding`. float32 weights are their own masters. `step` after a backward pass; before a
    further one that belongs to the same step, `gradients.accumulate`.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.masters = [p if p.dtype == torch.float32 else p.detach().float() for p in self.parameters]
        self.moments = [(torch.zeros_like(master), torch.zeros_like(master)) for master in self.masters]
        self.gradients = Gradients(self.parameters)
        exact = {place: master for place, master in enumerate(self.masters) if master is self.parameters[place]}
        rounded = {place: master for place, master in enumerate(self.masters) if place not in exact}
        to_round = list(together(pieces_of(rounded)))
        self.groups = [*to_round, *together(pieces_of(exact))]
        sizes = [sum(piece.weights for piece in pieces) for pieces in to_round]
        self.memory = torch.empty(max(sizes)) if sizes and self.masters[0].device.type == "cpu" else None
        """In which a processor rounds, whose system takes longer to clear new memory than rounding takes."""

    def step(self, learning_rate: float, max_norm: float = 1.0) -> float:
        """One update with the gradients, clipped; returns their norm before clipping.

        Gradients that are not finite change nothing: whoever asked sees it by the norm.
        """
        gradients = self.gradients.found()
        if self.parameters and self.parameters[0].is_cuda:
            gradients = dict(zip(gradients, _in_float32(list(gradients.values())), strict=True))
        norm = _norm(list(gradients.values()))
        if norm.isfinite():
            scale = float((max_norm / (norm + 1e-6)).clamp(max=1.0))  # as torch's clip_grad_norm_ has it
            for pieces in self.groups:
                if learned := [piece for piece in pieces if piece.place in gradients]:
                    self._update(learned, gradients, scale, learning_rate)
                    self._round(pieces)
        self.gradients.clear()
        return float(norm)

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, for a checkpoint."""
        found: dict[str, Tensor] = {}
        for place, (master, (first, second)) in enumerate(zip(self.masters, self.moments, strict=True)):
            found |= {f"{place}.master": master.detach(), f"{place}.exp_avg": first, f"{place}.exp_avg_sq": second}
        return found | {f"{piece.place}.step": piece.steps for pieces in self.groups for piece in pieces}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a checkpoint's masters and moments."""
        for place, master in enumerate(self.masters):
            for name, tensor in zip(("master", "exp_avg", "exp_avg_sq"), (master, *self.moments[place]), strict=True):
                tensor.copy_(state[f"{place}.{name}"])
        for pieces in self.groups:
            self._round(pieces)
            for piece in pieces:
                piece.steps.copy_(state[f"{piece.place}.step"])

    @torch.no_grad()
    def _update(self, pieces: Sequence[Piece], gradients: Mapping[int, Tensor], scale: float, rate: float) -> None:
        """Scale the pieces' gradients and take the step."""
        scaled = _in_float32([piece.of(gradients[piece.place]) for piece in pieces])
        if scale < 1:
            torch._foreach_mul_(scaled, scale)
        masters = [piece.of(self.masters[piece.place]) for piece in pieces]
        first, second = ([piece.of(self.moments[piece.place][which]) for piece in pieces] for which in (0, 1))
        adamw(
            masters,
            scaled,
            first,
            second,
            [],
            [piece.steps for piece in pieces],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    @torch.no_grad()
    def _round(self, pieces: Sequence[Piece]) -> None:
        """The masters of these pieces into the model's own weights, where those are others."""
        own, masters = ([piece.of(of[piece.place]) for piece in pieces] for of in (self.parameters, self.masters))
        if own[0].dtype != torch.float32:
            round_into(own, masters, pieces[0].first, self.memory)


def _in_float32(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors themselves where they are in float32, else all of them copied, at once."""
    found = [one if one.dtype == torch.float32 else torch.empty_like(one, dtype=torch.float32) for one in tensors]
    pairs = [pair for pair in zip(found, tensors, strict=True) if pair[0] is not pair[1]]
    if pairs:
        into, source = map(list, zip(*pairs, strict=True))
        torch._foreach_copy_(into, source)  # by few kernels on a GPU
    return found


def _norm(tensors: list[Tensor]) -> Tensor:
    """The norm of all of them together, in float32. -> ()"""
    if not tensors:
        return torch.zeros(())
    exact = [tensor for tensor in tensors if tensor.dtype == torch.float32]
    norms = list(torch._foreach_norm(exact)) if exact else []
    for tensor in tensors:
        if tensor.dtype != torch.float32:  # converted part by part, within a processor's cache
            parts = (part.float() for part in torch.split(tensor.reshape(-1), NORM_AT_ONCE))
            norms.append(torch.stack([part.dot(part) for part in parts]).sum().sqrt())
    found: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return found


def learning_rate(step: int, steps: int, peak: float, warmup: float = 0.1) -> float:
    """Linear warm-up over the first tenth of the steps, then linear decay to zero. Steps count from 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (steps - step) / max(1, steps - rising)
