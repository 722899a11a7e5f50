"""Attention on a processor in bfloat16: two products of matrices instead of torch's one kernel.

torch 2.13 has a kernel for processors that is made for float32: in bfloat16 it takes three to six times as long to
learn from short rows, and longer for the single queries of a text that is being written (LOG.md, 2026-11-27). Long
reading without gradients is what it does better, and is left to it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "prompt2model"
"""As transformers knows it."""
MOST_SCORES, MOST_SCORES_LEARNED = 1 << 14, 1 << 18
"""Of a head, queries times keys: above that torch's kernel is faster, and with gradients takes less memory."""


def use_attention(model: Any) -> None:
    """Let a model on a processor attend by these products, where it would by torch's kernel in bfloat16."""
    is_slow = model.device.type == "cpu" and model.dtype == torch.bfloat16
    if is_slow and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """softmax(q kᵀ · scaling + bias) v, the softmax in float32. (B, H, Q, D), (B, G, K, D) twice -> (B, Q, H, D)

    Queries of the heads that share a key are multiplied with it together, so that no key is copied. A mask says what
    may be seen, or what is added to the scores, (B or 1, H or 1, Q, K).
    """
    (batch, heads, queries, width), (groups, keys) = query.shape, key.shape[1:3]
    causal = (getattr(module, "is_causal", True) if is_causal is None else is_causal) and queries > 1
    most = MOST_SCORES_LEARNED if query.requires_grad else MOST_SCORES
    if queries * keys > most or (attention_mask is None and causal and keys != queries):
        also = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, "position_bias": position_bias, **more}
        attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **also)
        return attended
    scores = query.reshape(batch, groups, -1, width) @ key.transpose(2, 3)
    scores = scores.view(batch, heads, queries, keys) * (width**-0.5 if scaling is None else scaling)
    if position_bias is not None:
        scores = scores + position_bias
    if attention_mask is None and causal:
        attention_mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril()
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    shares = nn.functional.dropout(scores.softmax(-1, dtype=torch.float32).to(value.dtype), dropout)
    attended_to = shares.view(batch, groups, -1, keys) @ value
    return attended_to.view(batch, heads, queries, -1).transpose(1, 2).contiguous(), None
