"""The Batch API against a local server: half the price, the same replies, and no batch paid for twice."""

import logging
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, serve

from prompt2model.batch_api import Batches
from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import ConfigError, TeacherError
from prompt2model.ledger import MOST_PAID_ATTEMPTS, most_tokens_in, price
from prompt2model.several import MOST
from prompt2model.teacher import replies, spent_by
from prompt2model.teachers import open_teacher

KEY = "sk-a-key-that-nobody-may-see"


def requests(count: int, **settings: Any) -> list[Request]:
    return [Request(messages=(Message(role="user", content=f"Question {n}"),), **settings) for n in range(count)]


def batches(server: ChatServer, key: str = "none", **settings: Any) -> Batches:
    """Batches that are looked at often."""

    def body(request: Request, answers: int) -> dict[str, Any]:
        messages = [message.model_dump() for message in request.messages]
        return {"model": "m", "messages": messages, "n": answers, "seed": request.seed}

    told: Any = body, lambda request, reply: "", lambda: MOST, lambda refused: None
    return Batches("m", server.url, key, *told, poll_seconds=0.01, **settings)


def texts(groups: Any) -> list[str]:
    found: dict[int, Reply] = {}
    for group in groups:
        found.update(group)
    return [found[index].text or found[index].failure for index in range(len(found))]


def test_every_request_of_a_batch_gets_its_own_reply_at_half_the_price(home_folder: Path) -> None:
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1e6, output = 2e6 }\n')
    with serve(text=lambda body: body["messages"][0]["content"][::-1]) as server:
        server.batches.looks_needed = 1
        teacher = open_teacher(f"{server.url}#m", options={"batch": True}, budget_usd=1000)
        assert [reply.text for reply in replies(teacher, requests(3, max_tokens=5))] == [
            f"Question {number}"[::-1] for number in range(3)
        ]
        assert teacher.name == f"{server.url}#m (batch)"
        assert spent_by(teacher).usd == 3 * (10 + 5 * 2) / 2
        assert len(server.batches.made) == 1
    assert not list((home_folder / "batches").iterdir())


def test_a_batch_is_waited_for() -> None:
    with serve() as server:
        server.batches.looks_needed = 4
        assert texts(batches(server).answer(requests(2))) == ["yes", "yes"]
        assert server.batches.looks == 4


def test_all_batches_of_a_large_job_are_sent_before_the_first_is_waited_for() -> None:
    with serve() as server:
        assert texts(batches(server, most_requests=2).answer(requests(5))) == ["yes"] * 5
        looks = [place for place, path in enumerate(server.paths) if "/batches/" in path]
        made = [place for place, path in enumerate(server.paths) if path.endswith("/batches")]
        assert len(made) == 3
        assert made[-1] < looks[0]


def test_batches_that_were_sent_are_all_found_after_an_interruption() -> None:
    with serve() as server:
        asking = batches(server, most_requests=2).answer(requests(5))
        next(asking)
        asking.close()
        assert texts(batches(server).answer(requests(5))) == ["yes"] * 5
        assert len(server.batches.made) == 3


def test_a_batch_for_which_there_was_no_room_is_made_again_when_those_before_it_are_over() -> None:
    with serve() as server:
        server.batches.ends = ["completed", "no room"]
        assert texts(batches(server, most_requests=2).answer(requests(4))) == ["yes"] * 4
        assert [one["input_file_id"] for one in server.batches.made.values()] == ["file-0", "file-1", "file-1"]


def test_a_batch_for_which_there_is_never_room_ends_the_run_with_the_reason() -> None:
    with serve() as server:
        server.batches.ends = ["no room"] * 5
        with pytest.raises(TeacherError, match="Enqueued token limit reached"):
            texts(batches(server).answer(requests(2)))


def test_a_batch_that_is_too_large_for_the_account_is_sent_in_smaller_ones(home_folder: Path) -> None:
    with serve() as server:
        server.batches.ends = ["no room"] * 2 + ["completed", "no room"]
        assert texts(batches(server).answer(requests(5))) == ["yes"] * 5
        assert [len(sent) for sent in lines_sent(server)] == [5, 5, 3, 2, 2]
        assert not list((home_folder / "batches").iterdir())


