"""The closed set of answers that an instruction names, if it names one.

Every label stands in the text; only the numbers of a scale are filled in. An instruction to write, translate or explain
has none, unless it calls something labels.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, takewhile

from prompt2model.answer_guesses import lists, whatever
from prompt2model.answer_words import (
    LENGTH,
    OPEN_QUESTION,
    answers,
    labelled_with,
    meanings,
    one_of,
    one_or_otherwise,
    quoted_list,
)
from prompt2model.asks import first_words, is_open, is_writing, names_sorting, sentences
from prompt2model.choices import CHAIN, MAX_PLACES, OR, QUOTED, SPANISH_OR, are_labels, bare, head, split_list
from prompt2model.pairs import ARROW
from prompt2model.vocabulary import any_of

MAX_LABELS = 500
MAX_STEPS = 20
"""Of a scale."""
MAX_CHARACTERS = 20_000
"""How far into the description labels are looked for."""


def find_labels(instruction: str) -> tuple[str, ...]:
    """The labels in the text's order; none where it names no closed set of answers."""
    return next(label_sets(instruction), ())


def label_sets(instruction: str) -> Iterator[tuple[str, ...]]:
    """The sets of answers that the text names, the surest first."""
    text = _plain(instruction)
    yield from () if is_open(text) else _sets(reader(text) for reader in _readers(text))


def possible_sets(instruction: str, *, outputs: int) -> Iterator[tuple[str, ...]]:
    """The sets that it may name: worth nothing unless examples with so many different outputs bear them out.

    One output may well stand in an instruction that asks for a text; in one that does not, it may be one of a list.
    """
    text = _plain(instruction)
    if is_open(text) or (outputs < 2 and is_writing(text)):
        return
    yield from _sets(lists(text))
    if outputs > 1:
        yield from _sets(chain((reader(text) for reader in _SURE), whatever(text)))


def _plain(instruction: str) -> str:
    return re.sub(r"[^\S\n]{2,}", " ", instruction[:MAX_CHARACTERS])


def _sets(read: Iterable[list[str]]) -> Iterator[tuple[str, ...]]:
    return (labels for labels in map(_distinct, read) if 2 <= len(labels) <= MAX_LABELS)


_SAYS = re.compile(
    r"answer|(?:generate|write|produce|give|return|print)(?: either| (?:the |a )?(?:label|word|answer))? [\"“'`]", re.I
)


def _readers(text: str) -> tuple[Callable[[str], list[str]], ...]:
    """The surest first. A question to be answered, or `Write "a" or "b"`, may have set answers; a text has none."""
    if not is_writing(text):
        return _SURE
    return (answers, one_or_otherwise, _listed) if _SAYS.match(first_words(text)) else (_listed,)


def _distinct(items: Iterable[str]) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    for item in filter(None, items):
        kept.setdefault(item.casefold(), item)
    return tuple(kept.values())


# Rate from 1 to 5

_RATE = re.compile(any_of("asks", "rate"), re.IGNORECASE)
_COUNTED = r"(?:words?|sentences?|letters?|characters?|lines?|paragraphs?|%|percent|years?|items?|features?|\d)"
_SCALE = re.compile(
    r"(?<![\d$€£])(?<!\d[.,])\b(?P<low>\d{1,2})\s*(?:-|–|—|to|and|through|bis|a|à|до|到|至|から)\s*(?P<high>\d{1,2})\b"
    rf"(?![.,]\d|\s*{_COUNTED})",
    re.IGNORECASE,
)


def _scale(text: str) -> list[str]:
    """`Rate from 1 to 5`, `on a scale of 0-10`, `from 1 (worst) to 10 (best)`, `Output 1 - 4`."""
    for sentence in sentences(re.sub(r"(?<=\d) \([^)\n]*\)", "", text)):
        match = _SCALE.search(sentence) if _RATE.search(sentence) else None
        low, high = (int(match["low"]), int(match["high"])) if match else (0, 0)
        if low < high <= low + MAX_STEPS:
            return [str(number) for number in range(low, high + 1)]
    return []


