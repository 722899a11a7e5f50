"""Settings: one model a stage, each field with a default, a unit and a sentence.

Flags, `--help`, `--set stage.key=value` and TOML files all come from here. All mistakes are reported at once.
"""

import hashlib
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from prompt2model.errors import ConfigError
from prompt2model.registry import did_you_mean, mistake


class Settings(BaseModel):
    """The root of all settings: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


OF_A_RUN = ("parse.json", "split.json", "train.json")
"""Of a run's folder that a setting names: its task, its rows and its student, which is what other runs take from it."""


def contents(settings: Settings) -> dict[str, str]:
    """The SHA-256 of each file that a setting names, and of the records of each run: whoever changes one wants what was
    made of it made again."""
    named = sorted({name for text in _texts(settings.model_dump(mode="json")) for name in _files(text)})
    return {name: hashlib.sha256(Path(name).expanduser().read_bytes()).hexdigest() for name in named}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def _files(text: str) -> list[str]:
    """The file that a text names, or such records as the folder that it names holds."""
    records = [f"{text}/{name}" for name in OF_A_RUN] if text else []
    return [name for name in (text, *records) if _is_file(name)]


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # no name that a file could have
        return False


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_as_list)]
"""A list of texts; one text alone is a list of one."""


class ParseConfig(Settings):
    """How the description is read."""

    kind: Literal["auto", "classification", "generation"] = Field(
        "auto", description="What the task is; auto reads it from the description."
    )
    labels: Words = Field(
        (), description="The possible outputs of a classification, when the description does not say."
    )
    metric: str = Field("auto", description="The metric that the run is judged by; auto follows the kind of task.")
    language: str = Field("auto", description="ISO 639-1 code of the inputs' language.")
    max_characters: int = Field(100_000, gt=0, description="Longest description that is read, in characters.")
    ask_teacher: bool = Field(True, description="Ask the teacher where the description's notation does not suffice.")


class RetrieveConfig(Settings):
    """Where the base model and the rows come from."""

    base: str = Field(
        "auto", description="The base model: a Hub id, a folder, or auto for the best-ranked one at hand."
    )
    data: Words = Field(
        (),
        description="Rows to learn from: CSV, JSONL or Parquet files, or Hub data sets (owner/name[:config]).",
    )
    input_column: str = Field("auto", description="The column read as input; auto infers it and shows it.")
    output_column: str = Field("auto", description="The column read as output; auto infers it and shows it.")
    max_rows: int = Field(3000, gt=0, description="Most rows taken from each source of data; holds before downloading.")
    max_download_bytes: int = Field(
        2_000_000_000, gt=0, description="Largest download that starts without being asked for, in bytes."
    )
    max_parameters: int = Field(600_000_000, gt=0, description="Largest base model, in parameters.")
    licences: Words = Field((), description="Accepted licences (SPDX names in lower case); none given accepts all.")
    architecture: Literal["any", "decoder", "encoder-decoder"] = Field(
        "any", description="Accepted architectures of the base model."
    )
    hub: Literal["auto", "off"] = Field(
        "auto", description="Whether the live Hub is asked; auto falls back to the built-in catalogue."
    )


class GenerateConfig(Settings):
    """What the teacher writes."""

    count: int = Field(400, ge=0, description="Rows to keep; 0 writes nothing.")
    strategies: Words = Field(
        ("auto",), description="Ways to write examples, as NAME or NAME:WEIGHT; auto follows the kind of task."
    )
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Options of the strategies and the filters, by their names."
    )
    filters: Words = Field(
        ("auto",), description="Filters every candidate has to pass, in order; auto follows the teacher."
    )
    temperature: float = Field(1.0, gt=0, le=2, description="Sampling temperature of what is written.")
    anneal_from: float = Field(
        0.0,
        ge=0,
        le=2,
        description="Temperature of the first round, rising to `temperature` as rows are kept; 0 keeps it constant.",
    )
    over_generate: float = Field(4.0, ge=1, description="Most candidates asked for, as a multiple of `count`.")
    round_size: int = Field(
        0, ge=0, description="Candidates asked for at a time; 0 follows the teacher: 64, more of a server."
    )
    few_shot: int = Field(4, ge=0, description="Examples shown in a prompt.")
    max_tokens: int = Field(256, gt=0, description="Longest text the teacher writes, in tokens.")
    near_twin: float = Field(
        0.7, gt=0, le=1, description="Share of common word 1- to 3-grams from which an input is no news."
    )
    when_spent: Literal["stop", "go_on"] = Field(
        "stop",
        description="When --budget is spent: stop, so that a higher one goes on, or go_on with the rows there are.",
    )
    rationales: int = Field(
        0,
        ge=0,
        description="Most chains of thought asked for each row, given or written, until enough are right; 0 asks none.",
    )
    right_rationales: int = Field(
        1, ge=1, description="Different right ones of a row that are enough; each is learned from (rejection sampling)."
    )


class SplitConfig(Settings):
    """Which rows are learned from and which are measured on."""

    validation: float = Field(0.15, ge=0, lt=1, description="Share of the rows that chooses the checkpoint.")
    max_validation: int = Field(200, gt=0, description="Most validation rows.")
    test: float = Field(0.15, ge=0, lt=1, description="Share of the rows that the report is measured on.")
    max_test: int = Field(500, gt=0, description="Most test rows.")
    test_data: str = Field("", description="A file of rows kept for the test; none of them is learned from.")
    near_twin: float = Field(
        0.8, gt=0, le=1, description="Share of common word 1- to 3-grams from which two inputs count as twins."
    )

    @model_validator(mode="after")
    def _leave_rows_to_learn_from(self) -> "SplitConfig":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave no rows to learn from")
        return self


