"""Beam search against transformers' own, and against everything that a model of three words can say."""

import itertools

import pytest
import torch
from three_words import END, LONGEST, PADDED, A, B, speaker
from tiny import save_decoder, save_encoder_decoder

from prompt2model.batches import Codec
from prompt2model.beams import search
from prompt2model.conversation import Message, Request
from prompt2model.decoding import Writing, write
from prompt2model.student import LocalModel, load
from prompt2model.teacher import replies

ARCHITECTURES = ("decoder", "encoder-decoder")
PROMPTS = ("the film is good, a text and the answer", "bad", "a text", "the film is bad and the film is good", "user")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def local(request, tmp_path_factory) -> LocalModel:
    """A tiny model whose weights are spread out, so that it prefers some texts; one token in twelve ends them."""
    save = save_decoder if request.param == "decoder" else save_encoder_decoder
    model, codec = load(save(tmp_path_factory.mktemp(request.param)), precision="float32")
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(4 if request.param == "decoder" else 1.5)
    often = Codec(codec.tokenizer, codec.architecture, start_token=codec.start_token, ends=range(10, 300, 12))
    return LocalModel(model, often, name=request.param, batch_rows=6)


def prompts_of(codec: Codec) -> list[tuple[int, ...]]:
    return [tuple(codec.tokenizer(text, add_special_tokens=False).input_ids) for text in PROMPTS]


def whole(text: Writing) -> tuple[int, ...]:
    """The text's tokens, with the one that ended it."""
    return (*text.tokens, *([] if text.end is None else [text.end]))


def theirs(local: LocalModel, prompt: tuple[int, ...], beams: int, n_best: int, most: int):
    """The n best of transformers, one prompt at a time, and their log-likelihoods."""
    found = local.model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        num_beams=beams,
        num_return_sequences=n_best,
        length_penalty=0.0,
        max_new_tokens=most,
        pad_token_id=local.codec.pad,
        eos_token_id=sorted(local.codec.ends),
        return_dict_in_generate=True,
        output_scores=True,
    )
    start = len(prompt) if local.codec.architecture == "decoder" else 1
    return [without_padding(row[start:].tolist(), local.codec) for row in found.sequences], found.sequences_scores


def without_padding(tokens: list[int], codec: Codec) -> tuple[int, ...]:
    end = next((place + 1 for place, token in enumerate(tokens) if token in codec.ends), len(tokens))
    return tuple(tokens[:end])


@pytest.mark.parametrize(("beams", "n_best", "most"), [(2, 1, 12), (5, 1, 12), (5, 5, 12), (4, 2, 3), (3, 3, 1)])
def test_texts_of_a_mixed_batch_are_those_of_transformers_one_by_one(local, beams, n_best, most):
    texts = [Writing(prompt, most) for prompt in prompts_of(local.codec)]
    found = search(local.model, local.codec, texts, beams=beams, n_best=n_best)
    for prompt, ours in zip(prompts_of(local.codec), found, strict=True):
        tokens, scores = theirs(local, prompt, beams, n_best, most)
        assert [whole(text) for text in ours] == tokens
        torch.testing.assert_close(torch.tensor([text.log_p for text in ours]), scores, rtol=1e-4, atol=1e-3)


def test_some_of_those_texts_come_to_an_end_and_some_do_not(local):
    texts = [Writing(prompt, 12) for prompt in prompts_of(local.codec)]
    found = search(local.model, local.codec, texts, beams=5, n_best=5)
    assert {text.finished for several in found for text in several} == {True, False}


@pytest.mark.parametrize("n_best", [1, 4])
def test_what_a_text_becomes_does_not_depend_on_its_neighbours(local, n_best):
    prompts = prompts_of(local.codec)
    limits = (1, 12, 5, 3, 8)
    together = search(
        local.model, local.codec, [Writing(*pair) for pair in zip(prompts, limits, strict=True)], beams=4, n_best=n_best
    )
    for prompt, most, ours in zip(prompts, limits, together, strict=True):
        (alone,) = search(local.model, local.codec, [Writing(prompt, most)], beams=4, n_best=n_best)
        assert [whole(text) for text in alone] == [whole(text) for text in ours]
        assert max(len(text.tokens) for text in ours) <= most


