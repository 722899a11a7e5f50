"""Parameters in pieces: what of them an optimiser updates at once."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

MOST_AT_ONCE = 1 << 21
"""Weights that a processor updates at once: their gradients, moments and masters stay in its cache from the first
operation to the last, where those of a whole model go through memory each time."""
MOST_ELSEWHERE = 1 << 26
"""Weights that a GPU updates at once: rounding makes a float32 copy of them."""


class Piece(NamedTuple):
    """Some rows of a parameter."""

    place: int
    start: int
    stop: int
    weights: int
    first: int
    """The place of its first weight among those of all these parameters."""
    steps: Tensor
    """How many it has taken, ()."""

    def of(self, tensor: Any) -> Tensor:
        """Its part of a tensor of the parameter's shape."""
        part: Tensor = tensor[self.start : self.stop] if tensor.ndim else tensor
        return part


def pieces_of(masters: Mapping[int, Tensor]) -> Iterator[Piece]:
    """All rows of the parameters, by their places, large ones in several pieces."""
    first = 0
    for place, master in masters.items():
        rows = len(master) if master.ndim else 1
        a_row = master.numel() // max(1, rows)
        at_once = max(1, _most_at_once(master) // max(1, a_row)) if master.is_contiguous() else rows
        for start in range(0, rows, at_once):
            stop = min(start + at_once, rows)
            weights = a_row * (stop - start)
            yield Piece(place, start, stop, weights, first, torch.zeros((), device=master.device))
            first += weights


def together(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """The pieces that are updated at once."""
    some, weights = list[Piece](), 0
    for piece in pieces:
        if some and weights + piece.weights > _most_at_once(piece.steps):
            yield some
            some, weights = [], 0
        some.append(piece)
        weights += piece.weights
    if some:
        yield some


def _most_at_once(tensor: Tensor) -> int:
    return MOST_AT_ONCE if tensor.device.type == "cpu" else MOST_ELSEWHERE
