"""A server's likeliest tokens: as rows of the student's tokens they are the teacher's own distributions."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import ChatServer, serve
from teachers_here import BY_HEART, NAMED, NAMING
from tiny import save_decoder
from train_here import films

from prompt2model.batches import Codec, Row
from prompt2model.cache import key
from prompt2model.config import TrainConfig, load_config
from prompt2model.conversation import Message, Reply, Request
from prompt2model.course import Course
from prompt2model.errors import ConfigError, DataError
from prompt2model.losses import forward_kl
from prompt2model.methods import word_kd
from prompt2model.pipeline import build
from prompt2model.records import Dropped, Splits
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, load, open_model
from prompt2model.teacher import replies
from prompt2model.teachers import open_teacher
from prompt2model.told import tokens_by_text, told_row

ASKED = (Message(role="user", content="Name it."),)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return open_model(str(save_decoder(tmp_path_factory.mktemp("teacher") / "t", seed=1)), precision="float32")


@pytest.fixture
def student(tiny_decoder: Path) -> tuple[Any, Codec]:
    return load(tiny_decoder, precision="float32")


@torch.no_grad()
def along(teacher: LocalModel, prompt: tuple[int, ...], completion: tuple[int, ...]) -> torch.Tensor:
    """The teacher's log-probabilities at each token of the completion. -> (T, V)"""
    tokens = torch.tensor([[*prompt, *completion[:-1]]])
    return teacher.model(tokens).logits[0, len(prompt) - 1 :].log_softmax(-1)  # type: ignore[no-any-return]


def telling(teacher: LocalModel, answer: str, *, ended: bool = True) -> Callable[[Any], list[Any]]:
    """The places of the answer, as a server tells them of which this is the model."""
    texts = {token: text for text, token in tokens_by_text(teacher.codec).items()}

    def places(body: Any) -> list[Any]:
        messages = [Message(**message) for message in body["messages"]]
        completion = teacher.codec.completion(answer, ended=ended)
        found = []
        for token, log_p in zip(completion, along(teacher, teacher.codec.prompt(messages), completion), strict=True):
            likely = log_p.topk(body["top_logprobs"]).indices.tolist()
            top = list(dict.fromkeys([token, *likely]))[: body["top_logprobs"]]
            likeliest = [{"token": texts.get(one, "\ufffd"), "logprob": float(log_p[one])} for one in top]
            found.append({"token": texts[token], "logprob": float(log_p[token]), "top_logprobs": likeliest})
        return found

    return places


@pytest.fixture
def server(teacher: LocalModel) -> Iterator[ChatServer]:
    with serve("tokens") as server:
        server.places = telling(teacher, "the film is good")
        yield server


def course(server: ChatServer, codec: Codec, **options: Any) -> Course:
    writer = open_teacher(f"{server.url}#m", options={"logprobs": True})
    return Course(NAMING, codec, word_kd.Options(source="server", **options), writer=writer)


def rows(course: Course, count: int = 2) -> list[Row]:
    return [row for lesson in word_kd.rows(films(count), course) for row in lesson]


def test_what_is_told_is_the_teachers_distribution_in_the_students_tokens(
    server: ChatServer, teacher: LocalModel, student: tuple[Any, Codec]
) -> None:
    found = rows(course(server, student[1], k=7))
    assert len(found) == len(server.asked) == 2
    assert {body["top_logprobs"] for body in server.asked} == {7}
    for row, film in zip(found, films(2), strict=True):
        [body] = [body for body in server.asked if film.input in body["messages"][-1]["content"]]
        assert row.completion == student[1].completion("the film is good")
        seen = teacher.codec.prompt([Message(**message) for message in body["messages"]])
        whole, ids, log_p = along(teacher, seen, row.completion), row.signals["ids"], row.signals["log_p"]
        is_told = log_p > -1e29
        torch.testing.assert_close(log_p[is_told], whole.gather(-1, ids.long())[is_told])
        assert is_told.sum() > 3 * len(row.completion)