# Labels: a, b, c

_NOUN = any_of("lists", "noun")
_NOUN_COLON = rf"{_NOUN}[*_\"' \t]*(?:\([^)\n]*\)[ \t]*)?[^.:!?\n]{{0,40}}?(?:[:：]|\s[-–—](?=\s))[*_]*"
_IN_USE = r"(?:(?:that )?(?:we|i|they|you)(?: can)? (?:use|have)|to (?:use|choose from)|in use|used)[ \t]+"
_NOUN_ARE = rf"{_NOUN}[ \t]+(?:{_IN_USE})?(?:are|is|include|includes|sind|son|sont)[:：]?(?![^.\n]*:)"
_POSSIBLE_ARE = (
    r"\b(?:possible|allowed|available|valid)[ \t]+(?:\w+[ \t]+)?"
    rf"(?:relations?|{_NOUN})[ \t]+(?:are|include)[:：]?(?![^.\n]*:)"
)
_ONE_OF = (
    r"(?:\b(?:one of(?: the following| these)?|either of|following|eine[rs]? (?:von|der)|un[oa] de|l'un de|un[oa] tra)"
    r"|其中之一|以下)[^.:!?\n]{0,40}[:：]"
)
_LEAD = re.compile(
    rf"(?:{_NOUN_COLON}|{_NOUN_ARE}|{_POSSIBLE_ARE}|{_ONE_OF}|{_NOUN}[ \t]*$)[ \t]*", re.IGNORECASE | re.MULTILINE
)
_TABLE = re.compile(
    rf"^[ \t]*\|?[ \t]*{_NOUN}[ \t]*\|.*\n[-|: \t]+\n((?:.*\|.*(?:\n|\Z))+)", re.IGNORECASE | re.MULTILINE
)
_ITEM = re.compile(r"^[ \t]*(?:[-*+•][ \t]+|(?:\d+|[a-zA-Z])[.)][ \t]+)(.+)$")


def _listed(text: str) -> list[str]:
    """`Labels: a, b, c`; `one of: a, b`; a list under a line that speaks of labels; a table of labels."""
    for lead in islice(_LEAD.finditer(text), MAX_PLACES):
        line, _, below = text[lead.end() :].partition("\n")
        items = split_list(line) if line.strip() else _items_below(below, lead[0], text)
        if are_labels(items):
            return items
    table = _TABLE.search(text)
    return [bare(row.strip().removeprefix("|").split("|")[0]) for row in table[1].splitlines()] if table else []


_FACETS_ARE = re.compile(
    rf"{any_of('lists', 'facets')}[ \t]*(?:are|include|sind|son|sono|[:：])[:：]?[ \t]*", re.IGNORECASE
)


def _facets(text: str) -> list[str]:
    """`Genres are a, b and c`, where no sentence asks for a text that may have one of them."""
    lead = None if any(is_writing(sentence) for sentence in sentences(text)) else _FACETS_ARE.search(text)
    items = split_list(text[lead.end() :]) if lead else []
    return items if are_labels(items, max_words=3) else []


def _after_colon(text: str) -> list[str]:
    """`Decide the mood: happy, sad`; a list under a line that ends in a colon."""
    for colon in islice(re.finditer(r"(?<=[\w)*])[:：][ \t]*", text), MAX_PLACES):
        line, _, below = text[colon.end() :].partition("\n")
        before = sentences(text[: colon.start()])
        if (
            line.strip()
            and (names_sorting(before[-1]) or _CHOICE.search(line))
            and are_labels(items := split_list(line, choice=True), max_words=3)
        ):
            return items
        if not line.strip() and names_sorting(text) and are_labels(items := _items_below(below, before[-1], text)):
            return items
    return []


