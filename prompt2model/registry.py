"""Plug-ins by name: a family is a folder, a plug-in is a file in it or an installed package's entry point.

Names are listed and described without importing any plug-in.
"""

import ast
import importlib
import importlib.util
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from prompt2model.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

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
        known = ", ".join(plugin.Options.model_fields) or "none"
        problem = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        name = plugin.__name__.rpartition(".")[2]
        raise ConfigError(f"{setting}: {problem}", hint=f"Options of {name}: {known}.") from error


def did_you_mean(wrong: str, known: list[str]) -> str:
    """A hint that names the nearest known words, or the first of all."""
    near = get_close_matches(wrong, known, n=3, cutoff=0.5)
    if near:
        return "Did you mean " + " or ".join(near) + "?"
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return "Known: " + ", ".join(known[:MOST_NAMED]) + more + "."


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
