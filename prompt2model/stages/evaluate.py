"""Measures the student beside the majority answer, its base model and its teacher, on the same rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from time import perf_counter
from types import ModuleType
from typing import Literal

from prompt2model import bootstrap, registry
from prompt2model.answers import Answer, as_answered, ask, most_tokens
from prompt2model.comparison import compared
from prompt2model.config import EvaluateConfig
from prompt2model.conversation import Message
from prompt2model.errors import ConfigError, HubError, TeacherError, WeightsError
from prompt2model.questions import question
from prompt2model.records import Example, Measured, Prediction, Report, Score, Splits, Student, TaskSpec
from prompt2model.teacher import Teacher
from prompt2model.wording import one_line

Who = Literal["majority", "base", "student", "teacher"]
Rows = Literal["real", "synthetic"]

USUAL = {"classification": ("accuracy", "f1"), "generation": ("rouge_l", "chrf", "exact_match")}
"""Metrics that stand beside the task's own."""
CALLED = {"majority": "the majority answer", "base": "its base model", "teacher": "its teacher"}


def evaluate(
    task: TaskSpec,
    splits: Splits,
    student: Student,
    config: EvaluateConfig = EvaluateConfig(),
    *,
    teacher: Teacher | None = None,
    seed: int = 0,
) -> Report:
    """Every contender's scores with n, interval, seconds and tokens, and the student's answers.

    Rows that a person wrote or labelled come first; those that a teacher wrote are measured apart from them. Raises
    ConfigError when a metric is unknown or does not fit the task, WeightsError when the student cannot be loaded.
    """
    return compare(task, splits, student, config, connect=_connect, teacher=teacher, seed=seed)


def compare(
    task: TaskSpec,
    splits: Splits,
    student: Student,
    config: EvaluateConfig,
    *,
    connect: Callable[[str, int], Teacher],
    teacher: Teacher | None,
    seed: int = 0,
) -> Report:
    """`evaluate`, with `connect` opening the base model and the student by their names, for so many rows at a time."""
    metrics = _metrics(task, config)
    rows = _chosen(splits.test, config.max_rows, seed)
    if not rows:
        return Report(task=task, measured=(), notes=("There are no test rows: nothing was measured.",))
    asker = Asker(task, rows, config, connect, student.longest_tokens)
    contenders = [*_majority(splits, rows), *asker.base(student), asker.student(student)]
    if teacher is not None:
        contenders += asker.teacher(teacher)
    judge = Judge(rows, metrics, config.resamples, seed)
    return Report(
        task=task,
        measured=tuple(judge.measured(contenders)),
        predictions=tuple(_predictions(rows, contenders)),
        notes=(*asker.notes, *judge.statements(contenders), *_row_notes(splits.test, rows)),
    )


def _connect(model: str, batch_rows: int) -> Teacher:
    opened: Teacher = registry.load("teachers", "transformers").connect(model, batch_rows=batch_rows)
    return opened


def _metrics(task: TaskSpec, config: EvaluateConfig) -> dict[str, ModuleType]:
    """The metrics by name, the one that the run is judged by first."""
    is_auto = config.metrics == ("auto",)
    names = dict.fromkeys((task.metric, *USUAL[task.kind]) if is_auto else config.metrics)
    found = {name: registry.load("metrics", name) for name in names}
    wrong = [name for name, metric in found.items() if task.kind not in metric.KINDS]
    if wrong and not is_auto:
        raise ConfigError(
            f"The metric {wrong[0]!r} does not fit a {task.kind}.", hint="Try " + " or ".join(USUAL[task.kind]) + "."
        )
    return {name: metric for name, metric in found.items() if name not in wrong}


def _chosen(test: Sequence[Example], most: int, seed: int) -> list[Example]:
    """The test rows, real ones first; of too many a random part, for a file may be sorted by its labels."""
    real, synthetic = [row for row in test if row.is_real], [row for row in test if not row.is_real]
    rng = Random(seed)  # noqa: S311 - a sample, not a secret
    kept = _sample(real, most, rng)
    return kept + _sample(synthetic, most - len(kept), rng)


