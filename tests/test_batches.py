"""Rows: what is tokenised, where the labels stand, what is cut, and in which order rows come."""

from dataclasses import replace
from random import Random

import pytest
import torch
from jinja2 import TemplateError
from tiny import save_decoder

from prompt2model.batches import IGNORED, Codec, Row, epoch_of_steps, pad
from prompt2model.conversation import Message
from prompt2model.errors import DataError, WeightsError
from prompt2model.student import load

ROWS = [Row((11, 12, 13), (21, 22, 2)), Row((11,), (31, 2), weight=2.0)]


@pytest.fixture(scope="module")
def decoder(tiny_decoder) -> Codec:
    return load(tiny_decoder, precision="float32")[1]


@pytest.fixture(scope="module")
def encoder_decoder(tiny_encoder_decoder) -> Codec:
    return load(tiny_encoder_decoder, precision="float32")[1]


@pytest.fixture
def plain(tiny_decoder) -> Codec:
    """A decoder's codec without a chat template, as GPT-2 has none."""
    codec = load(tiny_decoder, precision="float32")[1]
    codec.tokenizer.chat_template = None
    return codec


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def conversation(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in turns]


def with_template(folder, template: str) -> Codec:
    codec = load(folder, precision="float32")[1]
    codec.tokenizer.chat_template = template
    return codec


# Where the labels stand


def test_a_decoders_labels_are_the_next_tokens_of_the_completion_alone(decoder):
    batch = decoder.collate(ROWS)
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13, 21, 22], [11, 31, decoder.pad, decoder.pad, decoder.pad]]
    assert batch.labels.tolist() == [
        [IGNORED, IGNORED, 21, 22, 2],
        [31, 2, IGNORED, IGNORED, IGNORED],
    ]


def test_an_encoder_decoder_is_shown_the_completion_shifted_right_from_its_start_token(encoder_decoder):
    batch = encoder_decoder.collate(ROWS)
    pad_token, start = encoder_decoder.pad, encoder_decoder.start_token
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13], [11, pad_token, pad_token]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.inputs["decoder_input_ids"].tolist() == [[start, 21, 22], [start, 31, pad_token]]
    assert batch.labels.tolist() == [[21, 22, 2], [31, 2, IGNORED]]


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_only_completions_are_counted_and_their_rows_weigh_them(architecture, request):
    batch = request.getfixturevalue(architecture).collate(ROWS)
    assert batch.counted.sum(1).tolist() == [3, 2]
    assert batch.weights.tolist() == [1.0, 1.0, 1.0, 2.0, 2.0]
    assert batch.targets.tolist() == batch.labels[batch.counted].tolist() == [21, 22, 2, 31, 2]


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_some_rows_of_a_batch_are_the_batch_of_those_rows_but_for_padding(architecture, request):
    codec = request.getfixturevalue(architecture)
    rows = [
        replace(row, part=part, teacher_prompt=(5,), signals={"own": torch.tensor(row.completion)})
        for row, part in zip([*ROWS, Row((7, 8), (9,))], "aba", strict=True)
    ]
    whole, alone = codec.collate(rows), codec.collate([rows[0], rows[2]])
    found = whole.only(whole.is_of("a"))
    assert all(torch.equal(found.inputs[name], tensor) for name, tensor in alone.inputs.items())
    assert torch.equal(found.labels, alone.labels)
    assert (found.targets.tolist(), found.parts) == ([21, 22, 2, 9], ("a",) * 4)
    assert torch.equal(found.signals["own"], found.targets)
    assert torch.equal(found.for_teacher.targets, found.targets)
    assert found.weights.tolist() == [1.0] * 4
    assert whole.only(whole.is_of("b")).weights.tolist() == [2.0, 2.0]


def test_a_token_of_the_answer_that_equals_the_padding_is_still_counted(decoder):
    assert decoder.end == decoder.pad
    row = decoder.row(user("a text"), "positive", max_length=64)
    assert row.completion[-1] == decoder.end
    assert decoder.collate([row]).labels[0, -1] == decoder.end