def test_one_beam_is_the_greedy_text(local):
    prompts = prompts_of(local.codec)
    greedy = [Writing(prompt, 12) for prompt in prompts]
    write(local.model, local.codec, greedy)
    found = search(local.model, local.codec, [Writing(prompt, 12) for prompt in prompts], beams=1)
    assert [whole(text) for (text,) in found] == [whole(text) for text in greedy]


# Everything that can be said


def sayable() -> list[tuple[int, ...]]:
    """Every answer of up to LONGEST tokens: it ends by itself or at the limit."""
    each = [itertools.product(range(PADDED), repeat=length) for length in range(1, LONGEST + 1)]
    return [
        answer
        for answers in each
        for answer in answers
        if END not in answer[:-1] and (answer[-1] == END or len(answer) == LONGEST)
    ]


@torch.no_grad()
def log_p(local: LocalModel, prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
    """From one pass without padding or cache, in float64."""
    if local.codec.architecture == "decoder":
        logits = local.model(input_ids=torch.tensor([[*prompt, *answer[:-1]]])).logits[0, len(prompt) - 1 :]
    else:
        begun = torch.tensor([[local.codec.start_token, *answer[:-1]]])
        logits = local.model(input_ids=torch.tensor([prompt]), decoder_input_ids=begun).logits[0]
    return float(logits.double().log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_beams_for_every_beginning_the_n_best_are_those_of_all_that_can_be_said(architecture, seed):
    local, prompts = speaker(architecture, seed), [(A, B, A), (B,), (A, A, A, B, B)]
    everything = PADDED**LONGEST
    found = search(
        local.model, local.codec, [Writing(prompt, LONGEST) for prompt in prompts], beams=everything, n_best=20
    )
    for prompt, ours in zip(prompts, found, strict=True):
        ranked = sorted(((log_p(local, prompt, answer), answer) for answer in sayable()), reverse=True)
        assert [whole(text) for text in ours] == [answer for _, answer in ranked[:20]]
        assert [text.log_p for text in ours] == pytest.approx([value for value, _ in ranked[:20]], abs=1e-4)


def test_two_beams_find_likelier_answers_than_greedy_does():
    gains = []
    for seed in range(12):
        local = speaker("decoder", seed)
        greedy, beam = (search(local.model, local.codec, [Writing((A, B), 3)], beams=n)[0][0].log_p for n in (1, 2))
        gains.append(beam - greedy)
    assert max(gains) > 0.1
    assert sum(gain < -1e-6 for gain in gains) <= 1, "the greedy beginning may fall out of the beam, but seldom in vain"


# Requests


def asked(text: str, **how) -> Request:
    message = Message(role="user", content=text)
    return Request(messages=(message,), **{"max_tokens": 8, "temperature": 0.0, "beams": 3, **how})


def test_a_local_model_answers_with_the_best_and_gives_the_others_that_came_to_an_end(local):
    requests = [asked(text, n_best=3) for text in PROMPTS]
    for request, reply in zip(requests, replies(local, requests), strict=True):
        texts = [Writing(local.codec.prompt(request.messages), 8)]
        ((best, *rest),) = search(local.model, local.codec, texts, beams=3, n_best=3)
        assert reply.text == local.codec.text(best.tokens)
        assert reply.finish == ("stop" if best.finished else "length")
        ended = [text for text in rest if text.finished]
        assert reply.others == tuple(local.codec.text(text.tokens) for text in ended)
        assert reply.tokens_in == len(best.prompt)
        assert reply.tokens_out == sum(len(text.tokens) for text in (best, *ended))


def test_requests_with_and_without_beams_are_answered_side_by_side(local):
    mixed = [asked(text, beams=beams, n_best=beams) for text in PROMPTS for beams in (1, 3, 2)]
    together = replies(local, mixed)
    assert together == [replies(local, [request])[0] for request in mixed]
    assert all(reply.others == () for reply in together[::3])


def test_a_stop_string_ends_a_beam(local):
    prompt = asked(PROMPTS[0])
    (plain,) = replies(local, [prompt])
    stop = plain.text[2:4]
    assert len(stop) == 2
    (stopped,) = replies(local, [prompt.model_copy(update={"stop": (stop,)})])
    assert stopped.finish == "stop"
    assert stop not in stopped.text