def _sample(rows: list[Example], most: int, rng: Random) -> list[Example]:
    return rows if len(rows) <= most else [rows[index] for index in sorted(rng.sample(range(len(rows)), most))]


@dataclass(frozen=True)
class Contender:
    """One contender's answers to all rows, in their order."""

    who: Who
    name: str
    answers: Sequence[Answer]
    seconds_per_answer: float = 0.0
    notes: tuple[str, ...] = ()


def _majority(splits: Splits, rows: Sequence[Example]) -> Iterator[Contender]:
    """What knows nothing but the training rows' most common output."""
    common = Counter(row.output for row in splits.train).most_common(1)
    for answer, _ in common:
        yield Contender("majority", f"always “{_short(answer)}”", [Answer(answer)] * len(rows))


def _short(text: str, most: int = 40) -> str:
    line = one_line(text)
    return line if len(line) <= most else line[: most - 1] + "…"


@dataclass
class Asker:
    """Puts the rows to one model at a time; what could not be asked is in `notes`."""

    task: TaskSpec
    rows: Sequence[Example]
    config: EvaluateConfig
    connect: Callable[[str, int], Teacher]
    longest_tokens: int
    """Of the texts that the student learned to write: nobody's answer is cut off before."""
    notes: list[str] = field(default_factory=list)
    base_asked: tuple[str, Contender] | None = None
    """The base model's identity and answers."""

    def base(self, student: Student) -> Iterator[Contender]:
        """The base model, told the task; where it can only write, it is shown the user's examples too."""
        try:
            model = self.connect(student.base, self.config.batch_rows)
        except (WeightsError, HubError, TeacherError) as error:
            self.notes.append(f"The base model was not measured: {error.message}")
            return
        contender = self._asked("base", student.base, model, self._questions(model), self.task)
        self.base_asked = (model.identity, contender)
        yield contender

    def student(self, student: Student) -> Contender:
        """The student, given the input alone: the task is in its weights and its chat template."""
        model = self.connect(str(student.folder), self.config.batch_rows)
        inputs = [(Message(role="user", content=row.input),) for row in self.rows]
        task = as_answered(self.task, student.answer_after)
        return self._asked("student", f"trained by {student.method}", model, inputs, task)

    def teacher(self, teacher: Teacher) -> Iterator[Contender]:
        """The teacher, asked as the base model is; not asked again when it is the same model."""
        if not self.config.teacher:
            self.notes.append("The teacher was not measured: evaluate.teacher is off.")
        elif self.base_asked and self.base_asked[0] == teacher.identity:
            same = "the same model as the base, asked the same way: measured once"
            yield replace(self.base_asked[1], who="teacher", name=teacher.name, notes=(same,))
        else:
            try:
                yield self._asked("teacher", teacher.name, teacher, self._questions(teacher), self.task)
            except TeacherError as error:
                self.notes.append(f"The teacher was not measured: {error.message}")

    def _questions(self, model: Teacher) -> list[tuple[Message, ...]]:
        return [question(self.task, row.input, self.task.examples, can=model.can) for row in self.rows]

    def _asked(
        self, who: Who, name: str, model: Teacher, conversations: Sequence[tuple[Message, ...]], task: TaskSpec
    ) -> Contender:
        started = perf_counter()
        most = self.config.max_new_tokens or most_tokens(task, self.longest_tokens)
        answers = ask(task, conversations, model, max_tokens=most, what=f"asking the {who}")
        seconds = perf_counter() - started
        fresh = sum(not answer.cached for answer in answers)
        return Contender(who, name, answers, seconds_per_answer=seconds / fresh if fresh else 0.0)


