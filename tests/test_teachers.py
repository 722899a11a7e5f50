"""Teachers: found by name, and the openai teacher against real servers, good and bad."""

import importlib.util
import json
import logging
import math
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, get_ident
from types import SimpleNamespace
from typing import Any

import pytest
from chat_server import ChatServer, serve
from tiny import save_decoder

from prompt2model import registry
from prompt2model.asking import Asking
from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import BudgetExceeded, ConfigError, MissingExtra, Prompt2ModelError, TeacherError
from prompt2model.ledger import MOST_PAID_ATTEMPTS, most_tokens_in, most_tokens_out
from prompt2model.pace import Window
from prompt2model.patience import Health, Options
from prompt2model.teacher import Teacher, replies, spent_by
from prompt2model.teachers import choose_teacher, decided_by, open_teacher
from prompt2model.teachers.scripted import Scripted
from prompt2model.weights import DEFAULT_MODEL

KEY = "sk-a-key-that-nobody-may-see"
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def request(number: int = 0, **settings: Any) -> Request:
    return Request(messages=(Message(role="user", content=f"Question {number}"),), seed=number, **settings)


def requests(count: int) -> list[Request]:
    return [request(number) for number in range(count)]


def take(groups: Iterable[list[tuple[int, Reply]]], into: list[Reply]) -> None:
    for group in groups:
        into += [reply for _, reply in group]


def connect(server: ChatServer, **limits: Any) -> Teacher:
    """The openai teacher, with little patience."""
    quick = {"attempts": 3, "first_pause_seconds": 0.01, "timeout_seconds": 0.3, "patience_seconds": 5.0}
    teacher: Teacher = registry.load("teachers", "openai").connect("m", url=server.url, **(quick | limits))
    return teacher


# Names


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, f"transformers:{DEFAULT_MODEL}"),
        ({"OPENAI_API_KEY": KEY}, "openai:gpt-5-mini"),
        ({"OPENAI_BASE_URL": "http://h/v1"}, "http://h/v1"),
        ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "http://h/v1"}, "http://h/v1"),
        ({"OPENAI_API_KEY": " ", "OPENAI_BASE_URL": ""}, f"transformers:{DEFAULT_MODEL}"),
    ],
)
def test_auto_takes_what_is_set(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    resolved, reason = choose_teacher("auto")
    assert resolved == name
    assert reason
    assert "\n" not in reason
    assert KEY not in reason


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("http://h/v1#m", {}, "http://h/v1#m"),
        ("http://h/v1#m", {"concurrency": 5, "requests_per_minute": 9, "logprobs": False}, "http://h/v1#m"),
        ("openai:o3", {"logprobs": True, "reasoning_effort": "high"}, "openai:o3 reasoning_effort=high logprobs=True"),
        ("auto", {"batch_rows": 2}, f"transformers:{DEFAULT_MODEL}"),
        ("auto", {"precision": "bfloat16"}, f"transformers:{DEFAULT_MODEL} precision=bfloat16"),
    ],
)
def test_options_that_decide_answers_are_told_from_those_that_do_not(
    name: str, options: dict[str, Any], expected: str
) -> None:
    assert decided_by(name, options) == expected


def test_a_name_that_was_given_is_taken() -> None:
    assert choose_teacher("openai:o3") == ("openai:o3", "as asked")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("opnai:gpt-5-mini", "openai"),
        ("transformer:x", "transformers"),
        ("gpt-5-mini", "openai"),
        ("HuggingFaceTB/SmolLM2-135M", "transformers:HuggingFaceTB/SmolLM2-135M"),
        ("openai:", "openai:…"),
        ("openai", "openai:…"),
        ("", "http://host/v1#MODEL"),
        ("http://", "http://localhost:8000/v1#MODEL"),
        ("http://#m", "http://localhost:8000/v1#MODEL"),
        ("localhost:8000/v1#m", "Did you mean http://localhost:8000/v1#m?"),
        ("http://host:port/v1#m", "http://localhost:8000/v1#MODEL"),
        ("https://me:secret@host/v1#m", "OPENAI_API_KEY"),
        ("https://host/v1?key=secret#m", "OPENAI_API_KEY"),
    ],
)
def test_a_name_that_cannot_be_used_is_an_error_with_a_cure(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_teacher(name)
    assert hint in error.value.hint
    assert "secret" not in str(error.value)


def test_openai_itself_needs_a_key() -> None:
    with pytest.raises(TeacherError, match="OPENAI_API_KEY is not set"):
        open_teacher("openai:gpt-5-mini")


def test_a_key_with_odd_characters_is_an_error_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u201cquoted\u201d")
    with pytest.raises(ConfigError, match="characters that no key has") as error:
        open_teacher("openai:gpt-5-mini")
    assert "quoted" not in str(error.value)


def test_a_server_with_one_model_needs_no_name() -> None:
    with serve(models=("only",)) as server:
        teacher = open_teacher(server.url)
        assert teacher.name == f"{server.url}#only"
        assert replies(teacher, [request()])[0].text == "yes"
        assert server.asked[0]["model"] == "only"


def test_a_server_with_our_default_among_its_models_needs_no_name() -> None:
    with serve(models=("a", "gpt-5-mini", "z")) as server:
        assert open_teacher(server.url).name == f"{server.url}#gpt-5-mini"


@pytest.mark.parametrize(("models", "said"), [(("a", "b"), "2 models: a, b"), ((), "0 models: none")])
def test_a_server_with_several_models_lists_them(models: tuple[str, ...], said: str) -> None:
    with serve(models=models) as server, pytest.raises(ConfigError, match=said):
        open_teacher(server.url)


def test_an_address_where_nobody_listens_is_an_error() -> None:
    with pytest.raises(TeacherError, match="does not say which models it has"):
        open_teacher(f"http://127.0.0.1:{free_port()}/v1")


def test_the_base_url_moves_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url + "/")
        teacher = open_teacher("openai:some-model")
        assert (teacher.name, teacher.identity) == ("openai:some-model", f"{server.url}#some-model")
        assert replies(teacher, [request()])[0].text == "yes"


