"""What this machine computes in a second, and what that means for a model of a given size.

Counted as usual: 2 operations a parameter for every token that is read or written, 6 for one that is learned from
(Kaplan et al., 2020, https://arxiv.org/abs/2001.08361, section 2.1).
"""

import re
import time
from functools import cache
from pathlib import Path

import torch

from prompt2model import weights
from prompt2model.catalogue import builtin_models
from prompt2model.records import Record
from prompt2model.student import device, fastest_dtype

LEARNING, READING, WRITING = 0.65, 0.9, 0.45
"""Shares of a bare matrix product's speed that the whole of a small model reaches, measured with SmolLM2-135M on two
cores. Writing is held up by reading the weights once for every token of a batch: 0.37 with 64 texts, 0.65 with 128, and
texts end one by one."""
GPU_SHARE = 0.3
"""Of the same on a GPU, where a small model's kernels are short."""
PASSES_PER_SECOND = 30.0
"""Tokens that one text grows by in a second, at most: each costs a forward pass with its overhead."""
WRITTEN_AT_ONCE = 128
STEPS_PER_SECOND = 7.0
"""Optimiser steps at most, however fast the GPU: starting their thousands of kernels takes a processor that long."""
TOKENS_OF_A_STEP = 640
"""16 rows of 40."""
USUAL_PARAMETERS = 150_000_000
"""Of a model that no card, no folder and no name tells of."""
WIDTH = {"cpu": 1024, "cuda": 8192}
"""Of the matrices that are multiplied, so large that the machine is busy with them."""


class Speed(Record):
    """What was measured."""

    device: str
    precision: str
    """The faster one here."""
    operations_per_second: float

    def learning(self, parameters: int) -> float:
        """Tokens a second that a model of this size is trained on."""
        return min(self._reached(LEARNING) / (6 * max(parameters, 1)), STEPS_PER_SECOND * TOKENS_OF_A_STEP)

    def reading(self, parameters: int) -> float:
        """Tokens of a prompt, or of labels to choose from, a second."""
        return self._reached(READING) / (2 * max(parameters, 1))

    def writing(self, parameters: int) -> float:
        """Tokens a second over all the texts that are written at once."""
        return min(self._reached(WRITING) / (2 * max(parameters, 1)), PASSES_PER_SECOND * WRITTEN_AT_ONCE)

    def _reached(self, share: float) -> float:
        return share * self.operations_per_second * (GPU_SHARE if self.device != "cpu" else 1.0)


def parameters(model: str) -> int:
    """How many the model has: by its card, by its weights on disk at two bytes each, or by a 7B in its name."""
    for card in builtin_models():
        if card.id == model and card.parameters:
            return card.parameters
    files = list(Path(model).expanduser().glob("*.safetensors")) if weights.at_hand(model) else []
    if files:
        return sum(file.stat().st_size for file in files) // 2
    billions = re.search(r"(?<![\w.])(\d+(?:\.\d+)?)B(?!\w)", model, re.IGNORECASE)
    return round(float(billions[1]) * 1e9) if billions else USUAL_PARAMETERS


@cache
def measure() -> Speed:
    """The speed of matrix products on the device that models run on, in the faster precision. Takes under a second."""
    where, dtype = device(), fastest_dtype()
    width = WIDTH.get(where.type, 1024)
    a = torch.ones(width // 4, width, dtype=dtype, device=where)
    b = torch.ones(width, width, dtype=dtype, device=where)
    best = min(_product_seconds(a, b) for _ in range(8))
    return Speed(
        device=where.type,
        precision=str(dtype).removeprefix("torch."),
        operations_per_second=2 * (width // 4) * width * width / best,
    )


def _product_seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    started = time.perf_counter()
    torch.matmul(a, b)
    if a.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
