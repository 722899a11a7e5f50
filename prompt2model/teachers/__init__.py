"""Teachers, one file each. A plug-in here is a module with

    Options    a pydantic model of its settings (`--set teacher_options.KEY=VALUE`)
    DECIDING   a tuple of those that decide what it answers; the others say how fast, or at what price
    WHITE_BOX  a tuple of those in `teacher.WHITE_BOX` that it has, known before it is connected
    connect(model: str, **options) -> Teacher      raises TeacherError when it cannot be had

`open_teacher` finds the plug-in by the name that `--teacher` takes, and wraps it in the response cache and the ledger.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, cast

from pydantic import ValidationError

from prompt2model import registry
from prompt2model.cache import Cached
from prompt2model.errors import ConfigError
from prompt2model.home import home
from prompt2model.ledger import FREE, Metered, price
from prompt2model.teacher import Teacher
from prompt2model.weights import DEFAULT_MODEL

OPENAI_MODEL = "gpt-5-mini"
"""The model that is taken when there is a key and no name."""


def open_teacher(
    name: str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    budget_usd: float = 0.0,
    cache: Path | None = None,
    book: Path | None = None,
) -> Cached:
    """The teacher of that name (see `choose_teacher`), with a cache before it and a ledger that keeps the budget.

    `options` are the plug-in's own. `cache` is the file of kept replies, by default one in the user's folder. `book` is
    a file that remembers what a run has spent, so that its budget holds over interruptions. Raises ConfigError for a
    name, an option or a budget that cannot be used, TeacherError when the teacher cannot be had.
    """
    resolved, _ = choose_teacher(name)
    check_teacher(resolved, options)
    teacher = _connect(resolved, options)
    cost = FREE if teacher.is_local else price(teacher.name)
    metered = Metered(teacher, price=cost, budget_usd=budget_usd, book=book)
    return Cached(metered, cache or home() / "replies.sqlite")


def choose_teacher(name: str) -> tuple[str, str]:
    """The teacher's full name, and why it is that one, in one line. Connects to nothing."""
    if name != "auto":
        return name, "as asked"
    if address := os.environ.get("OPENAI_BASE_URL", "").strip():
        return address, "OPENAI_BASE_URL is set; its only model is taken"
    if os.environ.get("OPENAI_API_KEY", "").strip():
        return f"openai:{OPENAI_MODEL}", "OPENAI_API_KEY is set"
    return (
        f"transformers:{DEFAULT_MODEL}",
        "no key and no server is set (OPENAI_API_KEY, OPENAI_BASE_URL); this one is local",
    )


def check_teacher(name: str, options: Mapping[str, Any] = MappingProxyType({})) -> None:
    """Raises ConfigError for a name that no teacher can have, or for options that it has not. Connects to nothing."""
    plugin, _ = _plugin(choose_teacher(name)[0])
    try:
        plugin.Options(**options)
    except ValidationError as error:
        known = list(plugin.Options.model_fields)
        problems = registry.explained(error, known, within="teacher_options")
        raise ConfigError(problems, hint=f"Options of this teacher: {', '.join(known)}.") from error


def decided_by(name: str, options: Mapping[str, Any]) -> str:
    """What decides the teacher's answers: its full name, and with it such options as are not the usual ones."""
    resolved, _ = choose_teacher(name)
    plugin, _ = _plugin(resolved)
    chosen, usual = plugin.Options(**options), plugin.Options()
    unusual = [one for one in plugin.DECIDING if getattr(chosen, one) != getattr(usual, one)]
    return " ".join([resolved, *(f"{one}={getattr(chosen, one)}" for one in unusual)])


def white_box_of(name: str) -> tuple[str, ...]:
    """Which abilities of a white box the teacher of that name has. Connects to nothing."""
    found: tuple[str, ...] = _plugin(choose_teacher(name)[0])[0].WHITE_BOX
    return found


def with_ability(ability: str) -> list[str]:
    """The teachers that have an ability of a white box, as `--teacher` takes them. Connects to none."""
    kinds = registry.names("teachers")
    return [f"{kind}:MODEL" for kind in kinds if ability in registry.load("teachers", kind).WHITE_BOX]


def _connect(name: str, options: Mapping[str, Any]) -> Teacher:
    plugin, model = _plugin(name)
    if name.startswith(("http:", "https:")):
        return cast(Teacher, plugin.connect(model, url=name.partition("#")[0], **options))
    return cast(Teacher, plugin.connect(model, **options))


def _plugin(name: str) -> tuple[ModuleType, str]:
    """The plug-in that knows the teacher, and the model's name."""
    kind, colon, model = name.partition(":")
    if kind in ("http", "https"):
        plugin = registry.load("teachers", "openai")
        plugin.check_address(name)
        return plugin, name.partition("#")[2]
    if re.match(r"\d{1,5}(/|#|$)", model) and kind not in registry.names("teachers"):
        raise ConfigError(f"{name!r} does not name a teacher.", hint=f"Did you mean http://{name}?")
    if not colon or not model:
        raise ConfigError(f"{name!r} does not name a teacher.", hint=_how_to_write(name))
    return registry.load("teachers", kind), model


def _how_to_write(name: str) -> str:
    kinds = registry.names("teachers")
    if name.rstrip(":") in kinds:
        return f"Say which one: {name.rstrip(':')}:…"
    if "/" in name:
        return f"Did you mean transformers:{name}?"
    return "Write it as KIND:NAME, http://host/v1#MODEL, or auto. Kinds: " + ", ".join(kinds) + "."
