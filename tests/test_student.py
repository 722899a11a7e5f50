"""A local model: loading, answering, counted logits, adapters, saving, and the prompt that a student is given."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import counted_logits, save_decoder
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BertConfig,
    BertForMaskedLM,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    T5Config,
)

from prompt2model.batches import Codec, Row
from prompt2model.conversation import Message, Request
from prompt2model.errors import RunError, WeightsError
from prompt2model.memory import FEWEST_TOKENS, MicroBatches, ran_out
from prompt2model.student import LocalModel, adapt, choices_of, fastest_dtype, load, merge, open_model, save
from prompt2model.student_prompt import set_student_prompt
from prompt2model.teacher import replies

TOKENS = {"vocab_size": 305, "pad_token_id": 2, "eos_token_id": 2, "bos_token_id": 1}
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
HEADS = {
    "gpt2": GPT2Config(**TOKENS, n_embd=32, n_layer=2, n_head=4),
    "gemma2": Gemma2Config(**TOKENS, **SHAPE, head_dim=8, final_logit_softcapping=0.5),
    "bart": BartConfig(
        vocab_size=305,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
    ),
    "llama": LlamaConfig(**TOKENS, **SHAPE),
    "granite": GraniteConfig(**TOKENS, **SHAPE, logits_scaling=8.0, embedding_multiplier=12.0),
    "cohere": CohereConfig(**TOKENS, **SHAPE, logit_scale=0.0625),
    "t5 with a scaled head": T5Config(vocab_size=305, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
    "t5 v1.1": T5Config(
        vocab_size=305,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        tie_word_embeddings=False,
        feed_forward_proj="gated-gelu",
    ),
}

CHATML_WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token }}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }} {{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def ask(text: str, **how) -> Request:
    return Request(messages=user(text), **{"max_tokens": 8, "temperature": 0.0, **how})


@pytest.fixture(scope="module")
def local(tiny_decoder) -> LocalModel:
    model, codec = load(tiny_decoder, precision="float32")
    return LocalModel(model, codec, name="tiny", batch_rows=4)


@pytest.fixture(params=["tiny_decoder", "tiny_encoder_decoder"])
def loaded(request):
    return load(request.getfixturevalue(request.param), precision="float32")


# Loading


def test_a_folder_is_loaded_with_the_shape_that_its_rows_have(loaded):
    model, codec = loaded
    assert not model.training
    assert codec.architecture == ("encoder-decoder" if model.config.is_encoder_decoder else "decoder")
    assert codec.start_token == (model.config.decoder_start_token_id or 0 if model.config.is_encoder_decoder else 0)
    assert codec.end in codec.ends


def test_a_models_ends_are_those_of_its_generation_settings_too(tiny_decoder, tmp_path):
    shutil.copytree(tiny_decoder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 7]}))
    assert load(tmp_path, precision="float32")[1].ends == {0, 2, 7}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_is_loaded_in_the_precision_that_is_asked_for(tiny_decoder, precision):
    assert load(tiny_decoder, precision=precision)[0].dtype == getattr(torch, precision)
    assert fastest_dtype() in (torch.float32, torch.bfloat16)


def broken_config(folder):
    (folder / "config.json").write_text("{")


def no_weights(folder):
    (folder / "model.safetensors").unlink()


def damaged_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


def unknown_kind(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard_of", "auto_map": {"AutoConfig": "x.Y"}}))


def pickled_weights(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("damage", [broken_config, no_weights, damaged_weights, unknown_kind, pickled_weights])
def test_a_folder_that_holds_no_safe_model_is_an_error_with_a_cure(tiny_decoder, tmp_path, damage):
    shutil.copytree(tiny_decoder, tmp_path, dirs_exist_ok=True)
    damage(tmp_path)
    with pytest.raises(WeightsError, match="cannot be loaded") as caught:
        load(tmp_path)
    assert "safetensors" in caught.value.hint


def test_an_encoder_is_refused_although_transformers_would_load_it(tiny_decoder, tmp_path):
    shutil.copytree(tiny_decoder, tmp_path, dirs_exist_ok=True)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=305, **shape)).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match="BertForMaskedLM, which writes no text"):
        load(tmp_path)


def test_the_identity_follows_the_arithmetic(tiny_decoder):
    usual, exact, quick = (open_model(str(tiny_decoder), precision=one) for one in ("auto", "float32", "bfloat16"))
    assert exact.identity == f"{usual.identity} float32"
    assert quick.identity == f"{usual.identity} bfloat16"


def test_the_identity_follows_the_weights(tiny_decoder, tmp_path):
    same, other = tmp_path / "same", tmp_path / "other"
    shutil.copytree(tiny_decoder, same)
    shutil.copytree(tiny_decoder, other)
    tensors = load_file(other / "model.safetensors")
    name = next(iter(tensors))
    tensors[name] += 1e-3
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    first, second, third = (open_model(str(folder), precision="float32") for folder in (tiny_decoder, same, other))
    assert first.can == {"text", "logprobs", "likelihood", "logits", "beams"}
    assert first.is_local
    assert first.identity.rpartition("@")[2] == second.identity.rpartition("@")[2]
    assert first.identity.rpartition("@")[2] != third.identity.rpartition("@")[2]


# Answering


def test_every_request_gets_its_reply_whatever_its_sort_and_length(local):
    requests = [
        ask("a text", choices=("positive", "negative")),
        ask("the film is good " * 5),
        ask("bad", max_tokens=3),
        ask("a film", choices=("x", "y", "z")),
        *(ask(f"the film is {word}") for word in ("good", "bad", "positive", "negative", "a text")),
    ]
    found = replies(local, requests)
    assert [len(reply.logprobs) for reply in found[:4]] == [2, 0, 0, 3]
    assert found[2].tokens_out <= 3
    for request, reply in zip(requests, found, strict=True):
        alone = replies(local, [request])[0]
        assert alone.text == reply.text
        assert alone.logprobs == pytest.approx(reply.logprobs, abs=1e-4)
        assert reply.tokens_in == len(local.codec.prompt(request.messages))


def test_groups_are_no_larger_than_the_batch(local):
    groups = list(local.answer([ask(f"a text {n}") for n in range(11)]))
    assert [len(group) for group in groups] == [4, 4, 3]
    assert sorted(index for group in groups for index, _ in group) == list(range(11))
    assert list(local.answer([])) == []


def test_when_memory_runs_out_smaller_groups_get_the_same_answers(local):
    asked = [ask(f"a text {n}") for n in range(8)] + [ask(f"{n}", choices=("positive", "negative")) for n in range(8)]
    calm = replies(local, asked)

    def run_out(model, inputs, named):
        if len(named["input_ids"]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    hook = local.model.register_forward_pre_hook(run_out, with_kwargs=True)
    pressed = replies(local, asked)
    hook.remove()
    assert [reply.text for reply in pressed] == [reply.text for reply in calm]


def test_a_text_says_whether_it_came_to_its_end(local):
    drawn = {"max_tokens": 12, "temperature": 1.0, "seed": 3}
    whole = replies(local, [ask("a text", **drawn)])[0]
    assert whole.finish == "length"
    stop = whole.text.lstrip()[1:4]
    stopped = replies(local, [ask("a text", stop=(stop,), **drawn)])[0]
    assert stopped.finish == "stop"
    assert stopped.text == whole.text.partition(stop)[0]


def test_of_choices_where_one_begins_another_each_is_scored_with_its_end(local):
    def ended(*choices: str) -> list[bool]:
        return [tokens[-1] == local.codec.end for tokens in choices_of(ask("a text", choices=choices), local.codec)]

    assert ended("positive", "negative") == [False, False]
    assert ended("good", "good film") == [True, True]
    assert ended("yes", "yes") == [True, True]
    assert ended("") == [True]


def test_a_choice_that_goes_on_with_a_line_begins_with_a_space(local):
    def first(begun: str) -> str:
        begun_answer = (*user("a text"), Message(role="assistant", content=begun))
        request = Request(messages=begun_answer, continues=True, choices=("positive", "negative"))
        return local.codec.text(choices_of(request, local.codec)[0])

    assert first("Label:") == " positive"
    assert first("Label: ") == first("Label:\n") == "positive"


def test_the_likeliest_choice_is_the_text(local):
    reply = replies(local, [ask("a text", choices=("positive", "negative", "x"))])[0]
    assert reply.text == ("positive", "negative", "x")[max(range(3), key=lambda i: reply.logprobs[i])]
    assert all(logprob < 0 for logprob in reply.logprobs)


def test_a_prompt_longer_than_the_context_is_cut_and_leaves_room_for_the_answer(local):
    assert local.context_tokens == 512
    asked = [ask("the film is good " * 300, max_tokens=most) for most in (8, 100, 512, 4000)]
    for request, reply in zip(asked, replies(local, asked), strict=True):
        assert reply.tokens_in + min(request.max_tokens, 256) <= 512
        assert reply.tokens_in + reply.tokens_out <= 512
    chosen = replies(local, [ask("the film is good " * 300, choices=("positive", "x"), max_tokens=512)])[0]
    assert 480 < chosen.tokens_in < 512


def test_an_answer_in_a_transcript_ends_at_the_blank_line(tiny_decoder):
    model, codec = load(tiny_decoder, precision="float32")
    codec.tokenizer.chat_template = None
    newlines = codec.tokenizer("\n\n", add_special_tokens=False).input_ids
    plain = LocalModel(Parrot([70, *newlines, 71], model), codec, name="parrot")
    asked = Request(messages=(Message(role="system", content="Sort."), *user("x")), max_tokens=9, temperature=0.0)
    reply = replies(plain, [asked])[0]
    assert (reply.text, reply.finish) == (codec.text([70]), "stop")
    assert replies(plain, [ask("x", max_tokens=9)])[0].finish == "length"


class Parrot(torch.nn.Module):
    """A model that says the given tokens over and over."""

    def __init__(self, tokens: list[int], like) -> None:
        super().__init__()
        self.config, self.device, self.tokens, self.said = like.config, torch.device("cpu"), tokens, 0

    def forward(self, input_ids, **_):
        logits = torch.zeros(*input_ids.shape, 305)
        logits[..., self.tokens[self.said % len(self.tokens)]] = 1.0
        self.said += 1
        return type("Out", (), {"logits": logits})


# Logits, adapters, saving


def check_counted(model, codec) -> None:
    rows = [Row((5, 6, 7, 8), (9, 10, codec.end)), Row((5,), (codec.end,)), Row((6, 7), (8, 9, 10, 11, codec.end))]
    batch = codec.collate(rows)
    with torch.no_grad():
        full = model(**batch.inputs).logits  # (B, T, V)
        counted = counted_logits(model, batch)  # (N, V)
    assert counted.shape == (9, full.shape[-1])
    torch.testing.assert_close(counted, full[batch.counted], rtol=1e-4, atol=1e-5)


def test_counted_logits_are_the_full_ones_at_the_counted_positions(loaded):
    check_counted(*loaded)


@pytest.mark.parametrize("name", HEADS)
def test_counted_logits_keep_what_a_model_does_around_its_head(name, tiny_decoder, tiny_encoder_decoder):
    is_seq2seq = HEADS[name].is_encoder_decoder
    _, codec = load(tiny_encoder_decoder if is_seq2seq else tiny_decoder, precision="float32")
    model = (AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM).from_config(HEADS[name]).eval()
    check_counted(model, codec)
    if name == "gemma2":
        assert counted_logits(model, codec.collate([Row((5,), (6,))])).abs().max() < 0.5


def test_the_hook_on_the_head_goes_even_when_the_pass_fails(loaded):
    model, codec = loaded
    batch = codec.collate([Row((5, 6), (7, codec.end))])
    batch.inputs["input_ids"] = batch.inputs["input_ids"] + 10_000
    with pytest.raises(IndexError):
        counted_logits(model, batch)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_adapters_train_little_and_merge_into_the_same_outputs(loaded, tmp_path):
    model, codec = loaded
    batch = codec.collate([Row((5, 6, 7), (8, 9, codec.end))])
    before = counted_logits(model, batch).detach()
    adapted = adapt(model, 4)
    free = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert free
    assert all("lora_" in name for name in free)
    torch.testing.assert_close(counted_logits(adapted, batch).detach(), before)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    learned = counted_logits(adapted.eval(), batch).detach()
    assert not torch.allclose(learned, before, atol=1e-2)
    save(merge(adapted), codec, tmp_path)
    again, _ = load(tmp_path, precision="float32")
    torch.testing.assert_close(counted_logits(again, batch).detach(), learned, rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name in load_file(tmp_path / "model.safetensors"))


def test_adapters_of_a_bfloat16_model_are_not_rounded_away():
    torch.manual_seed(0)
    layer = nn.Linear(256, 256, bias=False, dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_config(HEADS["llama"]).to(torch.bfloat16)
    model.added = layer
    before = layer.weight.detach().double()
    adapted = adapt(model, 2)
    (wrapped,) = (module for name, module in adapted.named_modules() if name.endswith("model.added"))
    nn.init.constant_(wrapped.lora_A["default"].weight, 0.01)
    nn.init.constant_(wrapped.lora_B["default"].weight, 0.0005)  # 2 · 2 · 0.01 · 0.0005 = 2e-5 for each weight
    merged = merge(adapted).added.weight.detach().double() - before
    assert float(merged.mean()) == pytest.approx(2e-5, rel=0.1)
    assert float((merged == 0).double().mean()) > 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_adapters_fit_gpt2s_own_kind_of_layer(dtype):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(HEADS["gpt2"]).to(dtype).eval()
    size, ids = model.num_parameters(), torch.tensor([[5, 6, 7, 8]])
    adapted = adapt(model, 2).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        learned = adapted(ids).logits
        merged = merge(adapted)
        close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.05}
        torch.testing.assert_close(merged(ids).logits, learned, **close)
    assert merged.num_parameters() == size


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_quantised_model_is_refused_before_it_is_trained(loaded, lora_rank):
    model, _ = loaded
    model.config.quantization_config = {"quant_method": "gguf"}
    with pytest.raises(WeightsError, match="quantised"):
        adapt(model, lora_rank)


def test_a_saved_model_answers_greedily_whatever_its_base_was_set_to(loaded, tmp_path):
    model, codec = loaded
    model.generation_config.temperature, model.generation_config.do_sample = 0.6, False  # transformers will not save it
    save(model, codec, tmp_path)
    kept = json.loads((tmp_path / "generation_config.json").read_text())
    assert kept["eos_token_id"] == sorted(codec.ends)
    assert kept["pad_token_id"] == codec.pad
    assert "temperature" not in kept
    assert kept.get("decoder_start_token_id") == (0 if codec.architecture == "encoder-decoder" else None)


def test_a_folder_that_cannot_be_written_is_an_error(loaded, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        save(*loaded, tmp_path / "file" / "deep")


# The student's prompt


def set_template(folder, template: str | None) -> Codec:
    codec = load(folder, precision="float32")[1]
    codec.tokenizer.chat_template = template
    set_student_prompt(codec)
    return codec


def check_prompt(codec: Codec, before: str, after: str, folder) -> None:
    """What training used is what plain transformers makes of the saved folder, and it is this text."""
    for text in ("the film is good", '  it\'s "so" \\n bad\n\n', "{{ evil }} {% if %}", "漢字 'x'"):
        trained_on = codec.prompt(user(text))
        codec.tokenizer.save_pretrained(folder)
        plain = AutoTokenizer.from_pretrained(folder)
        asked = [{"role": "user", "content": text}]
        assert plain.apply_chat_template(asked, add_generation_prompt=True).input_ids == list(trained_on)
        rendered = plain.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        assert rendered == before + text + after
        whole = plain.apply_chat_template([*asked, {"role": "assistant", "content": "answer"}], tokenize=False)
        assert whole == rendered + "answer" + plain.eos_token
        assert plain.pad_token_id is not None
        assert plain.padding_side == ("left" if codec.architecture == "decoder" else "right")


@pytest.mark.parametrize(
    ("template", "before", "after"),
    [
        (CHATML_WITH_SYSTEM, *CHATML),
        (THINKING, *CHATML),
        (LLAMA2, "<|im_start|>[INST] ", " [/INST]"),
        (GEMMA, "<|im_start|><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
        (PHI3, "<|user|>\n", "<|end|>\n<|assistant|>\n"),
        (None, "", "\n"),
    ],
    ids=["chatml with a system message", "thinking", "llama-2", "gemma", "phi-3", "none"],
)
def test_a_decoders_prompt_is_one_turn_of_its_own_markup(tiny_decoder, tmp_path, template, before, after):
    check_prompt(set_template(tiny_decoder, template), before, after, tmp_path)


def test_t5s_prompt_is_the_plain_text(tiny_encoder_decoder, tmp_path):
    codec = set_template(tiny_encoder_decoder, None)
    check_prompt(codec, "", "</s>", tmp_path)
    assert list(codec.prompt(user("a text"))) == codec.tokenizer("a text").input_ids


def test_the_beginning_of_a_text_is_there_once(tiny_decoder):
    for template in (LLAMA2, GEMMA):
        codec = set_template(tiny_decoder, template)
        prompt = codec.prompt(user("a text"))
        assert prompt.count(codec.tokenizer.bos_token_id) == 1
        assert prompt[0] == codec.tokenizer.bos_token_id


def test_a_base_without_markup_begins_as_its_tokenizer_begins(tmp_path):
    from tokenizers import processors

    codec = load(save_decoder(tmp_path / "base"), precision="float32")[1]
    tokenizer = codec.tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{tokenizer.bos_token} $A",
        pair=f"{tokenizer.bos_token} $A $B",
        special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)],
    )
    tokenizer.chat_template = None
    codec = Codec(tokenizer, "decoder")
    set_student_prompt(codec)
    check_prompt(codec, tokenizer.bos_token, "\n", tmp_path / "saved")


def test_setting_the_prompt_twice_changes_nothing(tiny_decoder):
    codec = set_template(tiny_decoder, CHATML_WITH_SYSTEM)
    once = codec.tokenizer.chat_template
    set_student_prompt(codec)
    assert codec.prompt(user("a text")) == set_template(tiny_decoder, CHATML_WITH_SYSTEM).prompt(user("a text"))
    assert once


# Memory


def test_micro_batches_keep_the_order_and_stay_within_their_tokens(local):
    micro = MicroBatches(local.model)
    micro.tokens = 100
    rows = [Row((1,) * (n % 37), (2,)) for n in range(100)]
    parts = list(micro.split(rows))
    assert [row for part in parts for row in part] == rows
    assert all(len(part) * max(map(len, part)) <= 100 for part in parts)
    assert [len(part) for part in micro.split([Row((1,) * 500, (2,)), Row((1,), (2,))])] == [1, 1]


def test_micro_batches_halve_down_to_a_smallest(local):
    micro = MicroBatches(local.model)
    assert micro.tokens & (micro.tokens - 1) == 0
    while micro.shrink():
        pass
    assert micro.tokens == FEWEST_TOKENS


def test_out_of_memory_is_told_from_other_errors():
    assert ran_out(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"))
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory."))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