# The openai teacher and a server in order


def test_every_request_gets_its_own_reply_and_many_are_under_way_at_once() -> None:
    with serve(text=lambda body: body["messages"][0]["content"][::-1]) as server:
        server.seconds = 0.02
        answered = replies(connect(server, concurrency=8), requests(60))
        assert [reply.text for reply in answered] == [f"Question {number}"[::-1] for number in range(60)]
        assert len(server.asked) == 60
        assert 2 < server.most_under_way <= 8


def test_replies_are_handed_on_as_they_come() -> None:
    with serve() as server:
        asking = connect(server, concurrency=2).answer(requests(50))
        next(asking)
        time.sleep(0.2)
        assert len(server.asked) <= 3, "a caller that does not take replies must not be charged for more"
        asking.close()


def test_everything_that_decides_the_answer_is_sent() -> None:
    with serve(text=lambda body: '{"answer": 1} END and more') as server:
        asked = request(7, max_tokens=9, temperature=0.5, top_p=0.9, stop=(" END",), json_schema=SCHEMA)
        assert replies(connect(server), [asked])[0].text == '{"answer": 1}'
        sent = server.asked[0]
    assert sent.pop("response_format") == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
    }
    assert sent.pop("messages") == [{"role": "user", "content": "Question 7"}]
    assert sent == {"model": "m", "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": [" END"]}


def test_a_schema_with_optional_fields_is_not_called_strict() -> None:
    with serve(text=lambda body: "{}") as server:
        replies(connect(server), [request(json_schema=SCHEMA | {"required": []})])
        assert server.asked[0]["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize(("mode", "cached"), [("prompt at hand", 8), ("odd details", 0), ("ok", 0)])
def test_what_the_provider_had_at_hand_of_a_prompt_is_read(mode: str, cached: int) -> None:
    with serve(mode) as server:
        [reply] = replies(connect(server), [request()])
        assert (reply.tokens_in, reply.tokens_cached) == (10, cached)


def test_no_requests_get_no_replies() -> None:
    with serve() as server:
        assert replies(connect(server), []) == []


def test_it_can_be_called_where_an_event_loop_is_running() -> None:
    import asyncio

    async def notebook(teacher: Teacher) -> list[Reply]:
        return replies(teacher, [request()])

    with serve() as server:
        assert asyncio.run(notebook(connect(server)))[0].text == "yes"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"choices": ("a", "b")}, "it gives no likelihoods"),
        ({"continues": True}, "it continues no text"),
        ({"beams": 2}, "one beam only"),
    ],
)
def test_what_the_protocol_does_not_offer_is_refused_before_it_is_sent(settings: dict[str, Any], said: str) -> None:
    with serve() as server:
        with pytest.raises(TeacherError, match=said):
            replies(connect(server), [request(**settings), request()])
        assert not server.asked


# What servers do not take


def test_a_server_that_takes_no_top_p_of_one_is_asked_without() -> None:
    with serve("picky about top_p") as server:
        teacher = connect(server)
        assert [reply.text for reply in replies(teacher, requests(20))] == ["yes"] * 20
        asked = len(server.asked)
        assert [reply.text for reply in replies(teacher, requests(5))] == ["yes"] * 5
        assert all("top_p" not in body for body in server.asked[asked:])


def test_a_model_that_thinks_first_is_asked_in_the_newer_way_from_then_on(caplog: pytest.LogCaptureFixture) -> None:
    with serve("old limit") as server:
        teacher = connect(server, concurrency=1)
        assert [reply.finish for reply in replies(teacher, [request(i, temperature=0.5) for i in range(4)])] == [
            "stop"
        ] * 4
        assert len(server.asked) == 2 + 4
        assert server.asked[-1]["max_completion_tokens"] == 512
        assert not {"max_tokens", "temperature"} & set(server.asked[-1])
    assert [record.levelno for record in caplog.records if "does not take" in record.message] == [logging.WARNING] * 2


def test_a_model_known_to_think_first_gets_room_for_its_thoughts() -> None:
    with serve() as server:
        replies(open_teacher(f"{server.url}#gpt-5-mini"), [request(max_tokens=10)])
        assert server.asked[0]["max_completion_tokens"] == 10 + 2048
        assert server.asked[0]["reasoning_effort"] == "low"


