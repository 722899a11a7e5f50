"""What the documentation says is what there is."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
import typer

import prompt2model
from prompt2model import registry
from prompt2model.cli import app, routed
from prompt2model.config import Config, Settings

HOME = Path(__file__).parents[1]
DOCS = HOME / "docs"
README = (HOME / "README.md").read_text(encoding="utf-8")
CODE = [
    line.strip()
    for block in re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    for line in block.split("\n")
]
CODE += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))
COMMAND_LINES = [code for code in CODE if code.startswith("prompt2model ") and "…" not in code]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_help_pages_are_what_help_and_plugins_print():
    help_page = load(DOCS / "make_help.py")
    assert help_page.PAGE.read_text(encoding="utf-8") == help_page.page(), "make docs"
    assert help_page.PLUGINS.read_text(encoding="utf-8") == help_page.plugins_page(), "make docs"


def test_readme_shows_commands():
    assert len(COMMAND_LINES) > 10


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_of_the_readme_is_one(line):
    name, *arguments = routed(shlex.split(line)[1:])
    command = typer.main.get_command(app).commands[name]
    command.make_parser(command.context_class(command)).parse_args(arguments)  # an unknown option raises


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--set '?([a-z_]+(?:\.[a-z_]+)+)", README)) - {"stage.key"}))
def test_a_setting_of_the_readme_is_one(name):
    settings: type[Settings] = Config
    for part in name.split("."):
        assert part in settings.model_fields
        settings = settings.model_fields[part].annotation
        if not (isinstance(settings, type) and issubclass(settings, Settings)):
            break


def test_names_and_methods_of_the_readme_are_those_that_there_are():
    assert set(re.findall(r"p2m\.([a-z_]+)", README)) <= set(prompt2model.__all__)
    assert set(re.findall(r"^\| `([a-z_]+)` \|", README, re.MULTILINE)) == set(registry.names("methods"))
