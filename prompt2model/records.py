"""What crosses between stages: frozen records that are JSON both ways; of a trained student, the folder's name."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_serializer, field_validator

Kind = Literal["classification", "generation"]
Architecture = Literal["decoder", "encoder-decoder"]


_HALF = re.compile("[\ud800-\udfff]")


def whole(text: str) -> str:
    """The text without halves of characters, which JSON can name and no file can hold: two that belong together become
    one, others the sign for what cannot be read."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _HALF.search(text) else text


WholeText = Annotated[str, AfterValidator(whole)]


class Record(BaseModel):
    """The root of all records: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# Rows


class Source(Record):
    """Where a row came from, for ever after."""

    kind: Literal["user", "data", "teacher"]
    """`user`: an example of the description. `data`: a labelled row of a file or data set. `teacher`: written by it."""
    name: str
    """The file, data set or teacher."""
    row: int | None = None
    """The row of the file or the number of the example, from 0."""
    request: str | None = None
    """The key of the teacher request that wrote the row."""
    strategy: str | None = None
    made_from: str | None = None
    """The data set, and after a colon the row, that the teacher rewrote."""


class Example(Record):
    """One row: what goes in, what should come out, and where the row came from."""

    input: WholeText
    output: WholeText
    source: Source
    rationale: WholeText | None = None
    """A chain of thought that leads to the output, without the output itself."""
    probabilities: dict[str, float] | None = None
    """The teacher's probability of each label, when it is a classification and the teacher can tell."""
    confidence: float | None = None
    """The share of the teacher's fresh answers that agree with the output, where it was asked for some."""

    @property
    def is_real(self) -> bool:
        """Whether a person wrote or labelled the row."""
        return self.source.kind != "teacher"


class Dropped(Record):
    """A candidate that was not kept, and why."""

    reason: str
    """A few words that are the same for every row dropped for this reason; they are counted."""
    text: WholeText = ""


# What a teacher costs


class Spent(Record):
    """What teacher requests have cost so far."""

    requests: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    usd: float = 0.0
    """Of the requests whose price is known; null in JSON where requests were paid for and that is none of them."""
    unpriced: int = 0
    """Requests whose price is not known."""
    seconds: float = 0.0

    @property
    def is_price_known(self) -> bool:
        """Whether `usd` says anything: it does not when nothing but requests of unknown price was asked."""
        return bool(self.usd or not self.unpriced)

    @field_serializer("usd", when_used="json")
    def _unknown_as_null(self, usd: float) -> float | None:
        return usd if self.is_price_known else None

    @field_validator("usd", mode="before")
    @classmethod
    def _null_as_nothing(cls, usd: float | None) -> float:
        return usd or 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(**{key: value + getattr(other, key) for key, value in self})

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(**{key: value - getattr(other, key) for key, value in self})


# parse and retrieve


class TaskSpec(Record):
    """A task description, understood."""

    instruction: WholeText
    examples: tuple[Example, ...] = ()
    kind: Kind = "generation"
    labels: tuple[str, ...] = ()
    """For a classification: every possible output, in the description's order."""
    output_form: str = ""
    """What an output looks like, in a few words: "one of: positive, negative", "one line of text"."""
    metric: str = "rouge_l"
    language: str = "en"
    """The ISO 639-1 code of the inputs' language; `multilingual` where there are several."""
    answer_after: str = ""
    """What precedes the answer where something is written before it, as by a student that thinks; else nothing."""
    notes: tuple[str, ...] = ()
    """What was assumed, for the person to check."""
    dropped: dict[str, int] = Field(default_factory=dict)


class ModelCard(Record):
    """Facts about a base model."""

    id: str
    description: str
    architecture: Architecture
    parameters: int
    size_bytes: int
    licence: str
    languages: tuple[str, ...] = ("en",)
    context_tokens: int = 0
    """0 where it is not bounded (relative positions)."""
    downloads: int = 0
    instruct: bool = False
    gated: bool = False
    tags: tuple[str, ...] = ()