def test_padding_fills_the_side_that_is_asked_for():
    assert pad([[1, 2], [3]], 0).tolist() == [[1, 2], [3, 0]]
    assert pad([[1, 2], [3]], 0, left=True).tolist() == [[1, 2], [0, 3]]


def test_a_batch_moves_with_all_that_it_holds(decoder):
    moved = decoder.collate(ROWS).to(torch.device("meta"))
    assert {moved.labels.device.type, moved.weights.device.type, moved.inputs["input_ids"].device.type} == {"meta"}


# What is cut


def test_a_prompt_that_is_too_long_loses_the_end_of_its_longest_message_and_keeps_the_template(decoder):
    head, tail = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
    prompt = decoder.prompt(user("the film is good, " * 40 + "unread"), max_tokens=60)
    text = decoder.tokenizer.decode(list(prompt))
    assert 50 <= len(prompt) <= 60
    assert text.startswith(head + "the film is good")
    assert text.endswith(tail)
    assert "unread" not in text


def test_of_several_messages_only_the_longest_is_cut(decoder):
    asked = conversation(("system", "an instruction"), ("user", "the film is good " * 40), ("assistant", "positive"))
    text = decoder.tokenizer.decode(list(decoder.prompt(asked, continues=True, max_tokens=80)))
    assert "an instruction" in text
    assert text.endswith("assistant\npositive")


def test_what_an_answer_continues_is_not_cut(decoder):
    thought = "so it is " * 20 + "Answer:"
    messages = (*user("the film is good " * 30), Message(role="assistant", content=thought))
    whole = decoder.prompt(messages, continues=True)
    found = decoder.prompt(messages, continues=True, max_tokens=len(whole) - 40)
    assert decoder.text(found).endswith(thought)
    with pytest.raises(DataError, match="fit"):
        decoder.prompt(messages, continues=True, max_tokens=20)


def test_no_half_character_is_left_where_a_prompt_is_cut(decoder):
    for most in range(60, 70):
        prompt = decoder.prompt(user("漢字" * 60), max_tokens=most)
        assert len(prompt) <= most
        assert "\ufffd" not in decoder.tokenizer.decode(list(prompt))


def test_a_template_that_does_not_fit_is_an_error_with_a_cure(decoder):
    with pytest.raises(DataError, match="tokens; 5 fit") as caught:
        decoder.prompt(user("the film is good"), max_tokens=5)
    assert "train.max_length" in caught.value.hint


@pytest.mark.parametrize("architecture", ["decoder", "encoder_decoder"])
def test_an_answer_longer_than_half_the_row_is_cut_with_its_end(architecture, request):
    codec = request.getfixturevalue(architecture)
    row = codec.row(user("a text " * 50), "the answer " * 50, max_length=100)
    assert len(row.completion) == 50
    assert codec.end not in row.completion
    assert len(row.prompt) <= (50 if architecture == "decoder" else 100)


def test_a_row_never_exceeds_its_length_however_short(decoder):
    with pytest.raises(DataError, match="fit"):
        decoder.row(user("a text"), "the answer", max_length=8)


# How a conversation is written


def test_a_template_that_refuses_a_system_message_gets_it_in_front_of_the_users(tiny_decoder):
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{% for message in messages %}[{{ message['role'] }}]{{ message['content'] }}{% endfor %}"
    )
    codec = with_template(tiny_decoder, template)
    asked = conversation(("system", "an instruction"), ("user", "a text"))
    assert codec.text(codec.prompt(asked)) == "[user]an instruction\n\na text"


def test_a_template_that_drops_the_system_message_gets_it_in_front_of_the_users(tiny_decoder):
    template = "{% for m in messages if m['role'] != 'system' %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    codec = with_template(tiny_decoder, template)
    asked = conversation(("system", "an instruction"), ("user", "a text"), ("assistant", "x"), ("user", "y"))
    assert codec.text(codec.prompt(asked)) == "[user]an instruction\n\na text[assistant]x[user]y"


