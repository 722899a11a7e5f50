"""The training stage on tiny models: it learns, keeps the best, goes on after a kill, and says what goes wrong."""

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from killing import Killed, kill_after
from launching import alone_and_together, command, environment
from safetensors.torch import load_file
from train_here import TASK, films
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from prompt2model import memory
from prompt2model.batches import Codec, weighed
from prompt2model.config import TrainConfig
from prompt2model.course import Course
from prompt2model.errors import ConfigError, DataError, RunError, WeightsError
from prompt2model.gradients import Gradients
from prompt2model.methods import seqkd
from prompt2model.records import Example, Source, Splits, Student, TaskSpec
from prompt2model.stages.train import train
from prompt2model.student import load

SOURCE = Source(kind="user", name="the description")
NAMING = TaskSpec(instruction="Name it.", kind="generation", metric="exact_match")
PAIRS = {"good": "the film is good", "bad": "a text", "user": "assistant", "positive": "negative x"}
ARCHITECTURES = ("tiny_decoder", "tiny_encoder_decoder")


@pytest.fixture(params=ARCHITECTURES)
def base(request) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def forgetful(tiny_encoder_decoder, tmp_path) -> str:
    """An encoder-decoder with dropout."""
    folder = tmp_path / "forgetful"
    shutil.copytree(tiny_encoder_decoder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.2}))
    return str(folder)


def pairs(times: int = 1) -> tuple[Example, ...]:
    return tuple(Example(input=i, output=o, source=SOURCE) for i, o in PAIRS.items()) * times


def turned_pairs() -> tuple[Example, ...]:
    """The same inputs, each with the answer of the next."""
    outputs = list(PAIRS.values())
    return tuple(row.model_copy(update={"output": outputs[n - 1]}) for n, row in enumerate(pairs()))


def splits(rows: int = 40, validation: int = 9) -> Splits:
    return Splits(train=films(rows), validation=films(validation, first=100))


def settings(**changed) -> TrainConfig:
    return TrainConfig(**{"epochs": 2, "batch_rows": 8, "learning_rate": 3e-3, "precision": "float32", **changed})


