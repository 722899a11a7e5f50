"""Templates: every text a model or a person reads, rendered strictly.

The folder is `templates/` beside the package in a checkout or an editable install, and `prompt2model/templates` in
an installed wheel. A template starts with a comment that describes each of its variables, a line each:

    {# What the template is for.
    instruction: what the user wants done.
    #}
"""

import hashlib
import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prompt2model.conversation import Message
from prompt2model.wording import one_line


def render(name: str, **variables: Any) -> str:
    """The template's text. Raises jinja2.UndefinedError when a variable that it names is missing."""
    return _rendered(name, variables).replace(_ESCAPED, _MARK)


def messages(name: str, **variables: Any) -> tuple[Message, ...]:
    """The template as a conversation: lines `=== system`, `=== user` and `=== assistant` begin a message each."""
    parts: list[tuple[str, list[str]]] = []
    for line in _rendered(name, variables).split("\n"):
        if line.startswith(_MARK):
            parts.append((line.removeprefix(_MARK).strip(), []))
        elif parts:
            parts[-1][1].append(line.replace(_ESCAPED, _MARK))
    return tuple(Message.model_validate({"role": role, "content": "\n".join(lines).strip()}) for role, lines in parts)


def fingerprint(folder: str) -> str:
    """A digest of all templates in a folder: a stage whose prompts changed has to run again."""
    digest = hashlib.sha256()
    for path in sorted((templates() / folder).rglob("*.j2")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def templates() -> Path:
    """The folder of the templates."""
    package = Path(__file__).parent
    installed, checkout = package / "templates", package.parent / "templates"
    return installed if installed.is_dir() else checkout


_MARK, _ESCAPED = "=== ", "\0=== "


def _rendered(name: str, variables: dict[str, Any]) -> str:
    """The template's text, in which a variable's `=== ` is escaped: data cannot begin a message."""
    return _environment(escaped=name.endswith(".html.j2")).get_template(name).render(**variables).strip()


@cache
def _environment(escaped: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(templates()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=escaped,  # noqa: S701 - prompts are plain text; pages are escaped
        finalize=None if escaped else _escape_mark,
    )
    environment.filters["fence"] = fence
    environment.filters["cell"] = cell
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False, default=str)
    return environment


def _escape_mark(value: Any) -> Any:
    return value.replace(_MARK, _ESCAPED) if isinstance(value, str) else value


def fence(text: str) -> str:
    """The text between backticks, more of them than it contains, so that data cannot pose as instructions."""
    ticks = "`" * 3
    while ticks in text:
        ticks += "`"
    return f"{ticks}\n{text}\n{ticks}"


def cell(text: str) -> str:
    """The text as one cell of a Markdown table or one line of Markdown: it shows as it is and formats nothing."""
    return re.sub(r"([\\`*_{}\[\]|~#])", r"\\\1", html.escape(one_line(text), quote=False))