def test_of_a_batch_that_was_too_large_nothing_is_sent_again_after_an_interruption(home_folder: Path) -> None:
    with serve() as server:
        server.batches.ends = ["no room"] * 2
        asking = batches(server).answer(requests(4))
        assert len(next(asking)) == 2
        assert len(next(asking)) == 2
        asking.close()
        assert texts(batches(server).answer(requests(4))) == ["yes"] * 4
        assert [len(sent) for sent in lines_sent(server)] == [4, 4, 2, 2, 2]  # the first half had been handed on
        assert not list((home_folder / "batches").iterdir())


def test_a_full_account_is_not_flooded_with_smaller_batches() -> None:
    with serve() as server:
        server.batches.ends = ["no room"] * 100
        with pytest.raises(TeacherError, match="Enqueued token limit reached"):
            texts(batches(server).answer(requests(32)))
        assert [len(sent) for sent in lines_sent(server)] == [32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1]


def test_a_batch_that_was_sent_before_an_interruption_is_not_sent_again() -> None:
    with serve() as server:
        asking = batches(server).answer(requests(3))
        next(asking)
        asking.close()  # before the replies were kept
        assert texts(batches(server).answer(requests(3))) == ["yes"] * 3
        assert len(server.batches.made) == 1


def test_a_batch_that_was_interrupted_is_paid_for_once_out_of_the_same_budget(home_folder: Path) -> None:
    (home_folder / "prices.toml").write_text('[models]\n"m" = { input = 1e6, output = 2e6 }\n')
    settings: Any = {"options": {"batch": True}, "budget_usd": 500, "book": home_folder / "book"}
    with serve() as server:
        server.batches.looks_needed, server.batches.instead = 1, lambda key: (401, b"not now")
        with pytest.raises(TeacherError, match="not now"):
            replies(open_teacher(f"{server.url}#m", **settings), requests(3, max_tokens=5))
        server.batches.instead = None
        teacher = open_teacher(f"{server.url}#m", **settings)
        assert [reply.text for reply in replies(teacher, requests(3, max_tokens=5))] == ["yes"] * 3
        assert len(server.batches.made) == 1
        assert spent_by(teacher).usd == 3 * (10 + 5 * 2) / 2
        assert teacher.within.left_usd == 500 - spent_by(teacher).usd


def test_what_a_resumed_run_asks_on_top_goes_into_a_batch_of_its_own() -> None:
    with serve() as server:
        asking = batches(server).answer(requests(3))
        next(asking)
        asking.close()
        assert texts(batches(server).answer(requests(5)[1:])) == ["yes"] * 4
        assert [len(lines) for lines in server.batches.files.values()] == [3, 3, 2, 2]


def test_the_answers_of_a_batch_that_are_not_asked_for_again_can_be_fetched_later(home_folder: Path) -> None:
    with serve() as server:
        asking = batches(server).answer(requests(5))
        next(asking)
        asking.close()
        assert texts(batches(server).answer(requests(2))) == ["yes"] * 2
        assert texts(batches(server).answer(requests(5)[2:])) == ["yes"] * 3
        assert len(server.batches.made) == 1
    assert not list((home_folder / "batches").iterdir())


def test_a_batch_whose_name_was_lost_is_found_by_its_file(home_folder: Path) -> None:
    with serve() as server:
        asking = batches(server).answer(requests(1))
        next(asking)
        asking.close()
        [note] = (home_folder / "batches").glob("*.json")
        note.write_text(note.read_text().replace("batch-0", ""))
        assert texts(batches(server).answer(requests(1))) == ["yes"]
        assert len(server.batches.made) == 1


def test_a_file_that_the_provider_no_longer_has_is_uploaded_anew(home_folder: Path) -> None:
    with serve() as server:
        asking = batches(server).answer(requests(2))
        next(asking)
        asking.close()
        [note] = (home_folder / "batches").glob("*.json")
        note.write_text(note.read_text().replace("batch-0", "").replace("file-0", "file-gone"))
        assert texts(batches(server).answer(requests(2))) == ["yes", "yes"]
        assert len(server.batches.made) == 2
        assert not note.exists()


def test_a_batch_that_nobody_lets_be_made_keeps_its_note(home_folder: Path) -> None:
    with serve() as server:
        server.batches.instead = lambda key: (401, b"{}")
        for _ in range(2):
            with pytest.raises(TeacherError, match=r"refuses a batch \(401\)"):
                texts(batches(server).answer(requests(2)))
        assert len(server.batches.files) == 1
    assert list((home_folder / "batches").glob("*.json"))