def test_the_loss_is_the_divergence_with_all_that_is_not_told_as_one_token(
    server: ChatServer, teacher: LocalModel, student: tuple[Any, Codec]
) -> None:
    model, codec = student
    at = course(server, codec, mixing=0.0)
    [row] = rows(at, 1)
    seen = teacher.codec.prompt([Message(**message) for message in server.asked[0]["messages"]])
    student_logits = model(torch.tensor([[*row.prompt, *row.completion[:-1]]])).logits[0, len(row.prompt) - 1 :]
    teacher_log_p, expected = along(teacher, seen, row.completion), 0.0
    for place, (ids, log_p) in enumerate(zip(row.signals["ids"].long(), row.signals["log_p"], strict=True)):
        known = ids[log_p > -1e29]

        def merged(logits: torch.Tensor, known: torch.Tensor = known) -> torch.Tensor:
            p = logits.softmax(-1)
            return torch.cat([p[known], (1 - p[known].sum()).view(1)]).log()[None]

        expected += forward_kl(merged(student_logits[place]), merged(teacher_log_p[place])).item()
    assert word_kd.loss(model, codec.collate([row]), at).item() == pytest.approx(expected, rel=1e-3)


def test_an_end_may_be_told_as_markup_or_as_nothing(
    server: ChatServer, teacher: LocalModel, student: tuple[Any, Codec]
) -> None:
    """llama.cpp tells special tokens as nothing."""
    [marked] = rows(course(server, student[1]), 1)
    whole = telling(teacher, "the film is good")
    with serve("tokens") as another:
        another.places = lambda body: json.loads(json.dumps(whole(body)).replace("<|im_end|>", ""))
        [bare] = rows(course(another, student[1]), 1)
    assert bare.completion == marked.completion
    assert all(torch.equal(bare.signals[name], marked.signals[name]) for name in ("ids", "log_p"))


def test_of_tokens_with_the_same_text_the_likeliest_is_told() -> None:
    tokens = (("", -0.1), ("a", -3.0), ("", -9.0), ("b", -9.5))
    top = [{"token": text, "logprob": logprob} for text, logprob in tokens]
    with serve("tokens") as server:
        server.places = lambda body: [{"token": "", "top_logprobs": top}]
        teacher = open_teacher(f"{server.url}#m", options={"logprobs": True})
        [reply] = replies(teacher, [Request(messages=ASKED, temperature=0, top_logprobs=3)])
    assert reply.top_logprobs == (("", {"": -0.1, "a": -3.0}),)


def test_an_end_that_is_not_told_is_certain(
    server: ChatServer, teacher: LocalModel, student: tuple[Any, Codec]
) -> None:
    server.places = telling(teacher, "the film is good", ended=False)
    [row] = rows(course(server, student[1]), 1)
    assert row.completion[-1] == row.signals["ids"][-1, 0] == student[1].end
    assert row.signals["log_p"][-1, 0] == 0
    model, codec = student
    loss = word_kd.loss(model, codec.collate([row]), course(server, codec))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def told(*tokens: str) -> tuple[tuple[str, dict[str, float]], ...]:
    return tuple((token, {token: -0.1, "a": -3.0}) for token in tokens)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(text="good", top_logprobs=told("g", "o", "o", "d")), "tokens that are not the student's"),
        (Reply(text="good", top_logprobs=told("goo", "d")), "tokens that are not the student's"),
        (Reply(text="good", top_logprobs=(("good", {}),)), "tokens that are not the student's"),
        (Reply(text="good"), "tokens that are not the student's"),
        (Reply(text="goo", finish="length", top_logprobs=told("goo")), "cut off"),
        (Reply(text=" ", top_logprobs=told(" ")), "no answer"),
        (Reply(finish="failed", failure="timed out"), "timed out"),
        (Reply(finish="filtered"), "the teacher's reply was filtered"),
    ],
)
def test_an_answer_that_the_student_cannot_follow_is_dropped_with_its_reason(
    student: tuple[Any, Codec], reply: Reply, reason: str
) -> None:
    found = told_row(reply, ASKED, student[1], tokens_by_text(student[1]), k=3, max_length=64)
    assert isinstance(found, Dropped)
    assert found.reason == reason


