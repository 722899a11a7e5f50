"""Settings: where they come from, what is refused, and how it is said."""

from pathlib import Path

import pytest

from prompt2model.config import Config, Settings, load_config
from prompt2model.errors import ConfigError

STAGES = {name: type(value) for name, value in Config() if isinstance(value, Settings)}


def refusal(*settings: str, **flags: object) -> str:
    """What is said about these settings."""
    with pytest.raises(ConfigError) as caught:
        load_config(settings=settings, **flags)
    return caught.value.message


@pytest.mark.parametrize("model", [Config, *STAGES.values()], ids=lambda model: model.__name__)
def test_every_setting_has_a_default_and_a_sentence(model):
    for name, field in model.model_fields.items():
        assert not field.is_required(), name
        if name not in STAGES:
            assert (field.description or "").endswith("."), name


@pytest.mark.parametrize("model", STAGES.values(), ids=lambda model: model.__name__)
def test_a_stage_has_about_ten_settings(model):
    assert len(model.model_fields) <= 14


def test_flags_go_before_set_and_set_before_the_file_and_the_file_before_defaults(tmp_path: Path):
    file = tmp_path / "run.toml"
    file.write_text("seed = 1\nbudget_usd = 1\n[train]\nepochs = 1\nlora_rank = 8\n")
    config = load_config(file, ["train.epochs=2", "seed=2"], train__epochs=3.0, teacher=None)
    assert (config.train.epochs, config.seed, config.budget_usd, config.train.lora_rank) == (3.0, 2, 1.0, 8)
    assert config.teacher == Config().teacher


@pytest.mark.parametrize(
    ("setting", "stage", "key", "value"),
    [
        ("train.epochs=0.5", "train", "epochs", 0.5),
        ("train.options={beta = 0.1}", "train", "options", {"beta": 0.1}),
        ("train.options.beta=0.1", "train", "options", {"beta": 0.1}),
        ("evaluate.teacher=false", "evaluate", "teacher", False),
        ('parse.labels=["bug", "not = bug"]', "parse", "labels", ("bug", "not = bug")),
        ("parse.labels=[0, 1]", "parse", "labels", ("0", "1")),
        ("retrieve.data=rows.csv", "retrieve", "data", ("rows.csv",)),
        ("retrieve.base=owner/name", "retrieve", "base", "owner/name"),
        (" split.test_data = a b.csv ", "split", "test_data", "a b.csv"),
    ],
)
def test_a_value_is_toml_or_the_text_itself(setting, stage, key, value):
    assert getattr(getattr(load_config(settings=[setting]), stage), key) == value


def test_all_mistakes_are_said_at_once():
    said = refusal("train.epochs=many", "generate.cuont=3", "seed", "evaluate.resamples=0", budget_usd=-1)
    for wrong in ("train.epochs", "generate.cuont", "'seed'", "evaluate.resamples", "budget_usd"):
        assert wrong in said
    assert len(said.splitlines()) == 5


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("generate.cuont=3", "There is no setting generate.cuont. Did you mean count?"),
        ("trian.epochs=3", "There is no setting trian. Did you mean train?"),
        ("epochs=3", "There is no setting epochs. Did you mean train.epochs?"),
        ("train.count=3", "There is no setting train.count. Did you mean generate.count?"),
        ("max_rows=3", "There is no setting max_rows. Did you mean retrieve.max_rows or evaluate.max_rows?"),
        ("train=3", "train is a stage, not a setting; write train.KEY."),
        ("train.epochs=0", "train.epochs is 0: it should be greater than 0."),
        ("train.epochs=nan", "train.epochs is nan: it should be a finite number."),
        ("train.epochs.x=1", "train.epochs is {'x': 1}: it should be a valid number."),
        ("retrieve.hub=of", "retrieve.hub is 'of': it should be 'auto' or 'off'."),
        ("parse.labels=true", "parse.labels is True: it should be a list of texts."),
        ("split={validation=0.5, test=0.5}", "split: validation and test together leave no rows to learn from."),
        ("train.epochs", "--set 'train.epochs' is not of the form stage.key=value."),
        ("=3", "--set '=3' is not of the form stage.key=value."),
    ],
)
def test_a_mistake_is_said_with_its_value_and_the_nearest_name(setting, said):
    assert refusal(setting) == said


def test_an_unlike_name_is_answered_with_all_names():
    assert refusal("export.zzz=1").endswith("Known: formats.")


def test_a_setting_below_a_value_is_refused():
    assert (
        refusal("train.epochs=2", "train.epochs.x=3") == "train.epochs.x cannot be set: epochs is a value, not a stage."
    )


@pytest.mark.parametrize(
    ("content", "said"), [(b"epochs == 2", "is not TOML"), (b"\xff\xfe\x00", "is not TOML"), (None, "cannot be read")]
)
def test_a_settings_file_that_cannot_be_read_is_refused(tmp_path: Path, content, said):
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load_config(file)


def test_a_mistake_in_a_file_is_said_like_any_other(tmp_path: Path):
    file = tmp_path / "run.toml"
    file.write_text("[train]\nlerning_rate = 1e-5\n")
    with pytest.raises(ConfigError, match=r"no setting train\.lerning_rate\. Did you mean learning_rate"):
        load_config(file)


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        load_config().train.epochs = 9