def test_a_parameter_that_a_server_forbids_is_left_out() -> None:
    with serve("no seed") as server:
        assert [reply.text for reply in replies(connect(server, concurrency=1), requests(3))] == ["yes"] * 3
        assert len(server.asked) == 1 + 3


def test_a_server_without_schemas_is_asked_in_text() -> None:
    with serve("no schema") as server:
        teacher = connect(server, concurrency=1)
        answers = replies(teacher, [request(i, json_schema=SCHEMA) for i in range(3)])
        assert [json.loads(reply.text) for reply in answers] == [{"answer": 1}] * 3
        assert len(server.asked) == 1 + 3
        assert json.dumps(SCHEMA) in server.asked[-1]["messages"][0]["content"]


def test_a_server_that_ignores_schemas_again_and_again_is_asked_in_text_from_then_on() -> None:
    def text(body: dict[str, Any]) -> str:
        return "One, I think." if "response_format" in body else '{"answer": 1}'

    with serve(text=text) as server:
        answers = replies(connect(server, concurrency=1), [request(i, json_schema=SCHEMA) for i in range(4)])
        assert [reply.text for reply in answers] == ["One, I think."] + ['{"answer": 1}'] * 3
        assert ["response_format" in body for body in server.asked] == [True, True, True, False, False, False]
        assert [reply.tokens_out for reply in answers] == [10, 10, 5, 5]


def test_one_answer_that_is_no_json_says_nothing_about_the_server() -> None:
    answers = iter(["One, I think.", *['{"answer": 1}'] * 3])
    with serve(text=lambda body: next(answers)) as server:
        found = replies(connect(server, concurrency=1), [request(i, json_schema=SCHEMA) for i in range(3)])
        assert [reply.text for reply in found] == ['{"answer": 1}'] * 3
        assert all("response_format" in body for body in server.asked)
        assert "it is not JSON" in server.asked[1]["messages"][-1]["content"]


def test_an_answer_that_does_not_fit_its_schema_is_asked_for_once_more_and_both_are_counted() -> None:
    def text(body: dict[str, Any]) -> str:
        return '{"answer": "one"}' if len(body["messages"]) == 1 else '{"answer": 1}'

    with serve(text=text) as server:
        [reply] = replies(connect(server), [request(json_schema=SCHEMA)])
        assert (reply.text, reply.tokens_in, reply.tokens_out) == ('{"answer": 1}', 20, 10)
        assert [turn["role"] for turn in server.asked[1]["messages"]] == ["user", "assistant", "user"]
        assert "'answer' of the answer is not of the type integer" in server.asked[1]["messages"][2]["content"]


@pytest.mark.parametrize("mode", ["429 then ok", "500"])
def test_a_repair_that_fails_for_a_passing_reason_is_tried_again(mode: str) -> None:
    with serve("ok", mode, "ok", text=lambda body: "{}" if len(body["messages"]) == 1 else '{"answer": 1}') as server:
        [reply] = replies(connect(server), [request(json_schema=SCHEMA)])
        assert (reply.text, reply.tokens_in, len(server.asked)) == ('{"answer": 1}', 20, 3)


def test_a_repair_whose_answer_is_lost_is_the_last_attempt_and_both_are_counted() -> None:
    asked = request(json_schema=SCHEMA)
    with serve("ok", "half", text=lambda body: "{}") as server:
        [reply] = replies(connect(server), [asked])
        assert (reply.failure, reply.tokens_in) == ("the connection broke", 10 + most_tokens_in(asked))
        assert len(server.asked) == 2


def test_an_answer_that_never_fits_has_failed_after_one_repair_and_is_asked_for_in_the_next_run() -> None:
    with serve(text=lambda body: "{}") as server:
        for run in (1, 2):
            [reply] = replies(open_teacher(f"{server.url}#m"), [request(json_schema=SCHEMA)])
            assert (reply.failure, reply.text) == ("the answer does not fit its schema", "{}")
            assert (reply.tokens_in, reply.tokens_out) == (20, 10)
            assert len(server.asked) == 2 * run


# Likelihoods


def test_choices_are_put_as_letters_and_told_apart_by_the_first_token() -> None:
    begun = (Message(role="user", content="Good or bad?"), Message(role="assistant", content="Label: "))
    asked = Request(messages=begun, choices=("good", "bad", "neither"), continues=True)
    with serve("likelihoods") as server:
        teacher = connect(server, logprobs=True)
        assert "logprobs" in teacher.can
        [reply] = replies(teacher, [asked])
        sent = server.asked[0]
    assert [turn["role"] for turn in sent["messages"]] == ["user"]
    assert "A) good\nB) bad\nC) neither" in sent["messages"][0]["content"]
    assert (sent["max_tokens"], sent["top_logprobs"]) == (1, 20)
    assert (reply.text, reply.finish) == ("good", "stop")
    assert reply.logprobs == pytest.approx((math.log(math.exp(-0.5) + math.exp(-2.5)), -1.5, -4.0))


def test_likelihoods_are_offered_only_where_the_server_is_said_to_have_them() -> None:
    with serve() as server:
        assert "logprobs" not in connect(server).can


