"""Where a chain of thought ends and its answer begins: one phrase, for teachers, students and data."""

import re
from decimal import Decimal

ANSWER_AFTER = "The answer is"
"""What a student that thinks aloud writes before its answer, and what teachers are asked to write."""


def concluded(thoughts: str, answer: str) -> str:
    """The thoughts, and the answer after them."""
    return f"{thoughts.strip()}\n{ANSWER_AFTER} {answer}".lstrip()


def answer_in(text: str, after: str = ANSWER_AFTER) -> str | None:
    """The answer that `concluded` put there; none where the text comes to no answer."""
    _, found, answer = text.rpartition(after)
    return answer.strip() or None if found else None


def conclusion(text: str) -> tuple[str, str] | None:
    """The thoughts and the answer of a text by whomever, as people and teachers write them; none without an answer."""
    *_, found = [None, *_CONCLUSION.finditer(text)]
    answer = bare(text[found.end() :].partition("\n")[0]) if found else ""
    return (text[: found.start()].strip(_AROUND), answer) if found and answer else None


def is_same_answer(answer: str, truth: str) -> bool:
    """Whether the answer is the truth, case and spaces aside; where the truth is a number, the answer's last number.

    The truth of a worked solution is what follows its last `####`, as in GSM8K, https://arxiv.org/abs/2110.14168.
    """
    final = bare(truth.rsplit("####", 1)[-1])
    if _NUMBER.fullmatch(final):
        return _last_number(answer) == _last_number(final)
    return _folded(answer) == _folded(final)


def bare(text: str) -> str:
    """The text without quotes, emphasis and a full stop around it."""
    return text.strip(_AROUND).removesuffix(".").strip(_AROUND)


_CONCLUSION = re.compile(
    r"(?:^|(?<=\s))(?:(?:so|thus|therefore|hence)\b,? )?[*_]*(?:the (?:final |correct |right )?answer is\b|####)"
    r"[:\s*_]*",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-+]?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?%?", re.ASCII)
_AROUND = " \t\r\n*_`\"'“”"


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _last_number(text: str) -> Decimal | None:
    found = _NUMBER.findall(text)
    return Decimal(re.sub(r"[$€£,%]", "", found[-1])) if found else None
