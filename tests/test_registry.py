"""Plug-ins by name: our own and installed ones. What they contain is looked at in test_plugins."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prompt2model import registry
from prompt2model.errors import ConfigError

PLUGIN = '"""Counts the vowels."""\n\nKINDS = ("generation",)\nHIGHER_IS_BETTER = True\n'


def install(site: Path, *entries: str, package: str = "vowels") -> None:
    """Lay an installed package with these entry points into the folder `site`."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[prompt2model.metrics]\n" + "\n".join(entries) + "\n")
    (site / f"{package}.py").write_text(PLUGIN)


def ask(site: Path, code: str) -> dict[str, object]:
    """What a fresh Python that has `site` on its path prints as JSON."""
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    script = f"import json, sys\nfrom prompt2model import registry\nfrom prompt2model.errors import ConfigError\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_an_installed_plugin_is_found_described_and_loaded(tmp_path: Path):
    install(tmp_path, "vowels = vowels")
    told = ask(
        tmp_path,
        """
said = registry.describe("metrics", "vowels")
imported = "vowels" in sys.modules
module = registry.load("metrics", "vowels")
print(json.dumps({"listed": "vowels" in registry.names("metrics"), "said": said, "imported": imported,
                  "kinds": module.KINDS}))
""",
    )
    assert told == {"listed": True, "said": "Counts the vowels.", "imported": False, "kinds": ["generation"]}


@pytest.mark.parametrize("entries", [["accuracy = vowels"], ["vowels = vowels", "accuracy = vowels"]])
def test_an_installed_plugin_cannot_take_a_name_of_ours(tmp_path: Path, entries):
    install(tmp_path, *entries)
    told = ask(
        tmp_path,
        """
try:
    registry.load("metrics", "vowels")
except ConfigError as error:
    print(json.dumps({"message": error.message, "hint": error.hint}))
""",
    )
    assert told["message"] == "Two metrics are named 'accuracy'; one is vowels."
    assert told["hint"]


def test_two_packages_cannot_take_the_same_name(tmp_path: Path):
    install(tmp_path, "vowels = vowels")
    install(tmp_path, "vowels = others", package="others")
    told = ask(
        tmp_path,
        """
try:
    registry.names("metrics")
except ConfigError as error:
    print(json.dumps(error.message))
""",
    )
    assert str(told).startswith("Two metrics are named 'vowels'")


@pytest.mark.parametrize("module", ["nowhere", "nowhere.at.all"])
def test_an_entry_point_to_nothing_is_said(tmp_path: Path, module):
    install(tmp_path, f"vowels = {module}")
    told = ask(
        tmp_path,
        """
try:
    registry.describe("metrics", "vowels")
except ConfigError as error:
    print(json.dumps(error.message))
""",
    )
    assert f"names the module {module}, which is not installed" in str(told)


@pytest.mark.parametrize("find", [registry.load, registry.describe])
def test_an_unknown_name_is_answered_with_the_nearest(find):
    with pytest.raises(ConfigError, match="There is no metric named 'acuracy'") as caught:
        find("metrics", "acuracy")
    assert caught.value.hint == "Did you mean accuracy?"


def test_a_name_like_none_is_answered_with_all():
    with pytest.raises(ConfigError) as caught:
        registry.load("exporters", "qqqq")
    assert caught.value.hint == "Known: " + ", ".join(registry.names("exporters")) + "."


@pytest.mark.parametrize(
    ("family", "singular"), [("strategies", "strategy"), ("metrics", "metric"), ("teachers", "teacher")]
)
def test_a_family_has_a_singular(family, singular):
    with pytest.raises(ConfigError, match=f"no {singular} named"):
        registry.load(family, "qqqq")


@pytest.mark.parametrize("name", ["__init__", "../config", "accuracy.py", ""])
def test_only_a_plugin_can_be_loaded(name):
    with pytest.raises(ConfigError):
        registry.load("metrics", name)


class Temperature(BaseModel):
    """Options of a plug-in that nobody has."""

    model_config = ConfigDict(extra="forbid")

    low: float = Field(0.0, ge=0)
    high: float = 1.0

    @model_validator(mode="after")
    def _differ(self) -> "Temperature":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hihg": 2}, "There is no option generate.options.heat.hihg. Did you mean high?"),
        ({"colour": 2}, "There is no option generate.options.heat.colour."),
        ({"low": -1}, "generate.options.heat.low is -1: it should be greater than or equal to 0."),
        ({"low": 3}, "generate.options.heat: low is above high."),
        (
            {"hihg": 2, "low": "x"},
            "generate.options.heat.low is 'x': it should be a valid number, unable to parse string as a number. "
            "There is no option generate.options.heat.hihg. Did you mean high?",
        ),
    ],
)
def test_an_option_that_cannot_be_used_is_said_with_its_value_and_the_rule(values, said):
    heat = ModuleType("somewhere.heat")
    heat.Options = Temperature
    with pytest.raises(ConfigError) as caught:
        registry.read_options(heat, values, "generate.options.heat")
    assert (caught.value.message, caught.value.hint) == (said, "Options of heat: low, high.")


def test_a_hint_names_some_of_many_words():
    hint = registry.did_you_mean("xyz", [f"word{number}" for number in range(300)])
    assert hint.startswith("Known: word0, word1, ")
    assert hint.endswith("word19 and 280 more.")
