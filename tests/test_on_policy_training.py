"""On-policy methods in the training stage: they learn, and go on after a kill."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from killing import Killed, kill_after
from safetensors.torch import load_file
from train_here import TASK, films

from prompt2model import store
from prompt2model.config import TrainConfig
from prompt2model.errors import ConfigError
from prompt2model.methods import reverse_kl
from prompt2model.records import Example, Splits, Student
from prompt2model.stages.train import train
from prompt2model.student import load, open_model, save

SHORT = {"max_new_tokens": 6}
MINILLM = {**SHORT, "warm_up_epochs": 0, "rollout_steps": 2, "passes": 2, "whiten": True}
OPTIONS = {"reverse_kl": MINILLM, "jsd": SHORT}
SPLITS = Splits(train=films(24), validation=films(9, first=100))


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("texts") / "plain.txt"
    path.write_text("the film is good and the answer is a text " * 100)
    return str(path)


@pytest.fixture(scope="module")
def pairs(tiny_decoder, tiny_encoder_decoder, tmp_path_factory) -> dict[str, tuple[str, str]]:
    """The folders of students that have learned the wrong labels, and of their teachers, which know the right ones."""
    config = TrainConfig(epochs=20, batch_rows=8, learning_rate=1e-2, precision="float32", patience=0, max_length=64)
    found = {}
    for kind, base in (("decoder", tiny_decoder), ("encoder-decoder", tiny_encoder_decoder)):
        folder = tmp_path_factory.mktemp(kind)
        for name, rows in (("student", turned(SPLITS.train)), ("teacher", SPLITS.train)):
            train(TASK, Splits(train=rows), str(base), config, folder=folder / name)
        found[kind] = str(folder / "student"), str(folder / "teacher")
    return found


@pytest.fixture(params=["decoder", "encoder-decoder"])
def pair(request, pairs) -> tuple[str, str]:
    """The folders of a student and its teacher."""
    return pairs[request.param]


def turned(rows: Sequence[Example]) -> tuple[Example, ...]:
    """The rows with the other label."""
    other = dict(zip(TASK.labels, reversed(TASK.labels), strict=True))
    return tuple(row.model_copy(update={"output": other[row.output]}) for row in rows)


def run(pair, folder: Path, method: str, **changed) -> Student:
    seconds = changed.pop("save_every_seconds", 90.0)
    options = {**OPTIONS[method], **changed.pop("options", {})}
    how = {"epochs": 2, "batch_rows": 8, "learning_rate": 3e-3, "precision": "float32", "patience": 0, **changed}
    config = TrainConfig(method=method, options=options, max_length=64, **how)
    teacher = open_model(pair[1], precision="float32")
    return train(TASK, SPLITS, pair[0], config, folder=folder, teacher=teacher, save_every_seconds=seconds)


@pytest.mark.parametrize("method", ["jsd", "reverse_kl"])
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_the_student_comes_closer_to_the_teacher(pair, tmp_path, method, lora_rank):
    how = {"learning_rate": 1e-2 if lora_rank else 3e-3, "lora_rank": lora_rank}
    student = run(pair, tmp_path, method, epochs=6, **how)
    first, *_, last = student.history
    assert last.validation_loss_nats < 0.5 * first.validation_loss_nats
    assert first.score == 0.0 < last.score
    assert student.teacher == pair[1]


def test_the_first_phase_is_a_plainly_fine_tuned_student(pair, tmp_path):
    student = run(pair, tmp_path, "reverse_kl", options={"warm_up_epochs": 1})
    first = store.read(tmp_path / "warm-up", "train", Student)
    assert (first.method, student.method) == ("seqkd", "reverse_kl")


def test_a_student_ends_its_answers_as_it_is_told(pairs, tmp_path):
    """As the first phase is told to end them as the teacher of the second does."""
    student = pairs["decoder"][0]
    end = load(Path(student))[1].tokenizer.convert_tokens_to_ids("z")
    config = TrainConfig(epochs=1, batch_rows=8, precision="float32", max_length=64)
    found = train(TASK, SPLITS, student, config, folder=tmp_path, ends_with=end)
    assert load(found.folder)[1].end == end


@pytest.mark.parametrize("asked", [0.0, 0.25])
def test_the_first_phase_has_a_learning_rate_of_its_own(asked):
    options = reverse_kl.Options(warm_up_learning_rate=asked)
    config = TrainConfig(method="reverse_kl", learning_rate=5e-6).model_copy(update=reverse_kl.warm_up(options))
    assert (config.method, config.learning_rate) == ("seqkd", asked)


@pytest.mark.parametrize(("method", "saves"), [("reverse_kl", 1), ("reverse_kl", 3), ("reverse_kl", 6), ("jsd", 2)])
def test_a_killed_training_goes_on_with_its_answers_bit_for_bit(pair, tmp_path, monkeypatch, texts, method, saves):
    how = {"options": {"text": texts}} if method == "reverse_kl" else {}
    straight = run(pair, tmp_path / "straight", method, **how)
    with monkeypatch.context() as patch:
        kill_after(patch, saves)
        with pytest.raises(Killed):
            run(pair, tmp_path / "killed", method, save_every_seconds=0.0, **how)
    resumed = run(pair, tmp_path / "killed", method, **how)
    assert resumed.losses == straight.losses
    files = [load_file(one.folder / "model.safetensors") for one in (resumed, straight)]
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())


def test_a_teacher_with_another_tokenizer_is_refused_before_the_first_phase(pairs, tmp_path):
    with pytest.raises(ConfigError, match="another tokenizer"):
        run((pairs["decoder"][0], pairs["encoder-decoder"][1]), tmp_path, "reverse_kl", options={"warm_up_epochs": 1})
    assert not (tmp_path / "warm-up").exists()


@pytest.mark.parametrize("method", ["jsd", "reverse_kl"])
def test_a_student_learns_to_end_as_its_teacher_does(pairs, tmp_path, method):
    """As a base model and the one that was tuned to chat, whose tokens are the same."""
    student, teacher = (Path(folder) for folder in pairs["decoder"])
    model, codec = load(teacher)
    codec.end_with(codec.tokenizer.convert_tokens_to_ids("z"))
    save(model, codec, tmp_path / "teacher")
    assert load(student)[1].end != codec.end
    found = run((str(student), str(tmp_path / "teacher")), tmp_path / "student", method, epochs=1)
    learned = load(found.folder)[1]
    assert learned.end == codec.end
    assert learned.completion("a")[-1] == codec.end
