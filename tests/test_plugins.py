"""Every plug-in keeps the contract of its family, as the docstring of the family's `__init__` states it.

A contract's entry is a line that begins with a name, and what follows it indented: `NEEDS  abilities …` is a fact,
`compute(predictions, references) -> float` a function. An entry that says "only where" may be missing.
"""

import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from pydantic import BaseModel

from prompt2model import registry
from prompt2model.records import Architecture, Kind
from prompt2model.student import LocalModel
from prompt2model.teacher import ABILITIES, WHITE_BOX

PLUGINS = [(family, name) for family in registry.FAMILIES for name in registry.names(family)]
ENTRY = re.compile(r"^ {4}(?=[A-Za-z_])", re.MULTILINE)
FUNCTION = re.compile(r"\b(\w+)\(((?:[^()]|\([^()]*\))*)\) *->")
PYPROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Contract:
    """What a family's plug-ins have: facts, and functions with the names of their parameters."""

    facts: frozenset[str]
    functions: dict[str, list[str]]
    optional: frozenset[str]


def contract(family: str) -> Contract:
    facts, functions, optional = set(), {}, set()
    entries = ENTRY.split(importlib.import_module(f"prompt2model.{family}").__doc__ or "")[1:]
    for entry in entries:
        entry = re.split(r"\n(?! )", entry)[0]
        found = {name: parameters(text) for name, text in FUNCTION.findall(entry)}
        functions |= found
        if not found:
            facts.add(entry.split()[0])
        if "only where" in entry:
            optional |= set(found)
    return Contract(frozenset(facts), functions, frozenset(optional))


def parameters(text: str) -> list[str]:
    """The names in `a: int, b, *, c=1`, those after a star left out: how they are called is the plug-in's affair."""
    positional = re.split(r",? *\*", re.sub(r"\([^()]*\)", "", text))[0]
    return [part.split(":")[0].strip() for part in re.split(r",(?![^\[]*\])", positional) if part.strip()]


def plugin(family: str, name: str) -> ModuleType:
    return registry.load(family, name)


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_a_family_has_plugins_and_a_contract(family):
    assert registry.names(family)
    assert contract(family).functions


@pytest.mark.parametrize(("family", "name"), PLUGINS)
def test_a_plugin_has_the_functions_of_its_contract(family, name):
    wanted = contract(family)
    for function, names in wanted.functions.items():
        found = getattr(plugin(family, name), function, None)
        if found is None and function in wanted.optional:
            continue
        assert callable(found), f"{family}/{name}.py has no {function}()"
        signature = inspect.signature(found).parameters.values()
        positional = [one.name for one in signature if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
        assert positional == names, function
        assert inspect.getdoc(found), f"{function}() says nothing about itself"
        required = [one.name for one in signature if one.kind is one.KEYWORD_ONLY and one.default is one.empty]
        assert required == [], "options need defaults"


@pytest.mark.parametrize(("family", "name"), PLUGINS)
def test_a_plugin_states_the_facts_of_its_contract(family, name):
    module = plugin(family, name)
    missing = [fact for fact in contract(family).facts if not hasattr(module, fact)]
    assert missing == []


@pytest.mark.parametrize(("family", "name"), PLUGINS)
def test_what_a_plugin_states_means_something(family, name):
    module = plugin(family, name)
    known = {
        "NEEDS": ABILITIES,
        "WHITE_BOX": WHITE_BOX,
        "KINDS": get_args(Kind),
        "ARCHITECTURES": get_args(Architecture),
    }
    for fact, words in known.items():
        stated = getattr(module, fact, ())
        assert isinstance(stated, tuple), fact
        assert set(stated) <= set(words), fact
    assert isinstance(getattr(module, "HIGHER_IS_BETTER", True), bool)
    extra = getattr(module, "EXTRA", None)
    assert extra is None or extra in PYPROJECT["project"]["optional-dependencies"]


def test_a_local_teacher_states_the_white_box_that_it_is():
    for name, model in (("transformers", LocalModel), ("vllm", plugin("teachers", "vllm").InProcess)):
        assert set(plugin("teachers", name).WHITE_BOX) == model.can & set(WHITE_BOX), name


@pytest.mark.parametrize(("family", "name"), [one for one in PLUGINS if "Options" in contract(one[0]).facts])
def test_options_have_defaults_and_refuse_unknown_names(family, name):
    options = plugin(family, name).Options
    assert issubclass(options, BaseModel)
    options()
    with pytest.raises(ValueError, match="no_such_option"):
        options(no_such_option=1)


@pytest.mark.parametrize(("family", "name"), PLUGINS)
def test_a_plugin_is_described_by_the_first_line_of_its_file(family, name):
    said = registry.describe(family, name)
    assert 10 < len(said) <= 120
    assert said[-1] in ".:", "one whole sentence on the first line"


def test_plugins_are_listed_and_described_without_being_imported():
    code = (
        "import sys; from prompt2model import registry\n"
        "for family in registry.FAMILIES:\n"
        "    for name in registry.names(family):\n"
        "        registry.describe(family, name)\n"
        "print([m for m in sys.modules if m.startswith(tuple(f'prompt2model.{f}' for f in registry.FAMILIES))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plugins_do_not_write_their_facts_into_a_list_elsewhere():
    """Their names stand in their files' names alone: a list by hand would be a second place to edit."""
    package = Path(registry.__file__).parent
    for family in ("methods", "strategies", "filters", "exporters"):
        init = (package / family / "__init__.py").read_text(encoding="utf-8")
        assert not [name for name in registry.names(family) if f'"{name}"' in init]
