"""What a run would do: stage by stage, how many requests, tokens, minutes and dollars. Loads no model, pays nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

from prompt2model import recipe
from prompt2model.answers import most_tokens
from prompt2model.config import Config
from prompt2model.ledger import BATCH, billed_as, price, price_line
from prompt2model.methods import check_suits, open_method, trainings
from prompt2model.pace import waits
from prompt2model.pipeline import STAGES, measures_teacher, read_back, teacher_helps
from prompt2model.plans import Plan, Step
from prompt2model.questions import answer_request, question
from prompt2model.records import Found, Made, Record, Splits, TaskSpec
from prompt2model.rehearsal import (
    BYTES_PER_TOKEN,
    Imagined,
    Work,
    imagine,
    mean_tokens,
    rehearse_rationales,
    rehearse_training,
    rehearse_writing,
    work,
)
from prompt2model.rows import is_on_hub, read_test
from prompt2model.speed import measure, parameters
from prompt2model.stages.generate import round_sizes
from prompt2model.stages.parse import parse
from prompt2model.stages.retrieve import CARD_TOKENS, retrieve
from prompt2model.stages.split import shown_to_teacher
from prompt2model.student import LocalModel
from prompt2model.teachers import choose_teacher

TURN_TOKENS = 12
"""Of the student's own prompt around an input."""
REQUEST_SECONDS = 2.0
"""For one request to a server, however many it has at once."""
LOADING_SECONDS = 8.0
"""For reading a model and making it ready, each time a stage needs one."""
IN_PROCESS = ("transformers", "vllm")
AT_HOME = ("127.0.0.1", "localhost", "::1")


def plan(text: str, config: Config, folder: Path, *, wanted: Sequence[str] = STAGES, asks_hub: bool = True) -> Plan:
    """What `build` would do with the description's text, in the stages that are wanted. Files of rows are read; nothing
    is downloaded. Without the Hub another base may be named, which changes no price.

    Raises what `build` would raise before its first request: ConfigError, TaskError, DataError, TeacherError.
    """
    kept = read_back(text, folder, config)
    planning = _Planning(text, config, folder, _imagined(config), kept, asks_hub)
    stages = (
        planning.parsing,
        planning.retrieving,
        planning.writing,
        planning.splitting,
        planning.training,
        planning.evaluating,
        planning.exporting,
    )
    steps = [stage() for stage in stages]  # in this order: each counts what it is the first to ask
    name, reason = choose_teacher(config.teacher)
    return Plan(
        folder=folder,
        teacher=name,
        teacher_reason=reason,
        price=price_line(billed_as(name, config.teacher_options)),
        is_paid=is_paid(name),
        is_price_known=price(name) is not None,
        base=planning.found.base,
        base_reason=planning.found.base_reason,
        precision=measure().precision,
        steps=tuple(step for step in steps if step.stage in wanted),
        assumed=planning.assumed,
        budget_usd=config.budget_usd,
    )


def plan_again(
    stage: Literal["train", "evaluate"], task: TaskSpec, found: Found, splits: Splits, config: Config
) -> Step:
    """What training a student on a run's rows once more, or measuring it, would take."""
    kept: dict[str, Record] = {"parse": task, "retrieve": found, "split": splits}
    teacher = _imagined(config)
    planning = _Planning("", config, Path(), teacher, kept)
    return planning.training() if stage == "train" else planning.evaluating()


def _imagined(config: Config) -> Imagined:
    return imagine(choose_teacher(config.teacher)[0], config.teacher_options, config.budget_usd)


def is_paid(teacher: str) -> bool:
    """Whether a teacher, by its full name, may cost money: its price is not zero, or not known and it is elsewhere."""
    known = price(teacher)
    if known is not None:
        return bool(known.input or known.output)
    return urlsplit(teacher).hostname not in AT_HOME


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())


