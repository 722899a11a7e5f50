"""Word-level distillation, the teacher live or kept: the same loss, the same gradient, and nothing computed twice."""

from dataclasses import replace

import pytest
import torch
from teachers_here import BY_HEART, NAMED, NAMING
from tiny import save_decoder, save_encoder_decoder
from train_here import TASK, films

from prompt2model import distributions
from prompt2model.config import TrainConfig
from prompt2model.course import Course
from prompt2model.distributions import Recipe, with_distributions
from prompt2model.errors import RunError
from prompt2model.losses import forward_kl, sampled_forward_kl, top_k_forward_kl
from prompt2model.methods import word_kd
from prompt2model.records import Splits
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, load, open_model

VOCABULARY = 305


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (2 * torch.randn(6, 40, generator=generator) for _ in range(2))
    return student.requires_grad_(), teacher


def top(teacher: torch.Tensor, k: int, temperature: float = 1.0):
    log_p, ids = (teacher / temperature).log_softmax(-1).topk(k, -1)
    return ids, log_p


def gradient(value: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value.sum(), student)[0]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_with_all_tokens_the_kept_loss_is_the_dense_one(logits, temperature):
    student, teacher = logits
    dense = forward_kl(student, teacher, temperature)
    sparse = top_k_forward_kl(student, *top(teacher, 40, temperature), temperature)
    torch.testing.assert_close(sparse, dense)
    torch.testing.assert_close(gradient(sparse, student), gradient(dense, student))


def test_the_tail_counts_as_one_token(logits):
    student, teacher = logits
    ids, log_p = top(teacher, 5)

    def merged(logits: torch.Tensor) -> torch.Tensor:
        p = logits.softmax(-1)
        few = p.gather(-1, ids)
        return torch.cat([few, 1 - few.sum(-1, keepdim=True)], -1).log()

    expected = forward_kl(merged(student), merged(teacher))
    found = top_k_forward_kl(student, ids, log_p)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, student), gradient(expected, student))
    assert (found < forward_kl(student, teacher)).all()


def test_the_kept_loss_is_zero_between_equals_however_little_is_kept(logits):
    _, teacher = logits
    student = teacher.clone().requires_grad_()
    found = top_k_forward_kl(student, *top(teacher, 3))
    torch.testing.assert_close(found, torch.zeros(6), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient(found, student), torch.zeros(6, 40), atol=1e-6, rtol=0)


def test_the_mean_over_draws_is_the_dense_value_and_gradient_within_its_standard_error(logits):
    student, teacher = logits[0], logits[1] / 2  # so that no token is too rare to be drawn now and then
    dense = forward_kl(student, teacher)
    expected = torch.cat([gradient(dense, student).flatten(), dense.detach()])
    found = []
    for seed in range(400):
        recipe = Recipe("sampled", 20, seed=seed)
        draws = torch.from_numpy(distributions._draws("ab12", 6, recipe))
        value = sampled_forward_kl(student, *distributions._few(teacher.log_softmax(-1), draws, recipe))
        found.append(torch.cat([gradient(value, student).flatten(), value.detach()]))
    all_found = torch.stack(found)
    error = all_found.std(0) / 400**0.5
    assert ((all_found.mean(0) - expected).abs() < 4.5 * error + 1e-6).all()
    assert error.max() < 0.1


# Kept on disk


@pytest.fixture(params=["decoder", "encoder-decoder"])
def pair(request, tmp_path_factory, tiny_decoder, tiny_encoder_decoder):
    """A student, its codec, and a teacher of other weights."""
    is_decoder = request.param == "decoder"
    folder = (save_decoder if is_decoder else save_encoder_decoder)(tmp_path_factory.mktemp("teacher") / "t", seed=1)
    model, codec = load(tiny_decoder if is_decoder else tiny_encoder_decoder, precision="float32")
    return model, codec, open_model(str(folder), precision="float32", batch_rows=4)


def course(pair, seed: int = 0, **options) -> Course:
    _, codec, teacher = pair
    return Course(TASK, codec, word_kd.Options(**options), teacher=teacher, seed=seed)