def test_a_batch_that_was_cancelled_is_not_sent_again_before_the_same_command_is_given(home_folder: Path) -> None:
    with serve() as server:
        server.batches.ends = ["cancelled"]
        asking, arrived = batches(server).answer(requests(3)), list[Reply]()
        with pytest.raises(TeacherError, match="batch-0 was cancelled at the provider") as error:
            arrived.extend(reply for group in asking for _, reply in group)
        assert "the same command sends again what is missing" in str(error.value.hint)
        assert [reply.text for reply in arrived] == ["yes"]
        assert len(server.batches.made) == 1
        assert not list((home_folder / "batches").iterdir())
        assert texts(batches(server).answer(requests(3)[1:])) == ["yes", "yes"]
        assert [len(lines) for lines in lines_sent(server)] == [3, 2]


def test_requests_that_fail_for_a_passing_reason_are_sent_again_and_others_are_counted() -> None:
    with serve("500", "400", "ok", "ok") as server:
        assert texts(batches(server).answer(requests(3))) == ["yes", "refused (400)", "yes"]
        assert [len(server.batches.files[one["input_file_id"]]) for one in server.batches.made.values()] == [3, 1]


def test_batches_that_only_tell_what_a_server_does_not_take_do_not_count_as_attempts() -> None:
    with serve("picky") as server:
        teacher = open_teacher(f"{server.url}#m", options={"batch": True})
        assert [reply.text for reply in replies(teacher, requests(2, max_tokens=5, top_p=0.9))] == ["yes", "yes"]
        assert len(server.batches.made) == 4


def test_a_batch_of_which_nothing_can_ever_be_answered_ends_the_run() -> None:
    with serve("402") as server, pytest.raises(TeacherError, match="no credit left"):
        texts(batches(server).answer(requests(3)))
    with serve("ok") as server:  # credit was added: what was refused is not looked at again
        assert texts(batches(server).answer(requests(3))) == ["yes"] * 3


def test_an_upload_is_tried_again_while_a_server_is_out_that_has_been_heard() -> None:
    with serve() as server:
        asking = batches(server)
        assert texts(asking.answer(requests(1))) == ["yes"]
        looks = count()

        def busy(key: str) -> tuple[int, bytes]:
            if next(looks):
                server.batches.instead = None
            return 503, b"busy"

        server.batches.instead = busy
        assert texts(asking.answer(requests(2))) == ["yes", "yes"]


