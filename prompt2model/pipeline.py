"""build(): one sentence in, a small model out. This file is the whole story; each stage tells its own part."""

import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prompt2model import accounts, data_report, prompts, registry, store, weights
from prompt2model.book import book_of
from prompt2model.config import Config, Settings, contents, load_config
from prompt2model.description import read_description
from prompt2model.errors import ConfigError
from prompt2model.failures import FILE as FAILURES
from prompt2model.filters import looked_at
from prompt2model.marks import FILE as MARKS
from prompt2model.marks import read_marks
from prompt2model.methods import check_rows_will_do, check_suits, open_method, without
from prompt2model.records import Artifact, Found, Made, Record, Report, Splits, Student, TaskSpec
from prompt2model.rows import read_test
from prompt2model.run import Run
from prompt2model.settings import as_toml
from prompt2model.stages.evaluate import evaluate
from prompt2model.stages.export import check_replaceable, export
from prompt2model.stages.generate import generate
from prompt2model.stages.parse import parse
from prompt2model.stages.retrieve import retrieve
from prompt2model.stages.split import shown_to_teacher, split
from prompt2model.teacher import ABILITIES, WHITE_BOX, Teacher
from prompt2model.teachers import check_teacher, choose_teacher, decided_by, open_teacher, white_box_of, with_ability

log = logging.getLogger(__name__)

DESCRIPTION = "description.md"
MODEL = "model"
"""In a run's folder, the description and the export."""
TEMPLATES = {
    "parse": ("parse",),
    "retrieve": ("retrieve",),
    "generate": ("generate", "answer", "filters"),
    "train": ("answer",),
    "evaluate": ("answer",),
    "export": ("export",),
}
"""The folders of templates that a stage renders: when one of them has changed, the stage is run again."""

STAGES = ("parse", "retrieve", "generate", "split", "train", "evaluate", "export")

Listener = Callable[[str, Any], None]
"""Told the name of each stage and its record as soon as there is one."""


def build(
    description: str | Path,
    *,
    out: Path | str | None = None,
    config: Config | None = None,
    until: str = "export",
    listener: Listener = lambda stage, record: None,
    **flags: Any,
) -> Run:
    """A model for the task, and the evidence for it, in the folder `out`.

    `description` is a sentence, a file, or "-" for standard input. Settings come from `config`, or from `flags` as in
    `teacher="openai:gpt-5-mini"`, `generate__count=800`. `until` is the last stage that is wanted. The same call again
    goes on where it was interrupted: what a stage left is read back if nothing it depends on has changed. Raises an
    error of `prompt2model.errors`, all of which carry a hint: ConfigError for a stage that does not exist.
    """
    stages_until(until)  # or an error
    config = config or load_config(**flags)
    text = read_description(description, max_characters=config.parse.max_characters)
    _check_names(config)
    folder = store.open_run(Path(out) if out else default_folder(text)).resolve()
    with store.alone(folder):
        accounts.settle(folder)
        check_replaceable(folder / MODEL)
        keep_description(folder, text)
        (folder / "settings.toml").write_text(as_toml(config), encoding="utf-8")
        with suppress(_Stop):
            _Building(folder, text, config, listener, until).run()
        run = Run(folder)
        if until == "export":
            run.write_page()
        return run


def stages_until(last: str) -> tuple[str, ...]:
    """The stages up to this one. Raises ConfigError when there is no such stage."""
    if last not in STAGES:
        raise ConfigError(f"There is no stage {last!r}.", hint=registry.did_you_mean(last, list(STAGES)))
    return STAGES[: STAGES.index(last) + 1]


def read_back(text: str, folder: Path, config: Config) -> dict[str, Record]:
    """The records of the stages that `build` would read back from the folder, in order. Makes and writes nothing."""
    _check_names(config)
    kept: dict[str, Record] = {}
    with suppress(_Stop):
        _Building(folder, text, config, kept.__setitem__, makes=False).run()
    return kept


def default_folder(text: str) -> Path:
    """Where a run goes without `out`: named by the description's first words; by a digest too where a run of another
    description has that name."""
    words = re.findall(r"\w+", text.casefold())[:6]
    folder = Path("runs", "-".join(words)[:60] or "run")
    return folder if _described(folder) in ("", text) else folder.with_name(f"{folder.name}-{store.digest(text)[:6]}")


def _described(folder: Path) -> str:
    """The description of the run in the folder; nothing where none is."""
    kept = folder / DESCRIPTION
    return kept.read_text(encoding="utf-8") if kept.is_file() else ""