@pytest.mark.parametrize("settings", [{"choices": ("good", "bad")}, {"top_logprobs": 5}], ids=["choices", "tokens"])
def test_a_server_that_has_no_likelihoods_after_all_ends_the_run_with_the_cure(settings: dict[str, Any]) -> None:
    with serve("null likelihoods") as server:
        with pytest.raises(TeacherError, match="cannot be asked, the reply holds no likelihoods") as error:
            replies(connect(server, logprobs=True, concurrency=1), [request(number, **settings) for number in range(9)])
        assert len(server.asked) == 1
    assert error.value.hint.startswith("Leave teacher_options.logprobs out")


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("no letter", {"choices": ("good", "bad")}),
        ("odd likelihoods", {"choices": ("good", "bad")}),
        ("odd likelihoods", {"top_logprobs": 5}),
    ],
)
def test_a_reply_whose_likelihoods_cannot_be_read_is_paid_for(mode: str, settings: dict[str, Any]) -> None:
    asked = request(1, max_tokens=1, **settings)
    with serve("likelihoods", mode) as server:
        _, reply = replies(connect(server, logprobs=True, concurrency=1), [request(0, **settings), asked])
    assert (reply.failure, reply.tokens_in) == ("the reply holds no likelihoods", most_tokens_in(asked))
    assert reply.tokens_out == most_tokens_out(asked, reasoning=False)


def test_a_filtered_reply_without_likelihoods_says_nothing_about_the_server() -> None:
    with serve("filtered", "likelihoods") as server:
        asked = [request(number, choices=("good", "bad")) for number in range(2)]
        answered = replies(connect(server, logprobs=True, concurrency=1), asked)
    assert [reply.finish for reply in answered] == ["filtered", "stop"]


# The rate


def test_a_rate_that_was_set_is_kept() -> None:
    with serve() as server:
        began = time.monotonic()
        replies(connect(server, requests_per_minute=1200, patience_seconds=60), requests(21))
        assert time.monotonic() - began >= 0.95