def run(base: str, folder: Path | str, rows: Splits | None = None, task: TaskSpec = TASK, **changed) -> Student:
    seed = changed.pop("seed", 0)
    seconds = changed.pop("save_every_seconds", 90.0)
    rows = rows or splits()
    return train(task, rows, base, settings(**changed), folder=folder, seed=seed, save_every_seconds=seconds)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def plain_answers(folder: Path) -> list[str]:
    """What transformers alone makes of the folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    kind = AutoModelForSeq2SeqLM if config.get("is_encoder_decoder") else AutoModelForCausalLM
    model = kind.from_pretrained(folder)
    inputs = tokenizer.apply_chat_template(
        [[{"role": "user", "content": text}] for text in PAIRS],
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    found = model.generate(**inputs, max_new_tokens=20)
    start = 1 if config.get("is_encoder_decoder") else inputs["input_ids"].shape[1]
    written = found[:, start:]
    assert (written == tokenizer.eos_token_id).any(1).all(), "an answer did not stop"
    return tokenizer.batch_decode(written, skip_special_tokens=True)


# It learns


def naming(base: str, folder: Path, rows: Splits, **changed) -> Student:
    """A student that learns a handful of names by heart."""
    often = {"epochs": 60, "learning_rate": 1e-2, "batch_rows": 4, "patience": 0, "validations_per_epoch": 1}
    return run(base, folder, rows, NAMING, **{**often, **changed})


@pytest.fixture(scope="module")
def schooled(tiny_decoder, tiny_encoder_decoder, tmp_path_factory) -> dict[str, Student]:
    """A student of each architecture that has learned the pairs."""
    bases = {"tiny_decoder": tiny_decoder, "tiny_encoder_decoder": tiny_encoder_decoder}
    rows = Splits(train=pairs(), validation=pairs())
    return {name: naming(str(base), tmp_path_factory.mktemp(name), rows) for name, base in bases.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_student_learns_answers_and_their_ends_and_plain_transformers_gives_them(schooled, name):
    student = schooled[name]
    assert student.losses[0] > 4
    assert student.losses[-1] < 0.2
    assert student.history[-1].score == 1.0
    assert student.trained_parameters == student.parameters
    assert plain_answers(student.folder) == list(PAIRS.values())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_adapters_learn_other_answers_and_are_merged(schooled, tmp_path, name):
    rows = Splits(train=turned_pairs(), validation=turned_pairs())
    student = naming(str(schooled[name].folder), tmp_path, rows, lora_rank=8, learning_rate=3e-2)
    assert student.losses[-1] < 0.2 < 1 < student.losses[0]
    assert student.trained_parameters < student.parameters == schooled[name].parameters
    assert plain_answers(tmp_path) == [row.output for row in turned_pairs()]
    assert not any("lora" in name for name in weights(tmp_path))


def test_a_student_says_how_it_came_about(base, tmp_path):
    student = run(base, tmp_path / "student")
    assert student.folder == tmp_path / "student"
    assert (student.base, student.method, student.precision) == (base, "seqkd", "float32")
    assert student.steps == len(student.losses) == 10
    codec = load(tmp_path / "student", precision="float32")[1]
    assert student.longest_tokens == max(len(codec.completion(row.output)) for row in splits().train)
    assert json.loads((tmp_path / "student" / "generation_config.json").read_text())["max_new_tokens"] == 256
    assert [one.step for one in student.history] == [2, 4, 6, 8, 10]
    assert [one.epoch for one in student.history] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert [one.loss_nats for one in student.history] == pytest.approx(
        [sum(student.losses[step - 2 : step]) / 2 for step in (2, 4, 6, 8, 10)]
    )
    seconds = [one.seconds for one in student.history]
    assert seconds == sorted(seconds)
    assert seconds[-1] < student.seconds
    assert Student.model_validate_json(student.model_dump_json()) == student


def test_tokens_per_second_are_those_of_the_steps_without_validation(tiny_decoder, tmp_path, monkeypatch):
    from prompt2model import training

    def slow_score(*_):
        time.sleep(0.3)
        return 0.5

    monkeypatch.setattr(training, "score", slow_score)
    student = run(str(tiny_decoder), tmp_path)
    codec = load(tmp_path, precision="float32")[1]
    lessons = seqkd.rows(splits().train, Course(TASK, codec))
    assert student.tokens == 2 * sum(len(row) for lesson in lessons for row in lesson)
    assert student.seconds > 5 * 0.3
    assert student.tokens / student.tokens_per_second < student.seconds - 5 * 0.3


def test_nothing_is_left_beside_the_student(base, tmp_path):
    run(base, tmp_path, save_every_seconds=0.0)
    assert not [path.name for path in tmp_path.iterdir() if path.is_dir()]


def test_the_same_seed_makes_the_same_student_and_another_another(forgetful, tmp_path):
    first, again, other = (run(forgetful, tmp_path / str(n), seed=seed) for n, seed in enumerate((1, 1, 2)))
    assert first.losses == again.losses
    assert same(weights(first.folder), weights(again.folder))
    assert first.losses != other.losses


def test_bfloat16_weights_learn_through_their_masters(tiny_decoder, tmp_path):
    exact = run(str(tiny_decoder), tmp_path / "exact", learning_rate=1e-4, epochs=6)
    rounded = run(str(tiny_decoder), tmp_path / "rounded", learning_rate=1e-4, epochs=6, precision="bfloat16")
    assert all(tensor.dtype == torch.bfloat16 for tensor in weights(rounded.folder).values())
    assert rounded.losses[-1] == pytest.approx(exact.losses[-1], abs=0.02)
    assert rounded.losses[-1] < rounded.losses[0] - 0.1


def test_what_reaches_head_and_embedding_goes_to_their_sum_directly(tiny_decoder, tmp_path, monkeypatch):
    ways = Counter[str]()

    def watch(way: str) -> None:
        add = getattr(Gradients, way)

        def watched(*given) -> None:
            ways[way] += 1
            add(*given)

        monkeypatch.setattr(Gradients, way, watched)

    watch("_add_rows")
    watch("_add_product")
    student = run(str(tiny_decoder), tmp_path, epochs=1.0)
    assert ways == {"_add_rows": student.steps, "_add_product": student.steps}


def test_small_micro_batches_give_the_same_losses_as_large_ones(base, tmp_path, monkeypatch):
    large = run(base, tmp_path / "large", batch_rows=40)
    monkeypatch.setattr(memory, "LEARNED_AT_ONCE", {"cpu": 256, "cuda": 256})
    small = run(base, tmp_path / "small", batch_rows=40)
    assert small.losses == pytest.approx(large.losses, rel=1e-4)


# Few rows, few steps


def test_one_row_is_enough(base, tmp_path):
    student = run(base, tmp_path, Splits(train=films(1)), epochs=3)
    assert student.steps == 3
    assert student.losses[-1] < student.losses[0]


def test_without_validation_rows_all_steps_are_taken_and_the_last_weights_kept(base, tmp_path):
    student = run(base, tmp_path, Splits(train=films(40)), epochs=6, patience=1)
    assert student.steps == student.best_step == 30
    assert student.history == ()
    assert "no validation rows" in student.notes[0]
    model, codec = load(tmp_path, precision="float32")
    assert mean_loss(model, codec, films(40)) < student.losses[0]


def mean_loss(model, codec: Codec, examples) -> float:
    course = Course(TASK, codec)
    rows = [row for lesson in seqkd.rows(examples, course) for row in lesson]
    with torch.no_grad():
        return float(seqkd.loss(model, codec.collate(weighed(rows, {"": 1.0})), course))


def test_half_an_epoch_is_half_the_steps(tiny_decoder, tmp_path):
    assert run(str(tiny_decoder), tmp_path, epochs=0.5, batch_rows=4).steps == 5
    assert run(str(tiny_decoder), tmp_path, epochs=0.01).steps == 1


# The best is kept


def taught_by(kind: str, rows: tuple[Example, ...]) -> tuple[Example, ...]:
    return tuple(row.model_copy(update={"source": Source(kind=kind, name="x")}) for row in rows)


@pytest.mark.parametrize(
    ("kind", "calibrate", "is_shifted"),
    [("teacher", "auto", True), ("data", "auto", False), ("teacher", "never", False), ("data", "always", True)],
)
@pytest.mark.parametrize("lora_rank", [0, 8])
def test_after_written_rows_the_leaning_to_some_labels_is_taken_away(
    base, tmp_path, kind, calibrate, is_shifted, lora_rank
):
    rows = Splits(train=taught_by(kind, films(16)), validation=films(4, first=100))
    as_learned = run(base, tmp_path / "never", rows, calibrate="never", epochs=1, lora_rank=lora_rank)
    student = run(base, tmp_path / "student", rows, calibrate=calibrate, epochs=1, lora_rank=lora_rank)
    assert same(weights(student.folder), weights(as_learned.folder)) != is_shifted
    assert any("label bias" in note for note in student.notes) == is_shifted


@pytest.mark.parametrize("lora_rank", [0, 8])
def test_the_best_checkpoint_is_kept_not_the_last(schooled, tmp_path, lora_rank):
    rows = Splits(train=turned_pairs(), validation=pairs())  # the better it learns these, the worse it scores on those
    rate = 3e-2 if lora_rank else 1e-2
    student = naming(str(schooled["tiny_decoder"].folder), tmp_path, rows, lora_rank=lora_rank, learning_rate=rate)
    best = max(student.history, key=lambda one: (one.score, -one.validation_loss_nats))
    assert student.best_step == best.step < student.steps
    assert student.history[-1].validation_loss_nats > best.validation_loss_nats + 0.5
    model, codec = load(tmp_path, precision="float32")
    assert mean_loss(model, codec, rows.validation) == pytest.approx(best.validation_loss_nats, rel=1e-3)


def test_training_stops_when_the_score_no_longer_rises(schooled, tmp_path):
    rows = Splits(train=turned_pairs(), validation=pairs())
    student = naming(str(schooled["tiny_decoder"].folder), tmp_path, rows, patience=2)
    assert student.steps < 60
    assert len([one for one in student.history if one.step > student.best_step]) == 2
    assert student.notes == (f"Stopped at step {student.steps} of 60: the score no longer rose.",)


# Killed and taken up


@pytest.mark.parametrize("kind", ["dropout", "bfloat16", "lora"])
@pytest.mark.parametrize("saves", [1, 5])
def test_a_killed_training_goes_on_to_the_same_losses_and_weights_bit_for_bit(
    request, tmp_path, monkeypatch, kind, saves
):
    base = request.getfixturevalue("forgetful" if kind == "dropout" else "tiny_decoder")
    how = {"bfloat16": {"precision": "bfloat16"}, "lora": {"lora_rank": 4, "learning_rate": 0.02}}.get(kind, {})
    straight = run(str(base), tmp_path / "straight", **how)
    with monkeypatch.context() as patch:
        kill_after(patch, saves)
        with pytest.raises(Killed):
            run(str(base), tmp_path / "killed", save_every_seconds=0.0, **how)
    resumed = run(str(base), tmp_path / "killed", **how)
    assert resumed.losses == straight.losses
    assert resumed.tokens == straight.tokens
    assert [(c.step, c.score, c.validation_loss_nats) for c in resumed.history] == [
        (c.step, c.score, c.validation_loss_nats) for c in straight.history
    ]
    assert same(weights(resumed.folder), weights(straight.folder))


@pytest.mark.parametrize("changed", [{"learning_rate": 1e-3}, {"seed": 1}, {"epochs": 3}, {"lora_rank": 2}])
def test_a_checkpoint_of_another_training_is_not_taken_up(tiny_decoder, tmp_path, monkeypatch, changed):
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            run(str(tiny_decoder), tmp_path / "killed", save_every_seconds=0.0)
    resumed = run(str(tiny_decoder), tmp_path / "killed", **changed)
    fresh = run(str(tiny_decoder), tmp_path / "fresh", **changed)
    assert resumed.losses == fresh.losses
    assert same(weights(resumed.folder), weights(fresh.folder))


def test_the_weights_of_another_trainings_best_are_not_taken(tiny_decoder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_after(patch, 3)
        with pytest.raises(Killed):
            run(str(tiny_decoder), tmp_path / "killed", save_every_seconds=0.0)
    assert (tmp_path / "killed" / "best").is_dir()
    rows = Splits(train=films(40))
    resumed, fresh = (run(str(tiny_decoder), tmp_path / name, rows) for name in ("killed", "fresh"))
    assert same(weights(resumed.folder), weights(fresh.folder))


def here(base: str, folder: Path, **changed) -> list[str]:
    return command(base, folder, settings_here(**changed))


def settings_here(**changed) -> dict[str, object]:
    return {"epochs": 6, "batch_rows": 8, "learning_rate": 3e-3, "precision": "float32", "patience": 0, **changed}


@pytest.mark.slow
def test_a_process_killed_at_any_moment_goes_on_to_the_same_result(forgetful, tmp_path):
    folder = tmp_path / "killed"
    training_here = here(forgetful, folder, save_every_seconds=0.0, epochs=12)
    for saves in (3, 20):
        training = subprocess.Popen(training_here, env=environment(), stderr=subprocess.DEVNULL)
        numbers = folder / "unfinished" / "numbers.json"
        while training.poll() is None and steps_saved(numbers) < saves:
            time.sleep(0.003)
        training.send_signal(signal.SIGKILL)
        training.wait()
        assert not (folder / "result-0.json").exists()
    subprocess.run(training_here, env=environment(), check=True, capture_output=True)
    straight = here(forgetful, tmp_path / "straight", save_every_seconds=0.0, epochs=12)
    subprocess.run(straight, env=environment(), check=True, capture_output=True)
    assert (folder / "result-0.json").read_text() == (tmp_path / "straight" / "result-0.json").read_text()


def steps_saved(numbers: Path) -> int:
    """How far the checkpoint is; 0 in the moment in which a new one takes the old one's place."""
    try:
        return json.loads(numbers.read_text())["state"]["step"]
    except FileNotFoundError:
        return 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder", "lora", "micro-batches", "bfloat16 in micro-batches"])
