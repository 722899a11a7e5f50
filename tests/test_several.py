"""Several answers to one question: in one request where the server gives them, and at its price."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, serve

from prompt2model.config import GenerateConfig
from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import BudgetExceeded
from prompt2model.filters import Sieve, agreement
from prompt2model.ledger import most_tokens_in, most_tokens_out
from prompt2model.rationales import add_rationales
from prompt2model.records import Example, Source, TaskSpec
from prompt2model.several import MOST, together
from prompt2model.teacher import Teacher, replies, spent_by
from prompt2model.teachers import open_teacher

QUICK = {"attempts": 3, "first_pause_seconds": 0.01, "timeout_seconds": 0.3, "concurrency": 1}


def draws(number: int, question: str = "Heads or tails?", **settings: Any) -> list[Request]:
    asked = (Message(role="user", content=question),)
    return [Request(messages=asked, seed=seed, **{"max_tokens": 9, **settings}) for seed in range(number)]


def counted() -> Callable[[Any], str]:
    """A server's text that is another each time."""
    numbers: Iterator[int] = count()
    return lambda body: f"answer {next(numbers)}"


def teacher_at(server: ChatServer, **options: Any) -> Teacher:
    return open_teacher(f"{server.url}#m", options=QUICK | options)


def take(groups: Iterable[list[tuple[int, Reply]]], into: list[Reply]) -> None:
    for group in groups:
        into += [reply for _, reply in group]


def sizes(requests: list[Request], most: int = MOST) -> list[int]:
    return [len(group) for group in together(requests, lambda: most)]


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ([], []),
        (draws(3), [3]),
        (draws(3) + draws(2, "Odd or even?"), [3, 2]),
        (draws(2 * MOST + 1), [MOST, MOST, 1]),
        (draws(2) + draws(1, "Odd or even?") + draws(2), [2, 1, 2]),
        (draws(2) + draws(2, temperature=0.5), [2, 2]),
        (draws(3, temperature=0), [1, 1, 1]),
        (draws(2, choices=("heads", "tails")), [1, 1]),
        (draws(2, json_schema={"type": "object"}), [1, 1]),
        (draws(2, top_logprobs=5), [1, 1]),
    ],
)
def test_drawn_texts_whose_requests_differ_in_the_seed_alone_are_asked_for_together(
    requests: list[Request], expected: list[int]
) -> None:
    assert sizes(requests) == expected
    assert [one for group in together(requests, lambda: MOST) for one in group] == list(enumerate(requests))


def test_where_one_answer_is_all_that_may_be_asked_for_no_request_is_taken_ahead() -> None:
    waiting = iter(draws(3))
    assert next(together(waiting, lambda: 1)) == [(0, draws(1)[0])]
    assert len(list(waiting)) == 2


def test_several_answers_are_one_request_whose_prompt_is_paid_for_once(home_folder: Path) -> None:
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1e6, output = 2e6 }\n')
    with serve(text=counted()) as server:
        teacher = teacher_at(server)
        assert [reply.text for reply in replies(teacher, draws(3))] == ["answer 0", "answer 1", "answer 2"]
        [sent] = server.asked
        assert (sent["n"], "seed" in sent) == (3, False)
        assert spent_by(teacher).requests == 3
        assert (spent_by(teacher).tokens_in, spent_by(teacher).tokens_out) == (10, 15)
        assert spent_by(teacher).usd == 10 * 1 + 15 * 2


def test_each_answer_is_kept_as_that_of_its_own_request() -> None:
    with serve(text=counted()) as server:
        first = replies(teacher_at(server), draws(3))
        again = replies(teacher_at(server), [*draws(5)[::-1]])
        assert [reply.text for reply in again[:1:-1]] == [reply.text for reply in first]
        assert [reply.cached for reply in again] == [False, False, True, True, True]
        assert [body["n"] for body in server.asked] == [3, 2]