def test_a_template_that_refuses_every_conversation_is_an_error(tiny_decoder):
    codec = with_template(tiny_decoder, "{{ raise_exception('Never') }}")
    with pytest.raises(WeightsError, match="refuses the conversation: Never") as caught:
        codec.prompt(conversation(("system", "an instruction"), ("user", "a text")))
    assert isinstance(caught.value.__cause__, TemplateError)


def test_without_a_template_a_conversation_is_a_transcript(plain):
    asked = conversation(("system", "Sort texts."), ("user", "good"), ("assistant", "positive"), ("user", "bad"))
    expected = "Sort texts.\n\nInput:\ngood\nOutput:\npositive\n\nInput:\nbad\nOutput:\n"
    assert plain.text(plain.prompt(asked)) == expected
    assert plain.stops(asked) == ("\n\n",)


def test_without_a_template_a_single_message_is_its_text(plain, encoder_decoder):
    assert plain.text(plain.prompt(user("a text"))) == "a text"
    assert plain.stops(user("a text")) == ()
    assert list(encoder_decoder.prompt(user("a text"))) == encoder_decoder.tokenizer("a text").input_ids


def test_an_answer_that_was_begun_is_continued(plain, decoder):
    begun = conversation(("user", "a text"), ("assistant", "Label: good\nInput:"))
    assert plain.text(plain.prompt(begun, continues=True)) == "Input:\na text\nOutput:\nLabel: good\nInput:"
    assert decoder.text(decoder.prompt(begun, continues=True)).endswith("assistant\nLabel: good\nInput:")


def test_what_the_tokenizer_puts_around_a_text_is_kept_without_a_template(tmp_path):
    from tokenizers import processors

    codec = load(save_decoder(tmp_path), precision="float32")[1]
    tokenizer = codec.tokenizer
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A $B {eos}",
        special_tokens=[(bos, tokenizer.bos_token_id), (eos, tokenizer.eos_token_id)],
    )
    tokenizer.chat_template = None
    like_llama, like_bart = Codec(tokenizer, "decoder"), Codec(tokenizer, "encoder-decoder")
    text = tuple(tokenizer("a text", add_special_tokens=False).input_ids)
    assert like_llama.prompt(user("a text")) == (tokenizer.bos_token_id, *text)
    assert like_llama.completion("a text") == (*text, tokenizer.eos_token_id)
    assert list(like_bart.prompt(user("a text"))) == tokenizer("a text").input_ids
    assert list(like_bart.completion("a text")) == tokenizer("a text").input_ids


def test_a_tokenizer_without_an_end_is_refused(tiny_decoder):
    tokenizer = load(tiny_decoder, precision="float32")[1].tokenizer
    tokenizer.eos_token = None
    with pytest.raises(WeightsError, match="no end-of-text token"):
        Codec(tokenizer, "decoder")


# In which order rows come


@pytest.mark.parametrize(("rows", "batch_rows"), [(1, 16), (16, 16), (100, 7), (1000, 4)])
def test_an_epoch_holds_every_row_once_in_the_fewest_steps(rows, batch_rows):
    steps = list(epoch_of_steps([n % 13 for n in range(rows)], batch_rows, Random(0)))
    assert sorted(index for step in steps for index in step) == list(range(rows))
    assert len(steps) == -(-rows // batch_rows)


def test_rows_of_a_step_have_similar_lengths_and_steps_come_in_random_order():
    lengths = [Random(n).randrange(500) for n in range(1600)]
    steps = list(epoch_of_steps(lengths, 16, Random(1)))
    padded = sum(16 * max(lengths[i] for i in step) for step in steps)
    assert padded < 1.1 * sum(lengths)
    longest = [max(lengths[i] for i in step) for step in steps]
    assert longest != sorted(longest)
    assert steps != list(epoch_of_steps(lengths, 16, Random(2)))
    assert steps == list(epoch_of_steps(lengths, 16, Random(1)))