def test_a_note_that_cannot_be_read_is_left_aside(home_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (home_folder / "batches").mkdir()
    (home_folder / "batches" / "broken.json").write_text("")
    with serve() as server:
        assert texts(batches(server).answer(requests(1))) == ["yes"]
    assert "broken.json cannot be read" in caplog.text


def test_a_batch_without_what_was_refused_is_found_again_by_a_process_that_does_not_know_it() -> None:
    with serve("no max_tokens", text=counted()) as server:
        asked, first = requests(4, max_tokens=5), open_teacher(f"{server.url}#m", options={"batch": True})
        replies(first, asked[:2])
        made, send = len(server.batches.made), server.batches.post

        def send_and_break(handler: Any, what: str) -> None:
            send(handler, what)
            if len(server.batches.made) > made:
                server.batches.instead = lambda key: (400, b"{}")

        server.batches.post = send_and_break
        with pytest.raises(TeacherError):
            replies(first, asked[2:])
        server.batches.post, server.batches.instead = send, None
        again = open_teacher(f"{server.url}#m", options={"batch": True})
        assert all(reply.text for reply in replies(again, asked))
        assert len(server.batches.made) == made + 1


def test_a_batch_that_the_provider_has_forgotten_is_an_error_that_names_its_note(home_folder: Path) -> None:
    with serve() as server:
        asking = batches(server).answer(requests(2))
        next(asking)
        asking.close()
        server.batches.instead = lambda key: (404, b"{}")
        with pytest.raises(TeacherError, match=r"refuses a look at a batch \(404\)") as error:
            texts(batches(server).answer(requests(2)))
    [note] = (home_folder / "batches").glob("*.json")
    assert f"delete {note}" in str(error.value.hint)


def test_drawn_answers_to_one_question_are_one_line_of_a_batch() -> None:
    asked = [Request(messages=requests(1)[0].messages, temperature=1.0, seed=seed) for seed in range(MOST + 3)]
    with serve(text=counted()) as server:
        found = texts(batches(server).answer(asked + requests(2)[1:]))
        assert sorted(found) == sorted(f"answer {number}" for number in range(len(asked) + 1))
        assert [line["body"]["n"] for line in server.batches.files["file-0"]] == [MOST, 3, 1]
        names = [line["custom_id"] for line in server.batches.files["file-0"]]
        assert len(set(names)) == 3


def test_where_a_batch_gives_one_answer_alone_the_others_are_asked_for_one_by_one() -> None:
    asked = [Request(messages=requests(1)[0].messages, temperature=1.0, seed=seed) for seed in range(3)]
    with serve("no n", text=counted()) as server:
        teacher = open_teacher(f"{server.url}#m", options={"batch": True})
        assert [reply.text for reply in replies(teacher, asked)] == ["answer 0", "answer 1", "answer 2"]
        sent = [server.batches.files[one["input_file_id"]] for one in server.batches.made.values()]
        assert [[line["body"].get("n", 1) for line in lines] for lines in sent] == [[3], [1, 1, 1]]


@pytest.mark.parametrize("mode", ["no n", "one answer"])
def test_a_server_that_gives_one_answer_alone_is_asked_for_no_more_from_then_on(mode: str) -> None:
    first, later = drawn("first"), drawn("later")
    with serve(mode, text=counted()) as server:
        server.batches.looks_needed = 1
        teacher = open_teacher(f"{server.url}#m", options={"batch": True})
        assert all(reply.text for reply in replies(teacher, first))
        sent = len(lines_sent(server))
        assert all(reply.text for reply in replies(teacher, later))
        assert [[line["body"].get("n", 1) for line in lines] for lines in lines_sent(server)[sent:]] == [[1, 1, 1]]


def test_what_was_sent_one_by_one_is_found_again_by_a_process_that_does_not_know_why() -> None:
    with serve() as server:
        asking = batches(server)
        asking.most_answers = lambda: 1
        sending = asking.answer(drawn("first"))
        next(sending)
        sending.close()
        assert texts(batches(server).answer(drawn("first"))) == ["yes"] * 3
        assert len(server.batches.made) == 1


def drawn(text: str) -> list[Request]:
    """Requests that differ in the seed alone."""
    question = (Message(role="user", content=text),)
    return [Request(messages=question, temperature=1.0, seed=seed) for seed in range(3)]


def test_what_the_server_does_not_take_is_left_out_of_the_next_batch() -> None:
    with serve("no max_tokens", text=counted()) as server:
        teacher = open_teacher(f"{server.url}#m", options={"batch": True})
        assert [reply.text for reply in replies(teacher, requests(2, max_tokens=5))] == ["answer 0", "answer 1"]
        sent = [server.batches.files[one["input_file_id"]] for one in server.batches.made.values()]
        assert [["max_tokens" in line["body"] for line in lines] for lines in sent] == [[True, True], [False, False]]


def counted() -> Any:
    """Answers of which each is another."""
    numbers = count()
    return lambda body: f"answer {next(numbers)}"


def test_a_batch_that_expires_again_and_again_is_counted_by_that_reason() -> None:
    with serve() as server:
        server.batches.ends = ["expired"] * 3
        assert texts(batches(server).answer(requests(2))) == ["not done in the batch (batch_expired)"] * 2
        assert len(server.batches.made) == 3


SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}


def lines_sent(server: ChatServer) -> list[list[dict[str, Any]]]:
    """The lines of each batch that was made."""
    return [server.batches.files[one["input_file_id"]] for one in server.batches.made.values()]


def test_an_answer_that_does_not_fit_its_schema_is_asked_for_once_more_in_the_next_batch() -> None:
    def text(body: dict[str, Any]) -> str:
        return '{"answer": 1}' if len(body["messages"]) > 1 or "0" in body["messages"][0]["content"] else "{}"

    with serve(text=text) as server:
        server.batches.looks_needed = 1
        teacher = open_teacher(f"{server.url}#m", options={"batch": True})
        found = replies(teacher, requests(2, json_schema=SCHEMA))
        assert [reply.text for reply in found] == ['{"answer": 1}'] * 2
        assert [(reply.tokens_in, reply.tokens_out) for reply in found] == [(10, 5), (20, 10)]
        assert [len(lines) for lines in lines_sent(server)] == [2, 1]
        assert "has no 'answer'" in lines_sent(server)[1][0]["body"]["messages"][-1]["content"]