def _items_below(text: str, lead: str, instruction: str) -> list[str]:
    """The labels of the list that the text begins with, without their explanations; or its short lines."""
    below = takewhile(_belongs_to_a_list, text.lstrip("\n").splitlines())
    items = [match[1] for line in below if (match := _ITEM.match(line))]
    if items:
        return [] if _are_examples(items, lead, instruction) else [head(item) for item in items]
    lines = text.strip("\n").split("\n\n")[0].splitlines()
    short = all(len(line.split()) <= 4 and not re.search(r"[.:!?|]", line) for line in lines)
    return [bare(line) for line in lines] if short else []


_EXAMPLE = re.compile(any_of("examples", "example"), re.IGNORECASE)
_CALLED_LABELS = re.compile(rf"{_NOUN}|\bone of\b", re.IGNORECASE)
_ARROW = re.compile(rf"\S\s*{ARROW}\s*(.+)")
MAX_OUTPUT_WORDS = 3
"""Of what stands behind an arrow; more words are an explanation of what stands before it."""


def _are_examples(items: list[str], lead: str, instruction: str) -> bool:
    """Whether the items have two halves, and the line above calls them examples or at least not labels."""
    if _EXAMPLE.search(lead):
        return all(head(item) != bare(item) for item in items)
    arrows = [_ARROW.search(item) for item in items]
    if _CALLED_LABELS.search(lead) or not all(arrows):
        return False
    return is_writing(instruction) or all(len(arrow[1].split()) <= MAX_OUTPUT_WORDS for arrow in arrows if arrow)


def _belongs_to_a_list(line: str) -> bool:
    return not line.strip() or line[0] in " \t" or bool(_ITEM.match(line))


# Classify … as a, b or c

_LEADS = tuple(re.compile(rf"(?<!such ){any_of('lists', name)}:?(?!\s*,)", re.IGNORECASE) for name in ("as", "to"))
_UNSURE_LEADS = ("as", "in", "to", "en", "dans")
_BEFORE_LIST = re.compile(
    r"\A\s*(?:being |about )?(?:either|one of|entweder|o bien|soit|whether)?"
    rf"(?:\s*(?:the |these )?(?:following )?(?:\w+ )?{_NOUN})?:?\s*",
    re.IGNORECASE,
)
_TO = r"\s*(?:-|–|—|to|and|through|bis|und|a|y|à|et|e)\s*-?"
_DECIMALS = re.compile(rf"\s*-?(?:\d+[.,]\d+{_TO}\d|\d+{_TO}\d+[.,]\d)")
"""A range of numbers that are not all whole is no set of answers."""
_EAST_ASIAN = (
    r"(?:分类|归类|分類|判断|标记|标注|判定)[^。！？\n]{0,80}?(?:为|成|為|是)(?P<list>[^。！？\n]+)",
    r"[をはが、](?P<list>[^を。\n]{1,200}?)(?:のいずれか|のどちらか|のどれか)?(?:に|として|へ)(?:分類|判定|分け|仕分け|ラベル)",
    r"[를을]\s+(?P<list>[^.。\n]{1,200}?)(?:으로|로)\s*(?:분류|나누|판단)",
)
_JAPANESE_EITHER = re.compile(r"[をはが、]([^をがはか。、\n]{1,40}か[^をが。\n]{1,200}?)か?を?(?:判定|判断|答え)")


def _sorted_into(text: str) -> list[str]:
    """The last list behind `as`, `into`, `als`, `como` … in a sentence with a verb of sorting."""
    for sentence in sentences(text):
        items = _in_east_asian(sentence) or (_behind_a_lead(sentence) if names_sorting(sentence) else [])
        if items:
            return items
    return []


def _behind_a_lead(sentence: str) -> list[str]:
    for leads in _LEADS:
        for lead in list(leads.finditer(_without_quoted(sentence)))[-1 : -MAX_PLACES - 1 : -1]:
            items = _phrase(sentence[lead.end() :], choice=lead[0].lower() in _UNSURE_LEADS)
            if items:
                return items
    return []


def _without_quoted(sentence: str) -> str:
    """The sentence, as long as it was, with nothing in its quotes to be taken for a word of its own."""
    return re.sub(QUOTED, lambda quoted: "_" * len(quoted[0]), sentence)