def keep_description(folder: Path, text: str) -> None:
    """Write it into the folder, and say so if that was another one's."""
    if _described(folder) not in ("", text):
        log.warning("%s holds a run of another description: what depends on it is made anew in its place.", folder)
    (folder / DESCRIPTION).write_text(text, encoding="utf-8", newline="")


def teacher_helps(config: Config) -> bool:
    """Whether the teacher helps to read the description and imagines cards: too much to ask of a small local model, and
    not worth the hours that a batch takes."""
    is_slow = config.teacher_options.get("batch", False)
    return not (is_slow or choose_teacher(config.teacher)[0].startswith("transformers:"))


class _Stop(Exception):
    """No further stage is wanted."""


@dataclass(frozen=True)
class _Building:
    folder: Path
    text: str
    config: Config
    listener: Listener
    until: str = ""
    """The stage after which it stops."""
    makes: bool = True
    """Whether it makes what cannot be read back, or stops there."""

    def run(self) -> None:
        config, seed = self.config, self.config.seed
        task = self._once(
            "parse",
            TaskSpec,
            lambda: parse(self.text, config.parse, teacher=self._helper()),
            (self.text, config.parse),
        )
        check_suits(*open_method(config.train.method, config.train.options), task)
        found = self._once(
            "retrieve",
            Found,
            lambda: retrieve(task, config.retrieve, teacher=self._helper()),
            (task, config.retrieve),
        )
        check_rows_will_do(config, (*task.examples, *found.examples))
        made = self._once(
            "generate",
            Made,
            lambda: self._write(task, found),
            (task, found.examples, config.generate, _teacher_key(config), seed, *self._looked_at),
        )
        rejected = [mark for mark in read_marks(self.folder / MARKS) if not mark.accepted]
        splits = self._once(
            "split",
            Splits,
            lambda: split(task, found, made, config.split, reading=config.retrieve, marks=rejected, seed=seed),
            (task, found.examples, made.explained, made.examples, config.split, seed, *self._columns, *rejected),
        )
        student = self._once(
            "train",
            Student,
            lambda: self._train(task, splits, found.base),
            given_to_train(task, splits, found.base, config),
        )
        measured = self._once(
            "evaluate",
            Report,
            lambda: evaluate(task, splits, student, config.evaluate, teacher=self._measured_teacher(), seed=seed),
            given_to_evaluate(task, splits, student, config),
        )
        made_of = (task, found, made, splits, student, measured, config.export)
        self._once("export", Artifact, lambda: export(*made_of, folder=self.folder / MODEL), made_of)

    @cached_property
    def teacher_name(self) -> str:
        return choose_teacher(self.config.teacher)[0]

    @cached_property
    def teacher(self) -> Teacher:
        """Opened when the first stage asks for it: a local one takes seconds to load."""
        config, book = self.config, book_of(self.folder)
        self.opened.append(
            open_teacher(self.teacher_name, options=config.teacher_options, budget_usd=config.budget_usd, book=book)
        )
        return self.opened[-1]

    @cached_property
    def opened(self) -> list[Teacher]:
        """The teacher, once a stage has asked for it."""
        return []

    def _helper(self) -> Teacher | None:
        return self.teacher if teacher_helps(self.config) else None

    def _write(self, task: TaskSpec, found: Found) -> Made:
        config = self.config.generate
        if not config.count and not config.rationales:  # then no teacher is looked for, which may be a download
            return Made(statement="Nothing was to be written.")
        if "logits" in needs_in_training(self.config):
            from prompt2model.stages.train import check_fits  # torch and transformers take seconds to import

            check_fits(self.config.train, found.base, self.teacher)
        given, file = dict(self._looked_at), self.config.split.test_data
        test = read_test(file, task, self.config.retrieve).examples if file else ()  # or an error, before it is dear
        if "train" in stages_until(self.until):
            weights.fetch(found.base)
        made = generate(
            *shown_to_teacher(task, found, self.config.split),
            config,
            teacher=self.teacher,
            test=test if "test" in given else (),
            marks=given.get("marks", ()),
            failures=self.folder / FAILURES,
            seed=self.config.seed,
        )
        earlier = accounts.of_stage(self.folder, "generate")  # of runs that were broken off
        data_report.write_page(self.folder, task, made, earlier + made.spent)
        return made

    @cached_property
    def _looked_at(self) -> tuple[tuple[str, Any], ...]:
        """What the filters that were named look at besides the rows: the writing depends on that, and on no more."""
        there: dict[str, Callable[[], Any]] = {
            "test": lambda: contents(self.config.split) | dict(enumerate(self._columns)),
            "marks": lambda: read_marks(self.folder / MARKS),
        }
        return tuple((what, there[what]()) for what in sorted(looked_at(self.config.generate.filters)))

    @property
    def _columns(self) -> tuple[str, ...]:
        """Those that are named for rows, where they are also those of a file to measure on."""
        names = self.config.retrieve.input_column, self.config.retrieve.output_column
        return names if self.config.split.test_data and names != ("auto", "auto") else ()

    def _measured_teacher(self) -> Teacher | None:
        return self.teacher if measures_teacher(self.config) else None

    def _train(self, task: TaskSpec, splits: Splits, base: str) -> Student:
        from prompt2model.stages.train import train  # torch and transformers take seconds to import

        config = self.config
        at_hand = self.opened[-1] if self.opened else None  # a method that asks nobody is told what it could ask
        teacher = self.teacher if needs_in_training(config) else at_hand
        return train(
            task, splits, base, config.train, folder=self.folder / "student", seed=config.seed, teacher=teacher
        )

    def _once(self, stage: str, record: Any, make: Callable[[], Any], depends_on: Sequence[Any]) -> Any:
        """The stage's record, made or read back, and told to the listener."""
        key = stage_key(stage, depends_on)
        if not self.makes and not store.is_made(self.folder, stage, record, depends_on=key):
            raise _Stop
        with accounts.accounted(self.folder, stage, self.opened):
            made = store.once(self.folder, stage, record, make, depends_on=key)
        self.listener(stage, made)
        if stage == self.until:
            raise _Stop
        return made