def test_two_processes_learn_as_one_does(tiny_decoder, tiny_encoder_decoder, tmp_path, kind):
    base = str(tiny_encoder_decoder if kind == "encoder-decoder" else tiny_decoder)
    small = {"batch_rows": 40, "most_tokens": 256}
    how = {
        "lora": {"lora_rank": 4},
        "bfloat16 in micro-batches": {**small, "precision": "bfloat16"},
        "micro-batches": small,
    }.get(kind, {})
    # 13 rows a step are no multiple of two, and the last step of an epoch has one row for two processes.
    how = {"epochs": 2, "batch_rows": 13, "validations_per_epoch": 1, **how}
    alone, first, second = alone_and_together(base, tmp_path, settings_here(**how))
    assert first == second
    tolerance = 2e-2 if "bfloat16" in kind else 1e-4
    assert first["losses"] == pytest.approx(alone["losses"], rel=tolerance)
    assert first["tokens"] == alone["tokens"]
    assert [step for step, _, _ in first["history"]] == [step for step, _, _ in alone["history"]]
    assert [loss for _, _, loss in first["history"]] == pytest.approx(
        [loss for _, _, loss in alone["history"]], rel=tolerance
    )


# What goes wrong


@pytest.mark.parametrize("times", [1, 2])
def test_when_memory_runs_out_smaller_micro_batches_give_the_same_result(base, tmp_path, monkeypatch, times):
    calm = run(base, tmp_path / "calm", batch_rows=40)
    whole_loss, left, sizes = seqkd.loss, [times], []

    def loss(model, batch, course):
        sizes.append(batch.labels.shape[0])
        if left[0] and torch.is_grad_enabled() and len(sizes) > 2:
            left[0] -= 1
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 GB")
        return whole_loss(model, batch, course)

    monkeypatch.setattr(memory, "LEARNED_AT_ONCE", {"cpu": 1024, "cuda": 1024})
    monkeypatch.setattr(seqkd, "loss", loss)
    pressed = run(base, tmp_path / "pressed", batch_rows=40)
    assert left == [0]
    assert min(sizes) < 40
    assert pressed.losses == pytest.approx(calm.losses, rel=1e-4)


