"""Writes docs/help.md: what `--help` prints for every command. A test holds the file to it."""

import os
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

COLUMNS = "110"
PAGE = Path(__file__).with_name("help.md")
BEGINNING = """\
# Commands

What `prompt2model --help` and `prompt2model COMMAND --help` print, in that order. This page is written by `make docs`.
"""


def page() -> str:
    """The page as it should be."""
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
