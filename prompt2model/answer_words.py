"""The answers that an instruction puts into the mouth: `Answer yes or no`, `output 1 if …, otherwise 0`."""

import re
from itertools import islice

from prompt2model.asks import names_sorting, sentences
from prompt2model.choices import EXAMPLES_AHEAD, QUOTED, QUOTED_LIST, WORD, are_labels, bare, split_list
from prompt2model.vocabulary import any_of

MAX_VERBS = 5
"""Of a sentence, behind which answers are looked for."""

_ANSWER = re.compile(any_of("asks", "answer"), re.IGNORECASE)
_ONE_WORD = r"(?:in\s+)?(?:one|a single)\s+word(?=\s*[:：])"
_WITH = rf"\s*(?:(?:{any_of('lists', 'with')}|{_ONE_WORD}|:)\s*)*"
_WORD_IN_CASE = rf"({WORD})"
_FIRST_CASE = re.compile(rf"{_WITH}{_WORD_IN_CASE},?\s+(?:if|for|when)\b", re.IGNORECASE)
_LAST_CASE = rf",?\s+(?:{any_of('asks', 'answer')}\s+)?{_WORD_IN_CASE}[.\s]*\Z"
_CASE = re.compile(
    rf"{_WORD_IN_CASE},?\s+(?:(?:if|for|when|in case|wenn|falls|für|si|para|pour)\b|otherwise\b(?!{_LAST_CASE}))", re.I
)
_ELSE_CASE = re.compile(rf"\b(?:else|otherwise|sonst|sinon|si no|altrimenti){_LAST_CASE}", re.IGNORECASE)
LENGTH = r"\b(?:one|two|three|\d+)\s+(?:short\s+)?(?:word|phrase|sentence|line|paragraph|number)s?\b"
OPEN_QUESTION = re.compile(r"(?<!whether )(?<!if )\b(?:what|how|why|who|which)\b(?! of the)[^.]*\?", re.IGNORECASE)


def answers(text: str) -> list[str]:
    """`Answer yes or no`, `Respond with "a" or "b"`, `Output 1 for spam and 0 for ham`."""
    for sentence in sentences(text):
        if OPEN_QUESTION.search(sentence):
            continue
        for verb in islice(_ANSWER.finditer(sentence), MAX_VERBS):
            after = sentence[verb.end() :]
            for labels in (_quoted_after(after), _cases(after), _plain_after(after)):
                if len(labels) > 1:
                    return labels
    return []


def _quoted_after(text: str) -> list[str]:
    """Quoted texts, the first of them right behind the verb."""
    is_first = re.match(rf"{_WITH}(?={QUOTED})", text, re.IGNORECASE)
    return [bare(item) for item in re.findall(QUOTED, text)] if is_first else []


def _cases(text: str) -> list[str]:
    """`1 for spam, 0 for ham`; `true if there is an error and false otherwise`; `1 if it is spam, else 0`."""
    found = [bare(match[1]) for pattern in (_CASE, _ELSE_CASE) for match in pattern.finditer(text)]
    return found if _FIRST_CASE.match(text) and are_labels(found) else []


def _plain_after(text: str) -> list[str]:
    """A list of one or two words each; an article begins a description, not a label."""
    after = re.sub(rf"\A{_WITH}", "", text, flags=re.IGNORECASE)
    items = [] if re.match(rf"(?:the|an?|your|its)\s|{LENGTH}", after) else split_list(after, choice=True)
    return items if are_labels(items, max_words=2) else []


_SET_WORD = rf"({QUOTED}|(?<![\w.-])(?:yes|no|true|false|\d)(?![\w-]))"
_SAYS_IT = (
    r"(?:[,\s]|\b(?:it|should|must|be|is|the|your|a|answer|output|label|generate|write|say|return|mark|as|with|respond|reply"
    r"|choose|print|give|we|will|them?|pair|sentence)\b)*"
)
_OTHERWISE = re.compile(
    rf"{_SET_WORD}[^\n]{{0,200}}?\b(?:otherwise|else)\b{_SAYS_IT}{_SET_WORD}(?=\s*(?:\Z|[.;\n]))", re.IGNORECASE
)


def one_or_otherwise(text: str) -> list[str]:
    """`the output should be Yes …; otherwise, it should be No.`, also where it takes two sentences to say it."""
    cases = _OTHERWISE.search(text)
    return [bare(cases[1]), bare(cases[2])] if cases else []


_OR_QUOTED = re.compile(rf"{any_of('lists', 'or')}\s*{QUOTED}", re.IGNORECASE)


def quoted_list(text: str) -> list[str]:
    """`by 'a', 'b', or 'c'`; two that are joined by "and" may be anything."""
    for found in QUOTED_LIST.finditer(text) if names_sorting(text) else ():
        items = [bare(item) for item in re.findall(QUOTED, found[0])]
        is_choice = len(items) > 2 or _OR_QUOTED.search(found[0])
        if is_choice and not EXAMPLES_AHEAD.search(text[: found.start()]):
            return items
    return []


_MEANS = re.compile(rf"{_WORD_IN_CASE}\s+(?:means|stands for|denotes|represents|indicates)\b", re.IGNORECASE)


def meanings(text: str) -> list[str]:
    """`1 means spam, 0 means ham`."""
    items = [bare(match[1]) for match in _MEANS.finditer(text)]
    return items if are_labels(items, max_words=1) else []


_ONE_OF = re.compile(r"\b(?:as|is|are|be|with|from) one of:?\s+(?!the\b|these\b|them\b)", re.IGNORECASE)
_LABELLED = re.compile(r"\b(?:label|tag|mark|grade|annotate|rate|score)\s+(?:[\w-]+\s+){0,4}?with\s+", re.IGNORECASE)


def one_of(text: str) -> list[str]:
    """`as one of A1, A2, B1`."""
    return _behind(_ONE_OF, text)


def labelled_with(text: str) -> list[str]:
    """`Grade the essay with A, B or C`."""
    return _behind(_LABELLED, text)


def _behind(lead: re.Pattern[str], text: str) -> list[str]:
    found = lead.search(text)
    items = split_list(text[found.end() :], choice=True) if found else []
    return items if are_labels(items, max_words=3) else []