@dataclass(frozen=True)
class Judge:
    """Scores answers against the rows."""

    rows: Sequence[Example]
    metrics: dict[str, ModuleType]
    resamples: int
    seed: int

    def measured(self, contenders: Iterable[Contender]) -> Iterator[Measured]:
        """Each contender on the real rows, then each on the synthetic ones."""
        for kind, places in self._groups():
            for contender in contenders:
                yield self._measure(contender, kind, places)

    def statements(self, contenders: Sequence[Contender]) -> Iterator[str]:
        """Whether the student differs from each of the others by more than the noise, on the rows that count most."""
        student = next(one for one in contenders if one.who == "student")
        kind, places = self._groups()[0]
        for other in contenders:
            if other is not student:
                yield self._statement(student, other, kind, places)

    def _groups(self) -> list[tuple[Rows, list[int]]]:
        """The places of the real and of the synthetic rows, where there are any."""
        kinds: dict[Rows, list[int]] = {"real": [], "synthetic": []}
        for place, row in enumerate(self.rows):
            kinds["real" if row.is_real else "synthetic"].append(place)
        return [(kind, places) for kind, places in kinds.items() if places]

    def _measure(self, contender: Contender, kind: Rows, places: Sequence[int]) -> Measured:
        answers = [contender.answers[place] for place in places]
        kept = [place for place in places if not contender.answers[place].failure]
        return Measured(
            who=contender.who,
            name=contender.name,
            rows=kind,
            n=len(kept),
            scores=tuple(self._score(name, contender, kept) for name in self.metrics) if kept else (),
            seconds_per_answer=contender.seconds_per_answer,
            tokens_per_answer=sum(answer.tokens for answer in answers) / len(answers),
            notes=(*contender.notes, *_answer_notes(answers)),
        )

    def _score(self, name: str, contender: Contender, places: Sequence[int]) -> Score:
        metric, guesses, truth = self.metrics[name], _texts(contender, places), self._truth(places)
        low, high = bootstrap.interval(metric, guesses, truth, resamples=self.resamples, seed=self.seed)
        return Score(metric=name, value=metric.compute(guesses, truth), low=low, high=high)

    def _statement(self, student: Contender, other: Contender, kind: Rows, places: Sequence[int]) -> str:
        kept = [place for place in places if not (student.answers[place].failure or other.answers[place].failure)]
        return compared(
            "The student",
            CALLED[other.who],
            (_texts(student, kept), _texts(other, kept)),
            self._truth(kept),
            metric=next(iter(self.metrics)),
            kind=kind,
            resamples=self.resamples,
            seed=self.seed,
        )

    def _truth(self, places: Sequence[int]) -> list[str]:
        return [self.rows[place].output for place in places]


def _texts(contender: Contender, places: Sequence[int]) -> list[str]:
    return [contender.answers[place].text for place in places]


def _answer_notes(answers: Sequence[Answer]) -> Iterator[str]:
    """What the scores do not show: answers that never came, are no label, were cut off, or were not timed."""
    for reason, count in Counter(answer.failure for answer in answers if answer.failure).items():
        yield f"{count} of {len(answers)} not answered and left out: {reason}"
    unreadable = sum(not answer.is_readable for answer in answers)
    if unreadable:
        yield f"{unreadable} of {len(answers)} answers name no answer, or several labels; they count as wrong"
    cut_off = sum(answer.is_cut_off for answer in answers)
    if cut_off:
        yield f"{cut_off} of {len(answers)} answers were cut off (evaluate.max_new_tokens)"
    cached = sum(answer.cached for answer in answers)
    if cached:
        yield f"{cached} of {len(answers)} answers came from the cache and are not timed"


def _row_notes(test: Sequence[Example], rows: Sequence[Example]) -> Iterator[str]:
    if not any(row.is_real for row in rows):
        yield "All test rows were written by the teacher: the scores say how well the student learned from it, no more."
    if len(rows) < len(test):
        yield f"{len(rows)} of {len(test)} test rows were measured (evaluate.max_rows)."


def _predictions(rows: Sequence[Example], contenders: Sequence[Contender]) -> Iterator[Prediction]:
    """The student's answers, with the base model's beside them."""
    by_who = {contender.who: contender.answers for contender in contenders}
    base = by_who.get("base", [None] * len(rows))
    for row, answer, other in zip(rows, by_who["student"], base, strict=True):
        yield Prediction(
            input=row.input,
            expected=row.output,
            answer=answer.text,
            probability=answer.probability,
            base_answer=other.text if other else None,
            rows="real" if row.is_real else "synthetic",
        )
