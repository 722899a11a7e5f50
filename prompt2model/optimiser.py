"""AdamW on float32 master weights, and the learning rate as a pure function of the step."""

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.98)
"""The second moment forgets within about 50 steps, which suits fine-tunings of a few hundred."""


class MasterAdamW:
    """AdamW (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101) that keeps a float32 copy of other weights.

    An update is often smaller than the spacing of bfloat16 numbers, which would round it away. float32 weights are
    their own masters. `accumulate` after each backward pass, or `accumulate_at_once` beforehand; `step` once for all.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.masters = [p if p.dtype == torch.float32 else p.detach().float() for p in self.parameters]
        self.adamw = torch.optim.AdamW(self.masters, betas=BETAS, weight_decay=0.0, fused=True)
        self.sums: dict[int, Tensor] = {}
        """Memory for the masters' gradients, by their places: new memory for each step would cost a tenth of it."""

    def accumulate(self) -> None:
        """Add the gradients of the last backward pass to the masters', in float32."""
        for place in range(len(self.parameters)):
            self._accumulate(place)

    def accumulate_at_once(self, embedding: nn.Module) -> None:
        """From now on add each gradient as soon as a backward pass has it: it is in the cache then, and soon gone.

        What reaches the embedding is added to the rows that were read. Else each pass would write a gradient of the
        whole vocabulary, nearly all zeros, and add it to that of a head with the same weights.
        """
        for place, parameter in enumerate(self.parameters):
            if parameter is not self.masters[place]:
                hook: Any = parameter.register_post_accumulate_grad_hook
                hook(lambda _, place=place: self._accumulate(place))
            if parameter is getattr(embedding, "weight", None) and type(embedding) is nn.Embedding:
                embedding.register_forward_hook(partial(self._watch_rows, place))

    def _watch_rows(self, place: int, embedding: nn.Embedding, given: tuple[Tensor, ...], read: Tensor) -> Tensor:
        """What was read, as the beginning of a graph of its own."""
        if not read.requires_grad:
            return read
        beginning = read.detach().requires_grad_()
        learned = given[0] != (-1 if embedding.padding_idx is None else embedding.padding_idx)
        hook: Any = beginning.register_hook  # torch gives it no types
        hook(lambda gradient: self._add_rows(place, given[0][learned], gradient[learned]))
        return beginning

    @torch.no_grad()
    def _add_rows(self, place: int, rows: Tensor, gradient: Tensor) -> None:
        master = self.masters[place]
        if master.grad is None:
            master.grad = self._sum(place).zero_()
        master.grad.index_add_(0, rows, gradient.float())

    @torch.no_grad()
    def _accumulate(self, place: int) -> None:
        parameter, master = self.parameters[place], self.masters[place]
        if parameter is master or parameter.grad is None:
            return
        master.grad = (
            self._sum(place).copy_(parameter.grad) if master.grad is None else master.grad.add_(parameter.grad)
        )
        parameter.grad = None

    def _sum(self, place: int) -> Tensor:
        if place not in self.sums:
            self.sums[place] = torch.empty_like(self.masters[place])
        return self.sums[place]

    def step(self, learning_rate: float, max_norm: float = 1.0) -> float:
        """One update with the accumulated gradients, clipped; returns their norm before clipping.

        Gradients that are not finite change nothing: whoever asked sees it by the norm.
        """
        gradients = [master.grad for master in self.masters if master.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            self.clear()
            return norm
        if norm > max_norm:
            nn.utils.clip_grads_with_norm_(self.masters, max_norm, torch.tensor(norm))
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        self.write_back()
        self.clear()
        return norm

    def clear(self) -> None:
        """Forget accumulated gradients."""
        for tensor in (*self.parameters, *self.masters):
            tensor.grad = None

    @torch.no_grad()
    def write_back(self) -> None:
        """Round the masters into the model's own weights."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter is not master:
                parameter.copy_(master)

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, for a checkpoint."""
        found: dict[str, Tensor] = {}
        for index, master in enumerate(self.masters):
            found[f"{index}.master"] = master.detach()
            for name, value in self.adamw.state.get(master, {}).items():
                found[f"{index}.{name}"] = value
        return found

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a checkpoint's masters and moments."""
        for index, master in enumerate(self.masters):
            master.copy_(state[f"{index}.master"])
            for name in ("step", "exp_avg", "exp_avg_sq"):
                if f"{index}.{name}" in state:
                    self.adamw.state[master][name] = state[f"{index}.{name}"].to(master.device).clone()
        self.write_back()


def learning_rate(step: int, steps: int, peak: float, warmup: float = 0.1) -> float:
    """Linear warm-up over the first tenth of the steps, then linear decay to zero. Steps count from 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (steps - step) / max(1, steps - rising)
