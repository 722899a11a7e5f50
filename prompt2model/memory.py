"""Batches that fit into memory, found beforehand where it can be reckoned and by trial where it cannot."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import psutil
import torch

from prompt2model.batches import Row
from prompt2model.errors import RunError

log = logging.getLogger(__name__)

T = TypeVar("T")

LEARNED_AT_ONCE = {"cpu": 2048, "cuda": 16384}
"""Most tokens of a micro-batch. On a processor larger ones are no faster: the matrices are wide enough."""
READ_AT_ONCE = {"cpu": 24576, "cuda": 65536}
"""Padded tokens of a batch that is answered or judged, those to be written too: bounds the memory of activations and
caches, not of weights."""
ANSWERED_AT_ONCE = {"cpu": 128, "cuda": 256}
"""Rows of such a batch. A step of writing reads all weights once, for however many rows; on a GPU it takes hardly
longer for many than for one."""
FEWEST_TOKENS = 64
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch's allocators say; the processor's raises a plain RuntimeError."""


class MicroBatches:
    """Cuts the rows of an optimiser step into parts that fit; remembers what did not."""

    def __init__(self, model: Any) -> None:
        most = LEARNED_AT_ONCE[_here()]
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


def in_batches(
    lengths: Sequence[int], max_rows: int, work: Callable[[list[int]], T], *, max_tokens: int = 0
) -> Iterator[tuple[list[int], T]]:
    """Indices in batches of similar length, longest first, each with what `work` makes of it.

    A batch is at most `max_rows` rows and `max_tokens` padded tokens (0: READ_AT_ONCE); a longer row stands alone.
    Where memory runs out, this batch and those after it hold half the rows. Raises RunError when one row alone is too
    much.
    """
    max_tokens = max_tokens or READ_AT_ONCE[_here()]
    left = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while left:
        batch = left[: max(1, min(max_rows, max_tokens // max(1, lengths[left[0]])))]
        try:
            made = work(batch)
        except RuntimeError as error:
            max_rows = _fewer(len(batch), error, lengths[batch[0]])
        else:
            yield batch, made
            left = left[len(batch) :]


def answered_at_once() -> int:
    """Rows that a model on this machine answers at a time, unless something else is asked for."""
    return ANSWERED_AT_ONCE[_here()]


def ran_out(error: RuntimeError) -> bool:
    """Whether the error says that there is no memory left."""
    return any(sign in str(error).lower() for sign in OUT_OF_MEMORY)


def _fewer(rows: int, error: RuntimeError, longest: int) -> int:
    """Half as many rows, after an error of memory; any other is raised again."""
    if not ran_out(error):
        raise error
    if rows == 1:
        raise RunError(
            f"Memory ran out over a single row, of up to {longest} tokens.",
            hint="Shorter texts or a smaller model need less.",
        ) from error
    log.warning("Memory ran out; batches now hold at most %d rows.", rows // 2)
    return rows // 2


def _power_of_two(number: int) -> int:
    """The largest one that is not larger."""
    return 1 << max(0, number.bit_length() - 1)


def _activation_bytes(config: Any) -> int:
    """A token's activations that the backward pass needs, roughly: 16 vectors a layer, and two of the inner width."""
    text = config.get_text_config()
    inner = getattr(text, "intermediate_size", None) or getattr(text, "d_ff", None) or 4 * text.hidden_size
    layers = text.num_hidden_layers * (2 if config.is_encoder_decoder else 1)
    return int(layers * (16 * text.hidden_size + 4 * inner) * 4)


def _here() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _free_bytes() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)
