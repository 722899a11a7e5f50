"""Plans: what is reckoned beforehand is what is asked afterwards."""

from pathlib import Path

import pytest
from chat_server import serve
from command import sentences, write_script

from prompt2model.config import load_config
from prompt2model.conversation import Message, Request
from prompt2model.errors import ConfigError, DataError
from prompt2model.ledger import estimate, price, prompt_text
from prompt2model.pipeline import build
from prompt2model.planning import is_paid, plan
from prompt2model.plans import Plan, Step
from prompt2model.records import Found
from prompt2model.rehearsal import BYTES_PER_TOKEN, work
from prompt2model.speed import USUAL_PARAMETERS, parameters
from prompt2model.stages.generate import generate
from prompt2model.stages.parse import parse
from prompt2model.teachers.scripted import Scripted

EXAMPLES = [f"{text} -> {label}" for text, label in zip(sentences(2, seed=5), ("positive", "negative"), strict=True)]
TASK = "\n".join(["Classify a film as positive or negative.", "", *EXAMPLES, ""])


def planned(base: Path, teacher: str, description: str = TASK, **flags: object) -> Plan:
    flags = {"generate__count": 40, "generate__filters": "format", "retrieve__hub": "off", **flags}
    return plan(description, load_config(teacher=teacher, retrieve__base=str(base), **flags), Path("nowhere"))


def step(plan: Plan, stage: str) -> Step:
    return next(step for step in plan.steps if step.stage == stage)


def test_the_requests_and_tokens_of_writing_are_those_that_are_sent(tiny_decoder: Path, tmp_path: Path):
    teacher = write_script(tmp_path / "answers.jsonl")
    writing = step(planned(tiny_decoder, teacher), "generate")
    config = load_config(generate__count=40, generate__filters="format")
    asked = Scripted(sentences(100))
    generate(parse(TASK, config.parse), Found(base=""), config.generate, teacher=asked)
    tokens = sum(len(prompt_text(request)) for request in asked.asked) / BYTES_PER_TOKEN
    assert writing.requests == len(asked.asked) == 40
    assert writing.most_requests == 160
    assert tokens <= writing.tokens <= 2 * tokens  # the answers are counted too


def test_an_open_task_takes_two_requests_a_row(tiny_decoder: Path, tmp_path: Path):
    teacher = write_script(tmp_path / "answers.jsonl")
    assert step(planned(tiny_decoder, teacher, "Rewrite a sentence politely."), "generate").requests == 80


@pytest.mark.parametrize(
    ("method", "options", "epochs"),
    [
        ("seqkd", {}, 3),
        ("reverse_kl", {"warm_up_epochs": 2}, 5),
        ("context", {"teacher": "base", "contexts": ["Name it.", "Call it."], "order": "sequential"}, 6),
        ("context", {"teacher": "base", "contexts": ["Name it.", "Call it."]}, 3),
    ],
)
def test_trainings_that_come_first_are_counted(tiny_decoder: Path, method: str, options: dict[str, object], epochs):
    how = {"train__method": method, "train__options": options}
    plain, told = (step(planned(tiny_decoder, f"transformers:{tiny_decoder}", **one), "train") for one in ({}, how))
    assert f"{method}, {epochs} epochs" in told.does
    assert told.tokens == pytest.approx(plain.tokens * epochs / 3, abs=1)


