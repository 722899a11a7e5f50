"""Norms by torch's one kernel: which they may stand in for, and that they give the same."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.mamba2.modeling_mamba2 import MambaRMSNormGated
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm
from transformers.models.t5.modeling_t5 import T5LayerNorm

from prompt2model.norms import fuse_norms, fused, is_rms_norm, use_fused_norms
from prompt2model.student import load, save, twin

ALIKE = (LlamaRMSNorm, Qwen3RMSNorm, T5LayerNorm)


def spread(norm: nn.Module) -> nn.Module:
    """The norm with weights that are not all one."""
    torch.manual_seed(0)
    nn.init.normal_(norm.weight, mean=1.0, std=0.3)
    return norm


@pytest.mark.parametrize("kind", ALIKE, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)], ids=["32", "16"])
def test_the_one_kernel_gives_what_the_layer_gives_forward_and_backward(kind, dtype, rounding):
    theirs = spread(kind(24)).to(dtype)
    ours = copy.deepcopy(theirs)
    assert is_rms_norm(ours)
    fuse_norms(ours)
    assert type(ours) is fused(kind)
    assert isinstance(ours, kind)
    found = []
    for norm in (theirs, ours):
        given = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
        out = norm(given)
        (out * torch.arange(24.0)).sum().backward()
        found.append((out, given.grad, norm.weight.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=rounding, rtol=rounding)


@pytest.mark.parametrize("make", [GemmaRMSNorm, partial(MambaRMSNormGated, group_size=24), nn.LayerNorm])
def test_what_does_more_or_something_else_stays(make):
    assert not is_rms_norm(spread(make(24)))


def test_what_is_given_in_another_precision_is_left_to_the_layer():
    norm = spread(LlamaRMSNorm(8)).to(torch.bfloat16)
    given = torch.randn(2, 8)
    theirs = norm(given)
    norm.__class__ = fused(LlamaRMSNorm)
    assert torch.equal(norm(given), theirs)


def test_on_a_processor_nothing_is_changed(tiny_decoder):
    model, _ = load(tiny_decoder)
    assert {type(norm) for norm in model.modules() if isinstance(norm, LlamaRMSNorm)} == {LlamaRMSNorm}
    use_fused_norms(model)
    assert {type(norm) for norm in model.modules() if isinstance(norm, LlamaRMSNorm)} == {LlamaRMSNorm}


def test_a_model_with_other_norms_computes_and_saves_the_same(tiny_decoder, tmp_path):
    model, codec = load(tiny_decoder, precision="float32")
    ids = torch.tensor([[5, 6, 7]])
    theirs = model(input_ids=ids).logits
    fuse_norms(model)
    assert {type(norm) for norm in model.modules() if isinstance(norm, LlamaRMSNorm)} == {fused(LlamaRMSNorm)}
    for one in (model, twin(model)):
        torch.testing.assert_close(one(input_ids=ids).logits, theirs, atol=1e-5, rtol=1e-5)
    save(model, codec, tmp_path)
    torch.testing.assert_close(load(tmp_path, precision="float32")[0](input_ids=ids).logits, theirs)
