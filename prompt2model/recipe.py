"""The recipe of a task's examples: which strategies write them and which filters sift them, and why."""

import logging
from collections.abc import Sequence
from types import ModuleType

from prompt2model.config import GenerateConfig
from prompt2model.errors import ConfigError
from prompt2model.records import TaskSpec
from prompt2model.registry import load
from prompt2model.teacher import Teacher, check_abilities

logger = logging.getLogger(__name__)


def plan(
    task: TaskSpec, config: GenerateConfig, teacher: Teacher
) -> tuple[dict[str, ModuleType], dict[str, ModuleType]]:
    """The strategies and the filters that will be used, by name.

    Raises ConfigError when one does not exist, is not for this kind of task, or needs more than the teacher can do.
    """
    strategies = _suited("strategies", _auto_strategies(config.strategies, task), task, teacher)
    filters = _suited("filters", _auto_filters(config.filters, task, teacher), task, teacher)
    if task.kind == "classification" and len(task.labels) < 2:
        raise ConfigError(
            f"A classification needs at least two labels; the task has {len(task.labels)}.",
            hint='Name them in the description, or: --set parse.labels=["first", "second"]',
        )
    return strategies, filters


def _auto_strategies(asked: tuple[str, ...], task: TaskSpec) -> tuple[str, ...]:
    if asked != ("auto",):
        return asked
    if task.kind == "classification":
        name, reason = "label_first", "the labels are known, and each gets its share"
    else:
        name, reason = "input_first", "an open question is answered best with a fresh mind"
    logger.info("Examples are written by the strategy %s: %s.", name, reason)
    return (name,)


def _auto_filters(asked: tuple[str, ...], task: TaskSpec, teacher: Teacher) -> tuple[str, ...]:
    if asked != ("auto",):
        return asked
    names, reason = ["format", "length", "duplicate"], "a second answer to each row would cost as much as the first"
    if task.kind == "classification" and "logprobs" in teacher.can:
        names, reason = [*names, "agreement"], "the teacher can say how likely each label is"
    logger.info("Examples are sifted by the filters %s: %s.", ", ".join(names), reason)
    return tuple(names)


def _suited(family: str, names: Sequence[str], task: TaskSpec, teacher: Teacher) -> dict[str, ModuleType]:
    modules = {name: load(family, name) for name in names}
    for name, module in modules.items():
        if task.kind not in module.KINDS:
            raise ConfigError(
                f"{name!r} in generate.{family} is for {' and '.join(module.KINDS)}; this task is a {task.kind}.",
                hint=f"--set generate.{family}=auto chooses what suits the task.",
            )
        check_abilities(teacher, module.NEEDS, f"{name!r} in generate.{family}")
    if not modules and family == "strategies":
        raise ConfigError("generate.strategies is empty.", hint="--set generate.count=0 writes nothing.")
    return modules