class TrainConfig(Settings):
    """How the student learns."""

    method: str = Field(
        "auto", description="The distillation method; auto takes step_by_step for rows with rationales, else seqkd."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the method.")
    init: str = Field(
        "",
        pattern=r"^(layers:every=[1-9]\d*)?$",
        description="What the student starts from: the base as it is, or layers:every=N for every N-th of its layers.",
    )
    epochs: float = Field(3.0, gt=0, description="Passes over the training rows.")
    learning_rate: float = Field(
        0.0, ge=0, description="Peak learning rate; 0 chooses one for the architecture and for LoRA."
    )
    batch_rows: int = Field(16, gt=0, description="Rows in one optimiser step.")
    max_length: int = Field(512, gt=0, description="Longest row, in tokens; longer inputs lose their end.")
    lora_rank: int = Field(0, ge=0, description="Rank of LoRA adapters; 0 trains all weights.")
    patience: int = Field(
        3, ge=0, description="Validations without improvement before training stops; 0 never stops early."
    )
    validations_per_epoch: int = Field(2, gt=0, description="How often the checkpoint is judged in an epoch.")
    best_by: Literal["metric", "loss"] = Field(
        "metric", description="What the best checkpoint is chosen by: the task's metric, or the validation loss."
    )
    calibrate: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Take away a classifier's leaning to some labels; auto does it after rows or labels of a teacher.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic of the forward pass; auto measures which is faster here."
    )


class EvaluateConfig(Settings):
    """How the student is measured."""

    metrics: Words = Field(
        ("auto",), description="Metrics in the report; auto is the task's own and those usual beside it."
    )
    max_rows: int = Field(1000, gt=0, description="Most test rows answered.")
    batch_rows: int = Field(0, ge=0, description="Rows answered at a time; 0: 128, on a GPU 256.")
    max_new_tokens: int = Field(
        0,
        ge=0,
        description="Longest answer, in tokens; 0: 256, with a chain of thought 1024, and no fewer than the longest "
        "text that the student learned to write.",
    )
    teacher: bool = Field(
        True, description="Measure the teacher too, where that costs no money or the price is accepted."
    )
    resamples: int = Field(1000, gt=0, description="Bootstrap resamples behind each interval.")


class ExportConfig(Settings):
    """What the student is turned into."""

    formats: Words = Field(("safetensors",), description="What to write; each is an exporter.")


class Config(Settings):
    """A whole run."""

    teacher: str = Field(
        "auto",
        description="Who writes and labels: openai:MODEL, transformers:ID, URL#MODEL; auto takes what is at hand.",
    )
    teacher_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the teacher, as in teacher_options.requests_per_minute=500."
    )
    budget_usd: float = Field(0.0, ge=0, description="Most that the teacher may cost, in US dollars; 0 sets no limit.")
    seed: int = Field(0, ge=0, description="Same seed, same result.")
    parse: ParseConfig = ParseConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    generate: GenerateConfig = GenerateConfig()
    split: SplitConfig = SplitConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    export: ExportConfig = ExportConfig()


def load_config(file: Path | None = None, settings: Iterable[str] = (), **flags: Any) -> Config:
    """The defaults, overlaid by a TOML file, then by `stage.key=value` settings, then by flags (`stage__key=value`).

    Raises ConfigError that lists every mistake, with the nearest known name for an unknown one.
    """
    values = _read_toml(file) if file else {}
    mistakes: list[str] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        if equals and key.strip():
            _put(values, key.strip().split("."), _value(text.strip()), mistakes)
        else:
            mistakes.append(f"--set {setting!r} is not of the form stage.key=value.")
    for key, value in flags.items():
        if value is not None:
            _put(values, key.split("__"), value, mistakes)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        mistakes += [_explain(one) for one in error.errors()]
    if mistakes:
        raise ConfigError("\n".join(mistakes), hint="prompt2model config shows every setting.")
    return config


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The settings file {file} cannot be read: {error.strerror}.",
            hint="Check the path; prompt2model config --toml prints such a file.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The settings file {file} is not TOML: {error}.", hint="A line looks like this: epochs = 2"
        ) from error


def _value(text: str) -> Any:
    """The text as a TOML value (2, 0.5, true, ["a"]), or as it stands."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], path: list[str], value: Any, mistakes: list[str]) -> None:
    *folders, last = path
    for folder in folders:
        values = values.setdefault(folder, {})
        if not isinstance(values, dict):
            mistakes.append(f"{'.'.join(path)} cannot be set: {folder} is a value, not a stage.")
            return
    values[last] = value


def _explain(error: Any) -> str:
    """One mistake in one line, with the nearest name for an unknown key."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"There is no setting {where}. {_near(where)}"
    if error["type"] == "model_type":
        return f"{where} is a stage, not a setting; write {where}.KEY."
    return mistake(error)


def _near(wrong: str) -> str:
    """What may have been meant: the settings of that very name in other stages, else the most alike in this one."""
    stages = {name: type(value) for name, value in Config() if isinstance(value, Settings)}
    *stage, key = wrong.split(".")
    namesakes = [f"{name}.{key}" for name, model in stages.items() if key in model.model_fields]
    if namesakes:
        return f"Did you mean {' or '.join(namesakes)}?"
    model = stages.get(stage[0], Config) if stage else Config
    return did_you_mean(key, list(model.model_fields))
