"""Decoding against transformers' own: greedy texts, beams, draws, likelihoods, and what batches must not change."""

import math
from weakref import WeakSet

import pytest
import torch
from tiny import counted_logits, save_decoder, save_encoder_decoder
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    Lfm2Config,
    OPTConfig,
)

from prompt2model.batches import Codec, Row
from prompt2model.beams import search
from prompt2model.decoding import State, Writing, extend, likelihoods, until, write
from prompt2model.prefixes import common_beginnings
from prompt2model.replay import Replay
from prompt2model.sampling import next_tokens
from prompt2model.student import load

PROMPTS = ("the film is good, a text and the answer", "bad", "a text", "the film is bad and the film is good", "user")
BEGUN_ALIKE = (
    "the film is good, a text and the answer is good",
    "the film is good, a text and the answer is bad, and the film",
    "the film is good, a text and the answer is a text",
    "user a text is good, the answer is bad and the film is good",
    "user a text is good, the answer is bad and the film is",
    "bad",
)
CHOICES = ((5, 6, 7), (5,), (5, 6), (9,), (10, 11))

TOKENS = {"vocab_size": 305, "pad_token_id": 2, "eos_token_id": 2, "bos_token_id": 1}
SHAPE = {**TOKENS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA_LIKE = {**SHAPE, "intermediate_size": 64, "num_key_value_heads": 2}
CONFIGS = {
    "gpt2": GPT2Config(**TOKENS, n_embd=32, n_layer=2, n_head=4),
    "pythia": GPTNeoXConfig(**SHAPE, intermediate_size=64),
    "opt": OPTConfig(**SHAPE, ffn_dim=64, word_embed_proj_dim=32),
    "gemma2": Gemma2Config(**LLAMA_LIKE, head_dim=8, sliding_window=8),
    "lfm2": Lfm2Config(**LLAMA_LIKE, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
    "bart": BartConfig(
        vocab_size=305,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        pad_token_id=0,
        bos_token_id=3,
        eos_token_id=1,
        decoder_start_token_id=1,
        forced_bos_token_id=None,
        forced_eos_token_id=None,
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Each kind of model with its codec; the weights are spread out, or random models say the same all along."""
    folder = tmp_path_factory.mktemp("models")
    llama, codec = load(save_decoder(folder / "llama"), precision="float32")
    t5, t5_codec = load(save_encoder_decoder(folder / "t5"), precision="float32")
    found = {"llama": (llama, codec), "t5": (t5, t5_codec)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, config in CONFIGS.items():
            if name == "bart":
                found[name] = (
                    BartForConditionalGeneration(config).eval(),
                    Codec(t5_codec.tokenizer, "encoder-decoder", start_token=1),
                )
            else:
                found[name] = (AutoModelForCausalLM.from_config(config).eval(), codec)
    for model, _ in found.values():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(5)
    return found


def prompts_of(codec: Codec, texts=PROMPTS) -> list[tuple[int, ...]]:
    return [tuple(codec.tokenizer(text, add_special_tokens=False).input_ids) for text in texts]


def naive_logits(model, codec: Codec, prompt: tuple[int, ...], written: tuple[int, ...]) -> torch.Tensor:
    """The logits before each token of `written` and after the last, in one pass without padding or cache."""
    with torch.no_grad():
        if codec.architecture == "decoder":
            return model(input_ids=torch.tensor([[*prompt, *written]])).logits[0, len(prompt) - 1 :]
        start = torch.tensor([[codec.start_token, *written]])
        return model(input_ids=torch.tensor([prompt]), decoder_input_ids=start).logits[0]


def texts_of(model, codec: Codec, **how) -> list[list[int]]:
    texts = [Writing(prompt, 12, **how) for prompt in prompts_of(codec)]
    write(model, codec, texts)
    return [text.tokens for text in texts]


class Likely(torch.nn.Module):
    """A model whose next token has the same distribution whatever was read."""

    def __init__(self, probabilities: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(probabilities).log()
        self.device = torch.device("cpu")
        self.config = GPT2Config(n_layer=1)

    def forward(self, input_ids, **_):
        return type("Out", (), {"logits": self.logits.expand(*input_ids.shape, -1)})


# Greedy


@pytest.mark.parametrize("name", ["llama", "t5", *CONFIGS])
def test_greedy_texts_of_a_mixed_batch_are_those_of_transformers_one_by_one(models, name):
    model, codec = models[name]
    for prompt, ours in zip(prompts_of(codec), texts_of(model, codec), strict=True):
        theirs = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=12,
            pad_token_id=codec.pad,
            eos_token_id=codec.end,
        )[0].tolist()
        theirs = theirs[len(prompt) if codec.architecture == "decoder" else 1 :]
        assert ours == (theirs[: theirs.index(codec.end)] if codec.end in theirs else theirs)


@pytest.mark.parametrize("name", ["llama", "t5", *CONFIGS])
def test_beginnings_that_are_read_once_change_nothing(models, name):
    model, codec = models[name]
    prompts = prompts_of(codec, BEGUN_ALIKE)
    beginnings, _ = common_beginnings(prompts)
    assert sorted(map(bool, beginnings)) == [False, True, True]
    together, alone = [[Writing(prompt, 9) for prompt in prompts] for _ in range(2)]
    write(model, codec, together)
    for text in alone:
        write(model, codec, [text])
    assert [text.tokens for text in together] == [text.tokens for text in alone]
    one_by_one = torch.cat([likelihoods(model, codec, [prompt], CHOICES) for prompt in prompts])
    torch.testing.assert_close(likelihoods(model, codec, prompts, CHOICES), one_by_one, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_text_ends_at_any_of_the_models_ends_and_leaves_the_others_as_they_are(models, name):
    model, codec = models[name]
    whole = texts_of(model, codec)
    another_end = next(tokens[3] for tokens in whole if tokens[3] not in tokens[:3])
    ending = Codec(codec.tokenizer, codec.architecture, start_token=codec.start_token, ends=[another_end])
    texts = [Writing(prompt, 12) for prompt in prompts_of(codec)]
    write(model, ending, texts)
    assert any(text.finished for text in texts)
    for text, tokens in zip(texts, whole, strict=True):
        assert text.finished == (another_end in tokens)
        assert text.tokens == (tokens[: tokens.index(another_end)] if text.finished else tokens)


@pytest.mark.parametrize("name", ["llama", "t5", "lfm2"])
def test_each_text_has_a_length_of_its_own(models, name):
    model, codec = models[name]
    whole = texts_of(model, codec)
    texts = [Writing(prompt, most) for prompt, most in zip(prompts_of(codec), (1, 12, 5, 3, 8), strict=True)]
    write(model, codec, texts)
    assert [text.tokens for text in texts] == [
        tokens[:most] for tokens, most in zip(whole, (1, 12, 5, 3, 8), strict=True)
    ]
    assert not any(text.finished for text in texts)


def test_a_stop_string_ends_a_text(models):
    model, codec = models["llama"]
    whole = texts_of(model, codec)[0]
    stop = codec.text(whole[4:6])
    text = Writing(prompts_of(codec)[0], 12, stop=("never", stop))
    write(model, codec, [text])
    assert text.finished
    assert stop in codec.text(text.tokens)
    assert stop not in codec.text(text.tokens[:-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n\nfirst line\nsecond", "\n\nfirst line"),
        ("\n \n", "\n \n"),
        (" one\ntwo STOP", " one"),
        ("STOP", ""),
        ("none of them", "none of them"),
    ],
)
def test_a_text_goes_to_its_first_stop_and_blanks_before_its_first_word_are_none(text, expected):
    assert until(text, ("\n", "STOP")) == expected


def test_a_text_that_begins_with_its_stop_goes_on_to_the_next_one(models):
    _, codec = models["llama"]
    written = Writing((1,), 99, stop=("\n",))
    for token in codec.tokenizer.encode("\na film\n", add_special_tokens=False):
        assert not written.finished
        extend(written, token, codec)
    assert written.finished
    assert until(codec.text(written.tokens), written.stop).strip() == "a film"


# Beams


@pytest.mark.parametrize("name", ["llama", "t5", *CONFIGS])
def test_beams_of_a_mixed_batch_are_those_of_transformers_whatever_the_cache(models, name):
    model, codec = models[name]
    found = search(model, codec, [Writing(prompt, 10) for prompt in prompts_of(codec)], beams=3)
    for prompt, (ours,) in zip(prompts_of(codec), found, strict=True):
        theirs = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            num_beams=3,
            length_penalty=0.0,
            max_new_tokens=10,
            pad_token_id=codec.pad,
            eos_token_id=codec.end,
        )[0].tolist()
        theirs = theirs[len(prompt) if codec.architecture == "decoder" else 1 :]
        assert ours.tokens == (theirs[: theirs.index(codec.end)] if codec.end in theirs else theirs)


# Sampled


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_sampled_text_does_not_depend_on_its_neighbours(models, name):
    model, codec = models[name]
    prompts = prompts_of(codec)
    together = [Writing(prompt, 10 + i, 1.0, 0.9, seed=i) for i, prompt in enumerate(prompts)]
    write(model, codec, together)
    for i in (0, 1, 4):
        alone = Writing(prompts[i], 10 + i, 1.0, 0.9, seed=i)
        write(model, codec, [alone])
        assert alone.tokens == together[i].tokens


def test_seeds_make_texts_differ_and_the_same_seed_makes_the_same(models):
    model, codec = models["llama"]
    first, again, other = (texts_of(model, codec, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_greedy_and_sampled_rows_stand_side_by_side(models):
    model, codec = models["llama"]
    prompt = prompts_of(codec)[0]
    greedy, sampled, narrow = Writing(prompt, 8), Writing(prompt, 8, 1.5, seed=3), Writing(prompt, 8, 1.5, 0.0, seed=3)
    write(model, codec, [sampled, greedy, narrow])
    assert greedy.tokens == texts_of(model, codec)[0][:8] == narrow.tokens
    assert sampled.tokens != greedy.tokens


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.7, 1.0), (1.0, 0.8)])
def test_first_tokens_are_distributed_as_the_softmax_says(models, temperature, top_p):
    _, codec = models["llama"]
    probabilities = [0.4, 0.05, 0.0, 0.25, 0.0, 0.2, 0.1, 0.0]
    texts = [Writing((5,), 1, temperature, top_p, seed=seed) for seed in range(5_000)]
    write(Likely(probabilities), codec, texts)
    expected = [p ** (1 / temperature) for p in probabilities]
    if top_p < 1:
        expected = [p if p >= 0.2 else 0.0 for p in probabilities]  # 0.4 + 0.25 + 0.2 are the fewest that hold 0.8
    found = [sum(text.tokens == [token] for text in texts) / len(texts) for token in range(len(probabilities))]
    distance = sum(abs(f - e / sum(expected)) for f, e in zip(found, expected, strict=True)) / 2
    assert distance < 0.02
    assert all(f == 0 for f, e in zip(found, expected, strict=True) if e == 0)


def nucleus(probabilities: torch.Tensor, limit: float) -> torch.Tensor:
    """Which tokens are in the nucleus, by its definition."""
    held = [float(probabilities[probabilities > one].double().sum()) for one in probabilities]
    return torch.tensor([one < limit or one == 0.0 for one in held])


@pytest.mark.parametrize("size", [10, 300])
def test_draws_are_from_the_fewest_likeliest_tokens_that_hold_top_p_and_from_each_by_its_share(size):
    torch.manual_seed(size)
    probabilities = (torch.randn(size) * 2).softmax(-1)
    draws = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1].tolist()
    logits = probabilities.log().expand(len(draws), -1)
    for limit in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
        kept = nucleus(probabilities, limit)
        found = next_tokens(logits, [1.0] * len(draws), [limit] * len(draws), draws)
        shares = torch.bincount(torch.tensor(found), minlength=size) / len(draws)
        assert not shares[~kept].any()
        expected = probabilities * kept / probabilities[kept].sum()
        assert (shares - expected).abs().max() < 0.005
        assert (shares - expected).abs().sum() / 2 < 0.02


@pytest.mark.parametrize("number", [0.0, 1.0 - 2**-53])
def test_the_ends_of_the_uniform_numbers_draw_tokens_that_can_be(number):
    logits = torch.tensor([[-torch.inf, 2.0, -torch.inf, 1.0, -torch.inf]])
    for limit in (1.0, 0.9, 0.5):
        assert next_tokens(logits, [1.0], [limit], [number])[0] in (1, 3)


@pytest.mark.parametrize("limit", [1.0, 0.9])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_give_some_token_and_disturb_no_other_row(limit, broken):
    logits = torch.tensor([[0.0, 9.0, 0.0, 0.0], [broken] * 4, [0.0, 0.0, 0.0, 9.0]])
    found = next_tokens(logits, [1.0] * 3, [limit] * 3, [0.5] * 3)
    assert (found[0], found[2]) == (1, 3)
    assert 0 <= found[1] < 4


def test_tokens_that_are_alike_are_in_the_nucleus_together():
    draws = [0.1, 0.4, 0.6, 0.9]
    found = next_tokens(torch.zeros(4, 4), [1.0] * 4, [0.3] * 4, draws)
    assert sorted(found) == [0, 1, 2, 3]


# Likelihoods


@pytest.mark.usefixtures("few_or_all_rows")
@pytest.mark.parametrize("name", ["llama", "t5", *CONFIGS])
def test_likelihoods_are_the_sums_that_one_gets_without_a_cache(models, name):
    model, codec = models[name]
    found = likelihoods(model, codec, prompts_of(codec), CHOICES)
    expected = [
        [
            sum(float(naive_logits(model, codec, prompt, choice)[i].log_softmax(-1)[t]) for i, t in enumerate(choice))
            for choice in CHOICES
        ]
        for prompt in prompts_of(codec)
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("name", ["llama", "t5", *CONFIGS])
def test_the_pass_that_trains_finds_the_law_by_which_a_text_is_written(models, name):
    model, codec = models[name]
    prompts, written = prompts_of(codec), [(9, 5 + row, 30, 11 * row + 7) for row in range(len(PROMPTS))]
    with torch.no_grad():
        batch = codec.collate([Row(prompt, answer) for prompt, answer in zip(prompts, written, strict=True)])
        trained = counted_logits(model, batch).log_softmax(-1)  # padded on the right, all at once
        state, columns = State(model, codec, prompts), []  # padded on the left, a token at a time
        for tokens in zip(*written, strict=True):
            columns.append(state.logits.log_softmax(-1))
            state.advance([[token] for token in tokens])
    spoken = torch.stack(columns, 1).flatten(0, 1)  # (texts x 4, V)
    torch.testing.assert_close(spoken, trained, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_likelihoods_of_single_tokens_need_no_second_pass_and_sum_to_one(models, name):
    model, codec = models[name]
    vocabulary = model.get_output_embeddings().weight.shape[0]
    found = likelihoods(model, codec, prompts_of(codec), [(token,) for token in range(vocabulary)])
    torch.testing.assert_close(found.logsumexp(1), torch.zeros(len(PROMPTS)), rtol=0, atol=1e-4)


def test_the_likeliest_text_has_the_likelihood_of_its_greedy_steps(models):
    model, codec = models["llama"]
    tokens = tuple(texts_of(model, codec)[1][:5])
    best = naive_logits(model, codec, prompts_of(codec)[1], tokens)[:-1].log_softmax(-1).max(-1).values.sum()
    found = likelihoods(model, codec, [prompts_of(codec)[1]], [tokens])
    assert float(found) == pytest.approx(float(best), abs=1e-3)


def test_uniform_draws_are_never_one():
    draws = Writing((1,), 100_000, seed=7).draws()
    assert 0 <= draws.min() < draws.max() < 1
    assert math.isclose(draws.mean(), 0.5, abs_tol=0.01)


# Recorded steps: the same arithmetic on a processor, where nothing is recorded


@pytest.fixture
def replayed(monkeypatch) -> list[Replay]:
    """All recordings, of a few tokens each, that are made on a processor."""
    made: list[Replay] = []

    class Noted(Replay):
        def __init__(self, *read):
            super().__init__(*read)
            made.append(self)

        def record(self):
            """A processor takes every step anew."""

    monkeypatch.setattr("prompt2model.replay.DEVICES", ("cpu",))
    monkeypatch.setattr("prompt2model.replay.ROOM", 5)
    monkeypatch.setattr("prompt2model.decoding.WORTH_RECORDING", 2)
    monkeypatch.setattr("prompt2model.decoding.Replay", Noted)
    return made


def log_ps(model, codec, replays: bool = False, ends: bool = True) -> list[torch.Tensor]:
    """Of every next token, for rows that read given tokens, go, come twice, and are asked what would follow others."""
    state, found, rows = State(model, codec, prompts_of(codec)), [], range(5)
    if not ends:
        state.last = None
    for step in range(16):
        if step == 9:
            rows = [3, 0, 0, 2]
            state.keep(rows)
        state.advance([[5 + (step + row) % 7] for row in range(len(rows))])
        found.append(state.logits.log_softmax(-1))
        if replays:
            assert (state.replay is not None) == (2 <= step <= 8 or 11 <= step <= 13)
        if step == 13:
            state.allow_peeks()
            found.append(state.peek([7, 8]).log_softmax(-1))
            state.steps = -5
    return found


@pytest.mark.parametrize("name", ["llama", "gpt2", "pythia", "opt", "without a last position"])
def test_a_step_with_room_is_a_step_without(models, request, name):
    model, codec = models.get(name, models["llama"])
    with torch.inference_mode():
        plain = log_ps(model, codec)
        made = request.getfixturevalue("replayed")
        for ours, theirs in zip(log_ps(model, codec, replays=True, ends=name in models), plain, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert len(made) == 3  # one for five tokens, one for those after it, and one for the rows that stayed


@pytest.mark.parametrize("failure", ["other logits", "an error", "no memory"])
def test_a_step_that_cannot_be_recorded_is_taken_as_before(models, replayed, monkeypatch, failure):
    model, codec = models["llama"]

    def fail(self):
        if failure == "other logits":
            return torch.randn_like(self.model.get_input_embeddings().weight[:, 0]).expand(len(self.ids), -1)
        raise torch.OutOfMemoryError("no") if failure == "no memory" else RuntimeError("no")

    expected = texts_of(model, codec)
    replayed.clear()
    monkeypatch.setattr("prompt2model.replay._refused", refused := WeakSet())
    monkeypatch.setattr(Replay, "_forward", fail)
    assert texts_of(model, codec) == expected
    assert (model in refused) == (failure != "no memory")
    assert len(replayed) > 1 if failure == "no memory" else len(replayed) == 1


@pytest.mark.parametrize("recorded", [False, True])
def test_rows_that_have_ended_do_not_pass_the_last_position(models, request, monkeypatch, recorded):
    """A row at the end of its context waits for one that has just begun."""
    codec, config = models["gpt2"][1], GPT2Config(**TOKENS, n_embd=32, n_layer=2, n_head=4, n_positions=40)
    model = AutoModelForCausalLM.from_config(config).eval()
    if recorded:
        request.getfixturevalue("replayed")
    monkeypatch.setattr("prompt2model.decoding.WORTH_LEAVING", 0.0)
    monkeypatch.setattr("prompt2model.decoding.WORTH_LEAVING_RECORDED", 0.0)

    def written(*sizes: tuple[int, int]) -> list[list[int]]:
        texts = [Writing((5,) * prompt, most) for prompt, most in sizes]
        write(model, codec, texts)
        return [text.tokens for text in texts]

    assert written((36, 4), (4, 30)) == [*written((36, 4)), *written((4, 30))]