@dataclass(frozen=True)
class _Planning:
    text: str
    config: Config
    folder: Path
    teacher: Imagined
    kept: dict[str, Record]
    """What earlier calls left and this one would read back."""
    asks_hub: bool = False

    # What is known, or can be told without a model

    @cached_property
    def task(self) -> TaskSpec:
        if "parse" in self.kept:
            return cast(TaskSpec, self.kept["parse"])
        return parse(self.text, self.config.parse, teacher=self.helper)

    @cached_property
    def found(self) -> Found:
        if "retrieve" in self.kept:
            return cast(Found, self.kept["retrieve"])
        here = tuple(source for source in self.config.retrieve.data if not is_on_hub(source))
        hub = self.config.retrieve.hub if self.asks_hub else "off"
        config = self.config.retrieve.model_copy(update={"data": here, "hub": hub})
        return retrieve(self.task, config, teacher=self.helper)

    @property
    def helper(self) -> Imagined | None:
        return self.teacher if teacher_helps(self.config) else None

    @cached_property
    def sides(self) -> tuple[int, int, int]:
        """How many rows there will be to learn from, to choose the checkpoint by, and to measure on."""
        if "split" in self.kept:
            splits = cast(Splits, self.kept["split"])
            return len(splits.train), len(splits.validation), len(splits.test)
        total, config = self._given() + self._made(), self.config.split
        validation = min(round(config.validation * total), config.max_validation)
        test = self._test_rows() if config.test_data else min(round(config.test * total), config.max_test)
        return total - validation - (0 if config.test_data else test), validation, test

    def _given(self) -> int:
        away = sum(is_on_hub(source) for source in self.config.retrieve.data)
        return len(self.task.examples) + len(self.found.examples) + away * self.config.retrieve.max_rows

    def _made(self) -> int:
        if "generate" in self.kept:
            return len(cast(Made, self.kept["generate"]).examples)
        return self.config.generate.count

    def _test_rows(self) -> int:
        source = self.config.split.test_data
        if is_on_hub(source):
            return self.config.retrieve.max_rows
        return len(read_test(source, self.task, self.config.retrieve).examples)

    @cached_property
    def row_tokens(self) -> int:
        """Tokens of a row as the student learns it."""
        known = (*self.task.examples, *self.found.examples[:100])
        inputs, outputs = [row.input for row in known], [row.output for row in known] or list(self.task.labels)
        return mean_tokens(inputs) + mean_tokens(outputs) + TURN_TOKENS

    # The stages

    def parsing(self) -> Step:
        self.teacher.asked.clear()
        check_suits(*open_method(self.config.train.method, self.config.train.options), self.task)
        return self._taught("parse", "reads the description", self._helping())

    def retrieving(self) -> Step:
        self.teacher.asked.clear()
        found = self.found
        read = [f"{source} ({columns})" for source, columns in found.columns.items()]
        rows = f"; reads {len(found.examples)} rows of {', '.join(read)}" if read else ""
        rows += f" without {sum(found.dropped.values())}: {_reasons(found.dropped)}" if found.dropped else ""
        return self._taught("retrieve", f"starts from {found.base}{rows}{self._download()}", self._helping())

    def _download(self) -> str:
        """What of the Hub would be read, in words."""
        away, most = [one for one in self.config.retrieve.data if is_on_hub(one)], self.config.retrieve.max_rows
        return f"; downloads up to {most} rows of {', '.join(away)} on the Hub" if away else ""

    def writing(self) -> Step:
        config = self.config.generate
        if "generate" in self.kept or not (config.count or config.rationales):
            return self._taught("generate", "writes nothing", Work())
        strategies, filters = recipe.plan(self.task, config, self.teacher)
        how = f"by {', '.join(one.name for one in strategies)}, sifted by {', '.join(filters) or 'nothing'}"
        task, found = shown_to_teacher(self.task, self.found, self.config.split)
        needed = rehearse_writing(task, found, config, self.teacher)
        needed += rehearse_rationales(task, self._given() + config.count, config, self.teacher)
        writes = f"keeps {config.count} rows of what the teacher writes {how}" if config.count else "writes no row"
        thinks = ", and thinks aloud about each" if config.rationales else ""
        return self._taught("generate", f"{writes}{thinks}", needed)

    def splitting(self) -> Step:
        train, validation, test = self.sides
        return self._step("split", f"about {train} rows to learn from, {validation} to choose by, {test} to measure on")

    def training(self) -> Step:
        (rows, held_out, _), config = self.sides, self.config.train
        epochs, row_tokens = sum(one.epochs for one in trainings(config)), min(self.row_tokens, config.max_length)
        tokens = round(rows * epochs * row_tokens)
        checked = round(held_out * epochs * config.validations_per_epoch * row_tokens)
        size, speed = parameters(self.found.base), measure()
        seconds = LOADING_SECONDS + tokens / speed.learning(size) + checked / speed.reading(size)
        how = f"LoRA of rank {config.lora_rank}" if config.lora_rank else "all weights"
        asked = rehearse_training(self.task, rows, held_out, self.row_tokens, config, self.teacher)
        return self._taught("train", f"{config.method}, {epochs:g} epochs, {how}", asked, tokens, seconds)

    def evaluating(self) -> Step:
        config, base = self.config.evaluate, self.found.base
        rows = min(self.sides[2], config.max_rows)
        by_base, by_teacher = self._answering(rows, LocalModel.can), self._answering(rows, self.teacher.can)
        seconds = 2 * LOADING_SECONDS + self._local_seconds(base, by_base)
        seconds += rows * self.row_tokens / measure().reading(parameters(base))
        is_another = self.teacher.name not in (base, f"transformers:{base}")
        teaches = measures_teacher(self.config) and is_another
        who = "student, base and teacher" if teaches else "student and base"
        tokens = by_base.tokens_in + by_base.tokens_out + rows * self.row_tokens
        asked = by_teacher if teaches else Work()
        return self._taught("evaluate", f"{who} on {rows} rows", asked, tokens, seconds)

    def exporting(self) -> Step:
        return self._step("export", f"writes {', '.join(self.config.export.formats)} to {self.folder / 'model'}")

    # What they take

    def _answering(self, rows: int, can: frozenset[str]) -> Work:
        """What asking somebody about so many rows of the usual length takes."""
        asked = question(self.task, "x" * BYTES_PER_TOKEN * self.row_tokens, self.task.examples, can=can)
        longest = self.config.train.max_length // 2  # of a row no more than half is the answer
        most = self.config.evaluate.max_new_tokens or most_tokens(self.task, longest)
        request = answer_request(self.task, asked, can=can, max_tokens=most)
        return work([request] * rows, self.teacher.name, self.row_tokens)

    def _helping(self) -> Work:
        """What the teacher was just asked, to understand the task."""
        return work(self.teacher.asked, self.teacher.name, CARD_TOKENS)

    def _step(self, stage: str, does: str, tokens: float = 0, seconds: float = 0) -> Step:
        if stage in self.kept:
            return Step(stage=stage, does="read back: nothing has changed", is_kept=True)
        return Step(stage=stage, does=does, tokens=round(tokens), minutes=seconds / 60)

    def _taught(self, stage: str, does: str, needed: Work, tokens: float = 0, seconds: float = 0) -> Step:
        """A step in which the teacher does the work, beside what other models do with so many tokens."""
        step = self._step(stage, does, tokens + needed.tokens, seconds + self._teacher_seconds(needed))
        if step.is_kept:
            return step
        return step.model_copy(
            update={
                "teacher_tokens": round(needed.tokens),
                "requests": round(needed.requests),
                "most_requests": round(needed.most_requests),
                "usd": needed.usd,
                "most_usd": needed.most_usd,
            }
        )

    def _teacher_seconds(self, needed: Work) -> float:
        kind, _, model = self.teacher.name.partition(":")
        if kind in IN_PROCESS and needed.requests:
            return LOADING_SECONDS + self._local_seconds(model, needed)
        if self.teacher.is_local or self._is_batched:
            return 0.0
        amounts = {"requests": needed.requests, "tokens": needed.tokens}
        at_these_rates = [60 * amounts[what] / rate for what, rate in self._per_minute.items()]
        return max([REQUEST_SECONDS * waits(needed.requests, self._most_at_once), *at_these_rates])

    @property
    def assumed(self) -> str:
        """What is reckoned with where a server or vLLM teaches."""
        if self.teacher.is_local:
            is_faster = self.teacher.name.startswith("vllm:")
            return "vLLM is reckoned with as if it were transformers, and is faster" if is_faster else ""
        if self._is_batched:
            return "a batch takes up to a day, which is not counted"
        rates = [f", {rate:g} {what} a minute" for what, rate in self._per_minute.items()]
        return f"a request takes {REQUEST_SECONDS:g} seconds, up to {self._most_at_once} at once{''.join(rates)}"

    @property
    def _is_batched(self) -> bool:
        return self.teacher.name.endswith(BATCH)

    @property
    def _per_minute(self) -> dict[str, float]:
        """The rates that were set."""
        rates = {what: self.config.teacher_options.get(f"{what}_per_minute", 0) for what in ("requests", "tokens")}
        return {what: float(rate) for what, rate in rates.items() if rate}

    @property
    def _most_at_once(self) -> int:
        """Requests that there are for a server at the same time, or that it is to be asked."""
        _, size = round_sizes(self.config.generate, is_local=self.teacher.is_local)
        return min(size, int(self.config.teacher_options.get("concurrency", size)))

    def _local_seconds(self, model: str, needed: Work) -> float:
        size, speed = parameters(model), measure()
        return needed.tokens_in / speed.reading(size) + needed.tokens_out / speed.writing(size)
