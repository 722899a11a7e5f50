"""The end of a model apart from its body: what the head reads at the counted positions, and its logits in chunks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions

from prompt2model.batches import Batch, Codec, Row
from prompt2model.losses import CHUNK_TOKENS, Ending, cross_entropy, log_probabilities, summed


def ending(model: Any, batch: Batch, layers: Sequence[int] = ()) -> Ending:
    """The model run over the batch up to its head, and the head.

    The head, nearly a fifth of a small model's arithmetic, sees the counted positions alone, as many at a time as
    `losses.summed` likes. `layers` of the decoder are given as well, counted from 1; 0 are the embeddings.
    """
    plain, read = _plain(model), []
    body, embeddings = plain.get_decoder(), plain.get_output_embeddings()
    hooks = [
        body.register_forward_hook(lambda _, __, out: read.append(out)),
        embeddings.register_forward_pre_hook(lambda _, args: (args[0][:, :0], *args[1:])),
    ]
    try:
        also = {"output_hidden_states": True} if layers else {}
        model(**batch.inputs, use_cache=False, **also)  # through every wrapper: they exchange gradients
    finally:
        for hook in hooks:
            hook.remove()
    states, counted = read[0][0], batch.counted  # (B, T, H), (B, T)
    hidden = tuple(read[0].hidden_states[layer][counted] for layer in layers)
    return Ending(states[counted], head_of(model), tuple(embeddings.parameters()), hidden)


def head_of(model: Any) -> Callable[[Tensor], Tensor]:
    """The head alone, (n, H) -> (n, V): for states that were kept."""
    plain = _plain(model)
    return lambda states: _head(plain, states)


@torch.no_grad()
def head_inputs(model: Any, codec: Codec, prompts: Sequence[tuple[int, ...]], written: tuple[int, ...] = ()) -> Tensor:
    """What the head reads after each prompt and the first tokens of the answer, in float32. -> (prompts, H)"""
    read: list[Tensor] = []
    for prompt in prompts:
        batch = codec.collate([Row(prompt, (*written, codec.end))]).to(model.device)

        def keep(_: Any, args: tuple[Tensor, ...], counted: Tensor = batch.counted) -> tuple[Tensor, ...]:
            read.append(args[0][counted][-1:].float())
            return (args[0][:, :0], *args[1:])

        with model.get_output_embeddings().register_forward_pre_hook(keep):
            model(**batch.inputs, use_cache=False)
    return torch.cat(read)


def likelihood_loss(model: Any, batch: Batch) -> Tensor:
    """The weighted sum of the negative log-likelihoods of the batch's counted tokens, in nats. -> ()"""
    return summed(
        lambda logits, place: cross_entropy(logits, batch.targets[place]), ending(model, batch), batch.weights
    )


@torch.no_grad()
def log_likelihoods(end: Ending, targets: Tensor, vocabulary: int) -> Tensor:
    """log q(target) of each token among the first `vocabulary` tokens, a chunk's logits at a time. -> (N,)"""
    places = [slice(start, start + CHUNK_TOKENS) for start in range(0, max(len(targets), 1), CHUNK_TOKENS)]
    return torch.cat(
        [log_probabilities(end.head(end.states[place])[:, :vocabulary], targets[place]) for place in places]
    )


def equipment(model: Any) -> Any:
    """What a method has added to the student, in whatever wrappers; None where nothing was."""
    return getattr(extract_model_from_parallel(model), "equipment", None)


def _plain(model: Any) -> Any:
    """The transformers model in its wrappers."""
    unwrapped = extract_model_from_parallel(model)
    return unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped


def _head(plain: Any, states: Tensor) -> Tensor:
    """(n, H) -> (n, V), by the model's own forward pass with the body's part done.

    What models do before and after the head (scaling, soft-capping, a bias) is theirs to know.
    """
    token = torch.zeros(1, 1, dtype=torch.long, device=states.device)
    inputs = {"input_ids": token}
    if plain.config.is_encoder_decoder:
        inputs = {"decoder_input_ids": token, "encoder_outputs": BaseModelOutput(last_hidden_state=states[None, :1])}
    with _body_done(plain.get_decoder(), states):
        logits: Tensor = plain(**inputs, use_cache=False).logits
    return logits.squeeze(0)  # of a selection, [0], the gradient would be copied


@contextmanager
def _body_done(body: Any, states: Tensor) -> Iterator[None]:
    """The body gives these states, whatever it is asked."""
    body.forward = lambda *_, **__: BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states[None])
    try:
        yield
    finally:
        del body.forward
