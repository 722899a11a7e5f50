"""What a task's outputs look like, and by which metric they are best judged."""

import json
import re
from collections.abc import Sequence

from prompt2model.records import Kind
from prompt2model.registry import names

SHOWN_LABELS = 12

_NAMES = {
    "accuracy": "accuracy",
    "f1": "f1", "f-1": "f1", "f1-score": "f1", "macro-f1": "f1", "macro f1": "f1",
    "rouge": "rouge_l", "rouge-l": "rouge_l", "rouge l": "rouge_l", "rougel": "rouge_l", "rouge_l": "rouge_l",
    "chrf": "chrf", "chrf++": "chrf",
    "exact match": "exact_match", "exact-match": "exact_match", "exact_match": "exact_match", "em": "exact_match",
}  # fmt: skip
_WORDS = "|".join(re.escape(name) for name in sorted(_NAMES, key=len, reverse=True))
_JUDGED = re.compile(
    rf"\b(?:scored|measured|evaluated|judged|graded|metric|metrics|evaluation|scoring|score|optimi[sz]e|maximi[sz]e)\b"
    rf"[^.\n]{{0,40}}?(?<![\w-])({_WORDS}|bleu|meteor|bertscore|wer)(?![\w+-])",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"\b(?:python|javascript|typescript|java|sql|bash|shell command|regex|regular expression"
    r"|c\+\+|c#|rust|golang|code|html|css"
    r"|quer(?:y|ies) (?:in|for) \w*sql|latex|yaml|function|program|script|one-liner)\b",
    re.IGNORECASE,
)
_TRANSLATES = re.compile(
    r"\b(?:translat\w*|übersetz\w*|traduc\w*|traduz\w*|tradui\w*|transliterat\w*|перевед\w*|dịch)\b|翻译|翻訳|번역",
    re.IGNORECASE,
)
_MAKES = re.compile(
    r"\b(?:write|generate|convert|produce|create|turn|translate|complete|give|output|return|implement)\b", re.IGNORECASE
)
_NUMBER = re.compile(r"[-+$€£]?\d[\d,. /:-]*%?")
_FINAL = re.compile(r"^[ \t]*####[ \t]*\S", re.MULTILINE)
_AMOUNT = re.compile(
    r"\b(?:in |into |of |to |write |generate |give |output |return |with )?"
    r"((?:one|a single|exactly one|at most one|two|three|four|five|[1-5])[ -]"
    r"(?:lines?|sentences?|words?|paragraphs?|bullet points?)(?: of [A-Z]\w+)?)\b"
)


def named_metric(instruction: str) -> str:
    """The metric that the instruction names (as it writes it where we have none of that name), or ""."""
    found = _JUDGED.search(instruction)
    return _NAMES.get(found[1].lower(), found[1]) if found else ""


def metric_named(name: str) -> str:
    """Our name of a metric, or "" where there is none."""
    known = _NAMES.get(name.strip().lower(), name.strip().lower())
    return known if known in names("metrics") else ""


def usual_metric(kind: Kind, instruction: str, outputs: Sequence[str]) -> str:
    """What a person would judge such outputs by."""
    if kind == "classification":
        return "accuracy"
    if outputs and all(_FINAL.search(output) or _is_short_form(output) for output in outputs):
        return "exact_match"
    if not outputs and re.search(r"final (?:answer|number)[^.\n]{0,20}####", instruction):
        return "exact_match"
    if _TRANSLATES.search(instruction) or is_code(instruction):
        return "chrf"
    return "rouge_l"


def is_code(instruction: str) -> bool:
    """Whether the outputs are code."""
    return bool(_CODE.search(instruction) and _MAKES.search(instruction))


def form_of(labels: Sequence[str], instruction: str, outputs: Sequence[str]) -> str:
    """What an output looks like, in a few words."""
    if labels:
        more = ", …" if len(labels) > SHOWN_LABELS else ""
        count = f"one of {len(labels)} labels" if more else "one of"
        return f"{count}: {', '.join(labels[:SHOWN_LABELS])}{more}"
    amount = _AMOUNT.search(instruction)
    if outputs:
        return _form_of_examples(outputs) if not amount else amount[1]
    if amount:
        return amount[1]
    return "code" if is_code(instruction) else "text"


def _form_of_examples(outputs: Sequence[str]) -> str:
    tests = (
        ('text that ends in a line "#### answer"', lambda text: bool(_FINAL.search(text))),
        ("a number", lambda text: bool(_NUMBER.fullmatch(text))),
        ("JSON", _is_json),
        ("one word", lambda text: len(text.split()) == 1),
        ("a few words", lambda text: len(text.split()) <= 4),
        ("one line of text", lambda text: "\n" not in text),
    )
    return next((form for form, fits in tests if all(fits(output) for output in outputs)), "several lines of text")


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (json.JSONDecodeError, RecursionError):
        return False


def _is_short_form(text: str) -> bool:
    """A number, a date, a code, a single word: right or wrong, nothing between."""
    return bool(_NUMBER.fullmatch(text)) or (len(text.split()) == 1 and len(text) <= 20 and "(" not in text)
