"""What a teacher was asked, stage by stage."""

from pathlib import Path

import pytest

from prompt2model.accounts import NAME, UNNOTED, Entry, accounted, entries, settle, total
from prompt2model.book import OWN, SHARED, Book, read
from prompt2model.conversation import Message, Reply, Request
from prompt2model.ledger import Metered, Price
from prompt2model.plans import Step
from prompt2model.records import Spent
from prompt2model.spending import spent_lines
from prompt2model.teacher import Teacher, replies
from prompt2model.teachers.scripted import Scripted

ASKED = [Request(messages=(Message(role="user", content="?"),))]


PLANNED = [Step(stage="generate", does="", requests=3, teacher_tokens=100, usd=3)]
PAID = Entry(stage="generate", teacher="m", spent=Spent(requests=2, usd=2.0))


def metered(book: Path | None = None) -> Metered:
    return Metered(Scripted(lambda _: Reply(text="a", tokens_out=2)), price=Price(input=0, output=1e6), book=book)


def test_each_stage_is_noted_with_what_it_alone_cost(tmp_path: Path) -> None:
    opened: list[Teacher] = []
    with accounted(tmp_path, "parse", opened):
        opened.append(metered())
        replies(opened[0], ASKED)
    with accounted(tmp_path, "split", opened):
        pass
    with accounted(tmp_path, "generate", opened):
        replies(opened[0], ASKED * 3)
    found = entries(tmp_path)
    assert [(entry.stage, entry.spent.requests, entry.spent.usd) for entry in found] == [
        ("parse", 1, 2.0),
        ("generate", 3, 6.0),
    ]
    assert total(found).usd == 8.0


def test_a_stage_that_is_broken_off_is_noted_too(tmp_path: Path) -> None:
    teacher = metered()

    def work() -> None:
        with accounted(tmp_path, "generate", [teacher]):
            replies(teacher, ASKED)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert entries(tmp_path)[0].spent.requests == 1


def test_an_unknown_price_is_said_to_be_unknown_and_not_nothing() -> None:
    asked = Spent(requests=2, tokens_in=90_000, tokens_out=50_000, unpriced=2)
    planned = [Step(stage="generate", does="", requests=3, teacher_tokens=100)]
    assert spent_lines([Entry(stage="generate", teacher="m", spent=asked)], planned, 1.0) == [
        "teacher 90,000 tokens read, 50,000 written, price unknown: generate price unknown",
        "        The plan said 3 requests, 100 tokens, 0.0 minutes, price unknown",
        "        it was        2 requests, 140,000 tokens, 1.0 minutes, price unknown",
    ]
    both = [Entry(stage="generate", teacher="m", spent=one) for one in (asked, Spent(requests=1, usd=5.0))]
    assert "written, $5.00 and 2 requests whose price is unknown: " in spent_lines(both, planned, 1.0)[0]


def test_what_a_killed_process_had_paid_is_entered_by_the_next_one(tmp_path: Path) -> None:
    killed = metered(tmp_path / OWN)
    with accounted(tmp_path, "parse", [killed]):
        replies(killed, ASKED)
    asking = killed.answer(ASKED * 3)
    next(asking)  # and no further: two more are under way
    for _ in range(2):
        settle(tmp_path)
        assert [entry.stage for entry in entries(tmp_path)] == ["parse", UNNOTED]
        assert total(entries(tmp_path)).usd == pytest.approx(sum(read(tmp_path / OWN)))
    asking.close()


def test_rounds_that_share_a_book_are_settled_together(tmp_path: Path) -> None:
    (tmp_path / SHARED).touch()
    for name in ("round-1", "round-2"):
        (tmp_path / name).mkdir()
        teacher = metered(tmp_path / SHARED)
        with accounted(tmp_path / name, "generate", [teacher]):
            replies(teacher, ASKED)
    Book(tmp_path / SHARED).add(3.0)
    settle(tmp_path / "round-2")
    assert [(entry.stage, entry.spent.usd) for entry in entries(tmp_path / "round-2")] == [
        ("generate", 2.0),
        (UNNOTED, 3.0),
    ]


def test_what_was_paid_before_a_kill_is_told_apart() -> None:
    ledger = [Entry(stage=UNNOTED, teacher="", spent=Spent(usd=100.0)), PAID]
    before, now, *_ = spent_lines(ledger, PLANNED, 1.0)
    assert before.strip() == "$100.00 was paid or under way when an earlier process ended"
    assert now == "teacher 0 tokens read, 0 written, $2.00: generate $2.00"


def test_of_work_that_was_broken_off_it_is_told_what_it_cost_and_not_that_the_plan_was_wrong() -> None:
    assert spent_lines([PAID], PLANNED, 1.0, is_done=False) == [
        "teacher 0 tokens read, 0 written, $2.00: generate $2.00"
    ]
    assert spent_lines([], PLANNED, 1.0, is_done=False) == []


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    assert entries(tmp_path) == []
    (tmp_path / NAME).write_text('{"stage": "par')
    assert total(entries(tmp_path)) == Spent()
