"""What a teacher was asked, stage by stage."""

from pathlib import Path

import pytest

from prompt2model.accounts import NAME, Entry, accounted, entries, total
from prompt2model.conversation import Message, Reply, Request
from prompt2model.ledger import Metered, Price
from prompt2model.plans import Step
from prompt2model.records import Spent
from prompt2model.spending import spent_lines
from prompt2model.teacher import Teacher, replies
from prompt2model.teachers.scripted import Scripted

ASKED = [Request(messages=(Message(role="user", content="?"),))]


def metered() -> Metered:
    return Metered(Scripted(lambda _: Reply(text="a", tokens_out=2)), price=Price(input=0, output=1e6))


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


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    assert entries(tmp_path) == []
    (tmp_path / NAME).write_text('{"stage": "par')
    assert total(entries(tmp_path)) == Spent()