def needs_in_training(config: Config) -> tuple[str, ...]:
    """What the teacher must be able to do while the student trains."""
    method, options = open_method(config.train.method, config.train.options)
    found: tuple[str, ...] = method.needs(options)
    return found


def measures_teacher(config: Config) -> bool:
    """Whether the teacher is measured: it is wanted, and has a part in the run by its name, its rows or its help."""
    asked = (config.teacher != "auto", config.generate.count, config.generate.rationales, needs_in_training(config))
    return config.evaluate.teacher and any(asked)


def given_to_train(task: TaskSpec, splits: Splits, base: str, config: Config) -> tuple[Any, ...]:
    """What training depends on; on the teacher only where the method asks it."""
    teacher = _teacher_key(config) if needs_in_training(config) else ""
    return (task, splits, base, config.train, teacher, config.seed)


def given_to_evaluate(task: TaskSpec, splits: Splits, student: Student, config: Config) -> tuple[Any, ...]:
    """What the measurement depends on; on the teacher only where it is measured."""
    teacher = _teacher_key(config) if measures_teacher(config) else ""
    return (task, splits.test, student, config.evaluate, teacher, config.seed)


def _teacher_key(config: Config) -> str:
    return decided_by(config.teacher, config.teacher_options)


def stage_key(stage: str, depends_on: Sequence[Any]) -> Any:
    """Everything that a stage's record depends on: what the stage is given, files that its settings name, its
    templates, and our version."""
    written = [prompts.fingerprint(folder) for folder in TEMPLATES.get(stage, ())]
    files = [contents(one) for one in depends_on if isinstance(one, Settings)]
    return (version("prompt2model"), written, files, depends_on)


def _check_names(config: Config) -> None:
    """Every plug-in that is named exists: said before anything is run, written or paid for."""
    check_teacher(config.teacher, config.teacher_options)
    teacher, _ = choose_teacher(config.teacher)
    needs = needs_in_training(config)
    if "top_logprobs" in needs and not config.teacher_options.get("logprobs"):
        raise ConfigError(
            f"The method {config.train.method} learns from likelihoods that a server tells, and nobody said that "
            f"{teacher} does.",
            hint="--set teacher_options.logprobs=true; of a local teacher they are kept by train.options.source=top_k.",
        )
    for need in needs:
        if need in WHITE_BOX and need not in white_box_of(teacher):
            raise ConfigError(
                f"The method {config.train.method} needs a teacher that {ABILITIES[need]}; {teacher} does not.",
                hint=f"Take a local teacher (--teacher {' or '.join(with_ability(need))}), or {without(need)}.",
            )
    for family, asked in (
        ("strategies", config.generate.strategies),
        ("filters", config.generate.filters),
        ("metrics", (*config.evaluate.metrics, config.parse.metric)),
        ("exporters", config.export.formats),
    ):
        for name in asked:
            if name != "auto":
                registry.load(family, name.partition(":")[0])  # a strategy's weight may follow
