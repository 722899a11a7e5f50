"""The next token of all rows as one CUDA graph: on a GPU a small model's step takes as long as its kernels to start.

What has been read is copied into a cache of fixed size, with room for some more tokens; a step with it is recorded and
then replayed for each of them. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from transformers import DynamicCache

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
    return model.config._attn_implementation == "sdpa" and remembers_all(cache)


class Replay:
    """Rows that go on by one token at a time, until there is no room."""

    def __init__(self, model: Any, cache: DynamicCache, mask: Tensor, positions: Tensor, last: int | None) -> None:
        """What was read: its cache, its mask (B, T), and the positions of what comes next, (B, 1), up to the `last`."""
        self.model, self.last = model, last
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
            with _no_waiting(ids):
                self.logits = self._forward()
        else:
            self.graph.replay()
        self.positions += 1
        if self.last is not None:
            self.positions.clamp_(max=self.last)
        self.place += 1
        self.read += 1
        self.room -= 1
        return self.logits

    def record(self) -> None:
        """Keep a step for all that follow. Raises RuntimeError for what a graph cannot hold."""
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.logits = self._forward()
        finally:
            torch.cuda.set_stream(stream)  # which torch does not do when the recording fails
        self.graph = graph

    def so_far(self) -> tuple[DynamicCache, Tensor, Tensor]:
        """Cache, mask and positions of all that was read, to go on otherwise; nothing is kept."""
        cache = DynamicCache()
        cache.layers = []
        self.graph = None
        while self.cache.layers:
            fixed, layer = self.cache.layers.pop(0), RoomyLayer()
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


def recorded(model: Any, begin: Callable[[], Replay], ids: Tensor, known: Tensor) -> Replay | None:
    """What `begin` makes, once it has read `ids` and kept that step; `known` are the logits that it must have.

    None for a model of which that is not so, or whose step cannot be recorded: it is not tried again. None, for now,
    where memory is short.
    """
    try:
        replay = begin()
        found = replay.advance(ids)
        if (apart := _apart(found, known)) <= ALIKE:
            replay.record()
            return replay
        reason = f"the logits are {apart:.2g} deviations apart"
    except torch.OutOfMemoryError:
        return None
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
        reason = str(error)
    log.info("%s writes step by step, which cannot be recorded: %s", type(model).__name__, reason)
    _refused.add(model)
    return None


def _apart(found: Tensor, known: Tensor) -> float:
    """The root mean square of the differences over the deviation."""
    found, known = found.float(), known.float()
    return float((found - known).square().mean().sqrt() / known.std().clamp(min=1e-6))


@contextmanager
def _no_waiting(ids: Tensor) -> Iterator[None]:
    """Within, an error where the processor would wait for the GPU: that breaks a recording, and what comes after it."""
    if not ids.is_cuda:
        yield
        return
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode", UserWarning)
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(mode)
