"""The next token of each text: the likeliest, or one that is drawn.

A draw is decided by one uniform number and the text's own distribution, whatever stands beside it in the batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from prompt2model.blocks import blocks

NEARLY_ONE = 1.0 - 1e-12
"""The largest uniform number: the sum of all probabilities itself belongs to no token."""


def next_tokens(
    logits: Tensor, temperatures: Sequence[float], top_p: Sequence[float], draws: Sequence[float]
) -> list[int]:
    """The next token of each row of the logits (B, V).

    It is the likeliest where the temperature or `top_p` is 0, else drawn from the nucleus: the fewest likeliest tokens
    that hold `top_p`, and those as likely as the last of them (Holtzman et al., 2020,
    https://arxiv.org/abs/1904.09751). `draws` are uniform numbers below 1. Of logits that are not finite it is some
    token.
    """
    found: list[int] = []
    for rows in blocks(logits):
        own = logits[rows].float()
        likeliest = own.argmax(-1)  # (b,)
        if any(temperatures[rows]):
            each = torch.tensor([temperatures[rows], top_p[rows], draws[rows]], dtype=torch.float64).to(own.device)
            temperature, limit, draw = each  # (b,) each
            chances = (own / temperature[:, None].clamp(min=1e-6).float()).softmax(-1)  # (b, V)
            likeliest = torch.where((temperature > 0) & (limit > 0), _drawn(chances, limit, draw), likeliest)
        found += likeliest.tolist()
    return found


def _drawn(chances: Tensor, top_p: Tensor, draws: Tensor) -> Tensor:
    """A token of each row's nucleus: (b, V), (b,), (b,) -> (b,).

    A token is drawn from the whole distribution by inverse transform sampling, and once more, among those likelier than
    it, while these hold `top_p` already: so nothing has to be sorted. Where the number lay in the token's own share is
    the uniform number of the next draw.
    """
    found = torch.zeros(len(chances), dtype=torch.long, device=chances.device)
    limit = top_p.where(top_p < 1, torch.inf)  # rounded sums may come to more than 1
    rows = torch.arange(len(chances), device=chances.device)
    while len(rows):
        up_to = chances.cumsum(-1, dtype=torch.float64)  # (b, V)
        target = draws[:, None].clamp(0, NEARLY_ONE) * up_to[:, -1:]
        token = torch.searchsorted(up_to, target, right=True).clamp(max=chances.shape[-1] - 1)  # (b, 1)
        found[rows] = token[:, 0]
        if limit.isinf().all():
            break
        own = chances.gather(-1, token)
        likelier = chances.where(chances > own, 0)
        held = likelier.sum(-1)
        again = ((held >= limit) & (held > 0)).nonzero()[:, 0]
        draws = (1 - (up_to.gather(-1, token) - target) / own)[again, 0]
        rows, chances, limit = rows[again], likelier[again], limit[again]
    return found
