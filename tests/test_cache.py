"""The response cache: asked once, kept for ever, whatever happens in between."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prompt2model.cache import Cached, key
from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import RunError
from prompt2model.records import Spent
from prompt2model.teacher import replies, spent_by
from prompt2model.teachers.scripted import Scripted

HERE = Path(__file__).parent


def request(text: str, **settings: object) -> Request:
    return Request(messages=(Message(role="user", content=text),), **settings)


def texts(teacher: Cached, *questions: str) -> list[str]:
    return [reply.text for reply in replies(teacher, [request(question) for question in questions])]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "replies.sqlite"


def test_a_request_is_asked_once(file: Path) -> None:
    assert texts(Cached(Scripted(["one", "two"]), file), "a", "b") == ["one", "two"]
    again = Scripted(["three"])
    assert texts(Cached(again, file), "b", "c", "a") == ["two", "three", "one"]
    assert [asked.messages[0].content for asked in again.asked] == ["c"]


def test_hits_come_first_as_one_group_and_are_marked(file: Path) -> None:
    texts(Cached(Scripted(["one", "two"]), file), "a", "b")
    groups = list(Cached(Scripted(["three"]), file).answer([request("a"), request("c"), request("b")]))
    assert [[(index, reply.cached) for index, reply in group] for group in groups] == [
        [(0, True), (2, True)],
        [(1, False)],
    ]


def test_a_request_that_occurs_twice_is_asked_once_and_answered_twice(file: Path) -> None:
    inner = Scripted(["one", "two"])
    assert texts(Cached(inner, file), "a", "b", "a") == ["one", "two", "one"]
    assert len(inner.asked) == 2


def test_what_is_asked_keeps_its_order(file: Path) -> None:
    texts(Cached(Scripted(["x", "y"]), file), "3", "5")
    inner = Scripted(["z"] * 5)
    texts(Cached(inner, file), *"9538271")
    assert [asked.messages[0].content for asked in inner.asked] == list("98271")


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"temperature": 0.5},
        {"top_p": 0.5},
        {"top_logprobs": 5},
        {"n_best": 2, "beams": 2},
        {"max_tokens": 3},
        {"stop": ("\n",)},
        {"choices": ("a", "b")},
        {"json_schema": {"type": "object"}},
        {"continues": True},
        {"beams": 2},
    ],
)
def test_whatever_decides_the_answer_is_in_the_key(other: dict[str, object]) -> None:
    assert key("teacher", request("a")) != key("teacher", request("a", **other))


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, "b0129fcaad0ce456af4beac2a986cae5904d70c0b5bf3047187830d8cd712829"),
        (
            {"choices": ("a", "b"), "temperature": 0.0, "seed": 3},
            "5a92be8eb2004c2c97fc2fc481a2b938cdfd24a11a16bbb8574ea97e7c0a27d7",
        ),
    ],
)
def test_what_was_paid_for_before_there_were_beams_is_still_found(settings: dict[str, object], kept: str) -> None:
    assert key("teacher", request("a", **settings)) == kept
    assert key("teacher", request("a", beams=2, n_best=2)) != key("teacher", request("a", beams=2))


def test_two_teachers_do_not_share_answers(file: Path) -> None:
    texts(Cached(Scripted(["one"], identity="first"), file), "a")
    assert texts(Cached(Scripted(["two"], identity="second"), file), "a") == ["two"]


def test_failed_requests_are_asked_again(file: Path) -> None:
    failed = Reply(finish="failed", failure="server error (500)")
    assert texts(Cached(Scripted([failed, "two"]), file), "a", "b") == ["", "two"]
    assert texts(Cached(Scripted(["one"]), file), "a", "b") == ["one", "two"]


def test_whole_replies_come_back_as_they_were(file: Path) -> None:
    reply = Reply(text="ä\n\u2028", logprobs=(-0.1, float("-inf")), finish="length", tokens_in=3, tokens_out=4)
    assert replies(Cached(Scripted([reply]), file), [request("a")]) == [reply]
    assert replies(Cached(Scripted([]), file), [request("a")]) == [reply.model_copy(update={"cached": True})]


def test_spent_counts_hits_apart(file: Path) -> None:
    teacher = Cached(Scripted(["one", "two"]), file)
    texts(teacher, "a", "b", "a")
    texts(teacher, "b")
    assert spent_by(teacher) == Spent(requests=2, cached=2)


def test_many_requests_are_looked_up(file: Path) -> None:
    questions = [str(number) for number in range(3000)]
    assert texts(Cached(Scripted(questions, group_size=500), file), *questions) == questions
    assert texts(Cached(Scripted([]), file), *questions) == questions


def test_a_group_of_any_size_is_kept_where_sqlite_takes_999_variables(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldBuild(sqlite3.Connection):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=OldBuild))
    questions = [str(number) for number in range(3000)]
    assert texts(Cached(Scripted(questions, group_size=3000), file), *questions) == questions
    assert texts(Cached(Scripted([]), file), *questions) == questions


def test_a_group_is_kept_whole_before_it_is_handed_on(file: Path) -> None:
    asking = Cached(Scripted("abcdef", group_size=3), file).answer([request(question) for question in "123456"])
    next(asking)
    known = next(Cached(Scripted([]), file).answer([request(question) for question in "123456"]))
    assert [index for index, _ in known] == [0, 1, 2]


def test_the_reply_of_the_process_that_was_first_counts(file: Path) -> None:
    slow = Cached(Scripted(lambda _: texts(Cached(Scripted(["first"]), file), "a") and "second"), file)
    assert texts(slow, "a") == ["first"]


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_an_error_with_a_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "replies.sqlite").write_bytes(content)
    with pytest.raises(RunError, match="damaged") as error:
        texts(Cached(Scripted(["one"]), tmp_path / "replies.sqlite"), "a")
    assert "Move it away" in error.value.hint


@pytest.mark.parametrize("place", ["file/replies.sqlite", "."])
def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError):
        Cached(Scripted([]), tmp_path / place)


ASK = """
import sys, time
from pathlib import Path
from prompt2model.cache import Cached
from prompt2model.conversation import Message, Request
from prompt2model.teachers.scripted import Scripted