def _phrase(text: str, *, choice: bool) -> list[str]:
    items = split_list(_BEFORE_LIST.sub("", text), choice=choice)
    return items if are_labels(items) and not _DECIMALS.match(text) else []


def _in_east_asian(sentence: str) -> list[str]:
    """`分类为正面或负面`, `肯定的または否定的に分類`, `긍정 또는 부정으로 분류`, `ポジティブかネガティブかを判定`."""
    for pattern in _EAST_ASIAN:
        match = re.search(pattern, sentence)
        items = split_list(match["list"]) if match else []
        if len(items) > 1:
            return items
    either = _JAPANESE_EITHER.search(sentence)
    return [item for item in re.split("[か、]", either[1]) if item] if either else []


# Is it a, b or c?

_ASKS = re.compile(
    r"\b(?:whether|if|ob|si|se|either|(?:say|tell|decide|choose) which)\b"
    r"|\A(?:is|are|does|do|was|ist|es|est)\b|[?？]\Z",
    re.IGNORECASE,
)
_CHOICE = re.compile(rf"{OR}|{SPANISH_OR}|\s/\s", re.IGNORECASE)
_THIS = r"(?:(?:this|that|these|those|the|my|your) [\w-]+ (?=[\w-]+ or not))"
_OR_NOT = re.compile(
    rf"\b(?:is|are|be|was|ist|es|est)\s+{_THIS}?(?:an? |the )?((?:[\w-]+ ){{0,2}}?[\w-]+) or not\b", re.IGNORECASE
)
_IS = re.compile(r"(?<!, )(?<!\bor )\b(?:is|are|was|were|be|as|to|has|contains|expresses|an?|ist|es|est|son|sind)\b")


def _alternatives(text: str) -> list[str]:
    """`whether it is a, b or c`; `Is it true or false?`; `supports or opposes`; `is spam or not`."""
    for sentence in sentences(text):
        if _ASKS.search(sentence) and _CHOICE.search(sentence) and not OPEN_QUESTION.search(sentence):
            negated = _OR_NOT.search(sentence)
            items = [negated[1], f"not {negated[1]}"] if negated else _behind_is(sentence) or _chain(sentence)
            if items:
                return items
    return []


def _behind_is(sentence: str) -> list[str]:
    for verb in list(_IS.finditer(_without_quoted(sentence)))[-1 : -MAX_PLACES - 1 : -1]:
        items = _phrase(sentence[verb.end() :], choice=True)
        if are_labels(items, max_words=3):
            return items
    return []


def _chain(sentence: str) -> list[str]:
    """Single words joined by commas and `or`, anywhere."""
    found = CHAIN.search(sentence)
    items = split_list(found[0]) if found else []
    return items if are_labels(items) else []


# (spam/ham)

_BRACKETS = re.compile(r"[(\[（]([^()\[\]（）\n]{3,400})[)\]）]")
_SLASHES = re.compile(r"(?<![\w/])[^\W\d_]+(?:/[^\W\d_]+)+(?![\w/])")


def _in_brackets(text: str) -> list[str]:
    """`(spam/ham)`, `[yes, no]`, or words with slashes between them."""
    if not names_sorting(text):
        return []
    for match in _BRACKETS.finditer(text):
        items = split_list(match[1], choice=True)
        if are_labels(items, max_words=3) and not re.search(LENGTH, match[1]):
            return items
    slashes = _SLASHES.search(text)
    return slashes[0].split("/") if slashes else []


def _bare_choice(text: str) -> list[str]:
    """A sentence that is nothing but a choice: `Yes or no?`"""
    for sentence in sentences(text):
        items = split_list(sentence.strip(" .?!:*？。"), choice=True) if len(sentence.split()) <= 12 else []
        if are_labels(items, max_words=2):
            return items
    return []


_SURE = (
    _scale,
    answers,
    _listed,
    one_or_otherwise,
    quoted_list,
    meanings,
    _facets,
    _after_colon,
    _sorted_into,
    labelled_with,
    one_of,
    _alternatives,
    _in_brackets,
    _bare_choice,
)
