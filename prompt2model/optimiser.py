"""AdamW on float32 master weights, and the learning rate as a pure function of the step."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

BETAS = (0.9, 0.98)
"""The second moment forgets within about 50 steps, which suits fine-tunings of a few hundred."""


class MasterAdamW:
    """AdamW (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101) that keeps a float32 copy of other weights.

    An update is often smaller than the spacing of bfloat16 numbers, which would round it away. float32 weights are
    their own masters. `accumulate` after each backward pass, `step` once for all of them.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.masters = [p if p.dtype == torch.float32 else p.detach().float() for p in self.parameters]
        self.adamw = torch.optim.AdamW(self.masters, betas=BETAS, weight_decay=0.0, fused=True)

    def accumulate(self) -> None:
        """Add the gradients of the last backward pass to the masters', in float32."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter is master or parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def step(self, learning_rate: float, max_norm: float = 1.0) -> float:
        """One update with the accumulated gradients, clipped; returns their norm before clipping.

        Gradients that are not finite change nothing: whoever asked sees it by the norm.
        """
        norm = float(torch.nn.utils.clip_grad_norm_(self.masters, max_norm))
        if not math.isfinite(norm):
            self.clear()
            return norm
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
