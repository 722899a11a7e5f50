"""What is sent to a server of OpenAI's protocol, and what its answers mean: no network."""

import json
from typing import Any

import pytest

from prompt2model import chat
from prompt2model.chat_troubles import Trouble
from prompt2model.conversation import Message, Reply, Request
from prompt2model.ledger import most_tokens_in
from prompt2model.servers import room_for_connections, without_key

ASKED = Request(messages=(Message(role="user", content="Which?"),), max_tokens=50)


def completion(text: Any = "yes", finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": {}, **more}


def hear(status: int, body: Any, model: str = "m", effort: str = "", **headers: str) -> Reply | Trouble:
    sent = chat.body(ASKED, model, effort=effort, refused=())
    told = chat.answered(
        status, {name.replace("_", "-"): text for name, text in headers.items()}, dumped(body), ASKED, sent
    )
    return told if isinstance(told, Trouble) else told[0]


def dumped(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def trouble(status: int, body: Any, **headers: str) -> Trouble:
    found = hear(status, body, **headers)
    assert isinstance(found, Trouble)
    return found


def reply(body: Any) -> Reply:
    found = hear(200, body)
    assert isinstance(found, Reply)
    return found


def refused(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", "stop"),
        (None, "stop"),
        ("eosFound", "stop"),
        ("end_turn", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("content_filter", "filtered"),
        ("SAFETY", "filtered"),
    ],
)
def test_servers_have_many_words_for_how_an_answer_ended(finish, expected):
    assert reply(completion(finish=finish)).finish == expected


@pytest.mark.parametrize("finish", ["error", "abort", "insufficient_system_resource"])
def test_an_answer_that_broke_off_is_asked_for_again(finish):
    found = trouble(200, completion("half an ans", finish))
    assert (found.reason, found.retry, found.may_be_paid) == (f"broken off ({finish})", True, True)


@pytest.mark.parametrize(
    ("usage", "read", "written"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}, 20, 5),
        ({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}, 20, 603),
        ({"prompt_tokens": 20, "completion_tokens": 5}, 20, 5),
        ({"prompt_tokens": 20, "completion_tokens": None}, 20, 3),
        ({"prompt_tokens": -7, "completion_tokens": -7}, most_tokens_in(ASKED), 3),
        ({}, most_tokens_in(ASKED), 3),
        (None, most_tokens_in(ASKED), 3),
        ([], most_tokens_in(ASKED), 3),
    ],
)
def test_what_is_not_told_of_tokens_counts_at_its_most_and_what_cannot_be_counts_nothing(usage, read, written):
    found = reply(completion(usage=usage))
    assert (found.text, found.tokens_in, found.tokens_out) == ("yes", read, written)


def test_an_answer_without_usage_has_no_more_tokens_than_it_may_have():
    assert reply(completion("x" * 9_000, usage=None)).tokens_out == ASKED.max_tokens


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, refused("Payment required")),
        (429, refused("You exceeded your quota", code="insufficient_quota")),
        (400, refused("Your credit balance is too low to access the API.")),
        (403, refused("Billing", code="billing_not_active")),
        (200, refused("Insufficient credits", code=402)),
    ],
)
def test_who_has_no_credit_is_told_so_at_once(status, body):
    found = trouble(status, body)
    assert (found.ends_all, found.retry) == ("quota", False)


def test_what_an_input_says_of_money_ends_nothing():
    echoed = {"detail": [{"msg": "too short", "input": "card declined: insufficient funds"}]}
    assert [trouble(status, echoed).ends_all for status in (400, 422)] == ["", ""]


def test_of_several_answers_the_one_that_broke_off_fails_alone():
    sent = chat.body(ASKED, "m", effort="", refused=(), answers=2)
    both = completion()
    for broken, expected in ((0, ["failed", "stop"]), (1, ["stop", "failed"])):
        choices = [both["choices"][0], both["choices"][0]]
        choices[broken] = completion("half", "error")["choices"][0]
        found = chat.answered(200, {}, dumped({"choices": choices}), ASKED, sent)
        assert isinstance(found, list)
        assert [one.finish for one in found] == expected


def test_an_error_that_comes_as_if_all_were_well_is_one_and_is_not_paid_for():
    limited = trouble(200, refused("slow down", code=429))
    assert (limited.reason, limited.is_limit, limited.may_be_paid) == ("rate limited (429)", True, False)
    unnamed = trouble(200, {"error": "something broke"})
    assert (unnamed.reason, unnamed.retry, unnamed.is_outage, unnamed.may_be_paid) == (
        "server error (500)",
        True,
        True,
        False,
    )
    assert reply(completion('an "error"', error=None)).text == 'an "error"'


