"""Attention as products of matrices against torch's kernel: values and gradients, masks, shared keys, biases."""

import pytest
import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from prompt2model import attention
from prompt2model.attention import MOST_SCORES, attend, use_attention
from prompt2model.student import load

HEADS, WIDTH = 6, 8


class Layer(nn.Module):
    def __init__(self, groups: int, is_causal: bool = True) -> None:
        super().__init__()
        self.num_key_value_groups, self.is_causal = HEADS // groups, is_causal


def given(groups: int, queries: int, keys: int, batch: int = 3) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(HEADS, queries), (groups, keys), (groups, keys)]
    return [torch.randn(batch, *shape, WIDTH, requires_grad=True) for shape in shapes]


def seen(queries: int, keys: int, batch: int = 3) -> Tensor:
    """A causal mask over rows of which the first begin with padding."""
    causal = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    padded = torch.arange(keys) >= torch.tensor([2, 1, 0])[:batch, None]
    return causal & padded[:, None, None, :] | torch.eye(queries, keys, dtype=torch.bool)


def assert_like_torchs(layer: Layer, tensors: list[Tensor], mask: Tensor | None, **how: object) -> None:
    """Values and gradients of ours are those of torch's kernel."""
    found = []
    for attending in (attend, sdpa_attention_forward):
        value, _ = attending(layer, *tensors, mask, **how)
        found.append([value, *torch.autograd.grad(value.square().sum(), tensors)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (1, 5), (3, 7)])
def test_it_is_torchs_attention_under_a_mask(groups, queries, keys):
    tensors, mask = given(groups, queries, keys), seen(queries, keys)
    assert_like_torchs(Layer(groups), tensors, mask)
    assert_like_torchs(Layer(groups), tensors, torch.where(mask, 0.0, torch.finfo(torch.float32).min), scaling=0.3)


@pytest.mark.parametrize("is_causal", [True, False])
def test_without_a_mask_a_decoder_looks_back_and_an_encoder_everywhere(is_causal):
    assert_like_torchs(Layer(2, is_causal), given(2, 5, 5), None)
    assert_like_torchs(Layer(2), given(2, 5, 5), None, is_causal=is_causal)
    assert_like_torchs(Layer(2, is_causal), given(2, 1, 5), None)


def test_a_bias_of_positions_is_added():
    torch.manual_seed(1)
    bias = torch.randn(1, HEADS, 5, 5)
    assert_like_torchs(Layer(6, is_causal=False), given(6, 5, 5), None, position_bias=bias)
    assert_like_torchs(Layer(6), given(6, 5, 5), seen(5, 5), position_bias=bias)


def test_what_is_long_is_left_to_torch(monkeypatch):
    asked = []
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *given, **how: asked.append(how) or (None, None))
    length = int(MOST_SCORES**0.5)
    with torch.no_grad():
        attend(Layer(2), *(one.detach() for one in given(2, length, length, batch=1)), None)
        assert not asked
        attend(Layer(2), *(one.detach() for one in given(2, length + 1, length + 1, batch=1)), None, scaling=0.5)
    assert [how["scaling"] for how in asked] == [0.5]


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_model_in_bfloat16_uses_it_and_says_the_same(base, precision):
    model, codec = load(base, precision=precision)
    uses = model.config._attn_implementation
    assert uses == (attention.NAME if precision == "bfloat16" else uses) != "eager"
    ids = {name: torch.tensor([[5, 6, 7, 8]]) for name in ("input_ids", "decoder_input_ids")}
    ids = ids if codec.architecture == "encoder-decoder" else {"input_ids": ids["input_ids"]}
    with torch.no_grad():
        ours = model(**ids).logits
        model.set_attn_implementation("sdpa")
        torch.testing.assert_close(model(**ids).logits, ours, rtol=3e-2, atol=3e-2)
    use_attention(model)
    assert model.config._attn_implementation == uses


def test_a_saved_model_says_nothing_of_it(tiny_decoder, tmp_path):
    model, _ = load(tiny_decoder, precision="bfloat16")
    model.save_pretrained(tmp_path)
    assert attention.NAME not in (tmp_path / "config.json").read_text()
