"""Writes docs/help.md, what `--help` prints for every command, and docs/plugins.md. A test holds the files to it."""

import os
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from prompt2model import registry
from prompt2model.plugin_facts import Facts, facts
from prompt2model.settings import toml_value

COLUMNS = "110"
PAGE = Path(__file__).with_name("help.md")
BEGINNING = """\
# Commands

What `prompt2model --help` and `prompt2model COMMAND --help` print, in that order. This page is written by `make docs`.
"""


PLUGINS = Path(__file__).with_name("plugins.md")
PLUGINS_BEGINNING = """\
# Plug-ins

What `prompt2model plugins NAME` shows of each: what it is for, and its options as `--set` takes them. This page is
written by `make docs`. How one is added stands in CONTRIBUTING.md.
"""


def plugins_page() -> str:
    """The page of plug-ins as it should be."""
    blocks = [PLUGINS_BEGINNING]
    for family in registry.FAMILIES:
        found = [one for name in registry.names(family) for one in facts(name) if one.family == family]
        blocks += [f"## {family}\n", *map(_plugin, found)]
    return "\n".join(blocks)


def _plugin(one: Facts) -> str:
    """One of them."""
    lines = [f"### {one.name}", "", one.text, ""]
    if one.kinds:
        lines += [f"For tasks of {' and '.join(one.kinds)}.", ""]
    if one.needs:
        lines += [f"The teacher must be able to give: {', '.join(one.needs)}.", ""]
    if one.options:
        rows = [f"| `{option.key}` | {_default(option.default)} | {_cell(option.sentence)} |" for option in one.options]
        lines += ["| setting | default | what it is |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _default(value: object) -> str:
    return "none" if value in (None, "", ()) else _cell(toml_value(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    """The page of commands as it should be."""
    from prompt2model.cli import COMMANDS

    blocks = [_block("prompt2model", _help())]
    blocks += [_block(f"prompt2model {command}", _help(command)) for command in COMMANDS]
    return "\n".join([BEGINNING, *blocks])


def _help(*command: str) -> str:
    """What is printed, without colours and without spaces at the ends of lines."""
    from prompt2model.cli import run

    printed = StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        with redirect_stdout(printed):
            run([*command, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({"COLUMNS": before} if before else {})
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
    return "\n".join(line.rstrip() for line in plain.strip("\n").splitlines()).strip()


def _block(title: str, text: str) -> str:
    return f"## {title}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    PLUGINS.write_text(plugins_page(), encoding="utf-8")
