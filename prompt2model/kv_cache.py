"""Keys and values of what was read, with room for what is written next.

transformers' own cache copies everything at each new token: with 32 texts of 150 tokens that is a tenth of the time.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Tokens for which there is room when there was none."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Its keys and values, (B, heads, T, width), are the beginning of buffers that are longer."""

    keys: Tensor
    values: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._buffers: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and all values, with the new ones at their end."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", self.keys, key_states)
        self.values = self._appended("values", self.values, value_states)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        self._buffers.clear()  # of rows that are no more, in memory until the next token otherwise

    def _appended(self, name: str, old: Tensor, new: Tensor) -> Tensor:
        """What is old stays where it is, unless rows have come or gone since, or there is no room."""
        before = old.shape[-2] if old.numel() else 0
        after = before + new.shape[-2]
        buffer = self._buffers.get(name)
        if buffer is None or old.data_ptr() != buffer.data_ptr() or after > buffer.shape[-2]:
            buffer = new.new_empty(*new.shape[:-2], after + ROOM, new.shape[-1])
            if before:
                buffer[..., :before, :] = old
            self._buffers[name] = buffer
        buffer[..., before:after, :] = new
        return buffer[..., :after, :]


class FixedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers of a fixed length, of which those of another layer are the beginning.

    What is new goes to `place`, a tensor of one number that whoever holds it counts up; all of the buffers is given
    back, so that a mask must hide what is not there yet.
    """

    def __init__(self, layer: DynamicLayer, length: int, place: Tensor) -> None:
        super().__init__()
        self.keys, self.values = (self._longer(one, length) for one in (layer.keys, layer.values))
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.place = place

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All of the buffers, with the keys and values of one token in their place."""
        self.keys.index_copy_(2, self.place, key_states)
        self.values.index_copy_(2, self.place, value_states)
        return self.keys, self.values

    @staticmethod
    def _longer(tensor: Tensor, length: int) -> Tensor:
        found = tensor.new_zeros(*tensor.shape[:-2], length, tensor.shape[-1])
        found[..., : tensor.shape[-2], :] = tensor
        return found


def growing_cache(config: Any = None) -> DynamicCache:
    """An empty cache for a decoder of this configuration; without one, for full attention in every layer."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if config is None:
        cache.layer_class_to_replicate = RoomyLayer
    return cache


def remembers_all(cache: DynamicCache) -> bool:
    """Whether every layer sees all that was read, by its positions: no sliding window, no convolution, no state."""
    return all(type(layer) is RoomyLayer for layer in cache.layers)