@pytest.mark.parametrize("mode", ["one answer", "no n"])
def test_a_server_that_does_not_give_several_is_asked_one_by_one_from_then_on(mode: str) -> None:
    with serve(mode, text=counted()) as server:
        teacher = teacher_at(server)
        asked = [request for question in ("a", "b", "c") for request in draws(4, question)]
        assert len({reply.text for reply in replies(teacher, asked)}) == 12
        assert [body.get("n", 1) for body in server.asked].count(4) == 1
        assert len(server.asked) == 12 + (mode == "no n")
        assert spent_by(teacher).tokens_in == 12 * 10


def test_a_question_that_the_server_refuses_says_nothing_about_several_answers() -> None:
    with serve("400", "400", "400", "ok", text=counted()) as server:
        found = replies(teacher_at(server), draws(2, "not nice") + draws(2, "nice"))
        assert [reply.failure for reply in found] == ["refused (400)"] * 2 + [""] * 2
        assert [body.get("n", 1) for body in server.asked] == [2, 1, 1, 2]


def test_answers_that_were_lost_are_counted_at_their_most_with_the_prompt_once() -> None:
    [request] = draws(1)
    with serve("half", "ok") as server:
        teacher = teacher_at(server)
        assert [reply.text for reply in replies(teacher, draws(3))] == ["yes"] * 3
        lost = most_tokens_in(request), 3 * most_tokens_out(request, reasoning=False)
        assert (spent_by(teacher).tokens_in, spent_by(teacher).tokens_out) == (10 + lost[0], 15 + lost[1])


def test_answers_that_never_come_fail_for_the_same_reason() -> None:
    with serve("ok", "half") as server:
        found = replies(teacher_at(server), draws(1, "a") + draws(3))
        assert [reply.failure for reply in found] == [""] + ["the connection broke"] * 3


@pytest.mark.parametrize("mode", ["ok", "one answer", "no n"])
@pytest.mark.parametrize("budget_usd", [200.0, 500.0, 1000.0])
def test_a_budget_is_not_passed_by_several_answers(home_folder: Path, mode: str, budget_usd: float) -> None:
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1e6, output = 2e6 }\n')
    with serve(mode) as server:
        teacher = open_teacher(f"{server.url}#m", budget_usd=budget_usd, options=QUICK)
        arrived: list[Reply] = []
        with pytest.raises(BudgetExceeded):
            take(teacher.answer(draws(1000)), arrived)
        paid = [body for body in server.asked if mode != "no n" or "n" not in body]
        answers = sum(body.get("n", 1) if mode == "ok" else 1 for body in paid)
        assert len(arrived) == answers
        assert spent_by(teacher).usd == 10 * len(paid) + 2 * 5 * answers <= budget_usd


def test_fresh_answers_to_a_row_are_one_request() -> None:
    task = TaskSpec(instruction="Is it good?", kind="classification", labels=("yes", "no"))
    rows = [
        Example(input=text, output="yes", source=Source(kind="teacher", name="m")) for text in ("a film", "a second")
    ]
    with serve() as server:
        kept = agreement.sift(rows, Sieve(task, teacher_at(server), GenerateConfig()))
        assert [row.confidence for row in kept if isinstance(row, Example)] == [1.0, 1.0]
        assert [body["n"] for body in server.asked] == [agreement.FRESH_ANSWERS] * 2


def test_the_explanations_of_a_row_without_an_answer_are_one_request() -> None:
    rows = [Example(input=text, output="", source=Source(kind="teacher", name="m")) for text in ("2 + 3", "4 + 5")]
    texts = counted()
    with serve(text=lambda body: f"One counts up from {texts(body)}.\nThe answer is 5.") as server:
        teacher = teacher_at(server)
        found = add_rationales(rows, TaskSpec(instruction="Add."), teacher, traces=3, max_tokens=9)
        assert [row.output for row in found.rows] == ["5", "5"]
        assert len({row.rationale for row in found.rows}) == 2
        assert [body["n"] for body in server.asked] == [3, 3]
        assert spent_by(teacher).tokens_in == 2 * 10
