"""Beam search: the likeliest texts, among those that begin as the likeliest beginnings do.

What is looked for is the mode of p(y | x), as in Kim & Rush, 2016, https://arxiv.org/abs/1606.07947, section 3.2: a
text counts by its log-likelihood, its end included, and by nothing for its length. The `generate` of transformers finds
the same texts with `length_penalty=0.0`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import inf
from typing import Any

import torch
from torch import Tensor

from prompt2model.batches import Codec
from prompt2model.decoding import State, Writing, extend


@torch.inference_mode()
def search(model: Any, codec: Codec, texts: Sequence[Writing], *, beams: int, n_best: int = 1) -> list[list[Writing]]:
    """For each of the texts, none of them begun, the `n_best` likeliest that so many beams find, the likeliest first.

    One that is cut off at its `max_tokens` stands beside those that came to their end. All are one batch.
    """
    state = State(model, codec, [text.prompt for text in texts])
    searches = going = [_Search(beams, n_best, [text]) for text in texts]
    while going:
        log_p = state.logits.float().log_softmax(-1).split([len(one.live) for one in going])  # (live, V) each
        parents = [one.step(own, codec) for one, own in zip(going, log_p, strict=True)]
        firsts = accumulate(map(len, log_p), initial=0)
        places = [[first + parent for parent in own] for first, own in zip(firsts, parents, strict=False)]
        rows = [row for one, own in zip(going, places, strict=True) if not one.is_over for row in own]
        going = [one for one in going if not one.is_over]
        if going:
            state.keep(rows)
            state.advance([[text.tokens[-1]] for one in going for text in one.live])
    return [one.found for one in searches]


@dataclass
class _Search:
    """The search behind one prompt."""

    beams: int
    n_best: int
    live: list[Writing]
    """The likeliest beginnings, the likeliest first."""
    found: list[Writing] = field(default_factory=list)
    """The likeliest texts, the likeliest first."""

    @property
    def is_over(self) -> bool:
        """Whether no beginning can become one of the best: each further token makes it less likely."""
        is_full = len(self.found) == self.n_best
        return not self.live or (is_full and self.live[0].log_p <= self.found[-1].log_p)

    def step(self, log_p: Tensor, codec: Codec) -> list[int]:
        """Write one more token, by the log-likelihoods of all, (live, V). -> which beginning each new one goes on with.

        A text that ends takes a beam like any other: it counts if it is among the `beams` likeliest continuations.
        """
        grown: list[tuple[int, Writing]] = []
        for rank, (parent, text) in enumerate(self._continuations(log_p, codec)):
            if text.is_going:
                grown.append((parent, text))
            elif rank < self.beams:
                self.found.append(text)
        self.found = sorted(self.found, key=lambda text: -text.log_p)[: self.n_best]
        self.live = [text for _, text in grown[: self.beams]]
        return [parent for parent, _ in grown[: self.beams]]

    def _continuations(self, log_p: Tensor, codec: Codec) -> Iterator[tuple[int, Writing]]:
        """The likeliest, each with the beginning that it goes on with: so many that `beams` of them do not end."""
        total = log_p + torch.tensor([text.log_p for text in self.live], device=log_p.device)[:, None]  # (live, V)
        most = min(self.beams * (1 + len(codec.ends)), total.numel())
        values, places = (found.tolist() for found in total.flatten().topk(most))
        for value, (parent, token) in zip(values, (divmod(place, total.shape[1]) for place in places), strict=True):
            if value > -inf:
                text = replace(self.live[parent], tokens=[*self.live[parent].tokens], log_p=value)
                extend(text, token, codec)
                yield parent, text