def loss_of(pair, course: Course) -> tuple[torch.Tensor, torch.Tensor]:
    model, codec, _ = pair
    rows = [row for lesson in word_kd.rows(films(5), course) for row in lesson]
    model.zero_grad()
    loss = word_kd.loss(model, codec.collate(rows), course)
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_kept_whole_the_teacher_teaches_as_if_it_were_there(pair, temperature):
    live = loss_of(pair, course(pair, temperature=temperature))
    kept = loss_of(pair, course(pair, source="top_k", k=VOCABULARY, temperature=temperature))
    for found, expected in zip(kept, live, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """How many rows each pass of the teacher was for."""
    passes, whole = [], distributions._computed
    monkeypatch.setattr(distributions, "_computed", lambda rows, *also: passes.append(len(rows)) or whole(rows, *also))
    return passes


def rows_of(pair, count: int, first: int = 0):
    at = course(pair)
    return [row for lesson in word_kd.rows(films(count, first), at) for row in lesson]


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
def test_a_row_is_computed_once_and_reads_back_the_same(pair, computed, kind):
    _, codec, teacher = pair
    rows, recipe = rows_of(pair, 6), Recipe(kind, 7)
    first = with_distributions(rows, teacher, codec, recipe)
    assert sum(computed) == 6
    again = with_distributions([*rows, *rows_of(pair, 2, first=50)], teacher, codec, recipe)
    assert sum(computed) == 8
    for row, same in zip(first, again, strict=False):
        assert row.signals["ids"].shape == (len(row.completion), 7)
        assert all(torch.equal(row.signals[key], same.signals[key]) for key in ("ids", "log_p"))


def test_draws_do_not_depend_on_the_company(pair, home_folder, monkeypatch, tmp_path):
    _, codec, teacher = pair
    rows, recipe = rows_of(pair, 6), Recipe("sampled", 9)
    together = with_distributions(rows, teacher, codec, recipe)
    monkeypatch.setenv("PROMPT2MODEL_HOME", str(tmp_path))
    alone = with_distributions(rows[2:3], teacher, codec, recipe)
    assert torch.equal(together[2].signals["ids"], alone[0].signals["ids"])


@pytest.mark.parametrize(
    "change",
    [
        {"k": 6},
        {"temperature": 2.0},
        {"kind": "sampled"},
        {"seed": 1, "kind": "sampled"},
        "prompt",
        "answer",
        "teacher",
    ],
)
def test_whatever_decides_a_distribution_is_in_its_key(pair, computed, change, tmp_path):
    _, codec, teacher = pair
    rows, recipe = rows_of(pair, 1), Recipe("top_k", 5)
    with_distributions(
        rows, teacher, codec, replace(recipe, kind=change.get("kind", "top_k")) if "seed" in change else recipe
    )
    if isinstance(change, dict):
        recipe = replace(recipe, **change)
    elif change == "teacher":
        teacher = LocalModel(teacher.model, codec, name="t", identity="t@another-revision")
    elif change == "prompt":
        rows = [replace(rows[0], teacher_prompt=(5, 6))]
    else:
        rows = [replace(rows[0], completion=(5, 6))]
    with_distributions(rows, teacher, codec, recipe)
    assert computed == [1, 1]


def test_another_seed_does_not_ask_again_for_the_likeliest_tokens(pair, computed):
    _, codec, teacher = pair
    for seed in (0, 1):
        with_distributions(rows_of(pair, 1), teacher, codec, Recipe("top_k", 5, seed=seed))
    assert computed == [1]


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_pass_goes_on_part_by_part(pair, computed, monkeypatch, home_folder):
    _, codec, teacher = pair
    rows, recipe = rows_of(pair, 12), Recipe("top_k", 5)
    whole_write, left = distributions._write, [2]

    def write_or_die(folder, tensors):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        whole_write(folder, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(distributions, "PART_ROWS", 4)
        patch.setattr(distributions, "_write", write_or_die)
        with pytest.raises(Killed):
            with_distributions(rows, teacher, codec, recipe)
    assert len(list(home_folder.rglob("*.safetensors"))) == 2
    computed.clear()
    found = with_distributions(rows, teacher, codec, recipe)
    assert sum(computed) == 4
    assert all("ids" in row.signals for row in found)
    assert not list(home_folder.rglob("*.part"))


def test_a_damaged_part_is_an_error_that_names_it(pair, home_folder):
    _, codec, teacher = pair
    with_distributions(rows_of(pair, 1), teacher, codec, Recipe("top_k", 5))
    (part,) = home_folder.rglob("*.safetensors")
    part.write_bytes(b"\xff" * 64)
    with pytest.raises(RunError, match="cannot be read") as caught:
        with_distributions(rows_of(pair, 1), teacher, codec, Recipe("top_k", 5))
    assert "Delete it" in caught.value.hint


# It learns


@pytest.fixture(scope="module")
def schooled(tiny_decoder, tmp_path_factory) -> str:
    """A teacher that knows the names by heart."""
    folder = tmp_path_factory.mktemp("schooled")
    train(NAMING, Splits(train=NAMED, validation=NAMED), str(tiny_decoder), TrainConfig(**BY_HEART), folder=folder)
    return str(folder)


@pytest.mark.parametrize("source", ["live", "top_k", "sampled"])
def test_a_student_learns_from_the_teachers_distributions_alone(schooled, tmp_path, source):
    options = {"mixing": 0.0, "source": source, "k": 16}
    student = train(
        NAMING,
        Splits(train=NAMED, validation=NAMED),
        str(save_decoder(tmp_path / "base", seed=3)),
        TrainConfig(method="word_kd", options=options, **BY_HEART),
        folder=tmp_path / "student",
        teacher=open_model(schooled, precision="float32"),
    )
    assert student.losses[-1] < 0.1 * student.losses[0]
    assert student.history[-1].score == 1.0
