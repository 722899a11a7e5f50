"""Settings as a person reads them: one line each, or a TOML file to edit."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from prompt2model.config import Config, Settings


@dataclass(frozen=True)
class Setting:
    """One setting: its value, and what it is for."""

    key: str
    """As `--set` takes it: `stage.key`."""
    value: Any
    default: Any
    sentence: str


def settings(config: Config | None = None) -> list[Setting]:
    """Every setting, in the order of the stages; with the defaults when no configuration is given."""
    return list(_walk(config or Config(), ""))


def as_toml(config: Config | None = None) -> str:
    """The settings as a file that `--config` reads, each under the sentence that explains it."""
    blocks, stage = [], ""
    for one in settings(config):
        at, _, key = one.key.rpartition(".")
        if at != stage:
            blocks.append(f"[{at}]")
            stage = at
        changed = "" if one.value == one.default else f" (the default is {toml_value(one.default)})"
        blocks.append(f"# {one.sentence}{changed}\n{key} = {toml_value(one.value)}")
    return "\n\n".join(blocks) + "\n"


def _walk(values: Settings, prefix: str) -> Iterator[Setting]:
    """The settings of the run itself before those of its stages: in TOML a table has no end but the next one."""
    stages: list[tuple[str, Settings]] = []
    for name, value in values:
        if isinstance(value, Settings):
            stages.append((name, value))
        else:
            field = type(values).model_fields[name]
            default = field.get_default(call_default_factory=True)
            yield Setting(f"{prefix}{name}", value, default, field.description or "")
    for name, stage in stages:
        yield from _walk(stage, f"{prefix}{name}.")


def toml_value(value: Any) -> str:
    """A value as TOML writes it; its strings are JSON's, but for one character."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_value(str(key))} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