def test_more_and_more_requests_are_under_way_where_the_server_allows_it() -> None:
    with serve() as server:
        server.seconds = 0.1
        replies(connect(server, timeout_seconds=30), requests(300))
        assert server.most_under_way > 32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"requests_per_minut": 5},
            r"There is no option teacher_options\.requests_per_minut\. Did you mean requests_per_minute",
        ),
        ({"concurrency": 0}, r"teacher_options\.concurrency is 0: it should be greater than 0\."),
    ],
)
def test_an_option_that_cannot_be_used_is_an_error_that_lists_the_known_ones(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        open_teacher("http://127.0.0.1:1/v1#m", options=options)
    assert "requests_per_minute, tokens_per_minute" in error.value.hint


# Bad servers


@pytest.mark.parametrize(
    ("modes", "expected", "asked"),
    [
        (["429 then ok", "ok"], Reply(text="yes"), 2),
        (["503 until a date", "ok"], Reply(text="yes"), 2),
        (["500", "502 page", "ok"], Reply(text="yes"), 3),
        (["500", "half", "ok"], Reply(text="yes"), 3),
        (["hangs", "ok"], Reply(text="yes"), 2),
        (["no choices", "ok"], Reply(text="yes"), 2),
        (["hangs up", "ok"], Reply(text="yes"), 2),
        (["resets", "ok"], Reply(text="yes"), 2),
        (["no head", "ok"], Reply(text="yes"), 2),
        (["length"], Reply(text="a lo", finish="length"), 1),
        (["filtered"], Reply(finish="filtered"), 1),
        (["refusal"], Reply(finish="filtered"), 1),
        (["no content"], Reply(finish="failed", failure="empty answer"), 2),
        (["no content", "ok"], Reply(text="yes"), 2),
        (["parts"], Reply(text="in parts"), 1),
        (["half a character"], Reply(text="? cut"), 1),
        (["no usage"], Reply(text="yes"), 1),
        (["400"], Reply(finish="failed", failure="refused (400)"), 1),
        (["400 too long"], Reply(finish="failed", failure="the prompt is too long (400)"), 1),
        (["broken JSON"], Reply(finish="failed", failure="the reply is not JSON"), 2),
        (["deep JSON"], Reply(finish="failed", failure="the reply is not JSON"), 2),
        (["a page"], Reply(finish="failed", failure="the reply is not JSON"), 2),
        (["a list"], Reply(finish="failed", failure="the reply holds no answer"), 2),
        (["no choices"], Reply(finish="failed", failure="the reply holds no answer"), 2),
        (["null choices"], Reply(finish="failed", failure="the reply holds no answer"), 2),
        (["null message"], Reply(finish="failed", failure="the reply holds no answer"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_a_server_says_becomes_a_reply(modes: list[str], expected: Reply, asked: int) -> None:
    with serve(*modes) as server:
        [reply] = replies(connect(server), [request()])
        assert reply.model_copy(update={"tokens_in": 0, "tokens_out": 0}) == expected
        assert len(server.asked) == asked


def test_what_another_attempt_mended_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with serve("429", "500", "429", "ok") as server, caplog.at_level(logging.INFO):
        teacher = connect(server, concurrency=1, attempts=5)
        assert [reply.finish for reply in replies(teacher, requests(2))] == ["stop", "stop"]
    [said] = [record.message for record in caplog.records if "attempts" in record.message]
    assert said == f"{teacher.name} did not answer 3 attempts: 2 × rate limited (429), 1 × server error (500)."


@pytest.mark.parametrize(
    ("mode", "said", "hint"),
    [
        ("401", "the key is refused (401)", "OPENAI_API_KEY"),
        ("403", "access is refused (403)", "may not use this model"),
        ("404", "no such model (404)", "Known: m2, other"),
        ("429 no credit", "no credit left (429)", "Add credit"),
        ("429", "rate limited (429), 8 times", "The same command goes on from here"),
        ("429 for a day", "come back tomorrow", "The same command"),
        ("500", "server error (500), 8 times. The last: server error (500), oh dear", "The same command"),
        ("502 page", "server error (502)", "The same command"),
        ("hangs", "timed out", "The same command"),
        ("half", "the connection broke", "The same command"),
        ("hangs up", "the connection broke", "The same command"),
        ("resets", "the connection broke", "The same command"),
        ("no head", "the connection broke", "The same command"),
        ("broken JSON", "the reply is not JSON", "The same command"),
        ("400", "refused (400), 8 times", "The server is up: what it said stands above. The same command"),
    ],
)
def test_a_server_that_cannot_answer_ends_the_run_soon(mode: str, said: str, hint: str) -> None:
    with serve(mode, models=("m2", "other")) as server:
        teacher = registry.load("teachers", "openai").connect(
            "zzz", url=server.url, attempts=2, first_pause_seconds=0.01, timeout_seconds=0.3
        )
        began = time.monotonic()
        with pytest.raises(TeacherError) as error:
            replies(teacher, requests(1000))
        assert time.monotonic() - began < 5
        assert said in error.value.message
        assert hint in error.value.hint
        assert len(server.asked) < 100


def test_a_few_requests_to_a_server_that_is_out_end_with_an_error() -> None:
    with serve("500") as server, pytest.raises(TeacherError, match=r"server error \(500\), 2 times"):
        replies(connect(server), requests(2))


def test_no_connection_ends_with_an_error() -> None:
    teacher = registry.load("teachers", "openai").connect(
        "m", url=f"http://127.0.0.1:{free_port()}/v1", attempts=2, first_pause_seconds=0.01
    )
    with pytest.raises(TeacherError, match="no connection, 3 times"):
        replies(teacher, requests(3))


def test_a_server_that_says_nothing_is_given_up() -> None:
    with serve("ok", "ok", "hangs") as server:
        teacher = connect(server, timeout_seconds=1.2, patience_seconds=0.5)
        arrived: list[Reply] = []
        with pytest.raises(TeacherError, match=r"nothing came for 1\.2 seconds") as error:
            take(teacher.answer(requests(20)), arrived)
        assert sum(reply.finish == "stop" for reply in arrived) == 2
        assert "Is the server up?" in error.value.hint


def test_a_slow_server_may_take_as_long_as_the_time_out_whatever_the_patience() -> None:
    with serve() as server:
        server.seconds = 1.5
        [reply] = replies(connect(server, timeout_seconds=30, patience_seconds=0.2), [request()])
        assert reply.text == "yes"


def test_what_is_under_way_when_a_server_is_given_up_for_its_silence_has_a_moment_to_come() -> None:
    import asyncio

    async def silence() -> list[Any]:
        came: list[Any] = []
        options = Options(patience_seconds=0.1, timeout_seconds=0.1)
        asking = Asking(session=None, window=Window(9), health=Health("m", options), put=came.append)

        async def last() -> None:
            with asking.health.asking():
                await asyncio.sleep(1.5)  # the silence is noticed after a second
                asking.put([(0, Reply(text="yes"))])

        asking.has_begun(asyncio.create_task(last()))
        with pytest.raises(TeacherError, match="nothing came"):
            await asyncio.wait_for(asking.watch(), 10)
        return came

    assert asyncio.run(silence()) == [[(0, Reply(text="yes"))]]


def test_a_server_that_goes_down_in_the_middle_ends_the_run_with_what_was_answered() -> None:
    with serve(*["ok"] * 10, "500") as server:
        arrived: list[Reply] = []
        with pytest.raises(TeacherError, match=r"does not answer: .*server error \(500\)"):
            take(connect(server, patience_seconds=1.0).answer(requests(500)), arrived)
        assert sum(reply.finish == "stop" for reply in arrived) == 10


def test_an_outage_of_a_server_that_has_answered_is_waited_out() -> None:
    with serve(*["ok"] * 10, *["500"] * 100, "ok") as server:
        found = replies(connect(server, attempts=5, first_pause_seconds=0.02, patience_seconds=60), requests(40))
    assert [reply.text for reply in found] == ["yes"] * 40


@pytest.mark.parametrize("concurrency", [1, 30])
def test_one_request_that_a_server_cannot_answer_is_no_outage(concurrency: int) -> None:
    with serve("500 for one") as server:
        began = time.monotonic()
        found = replies(connect(server, concurrency=concurrency, patience_seconds=60), requests(10))
        assert time.monotonic() - began < 30
    assert [reply.failure for reply in found if reply.finish == "failed"] == ["server error (500)"]


@pytest.mark.parametrize("mode", ["401", "429 no credit", "404"])
def test_answers_under_way_when_no_further_ones_are_given_are_waited_for(mode: str) -> None:
    with serve("slow", mode) as server:
        arrived: list[Reply] = []
        with pytest.raises(TeacherError, match="cannot be asked"):
            take(connect(server, timeout_seconds=30, patience_seconds=30).answer(requests(9)), arrived)
        assert [reply.text for reply in arrived] == ["yes"]


def test_an_interruption_does_not_wait_for_answers_under_way() -> None:
    with serve("hangs", "401") as server:
        asker, interrupted, is_over = get_ident(), list[float](), Event()

        def interrupt() -> None:
            while len(server.asked) < 2:  # one hangs, one is refused
                time.sleep(0.01)
            time.sleep(0.3)
            for _ in range(3):  # one that comes while objects are cleared away is lost
                interrupted.append(time.monotonic())
                signal.pthread_kill(asker, signal.SIGINT)
                if is_over.wait(2):
                    return

        Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            replies(connect(server, timeout_seconds=30), requests(9))
        is_over.set()
        assert time.monotonic() - interrupted[-1] < 5


@pytest.mark.parametrize("mode", ["403", "404"])
def test_what_is_refused_to_one_request_after_others_were_answered_is_its_own_matter(mode: str) -> None:
    with serve("ok", "ok", mode, "ok") as server:
        found = replies(connect(server, concurrency=1), requests(5))
    assert [reply.finish for reply in found] == ["stop", "stop", "failed", "stop", "stop"]


def test_who_refuses_everything_from_some_moment_on_is_given_up() -> None:
    with serve("ok", "403") as server, pytest.raises(TeacherError, match="access is refused"):
        replies(connect(server, concurrency=1), requests(100))
    assert len(server.asked) <= 10


def test_a_rate_limit_of_a_server_that_has_answered_is_waited_out() -> None:
    with serve("ok", *["429"] * 6, "ok") as server:
        found = replies(connect(server, concurrency=1, attempts=2), requests(2))
    assert [reply.text for reply in found] == ["yes", "yes"]


def test_bad_requests_among_good_ones_do_not_end_the_run() -> None:
    with serve("ok", *["400"] * 12, "ok") as server:
        answered = replies(connect(server, concurrency=1), requests(20))
    assert sum(reply.failure == "refused (400)" for reply in answered) == 12


def test_a_long_wait_that_the_server_asks_for_holds_for_all() -> None:
    with serve("429 then ok", "ok") as server:
        began = time.monotonic()
        assert all(reply.text == "yes" for reply in replies(connect(server, concurrency=1), requests(3)))
        assert time.monotonic() - began > 0.2


def test_the_key_is_sent_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, home_folder: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with serve("ok", "401") as server:
        teacher = open_teacher(f"{server.url}#m")
        replies(teacher, [request(1)])
        with pytest.raises(TeacherError) as error:
            replies(teacher, [request(2)])
        assert server.keys == {f"Bearer {KEY}"}
    assert "[key]" in str(error.value)
    kept = b"".join(path.read_bytes() for path in home_folder.rglob("*") if path.is_file())
    shown = f"{error.value} {error.value!r} {teacher.name} {teacher.identity} {caplog.text} {vars(teacher)}"
    assert KEY not in shown
    assert KEY.encode() not in kept


def test_a_caller_that_stops_early_leaves_nothing_running() -> None:
    import threading

    before = {thread.name for thread in threading.enumerate()}
    with serve("ok", "hangs") as server:
        asking = connect(server, timeout_seconds=30).answer(requests(40))
        next(asking)
        asking.close()
        assert "teacher" not in {thread.name for thread in threading.enumerate()} - before


# open_teacher: the cache and the ledger around it


def test_an_empty_answer_is_not_kept() -> None:
    with serve("no content", "no content", "ok") as server:
        assert [reply.failure for reply in replies(open_teacher(f"{server.url}#m"), requests(1))] == ["empty answer"]
        assert [reply.text for reply in replies(open_teacher(f"{server.url}#m"), requests(1))] == ["yes"]


def test_what_was_answered_is_not_asked_again() -> None:
    with serve() as server:
        replies(open_teacher(f"{server.url}#gpt-4.1"), requests(5))
        teacher = open_teacher(f"{server.url}#gpt-4.1")
        assert all(reply.cached for reply in replies(teacher, requests(5)))
        assert len(server.asked) == 5
        assert (spent_by(teacher).cached, spent_by(teacher).usd) == (5, 0)


def test_a_run_that_broke_off_goes_on_where_it_was() -> None:
    with serve(*["ok"] * 10, "401") as server:
        with pytest.raises(TeacherError):
            replies(open_teacher(f"{server.url}#m"), requests(30))
        server.modes, before = ["ok"], len(server.asked)
        assert len(replies(open_teacher(f"{server.url}#m"), requests(30))) == 30
        assert len(server.asked) - before == 20


def test_a_budget_is_not_passed_with_many_requests_under_way() -> None:
    with serve() as server:
        teacher = open_teacher(f"{server.url}#gpt-4.1", budget_usd=0.006)
        arrived: list[Reply] = []
        with pytest.raises(BudgetExceeded):
            take(teacher.answer([request(number, max_tokens=10) for number in range(3000)]), arrived)
        assert len(arrived) == len(server.asked)
        assert 0.005 < spent_by(teacher).usd == pytest.approx(len(arrived) * (10 * 2 + 5 * 8) / 1e6)
        assert spent_by(teacher).usd <= 0.006


def settled(seed: int) -> Request:
    """A request that costs as much as every other: only the seed differs."""
    return Request(messages=(Message(role="user", content="Question"),), seed=seed, max_tokens=9)


def dearest() -> float:
    """What such a request is reserved at, where a token read costs a dollar and a token written two."""
    return MOST_PAID_ATTEMPTS * float(most_tokens_in(settled(0)) + 2 * most_tokens_out(settled(0), reasoning=False))


@pytest.mark.parametrize("answers", [1, 2, 3, 10, 37])
@pytest.mark.parametrize("more_usd", [0.0, -0.001])
def test_the_last_request_that_a_budget_bears_is_sent_and_none_after_it(
    home_folder: Path, answers: int, more_usd: float
) -> None:
    """An answer costs 20 dollars (10 tokens read, 5 written); the next may cost the most a request can."""
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1e6, output = 2e6 }\n')
    budget = 20 * (answers - 1) + dearest() + more_usd
    arrived: list[Reply] = []
    with serve("one answer") as server:
        teacher = open_teacher(f"{server.url}#m", budget_usd=budget)
        with pytest.raises(BudgetExceeded):
            take(teacher.answer([settled(number) for number in range(60)]), arrived)
        assert len(server.asked) == len(arrived) == answers - (more_usd < 0)
        assert spent_by(teacher).usd == 20 * len(arrived) <= budget


def test_a_budget_for_an_unknown_price_is_refused_before_anything_is_sent() -> None:
    with serve() as server:
        with pytest.raises(ConfigError, match="price of"):
            open_teacher(f"{server.url}#ours", budget_usd=1)
        assert not server.asked


ASK = """
import sys
from prompt2model.conversation import Message, Request
from prompt2model.teachers import open_teacher

requests = [Request(messages=(Message(role="user", content=str(n)),)) for n in range(int(sys.argv[2]))]
teacher = open_teacher(sys.argv[1], options={"concurrency": int(sys.argv[3])})
print(sum(len(group) for group in teacher.answer(requests)))
"""


@pytest.mark.slow
def test_killed_ten_times_only_what_was_in_flight_is_asked_again() -> None:
    count, at_once, rng = 2000, 16, random.Random()
    with serve() as server:
        server.seconds = 0.02
        command = [sys.executable, "-c", ASK, f"{server.url}#m", str(count), str(at_once)]
        for _ in range(10):
            goal = len(server.asked) + rng.randrange(20, 180)
            with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL) as process:
                wait_until(lambda goal=goal: len(server.asked) >= goal, seconds=60, step=0.001)
                process.kill()
        before = len(server.asked)
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
        assert int(done.stdout) == count
        assert before < count < len(server.asked) <= count + 10 * at_once
        assert len({json.dumps(body["messages"]) for body in server.asked}) == count


# Scripted


def script(tmp_path: Path, *lines: str) -> str:
    (tmp_path / "answers.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return f"scripted:{tmp_path / 'answers.jsonl'}"


def test_a_line_of_a_script_may_hold_the_other_line_ends_of_unicode(tmp_path: Path) -> None:
    teacher = open_teacher(script(tmp_path, '"one\u2028two"', '"three\x85"'))
    assert [reply.text for reply in replies(teacher, requests(2))] == ["one\u2028two", "three\x85"]


def test_a_script_is_a_queue_and_records_what_it_was_asked() -> None:
    teacher = Scripted(["one", Reply(text="tw", finish="length")])
    assert [reply.text for reply in replies(teacher, requests(2))] == ["one", "tw"]
    assert teacher.asked == requests(2)


def test_a_script_can_be_a_function_of_the_request() -> None:
    teacher = Scripted(lambda asked: asked.messages[-1].content.upper())
    assert replies(teacher, [request(3)])[0].text == "QUESTION 3"


@pytest.mark.parametrize("answer", [[-0.1, -3.0], (-0.1, -3.0), Reply(logprobs=(-0.1, -3.0))])
def test_a_script_gives_likelihoods(answer: Any) -> None:
    assert replies(Scripted([answer]), [request(choices=("a", "b"))])[0].logprobs == (-0.1, -3.0)


def test_a_script_may_name_the_choice_that_is_certain() -> None:
    likely, unlikely = replies(Scripted(["b"]), [request(choices=("b", "a"))])[0].logprobs
    assert likely > -0.01 > -5 > unlikely


@pytest.mark.parametrize(
    ("answers", "settings", "said"),
    [
        ([], {}, "no answer left"),
        (["c"], {"choices": ("a", "b")}, "none of a, b"),
        ([[-1.0]], {"choices": ("a", "b")}, "1 likelihoods for 2 choices"),
        ([[-1.0]], {}, "asks for a text"),
    ],
)
def test_a_script_that_does_not_fit_is_an_error(answers: list[Any], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TeacherError, match=said):
        replies(Scripted(answers), [request(**settings)])


def test_a_script_can_be_a_file(tmp_path: Path) -> None:
    lines = [
        '"one"',
        "",
        '{"contains": "Question 5", "text": "five"}',
        "[-0.5, -1]",
        '{"text": "cu", "finish": "length"}',
    ]
    teacher = open_teacher(script(tmp_path, *lines))
    asked = [request(5), request(1), request(55), request(2, choices=("a", "b")), request(3)]
    found = replies(teacher, asked)
    assert [reply.text for reply in found] == ["five", "one", "five", "", "cu"]
    assert found[3].logprobs == (-0.5, -1)


@pytest.mark.parametrize("line", ["no JSON", '{"txt": "one"}', "3", '["a"]', '{"contains": "x", "text": 1}'])
def test_a_line_that_is_no_answer_is_shown(tmp_path: Path, line: str) -> None:
    with pytest.raises(TeacherError, match=r"Line 2 of .*answers\.jsonl is no answer"):
        open_teacher(script(tmp_path, '"one"', line))


def test_a_script_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="cannot be read"):
        open_teacher(f"scripted:{tmp_path / 'none.jsonl'}")


# vLLM


def test_without_vllm_its_teacher_says_how_to_install_it() -> None:
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    with pytest.raises(MissingExtra, match="'vllm' is not installed") as error:
        open_teacher("vllm:owner/model")
    assert error.value.hint == "pip install 'prompt2model[vllm]'"


class Engine:
    """What is asked of vLLM when it starts."""

    def __init__(self, **settings: Any) -> None:
        self.model_config = SimpleNamespace(max_model_len=settings["max_model_len"] or 512)


def test_the_identity_of_a_vllm_teacher_follows_its_weights_and_its_longest_prompt(
    monkeypatch: pytest.MonkeyPatch, tiny_decoder: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=Engine))
    connect = registry.load("teachers", "vllm").connect
    found = [connect(str(tiny_decoder), max_length=most).identity for most in (0, 0, 64)]
    assert found[0] == found[1] != found[2]
    other = connect(str(save_decoder(tmp_path, seed=1))).identity
    assert other.rpartition("@")[2] != found[0].rpartition("@")[2]


# A released server


@pytest.mark.slow
def test_transformers_serve_answers(weights_folder: Path) -> None:
    with transformers_serve(weights_folder) as url:
        teacher = open_teacher(f"{url}#{weights_folder}")
        asked = [
            Request(
                messages=(Message(role="user", content="What is the capital of France?"),), temperature=0, max_tokens=20
            ),
            Request(messages=(Message(role="user", content="Say hello."),), max_tokens=5),
            request(3, max_tokens=20, stop=(".",)),
        ]
        france, hello, stopped = replies(teacher, asked)
        assert "Paris" in france.text
        assert (hello.finish, hello.tokens_out) == ("length", 5)
        assert "." not in stopped.text
        assert min(france.tokens_in, hello.tokens_in, stopped.tokens_in) > 5
        with pytest.raises(Prompt2ModelError):
            replies(open_teacher(f"{url}#no/such-model"), requests(8))


@pytest.mark.slow
def test_transformers_serve_ignores_what_it_has_not_and_the_teacher_finds_out(
    weights_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes JSON schemas, several answers and likelihoods without a word, and gives none of them."""
    name = f"#{weights_folder}"
    with transformers_serve(weights_folder) as url:
        teacher = open_teacher(url + name, options={"concurrency": 1})
        asked = [capital("Berlin", '{"country": "Germany"}'), *(capital(seed=seed) for seed in range(3))]
        shown, *unshown = replies(teacher, asked)
        assert json.loads(shown.text) == {"country": "France"}
        for reply in unshown:  # some do when told what was wrong
            assert reply.failure in ("", "the answer does not fit its schema")
            assert reply.finish != "stop" or json.loads(reply.text).keys() == {"country"}
        drawn = [request(0, max_tokens=8).model_copy(update={"seed": seed}) for seed in (1, 2)]
        assert all(reply.text for reply in replies(teacher, drawn))
        without = [record.message for record in caplog.records if "does not take" in record.message]
        assert "n; it is asked without." in [message.partition(" does not take ")[2] for message in without]
        with pytest.raises(TeacherError, match="the reply holds no likelihoods"):
            replies(open_teacher(url + name, options={"logprobs": True}), [request(choices=("yes", "no"))])


COUNTRY = {
    "type": "object",
    "properties": {"country": {"type": "string"}},
    "required": ["country"],
    "additionalProperties": False,
}


def capital(*shown: str, seed: int = 0) -> Request:
    """A question to be answered in JSON; what is shown is another capital and the answer about that."""
    asked = [f"{city} is the capital of which country?" for city in (*shown[:1], "Paris")]
    texts = [asked[0], shown[1], asked[1]] if shown else asked
    turns = [Message(role="user" if place % 2 == 0 else "assistant", content=text) for place, text in enumerate(texts)]
    return Request(messages=tuple(turns), json_schema=COUNTRY, temperature=0, max_tokens=20, seed=seed)


@contextmanager
def transformers_serve(folder: Path) -> Iterator[str]:
    """The server that comes with transformers, with one model; it is named by its folder."""
    port = free_port()
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", str(folder), "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is None and answers(f"http://127.0.0.1:{port}/health"), seconds=240)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(is_so: Callable[[], bool], *, seconds: float, step: float = 0.5) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "that takes too long"
        time.sleep(step)


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