class DataCard(Record):
    """Facts about a data set."""

    id: str
    description: str
    task: str
    """The Hub's task name, as in `text-classification`."""
    input_columns: tuple[str, ...] = ()
    output_column: str = ""
    config: str = ""
    rows: int = 0
    size_bytes: int = 0
    licence: str = ""
    languages: tuple[str, ...] = ("en",)
    downloads: int = 0
    gated: bool = False
    tags: tuple[str, ...] = ()


class Ranked(Record):
    """A card, its place, and the reasons for it."""

    card: ModelCard | DataCard
    score: float
    reasons: tuple[str, ...]
    at_hand: bool
    """Whether it can be loaded now without a download."""


class Found(Record):
    """What retrieval brought: ranked cards, the base model that was chosen, and rows of the data that was given."""

    base: str
    base_reason: str = ""
    models: tuple[Ranked, ...] = ()
    datasets: tuple[Ranked, ...] = ()
    examples: tuple[Example, ...] = ()
    columns: dict[str, str] = Field(default_factory=dict)
    """For each source of rows, which columns were read as input and output."""
    licences: dict[str, str] = Field(default_factory=dict)
    """For each source of rows, its licence where it is known."""
    dropped: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


# generate and split


class Made(Record):
    """What the teacher wrote and the filters kept."""

    examples: tuple[Example, ...] = ()
    explained: tuple[Example, ...] = ()
    """The user's examples and the given rows once more, with the rationales found for them; () when none are wanted."""
    dropped: dict[str, int] = Field(default_factory=dict)
    dropped_traces: dict[str, int] = Field(default_factory=dict)
    """Chains of thought that did not become a row's rationale, by reason."""
    rejected: tuple[Dropped, ...] = ()
    """A few of the dropped candidates, to look at."""
    teacher: str = ""
    strategies: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    spent: Spent = Spent()
    statement: str = ""
    """How the writing ended: complete, or why it stopped early."""


class Splits(Record):
    """Rows to learn from, to choose the checkpoint by, and to measure on. No input or near twin is on two sides."""

    train: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    test: tuple[Example, ...] = ()
    dropped: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


# train


class Checkpoint(Record):
    """One validation during training."""

    step: int
    epoch: float
    loss_nats: float
    """The mean training loss per counted token since the last validation, in nats."""
    validation_loss_nats: float
    metric: str
    score: float
    seconds: float
    """Since training began, interruptions not counted."""


class Student(Record):
    """A trained student: a folder, and how it came about."""

    folder: Path
    base: str
    method: str
    parameters: int
    trained_parameters: int
    steps: int
    best_step: int
    tokens: int
    """Tokens the model was run over in training, padding not counted."""
    seconds: float
    tokens_per_second: float
    precision: str
    history: tuple[Checkpoint, ...] = ()
    losses: tuple[float, ...] = ()
    """The training loss of every step, in nats per counted token."""
    teacher: str = ""
    """Who taught during the training, for methods that need that."""
    answer_after: str = ""
    """What it writes before its answer, after a chain of thought; nothing where the answer is all that it writes."""
    longest_tokens: int = 0
    """Of the texts that it learned to write, with the end."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """Training rows that the method could not use, by reason."""
    notes: tuple[str, ...] = ()


# evaluate


class Score(Record):
    """One number, with what one needs to believe it."""

    metric: str
    value: float
    low: float
    high: float
    """The ends of the 95 % bootstrap interval."""


class Measured(Record):
    """One contender on one set of rows."""

    who: Literal["majority", "base", "student", "teacher"]
    name: str
    rows: Literal["real", "synthetic"]
    n: int
    scores: tuple[Score, ...]
    seconds_per_answer: float = 0.0
    tokens_per_answer: float = 0.0
    """Tokens read and written for one answer, the prompt included."""
    notes: tuple[str, ...] = ()


class Prediction(Record):
    """One answer beside the truth, for the report and for those who look."""

    input: str
    expected: str
    answer: str
    probability: float | None = None
    base_answer: str | None = None
    rows: Literal["real", "synthetic"] = "real"


class Report(Record):
    """The evidence: every contender on the same rows."""

    task: TaskSpec
    measured: tuple[Measured, ...]
    predictions: tuple[Prediction, ...] = ()
    notes: tuple[str, ...] = ()


class Artifact(Record):
    """The files that a person takes away."""

    folder: Path
    files: tuple[str, ...]
    format: str