@pytest.mark.parametrize(
    ("strategy", "requests"),
    [("example_guided", 2 + 40), ("topic_guided", 3 + 40), ("textbook", 5 + 40), ("input_first", 80), ("explain", 160)],
)
def test_every_strategy_has_its_price(
    tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, requests: int
):
    """Lists are asked for once and answered one by one; the plan is made of a few lists, so it is near, not exact."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    told = step(planned(tiny_decoder, "openai:gpt-5-mini", generate__strategies=strategy), "generate")
    assert told.requests == pytest.approx(requests, rel=0.15)
    assert 0 < told.usd < told.most_usd


def test_a_plan_loads_no_embeddings_and_downloads_no_rows(tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    monkeypatch.setenv("PROMPT2MODEL_EMBEDDINGS", "no/model")
    for strategy, options, requests in (("nearest_examples", {}, 80), ("transform", {"data": "no/rows"}, 45)):
        flags = {"generate__strategies": strategy, "generate__options": {strategy: options}}
        assert step(planned(tiny_decoder, "openai:gpt-5-mini", **flags), "generate").requests == requests


def test_a_prompt_with_several_answers_is_reckoned_once_but_not_at_most_and_not_of_a_local_model():
    question = Request(messages=(Message(role="user", content="x" * 400),), max_tokens=10)
    asked = [question.model_copy(update={"seed": seed}) for seed in range(3)]
    told = work(asked, "openai:gpt-4.1", 5)
    read = len(prompt_text(question)) / BYTES_PER_TOKEN
    assert (told.requests, told.tokens_in, told.tokens_out) == (3, read, 15)
    assert told.most_usd == pytest.approx(3 * estimate(asked[:1], "openai:gpt-4.1").usd)
    assert work(asked, "openai:gpt-4.1 (batch)", 5).tokens_in == read
    assert work(asked, "transformers:owner/model", 5).tokens_in == 3 * read


def test_thinking_aloud_has_its_price(tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    plain = step(planned(tiny_decoder, "openai:gpt-5-mini"), "generate")
    told = step(planned(tiny_decoder, "openai:gpt-5-mini", generate__rationales=3), "generate")
    assert told.requests == plain.requests + 63  # 42 rows, the two given ones among them, 1.5 times
    assert told.most_requests == plain.most_requests + 126
    assert told.usd > plain.usd


SERVER = {"train__method": "word_kd", "train__options": {"source": "server"}, "teacher_options__logprobs": True}


@pytest.mark.parametrize(
    ("flags", "requests"),
    [
        ({"train__options": {"answers": "given"}}, 0),
        ({"train__options": {"answers": "teacher"}}, 28),
        ({"train__options": {"answers": "teacher", "samples": 3, "temperature": 1.0, "best_of": "given"}}, 84),
        ({"train__method": "context"}, 28),
        ({"train__method": "context", "train__options": {"contexts": ["A.", "B."], "order": "sequential"}}, 56),
        (SERVER, 28 + 6),
    ],
)
def test_what_a_method_asks_the_teacher_has_its_price(
    tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, object], requests: int
):
    """Of 40 rows 28 are learned from and 6 are chosen by; a server is asked about those too."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    told = planned(tiny_decoder, "openai:gpt-4.1", "Rewrite it.", **{"train__method": "seqkd", **flags})
    training = step(told, "train")
    assert (training.requests, training.most_requests) == (requests, requests)
    assert bool(requests) == (0 < training.usd < training.most_usd)


