"""The ledger: prices, estimates, and a budget that is never passed."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import BudgetExceeded, ConfigError
from prompt2model.ledger import (
    MOST_PAID_ATTEMPTS,
    REASONING_TOKENS,
    Metered,
    Price,
    estimate,
    price,
    price_line,
    thinks,
)
from prompt2model.records import Spent
from prompt2model.teachers.scripted import Scripted

DOLLAR = Price(input=0, output=1_000_000)
"""A dollar for every token written."""


def request(number: int = 0, max_tokens: int = 1) -> Request:
    return Request(messages=(Message(role="user", content=f"Question {number}"),), max_tokens=max_tokens)


def take(groups: Iterable[list[tuple[int, Reply]]], into: list[tuple[int, Reply]]) -> None:
    for group in groups:
        into += group


def paid(tokens_out: int = 1) -> Reply:
    return Reply(text="answer", tokens_out=tokens_out)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai:gpt-4o-mini", 0.15),
        ("openai:gpt-4o-mini-2024-07-18", 0.15),
        ("http://127.0.0.1:8000/v1#gpt-4.1", 2.0),
        ("openai:claude-haiku-4-5-20251001", 1.0),
        ("transformers:HuggingFaceTB/SmolLM2-135M-Instruct", 0.0),
        ("scripted", 0.0),
    ],
)
def test_a_price_is_found_by_the_teachers_name(name: str, expected: float) -> None:
    found = price(name)
    assert found is not None
    assert found.input == expected


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    assert price("http://127.0.0.1:8000/v1#our-model") is None
    assert "price unknown" in price_line("http://127.0.0.1:8000/v1#our-model")


def test_a_known_price_is_shown_with_the_date_of_the_list() -> None:
    assert price_line("openai:gpt-4.1-mini").startswith("$0.4 in, $1.6 out per million tokens, prices of 20")
    assert price_line("scripted") == "free"


def test_the_users_own_prices_come_first(home_folder: Path) -> None:
    own = '[models]\n"gpt-4.1" = { input = 7, output = 9 }\n"http://h/v1#m" = { input = 0, output = 0 }\n'
    (home_folder / "prices.toml").write_text(own)
    assert price("openai:gpt-4.1") == Price(input=7, output=9)
    assert price_line("http://h/v1#m") == "free"


def test_whether_a_model_thinks_is_known_whatever_the_users_price_leaves_out(home_folder: Path) -> None:
    own = '[models]\n"gpt-5-mini" = { input = 1, output = 2 }\n"gpt-5" = { input = 1, output = 2, reasoning = false }\n'
    (home_folder / "prices.toml").write_text(own + '"o9-new" = { input = 1, output = 2 }\n')
    found = {name: price(f"openai:{name}") for name in ("gpt-5-mini", "gpt-5", "o9-new", "gpt-4.1", "gemini-2.5-pro")}
    assert {name: one and one.reasoning for name, one in found.items()} == {
        "gpt-5-mini": True,
        "gpt-5": False,
        "o9-new": True,
        "gpt-4.1": False,
        "gemini-2.5-pro": True,
    }
    assert [thinks(name) for name in ("o1", "openai/gpt-5-mini", "gpt-5-chat-latest", "gpt-4o", "llama-o1")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_the_provider_had_at_hand_costs_what_the_user_says(home_folder: Path) -> None:
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 2, output = 8, cached = 0.5 }\n')
    own = price("http://h/v1#m")
    assert own is not None
    assert own.usd(1_000_000, 0, 400_000) == pytest.approx(0.6 * 2 + 0.4 * 0.5)
    assert price_line("http://h/v1#m") == "$2 in ($0.5 cached), $8 out per million tokens"
    assert price("http://h/v1#m (batch)") == Price(input=1, output=4)
    assert Price(input=2, output=8).usd(1_000_000, 0, 400_000) == 2


def test_a_prompt_at_hand_is_counted_and_its_price_is_lower() -> None:
    reply = Reply(text="answer", tokens_in=10, tokens_cached=8)
    teacher = Metered(Scripted([reply]), price=Price(input=1e6, output=0, cached=250_000))
    list(teacher.answer([request()]))
    assert (teacher.spent.tokens_in, teacher.spent.tokens_cached, teacher.spent.usd) == (10, 8, 2 + 8 / 4)


@pytest.mark.parametrize(
    "text",
    [
        "[models",
        '[models]\n"m" = 3',
        '[models]\n"m" = { input = -1, output = 2 }',
        '[models]\n"m" = { input = 1, output = 2, cached = 3 }',
        '[models]\n"m" = { input = 1 }',
        '"m" = { input = 1, output = 2 }',
    ],
)
def test_a_price_list_that_cannot_be_read_is_an_error(home_folder: Path, text: str) -> None:
    (home_folder / "prices.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"prices\.toml cannot be read") as caught:
        price("openai:gpt-4.1")
    assert "\n" not in caught.value.message


def test_the_line_that_is_shown_for_a_price_sets_it(home_folder: Path) -> None:
    line = price_line("http://host/v1#m").partition("can hold it: ")[2].removesuffix(")")
    (home_folder / "prices.toml").write_text(line)
    assert price("http://host/v1#m") == Price(input=0.5, output=1.5)


def test_an_estimate_counts_every_answer_at_its_longest() -> None:
    spent = estimate([request(max_tokens=100)], "openai:gpt-4.1", times=10)
    assert (spent.requests, spent.tokens_out) == (10, 1000)
    assert spent.usd == pytest.approx((spent.tokens_in * 2 + 1000 * 8) / 1e6, rel=0.01)


def test_a_model_that_thinks_first_is_estimated_with_its_thoughts() -> None:
    assert estimate([request(max_tokens=100)], "openai:gpt-5-mini").tokens_out == 100 + REASONING_TOKENS


def test_what_was_spent_is_counted() -> None:
    teacher = Metered(Scripted([paid(2), paid(3)]), price=DOLLAR)
    list(teacher.answer([request(0), request(1)]))
    assert (teacher.spent.requests, teacher.spent.tokens_out, teacher.spent.usd) == (2, 5, 5.0)


def test_what_was_asked_at_an_unknown_price_is_not_counted_as_free() -> None:
    teacher = Metered(Scripted([paid(2), paid(3)]), price=None)
    list(teacher.answer([request(0), request(1)]))
    assert (teacher.spent.tokens_out, teacher.spent.unpriced, teacher.spent.is_price_known) == (5, 2, False)
    told = teacher.spent.model_dump(mode="json")
    assert told["usd"] is None
    assert Spent.model_validate(told) == teacher.spent
    assert (teacher.spent + Spent(requests=1, usd=3.0)).model_dump(mode="json")["usd"] == 3.0


@pytest.mark.parametrize("budget", [3, 4, 5, 10, 30, 100])
def test_the_budget_is_never_passed_and_nothing_is_lost(budget: int) -> None:
    inner = Scripted([paid() for _ in range(200)], group_size=7)
    teacher = Metered(inner, price=DOLLAR, budget_usd=budget)
    answered: list[tuple[int, Reply]] = []
    with pytest.raises(BudgetExceeded):
        take(teacher.answer([request(number) for number in range(200)]), answered)
    assert [index for index, _ in answered] == list(range(len(inner.asked)))
    assert budget - MOST_PAID_ATTEMPTS < teacher.spent.usd <= budget


def test_a_budget_holds_when_every_request_costs_all_it_can() -> None:
    worst = [paid(4 * MOST_PAID_ATTEMPTS) for _ in range(100)]
    teacher = Metered(Scripted(worst), price=DOLLAR, budget_usd=103)
    with pytest.raises(BudgetExceeded) as error:
        list(teacher.answer([request(max_tokens=4)] * 100))
    assert teacher.spent.usd == 96
    assert "$7.0000 of the budget of $103 is left" in error.value.message


def test_requests_that_all_fit_go_out_at_once() -> None:
    inner = Scripted([paid() for _ in range(20)], group_size=20)
    assert len(list(Metered(inner, price=DOLLAR, budget_usd=60).answer([request()] * 20))) == 1


@pytest.mark.parametrize("text", ["hello " * 50, "1 2 3 " * 50, "你好世界" * 50, "👩‍👩‍👧 " * 50, "\ud800"])
def test_no_prompt_can_cost_more_than_was_reserved(text: str) -> None:
    """A byte a token is the most that a byte-level tokeniser makes of a text."""
    asked = Request(messages=(Message.model_construct(role="user", content=text),), max_tokens=1)
    teacher = Metered(Scripted([]), price=Price(input=1e6, output=0), budget_usd=len(text.encode("utf-8", "replace")))
    with pytest.raises(BudgetExceeded):
        list(teacher.answer([asked]))


def test_a_budget_without_a_price_is_refused() -> None:
    with pytest.raises(ConfigError, match="price of http://h/v1#m is unknown") as error:
        Metered(Scripted([], name="http://h/v1#m"), price=None, budget_usd=1)
    assert '"m" = { input = 0.5' in error.value.hint


def test_a_budget_holds_over_interruptions(tmp_path: Path) -> None:
    first = Metered(Scripted([paid(4)]), price=DOLLAR, budget_usd=10, book=tmp_path / "book")
    list(first.answer([request()]))
    second = Metered(Scripted([paid(4), paid(4)]), price=DOLLAR, budget_usd=10, book=tmp_path / "book")
    assert second.left_usd == 6
    list(second.answer([request()]))
    with pytest.raises(BudgetExceeded):
        list(second.answer([request(max_tokens=2)]))


def test_what_was_under_way_at_a_kill_counts_as_spent(tmp_path: Path) -> None:
    killed = Metered(Scripted([paid(1), paid(1)]), price=DOLLAR, budget_usd=10, book=tmp_path / "book")
    asking = killed.answer([request(), request()])
    next(asking)
    with (tmp_path / "book").open("a") as file:
        file.write('\n{"usd": 3')  # the line that a kill cut short
    for _ in range(2):
        resumed = Metered(Scripted([]), price=DOLLAR, budget_usd=10, book=tmp_path / "book")
        assert resumed.left_usd == 10 - 1 - 1
    assert all(json.loads(line) for line in (tmp_path / "book").read_text().splitlines() if line.endswith("}"))
    asking.close()


def test_what_was_under_way_when_the_caller_stopped_counts_as_spent(tmp_path: Path) -> None:
    teacher = Metered(Scripted([paid(1)] * 3), price=DOLLAR, budget_usd=10, book=tmp_path / "book")
    asking = teacher.answer([request()] * 3)
    next(asking)
    asking.close()
    assert teacher.left_usd == 10 - 1 - 2
    assert Metered(Scripted([]), price=DOLLAR, budget_usd=10, book=tmp_path / "book").left_usd == teacher.left_usd


def test_no_more_is_at_risk_than_a_tenth_above_what_is_under_way(tmp_path: Path) -> None:
    killed = Metered(Scripted([paid(1)] * 100), price=DOLLAR, book=tmp_path / "book")
    asking = killed.answer([request()] * 100)
    next(asking)
    lines = [json.loads(line) for line in (tmp_path / "book").read_text().splitlines()]
    assert lines[-1] == {"usd": 1.0, "at_risk_usd": 99.0}
    assert max(line["at_risk_usd"] for line in lines) <= 110
    assert len(lines) < 50
    asking.close()


def test_a_batch_that_is_waited_for_does_not_count_as_spent(tmp_path: Path) -> None:
    inner = Scripted([paid(1), paid(1)], name="m (batch)")
    teacher = Metered(inner, price=DOLLAR, budget_usd=10, book=tmp_path / "book")
    asking = teacher.answer([request(), request()])
    next(asking)
    killed = Metered(Scripted([]), price=DOLLAR, budget_usd=10, book=tmp_path / "book")
    asking.close()
    assert killed.left_usd == teacher.left_usd == 10 - 1