def test_an_input_that_a_provider_will_not_read_says_nothing_of_others():
    found = trouble(403, refused("Your input was flagged by moderation."))
    assert (found.ends_all, found.retry, found.reason) == ("", False, "the input is not let through (403)")
    assert trouble(403, refused("not for you")).ends_all == "access"


@pytest.mark.parametrize(
    ("message", "left_out"),
    [
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", {"top_p"}),
        ("`temperature` is deprecated for this model.", {"temperature"}),
        ("Unsupported parameter: 'max_tokens'", {"max_tokens"}),
        ("Input validation error: `top_p` must be > 0.0 and < 1.0", {"top_p"}),
        ("`seed` must be positive", set()),
        ("your prompt is not nice", set()),
    ],
)
def test_a_parameter_that_is_refused_is_left_out(message, left_out):
    sent = chat.body(ASKED.model_copy(update={"top_p": 0.9}), "m", effort="", refused={"seed"})
    found = chat.answered(422, {}, dumped(refused(message)), ASKED, sent)
    assert isinstance(found, Trouble)
    assert found.refused == left_out


@pytest.mark.parametrize(
    ("status", "is_paid"), [(408, True), (504, True), (524, True), (429, False), (500, False), (503, False)]
)
def test_an_answer_that_a_gateway_did_not_wait_for_may_be_on_the_bill(status, is_paid):
    found = trouble(status, refused("sorry"))
    assert (found.retry, found.may_be_paid) == (True, is_paid)


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        (refused("Please try again in 20s. Visit …"), {}, 20),
        (refused("Please try again in 650ms."), {}, 0.65),
        (refused("Please try again in 1m12.5s."), {}, 72.5),
        (refused("quota", details=[{"retryDelay": "34s"}]), {}, 34),
        (refused("try again in 20s"), {"retry_after": "3"}, 3),
        (refused("slow down"), {"retry_after": "Sun, 99999999999 Nov 1994 08:49:37 GMT"}, 0),
        (refused("slow down"), {}, 0),
    ],
)
def test_a_server_may_tell_in_words_how_long_to_wait(body, headers, seconds):
    assert trouble(429, body, **headers).wait_seconds == pytest.approx(seconds)


def test_a_top_p_of_one_is_said_for_servers_that_have_another_of_their_own():
    assert chat.body(ASKED, "m", effort="", refused=())["top_p"] == 1
    assert "top_p" not in chat.body(ASKED, "m", effort="", refused=("top_p",))


@pytest.mark.parametrize(
    ("text", "finish", "is_one"),
    [("", "stop", True), (None, None, True), (" \n", "eos", True), ("", "length", False), ("", "safety", False)],
)
def test_an_answer_without_a_text_is_none_unless_it_was_cut_or_filtered(text, finish, is_one):
    found = hear(200, completion(text, finish))
    assert isinstance(found, Trouble) == is_one
    if isinstance(found, Trouble):
        assert (found.reason, found.retry, found.may_be_paid) == ("empty answer", True, True)


def test_parts_of_a_message_that_are_no_text_are_left_out():
    assert (
        reply(completion([{"text": "in "}, {"text": {"a": 1}}, {"text": 7}, "x", {"text": "parts"}])).text == "in parts"
    )


def test_openais_models_that_think_are_not_told_how_to_draw():
    for model, effort, is_told in (
        ("gpt-5-mini", "low", False),
        ("openai/o3", "low", False),
        ("gpt-5.1", "none", True),
        ("gpt-4.1", "", True),
        ("gemini-2.5-pro", "low", True),
    ):
        sent = chat.body(ASKED.model_copy(update={"top_p": 0.9}), model, effort=effort, refused=())
        assert ("temperature" in sent) == ("top_p" in sent) == is_told


def test_neither_a_key_nor_a_proxys_password_is_shown():
    said = without_key("url='http://user:secret@127.0.0.1:1' with sk-12345", "sk-12345")
    assert said == "url='http://127.0.0.1:1' with [key]"


def test_no_more_connections_are_made_than_files_may_be_open():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        assert room_for_connections(400) == 400
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 464
        assert room_for_connections(5) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