def test_texts_that_several_tokens_have_name_none_of_them(student: tuple[Any, Codec]) -> None:
    tokens, tokenizer = tokens_by_text(student[1]), student[1].tokenizer
    assert not any("\ufffd" in text for text in tokens)
    assert tokens[" film"] == tokenizer(" film", add_special_tokens=False).input_ids[0]
    assert all(tokenizer.decode([token]) == text for text, token in tokens.items() if text)
    assert tokens[""] == tokens["<|im_end|>"] == student[1].end


def test_a_student_learns_from_what_a_server_tells(
    server: ChatServer, tiny_decoder: Path, tmp_path: Path, teacher: LocalModel
) -> None:
    whole = telling(teacher, "the film is good")
    server.places = lambda body: whole(body) if "user" not in body["messages"][-1]["content"] else []
    config = TrainConfig(method="word_kd", options={"source": "server"}, **BY_HEART)
    writer = open_teacher(f"{server.url}#m", options={"logprobs": True})
    trained = train(NAMING, Splits(train=NAMED), str(tiny_decoder), config, folder=tmp_path, teacher=writer)
    assert trained.dropped == {"no answer": 1}
    assert len(server.asked) == len(NAMED)
    answering = open_model(str(trained.folder), precision="float32")
    [(_, reply)] = next(
        iter(answering.answer([Request(messages=(Message(role="user", content="bad"),), temperature=0)]))
    )
    assert reply.text == "the film is good"


def test_a_server_of_another_family_is_given_up_after_a_few_answers_and_the_error_says_why(
    server: ChatServer, tiny_decoder: Path, tmp_path: Path
) -> None:
    server.places = lambda body: [{"token": "▁the", "top_logprobs": [{"token": "▁the", "logprob": -0.1}]}]
    config = TrainConfig(method="word_kd", options={"source": "server"}, **BY_HEART)
    writer = open_teacher(f"{server.url}#m", options={"logprobs": True})
    many = tuple(NAMED[0].model_copy(update={"input": f"input {number}"}) for number in range(word_kd.TRIED + 20))
    with pytest.raises(DataError, match=f"{word_kd.TRIED} × tokens that are not the student's"):
        train(NAMING, Splits(train=many), str(tiny_decoder), config, folder=tmp_path, teacher=writer)
    assert len(server.asked) == word_kd.TRIED


def test_a_server_that_nobody_says_tells_them_is_refused_before_anything_starts(tmp_path: Path) -> None:
    options = {"train__method": "word_kd", "train__options": {"source": "server"}}
    with serve() as server, pytest.raises(ConfigError, match=r"nobody said that") as error:
        build("Name it.", out=tmp_path, config=load_config(teacher=f"{server.url}#m", **options))
    assert "teacher_options.logprobs=true" in error.value.hint


def test_a_local_teacher_is_refused_with_the_word_who_may_tell_them(
    tiny_decoder: Path, tmp_path: Path, teacher: LocalModel
) -> None:
    config = TrainConfig(method="word_kd", options={"source": "server"})
    with pytest.raises(ConfigError, match="tells the likeliest tokens at each place of its answer") as error:
        train(NAMING, Splits(train=NAMED), str(tiny_decoder), config, folder=tmp_path, teacher=teacher)
    assert "teacher_options.logprobs=true" in error.value.hint


def test_questions_without_likeliest_tokens_keep_the_keys_that_they_had() -> None:
    request = Request(messages=ASKED, seed=3)
    fields = ["cached", "failure", "finish", "logprobs", "text", "tokens_in", "tokens_out"]
    asked = {"messages": [{"role": "user", "content": "Name it."}], "continues": False, "choices": []}
    asked |= {"json_schema": None, "max_tokens": 512, "temperature": 1.0, "top_p": 1.0, "stop": [], "seed": 3}
    before = hashlib.sha256(json.dumps(["m", asked, fields], sort_keys=True).encode()).hexdigest()
    assert key("m", request) == before
    assert key("m", request.model_copy(update={"top_logprobs": 5})) != before
