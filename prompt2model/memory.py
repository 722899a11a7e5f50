"""Micro-batches that fit into memory, found beforehand where it can be reckoned and by trial where it cannot."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import psutil
import torch

from prompt2model.batches import Row

log = logging.getLogger(__name__)

MOST_TOKENS = 2048
"""On a processor larger micro-batches are no faster: the matrices are wide enough."""
MOST_TOKENS_GPU = 16384
FEWEST_TOKENS = 64
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch's allocators say; the processor's raises a plain RuntimeError."""


class MicroBatches:
    """Cuts the rows of an optimiser step into parts that fit; remembers what did not."""

    def __init__(self, model: Any) -> None:
        most = MOST_TOKENS_GPU if torch.cuda.is_available() else MOST_TOKENS
        self.tokens = max(256, min(most, _power_of_two(_free_bytes() // 2 // _activation_bytes(model.config))))
        """Most tokens of a micro-batch, padding included: a power of two, lest it change with every free byte."""

    def split(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """The rows, in their order, in parts of at most `tokens` padded tokens; a longer row stands alone."""
        part: list[Row] = []
        for row in rows:
            longest = max(len(other) for other in [*part, row])
            if part and longest * (len(part) + 1) > self.tokens:
                yield part
                part = []
            part.append(row)
        if part:
            yield part

    def shrink(self) -> bool:
        """Halve the micro-batch, if it can be smaller still."""
        if self.tokens <= FEWEST_TOKENS:
            return False
        self.tokens //= 2
        log.warning("Memory ran out; micro-batches now hold at most %d tokens.", self.tokens)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True


def ran_out(error: RuntimeError) -> bool:
    """Whether the error says that there is no memory left."""
    return any(sign in str(error).lower() for sign in OUT_OF_MEMORY)


def _power_of_two(number: int) -> int:
    """The largest one that is not larger."""
    return 1 << max(0, number.bit_length() - 1)


def _activation_bytes(config: Any) -> int:
    """A token's activations that the backward pass needs, roughly: 16 vectors a layer, and two of the inner width."""
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or getattr(text, "d_ff", None) or 4 * text.hidden_size
    layers = text.num_hidden_layers * (2 if config.is_encoder_decoder else 1)
    return int(layers * (16 * text.hidden_size + 4 * inner) * 4)


def _free_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
