"""What a plug-in says of itself: its text, what it is for, what it needs, its options as `--set` takes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from inspect import getdoc
from types import ModuleType

from pydantic import BaseModel

from prompt2model import registry
from prompt2model.errors import ConfigError
from prompt2model.settings import Setting

SETTINGS = {
    "teachers": "teacher_options.{option}",
    "methods": "train.options.{option}",
    "strategies": "generate.options.{name}.{option}",
    "filters": "generate.options.{name}.{option}",
}
"""How the option of a plug-in of the family is set."""


@dataclass(frozen=True)
class Facts:
    """Of one plug-in."""

    family: str
    name: str
    text: str
    """What stands at the head of its file."""
    kinds: tuple[str, ...]
    """The kinds of task that it is for; () for all."""
    needs: tuple[str, ...]
    """What the teacher must be able to do."""
    options: tuple[Setting, ...]


def facts(name: str) -> list[Facts]:
    """Of all plug-ins of that name, one of a family; imports them. Raises ConfigError where there is none."""
    families = [family for family in registry.FAMILIES if name in registry.names(family)]
    if not families:
        known = sorted({one for family in registry.FAMILIES for one in registry.names(family)})
        raise ConfigError(f"There is no plug-in named {name!r}.", hint=registry.did_you_mean(name, known))
    return [_facts(family, name, registry.load(family, name)) for family in families]


def _facts(family: str, name: str, module: ModuleType) -> Facts:
    return Facts(
        family=family,
        name=name,
        text=getdoc(module) or "",
        kinds=getattr(module, "KINDS", ()),
        needs=getattr(module, "NEEDS", ()),
        options=tuple(_options(family, name, getattr(module, "Options", BaseModel))),
    )


def _options(family: str, name: str, options: type[BaseModel]) -> Iterator[Setting]:
    for option, field in options.model_fields.items():
        default = field.get_default(call_default_factory=True)
        key = SETTINGS[family].format(name=name, option=option)
        yield Setting(key, default, default, field.description or "")
