"""What a teacher was asked, stage by stage."""

from pathlib import Path

import pytest

from prompt2model.accounts import NAME, accounted, entries, total
from prompt2model.conversation import Message, Reply, Request
from prompt2model.ledger import Metered, Price
from prompt2model.records import Spent
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


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    assert entries(tmp_path) == []
    (tmp_path / NAME).write_text('{"stage": "par')
    assert total(entries(tmp_path)) == Spent()
