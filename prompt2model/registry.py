"""Plug-ins by name: a family is a folder, a plug-in is a file in it or an installed package's entry point.

Names are listed and described without importing any plug-in.
"""

import ast
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prompt2model.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic_core import ErrorDetails

MOST_NAMED = 20
"""Known words in a hint."""
FAMILIES = ("teachers", "methods", "strategies", "filters", "metrics", "exporters")


def names(family: str) -> list[str]:
    """The sorted names of a family's plug-ins, our own and installed ones. Imports none of them."""
    return sorted({*_files(family), *_entry_points(family)})


def load(family: str, name: str) -> ModuleType:
    """The plug-in's module. Raises ConfigError, with near names, when there is none of that name."""
    if name in _files(family):
        return importlib.import_module(f"prompt2model.{family}.{name}")
    if name in _entry_points(family):
        module: ModuleType = _entry_points(family)[name].load()
        return module
    raise _unknown(family, name)


def describe(family: str, name: str) -> str:
    """The first line of the plug-in's docstring, read without importing it. Raises ConfigError as `load` does."""
    if name not in names(family):
        raise _unknown(family, name)
    path = _files(family).get(name) or _origin(_entry_points(family)[name])
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.splitlines()[0] if text else ""


def read_options(plugin: ModuleType, values: Mapping[str, Any], setting: str) -> Any:
    """The plug-in's `Options` with these values. Raises ConfigError that names the setting and what there is."""
    try:
        return plugin.Options(**values)
    except ValidationError as error:
        known = list(plugin.Options.model_fields)
        name = plugin.__name__.rpartition(".")[2]
        hint = f"Options of {name}: {', '.join(known) or 'none'}."
        raise ConfigError(explained(error, known, within=setting), hint=hint) from error


def explained(error: ValidationError, known: Sequence[str], *, within: str = "") -> str:
    """What is wrong with values that stand `within` a setting, a sentence for each mistake (see `mistake`)."""
    return " ".join(mistake(one, known, within=within) for one in error.errors())


def mistake(one: "ErrorDetails", known: Sequence[str] = (), *, within: str = "") -> str:
    """One mistake as a person reads it: the value and the rule, or the nearest of the `known` names for a wrong one."""
    where = ".".join(filter(None, (within, *map(str, one["loc"]))))
    if one["type"] == "extra_forbidden":
        return f"There is no option {where}. {_near(str(one['loc'][-1]), known)}".rstrip()
    if one["type"] == "missing":
        return f"{where} is missing."
    rule = one["msg"].removeprefix("Value error, ")
    if one["type"] == "value_error" and isinstance(one["input"], Mapping):  # a rule for several values together
        return f"{where}: {rule}." if where else f"{rule}."
    rule = rule[0].lower() + rule[1:]
    for theirs, ours in (("input should be", "it should be"), ("a valid tuple", "a list of texts")):
        rule = rule.replace(theirs, ours)
    return f"{where} is {one['input']!r}: {rule}."


def did_you_mean(wrong: str, known: Sequence[str]) -> str:
    """A hint that names the nearest known words, or the first of all."""
    if near := _near(wrong, known):
        return near
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return "Known: " + ", ".join(known[:MOST_NAMED]) + more + "."


def _near(wrong: str, known: Sequence[str]) -> str:
    near = get_close_matches(wrong, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _unknown(family: str, name: str) -> ConfigError:
    return ConfigError(f"There is no {_singular(family)} named {name!r}.", hint=did_you_mean(name, names(family)))


def _singular(family: str) -> str:
    return family.removesuffix("ies") + "y" if family.endswith("ies") else family.removesuffix("s")


@cache
def _files(family: str) -> dict[str, Path]:
    folder = Path(__file__).parent / family
    return {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith("_")}


@cache
def _entry_points(family: str) -> "dict[str, EntryPoint]":
    """Installed plug-ins. One that takes a name of ours is refused: a silent override would be a trap."""
    from importlib.metadata import entry_points  # 20 ms that only those pay who use a plug-in

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"prompt2model.{family}"):
        if point.name in found or point.name in _files(family):
            raise ConfigError(
                f"Two {family} are named {point.name!r}; one is {point.value}.",
                hint="Uninstall one of the packages, or rename its entry point.",
            )
        found[point.name] = point
    return found


def _origin(point: "EntryPoint") -> Path:
    try:
        spec = importlib.util.find_spec(point.module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"The plug-in {point.name!r} names the module {point.module}, which is not installed.",
            hint="Reinstall the package that it came with.",
        )
    return Path(spec.origin)
