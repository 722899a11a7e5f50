"""Examples as data amid the text: arrays and long objects of JSON, lists of YAML between fences."""

import json
import re
from collections import Counter
from typing import Any

import yaml

from prompt2model.pairs import Read, check_complete, pair_of

MAX_BROKEN = 20
"""After how many pieces that are not JSON no more is looked for."""

_JSON = re.compile(r"^[ \t]*(?=\[\s*\{|\{\s*\")", re.MULTILINE)
_YAML = re.compile(r"^[ \t]*```ya?ml[ \t]*\n((?:(?![ \t]*```).*\n)+)[ \t]*```[ \t]*$", re.MULTILINE)
_KEY = re.compile(r"^[ \t>*#-]*(?:input|output)\b[ \t\d*]*[:：]", re.MULTILINE | re.IGNORECASE)

_Span = tuple[int, int, list[Any]]
"""Where the data begins and ends in the text, and its rows."""


def read_data(text: str) -> Read:
    """Rows with an input and an output, by these very names, and not below such a key: others may be an output's form.

    Raises TaskError for half an example beside a whole one.
    """
    spans = _yaml_spans(text) or _json_spans(text)
    if not spans or _KEY.search(text, 0, spans[0][0]):
        return [], text, Counter()
    ends = [0, *(end for _, end, _ in spans)]
    starts = [*(start for start, _, _ in spans), len(text)]
    rows = [row for _, _, found in spans for row in found]
    pairs = check_complete(pair_of(row, number) for number, row in enumerate(rows, start=1))
    return pairs, "".join(text[end:start] for end, start in zip(ends, starts, strict=True)), Counter()


def _json_spans(text: str) -> list[_Span]:
    """Arrays, and objects over several lines; an object on one line is left to the reader of lines."""
    spans: list[_Span] = []
    end, broken = 0, 0
    for opening in _JSON.finditer(text):
        if opening.start() < end or broken > MAX_BROKEN:
            continue
        try:
            value, end = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode(text, opening.end())
        except (json.JSONDecodeError, RecursionError):
            broken += 1
            continue
        rows = value if isinstance(value, list) else [value] if "\n" in text[opening.end() : end] else []
        spans.extend([(opening.start(), end, rows)] if _are_examples(rows) else [])
    return spans


def _yaml_spans(text: str) -> list[_Span]:
    """Fences around a list of examples, which may stand below the one key `examples`."""
    spans: list[_Span] = []
    for fence in _YAML.finditer(text):
        try:
            value = yaml.load(fence[1], Loader=yaml.BaseLoader)  # noqa: S506 - makes strings, lists and mappings
        except (yaml.YAMLError, RecursionError):
            continue
        rows = value["examples"] if isinstance(value, dict) and list(value) == ["examples"] else value
        if isinstance(rows, list) and _are_examples(rows):
            spans.append((fence.start(), fence.end(), rows))
    return spans


def _are_examples(rows: list[Any]) -> bool:
    """Whether every row names a half, and one of them both."""
    keys = [{str(key).strip().lower() for key in row} if isinstance(row, dict) else set() for row in rows]
    halves = [names & {"input", "output"} for names in keys]
    return all(halves) and any(len(both) == 2 for both in halves)
