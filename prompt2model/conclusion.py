"""Where a chain of thought ends and its answer begins: one phrase, for teachers, students and data."""

import re
from decimal import Decimal

from prompt2model.wording import folded

ANSWER_AFTER = "The answer is"
"""What a student that thinks aloud writes before its answer, and what teachers are asked to write."""


def concluded(thoughts: str, answer: str) -> str:
    """The thoughts, and the answer after them."""
    return f"{thoughts.strip()}\n{ANSWER_AFTER} {answer}".lstrip()


def answer_in(text: str, after: str = ANSWER_AFTER) -> str | None:
    """The answer that `concluded` put there; none where the text comes to no answer."""
    _, found, answer = text.rpartition(after)
    return answer.strip() or None if found else None


def conclusion(text: str, *, is_whole: bool = False) -> tuple[str, str] | None:
    """The thoughts and the answer of a text by whomever, as people and teachers write them; none without an answer.

    The answer is the line's rest, `bare`; or all that follows, where it `is_whole`.
    """
    *_, found = [None, *_CONCLUSION.finditer(text)]
    rest = text[found.end() :] if found else ""
    answer = rest.strip() if is_whole else bare(rest.strip(_AROUND).partition("\n")[0])
    return (text[: found.start()].strip(_AROUND), answer) if found and answer else None


def is_same_answer(answer: str, truth: str) -> bool:
    """Whether the answer is the truth, case and spaces aside; where the truth is a number, the answer's last number.

    The truth of a worked solution is what follows its last `####`, as in GSM8K, https://arxiv.org/abs/2110.14168.
    """
    final = bare(truth.rsplit("####", 1)[-1])
    if _NUMBER.fullmatch(final):
        return _last_number(answer) == _last_number(final)
    return folded(bare(answer)) == folded(final)


def numbers(text: str) -> list[Decimal]:
    """The numbers in the text, one after the other, without their signs of currency."""
    return [Decimal(re.sub(r"[$€£,%]", "", one)) for one in _NUMBER.findall(text)]


def bare(text: str) -> str:
    """The text without quotes, emphasis and a full stop around it."""
    return text.strip(_AROUND).removesuffix(".").strip(_AROUND)


def unwrapped(text: str) -> str:
    """The text without emphasis and quotes around all of it, nor emphasis that began or ends outside."""
    text = text.strip()
    if text.count("**") % 2:
        text = (text[2:] if text.startswith("**") else text.removesuffix("**")).strip()
    for begin, end in _MARKS.items():
        inner = text.removeprefix(begin).removesuffix(end)
        if len(inner) == len(text) - len(begin) - len(end) and begin not in inner and end not in inner:
            text = inner.strip()
    return text


_CONCLUSION = re.compile(
    r"(?:^|(?<=\s))(?:(?:so|thus|therefore|hence)\b,? )?[*_]*(?:the (?:final |correct |right )?answer is\b|####)"
    r"[*_]*\s*:?",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?%?", re.ASCII)
_MARKS = {"**": "**", '"': '"', "“": "”", "`": "`"}
_AROUND = " \t\r\n*_`\"'“”"


def _last_number(text: str) -> Decimal | None:
    found = numbers(text)
    return found[-1] if found else None