def test_an_answer_that_never_fits_has_failed_after_one_repair() -> None:
    with serve(text=lambda body: "{}") as server:
        server.batches.looks_needed = 1
        [reply] = replies(open_teacher(f"{server.url}#m", options={"batch": True}), requests(1, json_schema=SCHEMA))
        assert (reply.failure, reply.tokens_in) == ("the answer does not fit its schema", 20)
        assert len(server.batches.made) == 2


@pytest.mark.parametrize("mode", ["broken", "empty"])
def test_what_may_have_been_paid_for_is_sent_again_once_and_counted_at_its_most(mode: str) -> None:
    [asked] = requests(1, max_tokens=7)
    with serve(mode) as server:
        [[(_, reply)]] = [group for group in batches(server).answer([asked]) if group]
        assert len(server.batches.made) == MOST_PAID_ATTEMPTS
        assert (reply.finish, reply.tokens_in) == ("failed", MOST_PAID_ATTEMPTS * most_tokens_in(asked))
        assert reply.tokens_out == MOST_PAID_ATTEMPTS * 7


def test_what_an_answer_led_to_is_found_again_after_an_interruption(home_folder: Path) -> None:
    with serve("empty", "500", *["ok"]) as server:
        asking = batches(server).answer(requests(3))
        next(asking)
        next(asking)
        asking.close()  # before the replies of the second batch were kept
        modes = len(server.asked)
        groups = list(batches(server).answer(requests(2)))
        assert texts(groups) == ["yes"] * 2
        assert dict(groups[1])[0].tokens_in == 10 + most_tokens_in(requests(1)[0])
        assert (len(server.batches.made), len(server.asked)) == (2, modes)
    assert not list((home_folder / "batches").iterdir())


def test_requests_that_differ_in_a_seed_that_is_not_sent_each_get_an_answer() -> None:
    [question] = requests(1, json_schema=SCHEMA)
    asked = [question.model_copy(update={"seed": seed}) for seed in range(3)]
    numbers = count()
    with serve("no seed", text=lambda body: f'{{"answer": {next(numbers)}}}') as server:
        server.batches.looks_needed = 1
        found = texts(open_teacher(f"{server.url}#m", options={"batch": True}).answer(asked))
        assert sorted(found) == [f'{{"answer": {number}}}' for number in range(3)]


def test_a_batch_that_is_refused_ends_the_run_with_the_reason(home_folder: Path) -> None:
    with serve() as server:
        server.batches.ends = ["failed"]
        with pytest.raises(TeacherError, match="not to our taste"):
            texts(batches(server).answer(requests(2)))
    assert not list((home_folder / "batches").iterdir())


@pytest.mark.parametrize("before", [0, 290], ids=["whole", "cut"])
def test_a_server_that_repeats_the_key_does_not_get_it_shown(caplog: pytest.LogCaptureFixture, before: int) -> None:
    caplog.set_level(logging.DEBUG)
    with serve() as server:
        server.batches.instead = lambda key: (400, b" " * before + key.encode())
        with pytest.raises(TeacherError, match=r"refuses a batch \(400\)") as error:
            texts(batches(server, KEY).answer(requests(1)))
        assert server.heads[-1]["authorization"] == f"Bearer {KEY}"
    assert "sk-" not in f"{error.value} {error.value!r} {caplog.text}"


@pytest.mark.parametrize("answer", [b"<html>Welcome</html>", b"[]", b"null", b'{"data": null}', b'{"data": [1]}'])
def test_a_server_that_speaks_something_else_is_an_error_with_the_cure(answer: bytes) -> None:
    with serve() as server:
        server.batches.instead = lambda key: (200, answer)
        with pytest.raises(TeacherError, match="does not speak the Batch API: a batch is answered by something else"):
            texts(batches(server).answer(requests(1)))


def test_a_server_that_is_not_there_is_an_error_that_says_so() -> None:
    with serve() as server:
        asking = batches(server)
    with pytest.raises(TeacherError, match=r"does not answer .*refused") as error:
        texts(asking.answer(requests(1)))
    assert error.value.retryable


def test_half_of_an_unknown_price_is_unknown() -> None:
    assert price("http://h/v1#m (batch)") is None
    whole, half = price("openai:gpt-4.1"), price("openai:gpt-4.1 (batch)")
    assert whole is not None
    assert half is not None
    assert (half.input, half.output) == (whole.input / 2, whole.output / 2)


def test_a_local_teacher_has_no_batches() -> None:
    with pytest.raises(ConfigError, match=r"There is no option teacher_options\.batch"):
        open_teacher("scripted:none.jsonl", options={"batch": True})
