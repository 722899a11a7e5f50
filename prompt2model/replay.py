"""The next token of all rows as one CUDA graph: on a GPU a small model's step takes as long as its kernels to start.

What has been read is copied into a cache of fixed size, with room for some more tokens; a step with it is recorded and
then replayed for each of them. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import logging
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import DynamicCache

from prompt2model.attention import NAME
from prompt2model.kv_cache import FixedLayer, RoomyLayer, remembers_all

log = logging.getLogger(__name__)

DEVICES = ("cuda",)
WORTH_RECORDING = 8
"""Tokens that the same rows have written from which on a recording, which costs two steps, is paid back."""
ROOM = 128
"""Tokens that a recording has room for: each reads all of it."""
ALIKE = 0.05
"""How far the logits of the first step, in either way, may be apart: their root mean square over their deviation."""

_refused: WeakSet[Any] = WeakSet()
"""Models whose steps cannot be recorded."""


def can_replay(model: Any, cache: Any) -> bool:
    """Whether the model's steps may be the same whatever the length: its mask is given, and it sees all that is."""
    if cache is None or model.device.type not in DEVICES or model in _refused:
        return False
    return model.config._attn_implementation in ("sdpa", NAME) and remembers_all(cache)


class Replay:
    """Rows that go on by one token at a time, until there is no room."""

    def __init__(self, model: Any, cache: DynamicCache, mask: Tensor, positions: Tensor) -> None:
        """What was read: its cache, its mask (B, T), and the positions of what comes next, (B, 1)."""
        self.model = model
        rows, self.read = mask.shape
        self.room = ROOM
        self.positions = positions.clone()
        self.ids = positions.new_zeros(rows, 1)
        self.place = torch.tensor([self.read], device=mask.device)
        """Where in the cache the next token goes."""
        self.seen = torch.zeros(rows, 1, 1, self.read + ROOM, dtype=torch.bool, device=mask.device)
        self.seen[..., : self.read] = mask[:, None, None]
        self.cache = DynamicCache()
        self.cache.layers = [FixedLayer(layer, self.read + ROOM, self.place) for layer in cache.layers]
        self.graph: Any = None
        self.logits: Tensor
        """(B, V), of the next token, until the next step."""

    def advance(self, ids: Tensor) -> Tensor:
        """Read these tokens, (B, 1)."""
        self.ids.copy_(ids)
        self.seen.index_fill_(3, self.place, True)
        if self.graph is None:
            self.logits = self._forward()
        else:
            self.graph.replay()
        self.positions += 1
        self.place += 1
        self.read += 1
        self.room -= 1
        return self.logits

    def record(self) -> None:
        """Keep a step for all that follow. Raises RuntimeError for what a graph cannot hold."""
        if self.ids.is_cuda:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.logits = self._forward()
            self.graph = graph

    def so_far(self) -> tuple[DynamicCache, Tensor, Tensor]:
        """Cache, mask and positions of all that was read, to go on otherwise."""
        cache = DynamicCache()
        cache.layers = []
        for fixed in self.cache.layers:
            layer = RoomyLayer()
            layer.update(fixed.keys[..., : self.read, :], fixed.values[..., : self.read, :])
            cache.layers.append(layer)
        return cache, self.seen[:, 0, 0, : self.read].long(), self.positions

    def _forward(self) -> Tensor:
        out = self.model(
            input_ids=self.ids,
            attention_mask=self.seen,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: Tensor = out.logits[:, -1]
        return logits


def recorded(model: Any, before: Replay, ids: Tensor, logits: Tensor) -> Replay | None:
    """A recording for the rows of `before` once they have read `ids`, whose logits are known; None where it fails."""
    try:
        found, known = before.advance(ids).float(), logits.float()
        apart = float((found - known).square().mean().sqrt() / known.std().clamp(min=1e-6))
        if not apart <= ALIKE:
            raise RuntimeError(f"its logits are {apart:.2g} deviations apart")
        before.record()
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        log.debug("The steps of %s are not recorded: %s", type(model).__name__, error)
        _refused.add(model)
        return None
    return before
