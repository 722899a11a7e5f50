"""The recipe of a task's examples: which strategies write them and which filters sift them, and why."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from prompt2model import registry
from prompt2model.config import GenerateConfig
from prompt2model.errors import ConfigError
from prompt2model.records import TaskSpec
from prompt2model.registry import did_you_mean, load, read_options
from prompt2model.teacher import Teacher, check_abilities

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """A strategy, with its own options and its share of the rows."""

    name: str
    module: ModuleType
    weight: float
    options: Any


def plan(task: TaskSpec, config: GenerateConfig, teacher: Teacher) -> tuple[list[Share], dict[str, ModuleType]]:
    """The strategies and the filters that will be used.

    Raises ConfigError when one does not exist, is not for this kind of task, or needs more than the teacher can do, and
    when an option is not one of the strategy's or filter's.
    """
    weights = _weights(_auto_strategies(config.strategies, task))
    strategies = _suited("strategies", list(weights), task, teacher)
    filters = _suited("filters", _auto_filters(config.filters, task, teacher), task, teacher)
    if task.kind == "classification" and len(task.labels) < 2:
        raise ConfigError(
            f"A classification needs at least two labels; the task has {len(task.labels)}.",
            hint='Name them in the description, or: --set parse.labels=["first", "second"]',
        )
    able = strategies | {name: module for name, module in filters.items() if hasattr(module, "Options")}
    _check_options_are_used(config, list(able))
    options = {
        name: read_options(module, config.options.get(name, {}), f"generate.options.{name}")
        for name, module in able.items()
    }
    return [Share(name, module, weights[name], options[name]) for name, module in strategies.items()], filters


def _auto_strategies(asked: tuple[str, ...], task: TaskSpec) -> tuple[str, ...]:
    if asked != ("auto",):
        return asked
    if task.kind == "classification":
        name, reason = "label_first", "the labels are known, and each gets its share"
    else:
        name, reason = "input_first", "an open question is answered best with a fresh mind"
    logger.info("Examples are written by the strategy %s: %s.", name, reason)
    return (name,)


def _weights(asked: Sequence[str]) -> dict[str, float]:
    """Each strategy's weight, as in `label_first:2`; 1 where none is written."""
    weights: dict[str, float] = {}
    for entry in asked:
        name, colon, weight = entry.partition(":")
        weights[name] = weights.get(name, 0.0) + (_weight(entry, weight) if colon else 1.0)
    if not weights:
        raise ConfigError("generate.strategies is empty.", hint="--set generate.count=0 writes nothing.")
    return weights


def _weight(entry: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise ConfigError(
            f"{entry!r} in generate.strategies has no weight above 0.",
            hint='Write it as NAME or NAME:WEIGHT: ["label_first:2", "topic_guided:1"]',
        )
    return weight


def _check_options_are_used(config: GenerateConfig, used: list[str]) -> None:
    for name in config.options:
        if name not in used:
            raise ConfigError(
                f"generate.options.{name} is set, and no strategy or filter that is used has options of that name.",
                hint=_how_to_use(name, used),
            )


def _how_to_use(name: str, used: list[str]) -> str:
    family = next((family for family in ("strategies", "filters") if name in registry.names(family)), "")
    if not family or name in used:
        return did_you_mean(name, used)
    if not hasattr(load(family, name), "Options"):
        return f"{name} has no options."
    return f"Name it among generate.{family}, or leave its options out."


def _auto_filters(asked: tuple[str, ...], task: TaskSpec, teacher: Teacher) -> tuple[str, ...]:
    if asked != ("auto",):
        return asked
    names, reason = ["format", "duplicate"], "a second answer to each row would cost as much as the first"
    if task.kind == "classification" and "logprobs" in teacher.can:
        names, reason = [*names, "relabel"], "the teacher can say how likely each label is"
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
    return modules
