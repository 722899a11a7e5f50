"""The gradients of parameters: of one backward pass as autograd leaves them, of several as sums in float32.

What reaches a vocabulary's two large matrices can go to their sums directly, without a gradient of their whole size:
to write that into memory which the system has to find and clear first takes a processor longer than the arithmetic,
and nearly all of an embedding's would be zeros (LOG.md, 2026-11-27).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from prompt2model.blocks import blocks

_IS_BY_AUTOGRAD = ContextVar("whether heads leave their weights' gradients to autograd", default=False)


class Gradients:
    """What has come together for each parameter, by its place, since `clear`."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.sums: dict[int, Tensor] = {}
        """In float32. That of a float32 parameter is its own gradient, and stands here if its memory is ours."""
        self.spare: dict[int, Tensor] = {}
        """Memory of the sums before, on a processor: its system takes longer to clear new memory than the sums take."""

    def found(self) -> dict[int, Tensor]:
        """Those that there are: sums in float32 where there are some, else as autograd has left them."""
        for place in self.sums:
            self._accumulate(place)
        sums = {place: found for place, found in self.sums.items() if not self._is_own_sum(place)}
        all_of_them = {place: sums.get(place, parameter.grad) for place, parameter in enumerate(self.parameters)}
        return {place: gradient for place, gradient in all_of_them.items() if gradient is not None}

    def accumulate(self) -> None:
        """Add those of the last backward pass to the sums."""
        for place in range(len(self.parameters)):
            self._accumulate(place)

    def clear(self) -> None:
        """Forget them. The sums' memory is kept for the next ones, as far as these use it."""
        self.spare = {place: found for place, found in self.sums.items() if found.device.type == "cpu"}
        self.sums = {}
        for parameter in self.parameters:
            parameter.grad = None

    @contextmanager
    def adding_directly(self, embedding: Any, head: Any) -> Iterator[None]:
        """Within, add to the sums the rows that the embedding reads and, on a processor, the head's part, in blocks.

        That goes for a plain embedding and a linear head without a bias whose weights are trained themselves.
        """
        with ExitStack() as stack:
            for place, parameter in enumerate(self.parameters):
                if type(embedding) is nn.Embedding and parameter is embedding.weight:
                    stack.callback(embedding.register_forward_hook(partial(self._watch_rows, place)).remove)
                if type(head) is nn.Linear and parameter is head.weight and head.bias is None:
                    stack.callback(head.register_forward_hook(partial(self._watch_product, place)).remove)
            yield

    def _watch_rows(self, place: int, embedding: nn.Embedding, given: tuple[Tensor, ...], read: Tensor) -> Tensor:
        """What was read, as the beginning of a graph of its own."""
        if not read.requires_grad:
            return read
        beginning = read.detach().requires_grad_()
        learned = given[0] != (-1 if embedding.padding_idx is None else embedding.padding_idx)
        hook: Any = beginning.register_hook  # torch gives it no types
        hook(lambda gradient: self._add_rows(place, given[0][learned], gradient[learned]))
        return beginning.clone()  # which a model may change in place

    def _watch_product(self, place: int, head: nn.Linear, given: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        """The logits (…, V), as made of the states alone; of states without a gradient none would come back here."""
        are_alike = given[0].dtype == logits.dtype == head.weight.dtype  # not so with mixed precision
        has_gradient = given[0].requires_grad and logits.requires_grad
        is_elsewhere = logits.device.type != "cpu"
        if not (has_gradient and are_alike) or is_elsewhere or _IS_BY_AUTOGRAD.get():
            return logits
        add = partial(self._add_product, place)
        made: Tensor = _Product.apply(given[0], head.weight.detach(), logits.detach(), add)  # type: ignore[no-untyped-call]
        return made

    @torch.no_grad()
    def _accumulate(self, place: int) -> None:
        parameter = self.parameters[place]
        if self._is_own_sum(place) or parameter.grad is None:
            return
        if place in self.sums:
            self.sums[place] += parameter.grad
        else:
            self.sums[place] = self._new_sum(place).copy_(parameter.grad)
        parameter.grad = None

    @torch.no_grad()
    def _add_rows(self, place: int, rows: Tensor, gradient: Tensor) -> None:
        found, is_new = self._sum(place)
        if is_new:
            found.zero_()
        found.index_add_(0, rows, gradient.float())

    @torch.no_grad()
    def _add_product(self, place: int, gradient: Tensor, states: Tensor) -> None:
        """gradientᵀ · states, of (n, V) and (n, H)."""
        found, is_new = self._sum(place)
        for rows in blocks(found):
            part = gradient[:, rows].t() @ states
            if is_new:
                found[rows] = part
            else:
                found[rows] += part

    def _sum(self, place: int) -> tuple[Tensor, bool]:
        """The parameter's sum in float32, with what autograd has left, and whether it is without content yet."""
        self._accumulate(place)
        parameter = self.parameters[place]
        found = parameter.grad if self._is_own_sum(place) else self.sums.get(place)
        if found is not None:
            return found, False
        found = self.sums[place] = self._new_sum(place)
        if self._is_own_sum(place):
            parameter.grad = found
        return found, True

    def _is_own_sum(self, place: int) -> bool:
        return self.parameters[place].dtype == torch.float32

    def _new_sum(self, place: int) -> Tensor:
        """Without content yet."""
        found = self.spare.pop(place, None)
        return torch.empty_like(self.parameters[place], dtype=torch.float32) if found is None else found


class _Product(torch.autograd.Function):
    """A head's logits (…, V), made of states (…, H) by its weight (V, H). Instead of the weight `add` hears of their
    gradient, with the states."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, logits: Tensor, add: Any) -> Tensor:
        ctx.save_for_backward(states, weight)
        ctx.add = add
        ctx.mark_dirty(logits)  # so that a model may change them in place
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        states, weight = ctx.saved_tensors
        ctx.add(gradient.reshape(-1, gradient.shape[-1]), states.reshape(-1, states.shape[-1]))
        return gradient @ weight, None, None, None


@contextmanager
def by_autograd() -> Iterator[None]:
    """Within, heads are run for someone who asks autograd for their weights' gradients."""
    before = _IS_BY_AUTOGRAD.set(True)
    try:
        yield
    finally:
        _IS_BY_AUTOGRAD.reset(before)