def test_memory_that_never_suffices_is_an_error_with_a_cure(tiny_decoder, tmp_path, monkeypatch):
    def loss(model, batch, course):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(seqkd, "loss", loss)
    with pytest.raises(RunError, match="Memory ran out at step 1") as caught:
        run(str(tiny_decoder), tmp_path)
    assert "train.lora_rank" in caught.value.hint


def test_other_errors_of_a_pass_keep_their_traceback(tiny_decoder, tmp_path, monkeypatch):
    def loss(model, batch, course):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(seqkd, "loss", loss)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(str(tiny_decoder), tmp_path)


def test_training_that_diverges_is_an_error_that_names_a_lower_rate(tiny_decoder, tmp_path):
    with pytest.raises(RunError, match=r"Training has diverged: at step \d+ of 30 the loss is") as caught:
        run(str(tiny_decoder), tmp_path, learning_rate=1e30, epochs=6)
    assert "--set train.learning_rate=2.5e+29" in caught.value.hint
    assert not (tmp_path / "model.safetensors").exists()


def test_a_folder_may_be_named_by_a_text(tiny_decoder, tmp_path):
    student = run(str(tiny_decoder), str(tmp_path / "student"), epochs=0.1)
    assert student.folder == tmp_path / "student"
    assert weights(student.folder)