name, path, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
def answer(request):
    time.sleep(0.002)
    return name
requests = [Request(messages=(Message(role="user", content=str(n)),)) for n in range(count)]
inner = Scripted(answer, group_size=4)
for group in Cached(inner, path).answer(requests):
    print(*(f"{index}:{reply.text}" for index, reply in group), flush=True)
print(f"asked:{len(inner.asked)}")
"""


def start(name: str, file: Path, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ASK, name, str(file), str(count)]
    return subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)


def answered(lines: Iterator[str]) -> dict[str, str]:
    return dict(pair.split(":") for line in lines for pair in line.split())


def test_a_killed_process_leaves_whole_groups_and_nothing_it_handed_on_is_lost(file: Path) -> None:
    with start("killed", file, 4000) as process:
        assert process.stdout
        seen = answered(process.stdout.readline() for _ in range(10))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        seen |= answered(line for line in process.stdout if line.endswith("\n"))
    inner = Scripted(lambda _: "resumed", name="scripted", group_size=4)
    found = replies(Cached(inner, file), [request(str(number)) for number in range(4000)])
    kept = [number for number, reply in enumerate(found) if reply.text == "killed"]
    assert {int(number) for number in seen} <= set(kept)
    assert len(kept) % 4 == 0
    assert len(kept) + len(inner.asked) == 4000


def test_two_processes_share_one_file(file: Path) -> None:
    with start("one", file, 300) as one, start("two", file, 300) as two:
        assert one.stdout
        assert two.stdout
        first, second = answered(iter(one.stdout)), answered(iter(two.stdout))
        assert (one.wait(), two.wait()) == (0, 0)
    asked = [int(found.pop("asked")) for found in (first, second)]
    assert len(first) == 300
    assert first == second
    assert max(asked) <= 300 <= sum(asked)
    with start("three", file, 300) as three:
        assert three.stdout
        assert answered(iter(three.stdout)) == first | {"asked": "0"}