def test_a_longer_description_costs_more(tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    short = planned(tiny_decoder, "openai:gpt-5-mini")
    long = planned(tiny_decoder, "openai:gpt-5-mini", TASK.replace("film as", "film " + "very carefully " * 200 + "as"))
    assert 0 < short.usd < long.usd < long.most_usd
    known = price("openai:gpt-5-mini")
    assert known is not None
    assert short.is_paid
    assert short.price.startswith(f"${known.input:g} in")
    batched = planned(tiny_decoder, "openai:gpt-5-mini", teacher_options__batch=True)
    assert batched.price.startswith(f"${known.input / 2:g} in")


def test_a_local_teacher_costs_time_and_no_money(tiny_decoder: Path):
    told = planned(tiny_decoder, "transformers:HuggingFaceTB/SmolLM2-135M-Instruct")
    assert (told.usd, told.most_usd, told.is_paid) == (0, 0, False)
    assert step(told, "generate").minutes > 0
    assert told.minutes == pytest.approx(sum(one.minutes for one in told.steps))
    by_vllm = planned(tiny_decoder, "vllm:HuggingFaceTB/SmolLM2-135M-Instruct")
    assert step(by_vllm, "generate").minutes == pytest.approx(step(told, "generate").minutes, rel=0.5)
    assert "is faster" in by_vllm.assumed


def test_what_the_minutes_of_a_server_stand_on_is_said(tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    few, many = (planned(tiny_decoder, "openai:gpt-4.1", generate__count=count) for count in (40, 4000))
    assert few.assumed == "a request takes 2 seconds, up to 64 at once"
    assert many.assumed == "a request takes 2 seconds, up to 500 at once"
    assert step(few, "generate").minutes < step(many, "generate").minutes < 10 * step(few, "generate").minutes
    slow = planned(tiny_decoder, "openai:gpt-4.1", teacher_options__requests_per_minute=10)
    assert slow.assumed.endswith("at once, 10 requests a minute")
    assert step(slow, "generate").minutes == step(slow, "generate").requests / 10
    slow = planned(tiny_decoder, "openai:gpt-4.1", teacher_options__tokens_per_minute=100)
    assert slow.assumed.endswith("at once, 100 tokens a minute")
    writing = step(slow, "generate")
    assert writing.minutes == pytest.approx(writing.tokens / 100, rel=0.01)
    assert planned(tiny_decoder, "transformers:HuggingFaceTB/SmolLM2-135M-Instruct").assumed == ""
    batched = planned(tiny_decoder, "openai:gpt-4.1", teacher_options__batch=True)
    assert "up to a day" in batched.assumed


def test_rows_that_are_given_are_counted(tiny_decoder: Path, tmp_path: Path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(f"{text},positive" for text in sentences(98)))
    teacher = write_script(tmp_path / "answers.jsonl")
    told = planned(tiny_decoder, teacher, generate__count=0, retrieve__data=str(tmp_path / "rows.csv"))
    assert step(told, "split").does == "about 70 rows to learn from, 15 to choose by, 15 to measure on"
    assert step(told, "generate").requests == 0


def test_a_mistake_is_told_before_anything_starts(tiny_decoder: Path, tmp_path: Path):
    teacher = write_script(tmp_path / "answers.jsonl")
    with pytest.raises(DataError):
        planned(tiny_decoder, teacher, split__test_data="nowhere.csv")
    with pytest.raises(ConfigError, match="label_first"):
        planned(tiny_decoder, teacher, "Rewrite a sentence politely.", generate__strategies="label_first")


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [
        ("transformers:owner/model", False),
        ("scripted:answers.jsonl", False),
        ("openai:gpt-5-mini", True),
        ("openai:of-unknown-price", True),
        ("http://127.0.0.1:8000/v1#m", False),
        ("http://localhost:8000/v1", False),
        ("https://models.example/v1#m", True),
    ],
)
def test_what_may_cost_money_is_known_beforehand(teacher: str, expected: bool):
    assert is_paid(teacher) is expected


def test_a_model_is_as_large_as_its_card_or_its_weights_say(tiny_decoder: Path):
    assert parameters("HuggingFaceTB/SmolLM2-135M-Instruct") == 134_515_008
    assert 10_000 < parameters(str(tiny_decoder)) < 200_000
    assert parameters("owner/Unheard-Of-1.5B-Instruct") == 1_500_000_000
    assert parameters("owner/unheard-of-v7b2") == parameters("unheard-of") == USUAL_PARAMETERS


def test_rows_are_written_anew_when_an_option_decides_what_the_teacher_answers(tiny_decoder: Path, tmp_path: Path):
    texts = iter(sentences(400))
    flags = {"generate__count": 16, "generate__filters": "format", "retrieve__hub": "off"}
    flags |= {"retrieve__base": str(tiny_decoder), "parse__ask_teacher": False}
    with serve(text=lambda body: next(texts)) as server:
        configs = [
            load_config(teacher=f"{server.url}#m", teacher_options=options, **flags)
            for options in ({}, {"concurrency": 3}, {"logprobs": True})
        ]
        build(TASK, out=tmp_path, config=configs[0], until="generate")
        kept = [step(plan(TASK, config, tmp_path), "generate").is_kept for config in configs]
    assert kept == [True, True, False]


def test_rows_longer_than_the_student_reads_are_reckoned_as_it_reads_them(tiny_decoder: Path, tmp_path: Path):
    teacher = write_script(tmp_path / "answers.jsonl")
    (tmp_path / "rows.csv").write_text(
        "input,output\n" + "".join(f'"{n} {"word " * 4000}",positive\n' for n in range(40))
    )
    flags = {"generate__count": 0, "retrieve__data": str(tmp_path / "rows.csv")}
    tokens = [step(planned(tiny_decoder, teacher, train__max_length=n, **flags), "train").tokens for n in (128, 512)]
    assert tokens[1] == 4 * tokens[0] <= 40 * 3 * 512


def test_a_batch_helps_with_nothing_else(tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    told = planned(tiny_decoder, "openai:gpt-5-mini", teacher_options__batch=True)
    assert (step(told, "parse").requests, step(told, "retrieve").requests) == (0, 0)
    assert step(told, "generate").requests > 0


def test_letters_of_other_scripts_are_more_tokens(tiny_decoder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    plain, chinese = (
        step(planned(tiny_decoder, "openai:gpt-5-mini", f"Rewrite it: {letter * 900}"), "generate") for letter in "a好"
    )
    assert chinese.tokens - plain.tokens == pytest.approx(chinese.requests * (1800 / 4), rel=0.01)
    assert chinese.most_usd > plain.most_usd