def test_options_that_the_method_does_not_know_are_refused_with_those_it_knows(tiny_decoder, tmp_path):
    with pytest.raises(ConfigError, match=r"There is no option train\.options\.mixing") as caught:
        run(str(tiny_decoder), tmp_path, options={"mixing": 0.5})
    assert caught.value.hint.startswith("Options of seqkd: answers, samples")


def test_a_method_that_does_not_fit_the_model_is_refused(base, tmp_path, monkeypatch):
    monkeypatch.setattr(seqkd, "ARCHITECTURES", ())
    with pytest.raises(ConfigError, match="seqkd cannot train"):
        run(base, tmp_path)


def test_a_method_that_does_not_exist_is_refused(tiny_decoder, tmp_path):
    with pytest.raises(ConfigError, match="no method named 'seqdk'") as caught:
        run(str(tiny_decoder), tmp_path, method="seqdk")
    assert "seqkd" in caught.value.hint


def test_no_rows_are_an_error(tiny_decoder, tmp_path):
    with pytest.raises(DataError, match="no rows to train on"):
        run(str(tiny_decoder), tmp_path, Splits(validation=films(3)))


def test_a_base_that_cannot_be_had_is_an_error(tmp_path):
    with pytest.raises(WeightsError):
        run(str(tmp_path / "nothing"), tmp_path)


def test_a_row_length_below_the_template_is_an_error_before_any_step(tiny_decoder, tmp_path):
    with pytest.raises(DataError, match="fit") as caught:
        run(str(tiny_decoder), tmp_path, max_length=8)
    assert "train.max_length" in caught.value.hint
