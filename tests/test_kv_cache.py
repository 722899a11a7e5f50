"""The cache with room beside transformers' own, whatever is done to both."""

import pytest
import torch
from transformers import Gemma2Config, LlamaConfig
from transformers.cache_utils import DynamicLayer

from prompt2model.kv_cache import ROOM, RoomyLayer, growing_cache, remembers_all

STEPS = {
    "grow": lambda layer, new: layer.update(*new(layer, 1)),
    "read": lambda layer, new: layer.update(*new(layer, ROOM)),
    "crop": lambda layer, _: layer.crop(-3),
    "leave": lambda layer, _: layer.reorder_cache(torch.tensor([2, 0])),
    "swap": lambda layer, _: layer.reorder_cache(torch.tensor([1, 0])),
    "double": lambda layer, _: layer.batch_repeat_interleave(2),
}


@pytest.mark.parametrize(
    "steps",
    [
        "read grow grow grow",
        "grow crop grow",
        "grow leave grow read grow",
        "leave grow swap grow crop grow crop crop grow",
        "double grow leave double grow crop swap",
    ],
)
def test_it_holds_what_transformers_cache_holds(steps):
    ours, theirs = RoomyLayer(), DynamicLayer()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2, 6, 2, 8, 4, generator=generator)
    for layer in (ours, theirs):
        layer.update(drawn[0, :3], drawn[1, :3])
    for at, step in enumerate(steps.split()):

        def new(layer, tokens, at=at):
            torch.manual_seed(at)
            return torch.randn(2, len(layer.keys), 2, tokens, 4)

        for layer in (ours, theirs):
            if step == "swap":
                layer.batch_select_indices(torch.tensor([0, 1]))
            STEPS[step](layer, new)
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_new_token_moves_nothing_while_there_is_room():
    layer = RoomyLayer()
    layer.update(*torch.zeros(2, 1, 1, 5, 4))
    place = layer.keys.data_ptr()
    for _ in range(ROOM):
        layer.update(*torch.zeros(2, 1, 1, 1, 4))
        assert layer.keys.data_ptr() == place
    layer.update(*torch.zeros(2, 1, 1, 1, 4))
    assert layer.keys.data_ptr() != place


def test_it_is_told_whether_a_model_sees_all_that_it_read():
    shape = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}
    assert remembers_all(growing_cache(LlamaConfig(**shape)))
    assert not remembers_all(growing_cache(Gemma2Config(**shape)))
