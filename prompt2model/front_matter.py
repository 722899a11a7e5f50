"""What a description declares: YAML or JSON front matter, or a description that is all YAML or JSON."""

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml

from prompt2model.errors import TaskError
from prompt2model.pairs import Pair, check_complete, pair_of, shortened, text_of
from prompt2model.registry import did_you_mean

KEYS = ("instruction", "examples", "labels", "metric", "language", "kind")
KINDS = ("classification", "generation")
_ALL_YAML = re.compile(r"(?:instruction|examples)[ \t]*:.*?^examples[ \t]*:[ \t]*$", re.DOTALL | re.MULTILINE)
_MEANT_AS_JSON = re.compile(rf"[{{\[][\s{{]*\"(?:{'|'.join((*KEYS, 'input', 'output'))})\"\s*:")
_FENCED = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Declared:
    """What the front matter says; an empty field says nothing."""

    instruction: str = ""
    pairs: tuple[Pair, ...] = ()
    labels: tuple[str, ...] = ()
    metric: str = ""
    language: str = ""
    kind: str = ""
    notes: tuple[str, ...] = ()


def read_front_matter(text: str) -> tuple[Declared, str]:
    """What is declared, and the text after it. Raises TaskError when it is there and cannot be read."""
    bare = text.lstrip()
    fenced = _FENCED.match(bare)
    values = _yaml(fenced[1]) if fenced else None
    if fenced and isinstance(values, dict):
        return _declared(values), bare[fenced.end() :]
    if bare.startswith(("{", "[")):
        return _leading_json(bare)
    if _ALL_YAML.match(bare):
        return _declared(_yaml(bare)), ""
    return Declared(), text


def _leading_json(text: str) -> tuple[Declared, str]:
    """The JSON object (or list of examples) that the text begins with; other text in brackets is prose."""
    try:
        values, end = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if not _MEANT_AS_JSON.match(text):
            return Declared(), text
        raise TaskError(f"The description is not JSON: {error}.", hint="Check it with a JSON validator.") from error
    if isinstance(values, list) and values and all(isinstance(row, dict) for row in values):
        values = {"examples": values}
    if not isinstance(values, dict) or not set(values) & set(KEYS):
        return Declared(), text
    return _declared(values), text[end:]


def _yaml(text: str) -> Any:
    """The YAML value, every scalar the string that is written: `yes` is a label, not True."""
    try:
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes strings, lists and mappings, nothing else
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it cannot be read"
    except RecursionError:
        problem = "it is nested too deeply"
    raise TaskError(
        f"The front matter is not YAML: {problem}.",
        hint='Put values with a colon or a quote between quotes: input: "a: b"',
    )


def _declared(values: dict[Any, Any]) -> Declared:
    fields = {str(key).strip().lower(): value for key, value in values.items()}
    kind = text_of(fields.get("kind")).lower()
    if kind and kind not in KINDS:
        raise TaskError(f"kind is {kind!r}.", hint="It is classification or generation.")
    return Declared(
        instruction=text_of(fields.get("instruction")),
        pairs=tuple(check_complete(_pairs(fields.get("examples")))),
        labels=_labels(fields.get("labels")),
        metric=text_of(fields.get("metric")),
        language=text_of(fields.get("language")),
        kind=kind,
        notes=tuple(_unused(key) for key in fields if key not in KEYS),
    )


def _unused(key: str) -> str:
    """A note on a key that means nothing here. Raises TaskError when it is a misspelt one of ours."""
    hint = did_you_mean(key, list(KEYS))
    if hint.startswith("Did you mean"):
        raise TaskError(f"The front matter has a key {key!r}.", hint=hint)
    return f"The front matter's {key!r} was not used."


def _labels(value: Any) -> tuple[str, ...]:
    """A list, a mapping of labels to explanations, or a text with commas."""
    if isinstance(value, dict | list):
        return tuple(text_of(item) for item in value)
    return tuple(part.strip() for part in text_of(value).split(",") if part.strip())


def _pairs(value: Any) -> list[Pair]:
    if value in (None, ""):
        return []
    if isinstance(value, dict):
        return [Pair(text_of(given), text_of(wanted)) for given, wanted in value.items()]
    if not isinstance(value, list):
        raise TaskError(f"examples is {shortened(text_of(value))!r}.", hint="It is a list of {input: …, output: …}.")
    return [pair_of(row, number) for number, row in enumerate(value, start=1)]
