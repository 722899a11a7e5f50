"""Students made of some of a model's layers, and students whose states follow the teacher's."""

import pytest
import torch
from safetensors.torch import load_file
from teachers_here import BY_HEART, NAMED, NAMING
from test_student import HEADS
from tiny import save_decoder
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, LlamaConfig, LlamaForCausalLM

from prompt2model.config import TrainConfig
from prompt2model.course import Course
from prompt2model.errors import ConfigError
from prompt2model.layers import keep_every, save_every
from prompt2model.methods import hidden
from prompt2model.records import Splits
from prompt2model.stages.train import train
from prompt2model.student import LocalModel, load, open_model, save

# Some of the layers


@pytest.mark.parametrize("name", HEADS)
def test_every_second_layer_is_kept_whatever_the_family_calls_them(name, tmp_path):
    family = AutoModelForSeq2SeqLM if HEADS[name].is_encoder_decoder else AutoModelForCausalLM
    model = family.from_config(HEADS[name]).eval()
    whole = sum(1 for part in model.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == 2)
    assert whole
    before = model.state_dict()
    keep_every(model, 2)
    model.save_pretrained(tmp_path)
    small = family.from_pretrained(tmp_path).eval()
    assert small.config.num_hidden_layers == 1
    after = small.state_dict()
    assert after.keys() < before.keys()
    assert all(torch.equal(after[key], before[key]) for key in after)
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])}
    if HEADS[name].is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.tensor([[5, 6]])
    assert small(**inputs).logits.isfinite().all()


def test_of_three_layers_every_second_is_the_first_and_the_third(tiny_decoder, tmp_path):
    _, codec = load(tiny_decoder, precision="float32")
    model = LlamaForCausalLM(LlamaConfig(**load_config(tiny_decoder), num_hidden_layers=3))
    save(model, codec, tmp_path / "three")
    small = load_file(save_every(tmp_path / "three", 2, tmp_path / "two") / "model.safetensors")
    name = "model.layers.{}.mlp.up_proj.weight"
    assert torch.equal(small[name.format(1)], model.state_dict()[name.format(2)])
    assert name.format(2) not in small


def load_config(folder) -> dict:
    config = load(folder, precision="float32")[0].config.to_dict()
    return {key: value for key, value in config.items() if key != "num_hidden_layers"}


# States that follow


@pytest.fixture(params=["tiny_decoder", "tiny_encoder_decoder"])
def pair(request):
    folder = request.getfixturevalue(request.param)
    model, codec = load(folder, precision="float32")
    return model, codec, LocalModel(load(folder, precision="float32")[0], codec, name="same")


def course(pair, **options) -> Course:
    return Course(NAMING, pair[1], hidden.Options(**options), teacher=pair[2])


def value(pair, course: Course) -> float:
    rows = [row for lesson in hidden.rows(NAMED, course) for row in lesson]
    return float(hidden.loss(pair[0], pair[1].collate(rows), course).detach())


def test_between_equals_nothing_is_left_but_the_answers_likelihood(pair):
    assert value(pair, course(pair, label=0.0)) == pytest.approx(0.0, abs=1e-4)
    assert value(pair, course(pair, label=0.0, distance="l2")) == pytest.approx(0.0, abs=1e-4)
    assert value(pair, course(pair)) == pytest.approx(2 * value(pair, course(pair, label=1.0)), rel=1e-4)


@pytest.mark.parametrize(("distance", "layers"), [("cosine", (1,)), ("l2", (1, 2)), ("cosine", ())])
def test_the_distance_is_that_of_the_chosen_layers_at_the_counted_tokens(pair, distance, layers):
    model, codec, teacher = pair
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    at = course(pair, layers=layers, distance=distance, label=0.0, soft=0.0)
    expected = 0.0
    for lesson in hidden.rows(NAMED, at):
        batch = codec.collate(lesson)
        key = "decoder_hidden_states" if codec.architecture == "encoder-decoder" else "hidden_states"
        with torch.no_grad():
            ours, theirs = (one(**batch.inputs, output_hidden_states=True)[key] for one in (model, teacher.model))
        for layer in layers or (1, 2):
            a, b = ours[layer][batch.counted], theirs[layer][batch.counted]
            cosine = (1 - functional.cosine_similarity(a, b)).sum()
            far = cosine if distance == "cosine" else functional.mse_loss(a, b, reduction="none").mean(-1).sum()
            expected += float(far) / len(layers or (1, 2))
    assert expected > 0.01
    assert value(pair, at) == pytest.approx(expected, rel=1e-4)


def test_a_layer_that_is_not_there_is_an_error(pair):
    with pytest.raises(ConfigError, match="the student has 2"):
        value(pair, course(pair, layers=(3,)))


# It learns


@pytest.fixture(scope="module")
def schooled(tmp_path_factory) -> str:
    """A teacher that knows the names by heart."""
    folder = tmp_path_factory.mktemp("schooled")
    base = save_decoder(tmp_path_factory.mktemp("base"), seed=5)
    train(NAMING, Splits(train=NAMED, validation=NAMED), str(base), TrainConfig(**BY_HEART), folder=folder)
    return str(folder)


def taught(schooled: str, base: str, folder, **changed):
    config = TrainConfig(**{**BY_HEART, "method": "hidden", **changed})
    rows = Splits(train=NAMED, validation=NAMED)
    return train(NAMING, rows, base, config, folder=folder, teacher=open_model(schooled, precision="float32"))


@pytest.mark.parametrize("lora_rank", [0, 8])
def test_a_student_of_half_the_layers_learns_from_the_whole(schooled, tmp_path, lora_rank):
    rate = {"learning_rate": 3e-2} if lora_rank else {}
    student = taught(schooled, schooled, tmp_path, init="layers:every=2", lora_rank=lora_rank, **rate)
    assert student.parameters < load(schooled, precision="float32")[0].num_parameters()
    assert load(tmp_path, precision="float32")[0].config.num_hidden_layers == 1
    assert not (tmp_path / "init").exists()
    assert student.losses[-1] < 0.2 * student.losses[0]
    assert student.history[-1].score == 1.0


def test_a_narrower_student_learns_through_a_projection_that_is_not_kept(schooled, tiny_decoder, tmp_path):
    _, codec = load(tiny_decoder, precision="float32")
    shape = {**load_config(tiny_decoder), "hidden_size": 16, "head_dim": 4, "num_hidden_layers": 2}
    torch.manual_seed(0)
    save(LlamaForCausalLM(LlamaConfig(**shape)), codec, tmp_path / "narrow")
    student = taught(schooled, str(tmp_path / "narrow"), tmp_path / "student", options={"label": 0.0})
    assert student.losses[-1] < 0.5 * student.losses[0]
    assert not any("equipment" in name for name in load_file(tmp_path / "student" / "model.safetensors"))
