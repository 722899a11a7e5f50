"""Distillation methods, one file each. A plug-in here is a module with

    ARCHITECTURES    of students it can train: ("decoder", "encoder-decoder")
    Options          a pydantic model of the method's own settings
    needs(options) -> tuple[str, ...]         abilities that the teacher must have in training: () for none, ("text",)
                                              to be asked beforehand, ("logits",) for a white box
    rows(examples, course) -> list[Lesson]    what the student is trained on, tokenised: one lesson for each example,
                                              an empty one where the example is of no use
    loss(model, batch, course) -> Tensor      (), the weighted sum over the batch's counted tokens, in nats; rows of the
                                              validation lack the signals that rollouts add
    suits(task, options) -> None              only where the method does not fit every task: raises ConfigError then
    fetch(options) -> None                    only where something must be had from elsewhere: it is fetched before the
                                              first training
    lives_on(options) -> str                  only where rows without something are of no use: "rationale"
    questions(examples, course) -> list[Request]     only where the teacher is asked in words beforehand: what it is
                                              asked about the examples. A plan counts them: its course has no codec
    prepare(examples, course) -> Prepared     only where the teacher adds something to the examples beforehand, or some
                                              are sorted out
    labels_by_teacher(options) -> bool        only where the labels learned may be a teacher's, whatever the rows have
    taught_by_base(options) -> bool           only where the base itself, as it is before the training, may be the
                                              teacher; then `needs` is ()
    block(options) -> Block                   only where lessons are made anew while the student learns, with:
    rollouts(student, lessons, course, seeds) -> list[Lesson]    only where the method is on policy: one lesson for
                                              each, an empty one where there is nothing to learn; a seed for each
                                              lesson, the same in however many processes
    hindsight(student, learned, course) -> list[Lesson]    only where what the lessons of a block did to the student is
                                              a lesson too: it comes with the next block's
    answer_after(options) -> str              only where the student writes something before its answer: what it then
                                              writes, and the answer after that
    shares(options) -> dict[str, float]       only where the loss has parts, by the names of `Row.part`: their shares
    rate(options) -> float                    only where the usual learning rate is wrong: what it is multiplied by
    warm_up(options) -> dict[str, Any]        only where another training comes first: the settings in which it differs
                                              from this one; {} for none
    equip(model, course) -> None              only where modules are added to the student, as `model.equipment`, that
                                              train with it and are not kept

The loop weighs each token by its part's share over the part's tokens in the whole optimiser step, in all micro-batches
and processes.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from prompt2model import registry
from prompt2model.config import Config, TrainConfig
from prompt2model.errors import ConfigError
from prompt2model.method_choice import PLAIN
from prompt2model.records import Example, TaskSpec


def open_method(name: str, options: dict[str, Any]) -> tuple[ModuleType, Any]:
    """The plug-in and its options; for `auto`, before the rows are there, the plain one.

    Raises ConfigError for a method or option that does not exist, or a wrong value.
    """
    method = registry.load("methods", PLAIN if name == "auto" else name)
    return method, registry.read_options(method, options, "train.options")


def check_suits(method: ModuleType, options: Any, task: TaskSpec) -> None:
    """Raises ConfigError when the method cannot learn such a task."""
    if hasattr(method, "suits"):
        method.suits(task, options)


def check_rows_will_do(config: Config, rows: Sequence[Example]) -> None:
    """Raises ConfigError when the method lives on rationales, no row has one, and nobody is going to write them."""
    method, options = open_method(config.train.method, config.train.options)
    lives_on_them = hasattr(method, "lives_on") and method.lives_on(options) == "rationale"
    will_be_written = bool(config.generate.rationales) or config.generate.strategies != ("auto",)
    if lives_on_them and not will_be_written and not any(row.rationale for row in rows):
        raise ConfigError(
            f"The method {config.train.method} learns from rationales, and no row has one.",
            hint="Let the teacher think aloud (--set generate.rationales=3), or give rows with a column of rationales.",
        )


def plainly(epochs: float) -> dict[str, Any]:
    """The settings of a plain fine-tuning that comes first, the best kept by the validation loss; {} for no epochs."""
    return {"method": PLAIN, "options": {}, "epochs": epochs, "best_by": "loss"} if epochs else {}


def trainings(config: TrainConfig) -> list[TrainConfig]:
    """The trainings that come first, and the one itself."""
    method, options = open_method(config.method, config.options)
    differs = method.warm_up(options) if hasattr(method, "warm_up") else {}
    return [*(trainings(config.model_copy(update=differs)) if differs else ()), config]


def without(ability: str) -> str:
    """How a student is trained by a teacher that lacks an ability of a white box, to read."""
    return {
        "logits": f"a method for texts: {without_white_box()}",
        "beams": "one beam: --set train.options.beams=1",
        "likelihood": "the answer nearest to the given one: --set train.options.best_of=given",
    }[ability]


def without_white_box() -> str:
    """The methods that learn from texts, as a list to read."""
    methods = {name: registry.load("methods", name) for name in registry.names("methods")}
    return ", ".join(name for name, method in methods.items() if "logits" not in method.needs(method.Options()))
