"""Lists in running text: `a, b or c`, `"a" or "b"`, `a/b`, `1) a; 2) b`, in the languages of vocabulary.toml."""

import re

from prompt2model.vocabulary import any_of, words
from prompt2model.wording import one_line

MAX_WORDS = 5
MAX_CHARACTERS = 60
MAX_PLACES = 20
"""How many places of a text a list is looked for at."""

OR = any_of("lists", "or")
_AND = any_of("lists", "and")
SPANISH_OR = any_of("lists", "or_spanish")

_ENCLOSED = (('"', '"'), ("“", "”"), ("„", "“"), ("„", "”"), ("«", "»"), ("‘", "’"), ("`", "`"), ("「", "」"))
_BETWEEN = "|".join(rf"{a}[^{b}\n]{{1,{MAX_CHARACTERS}}}{b}" for a, b in _ENCLOSED)
QUOTED = rf"(?:{_BETWEEN}|(?<!\w)'[^'\n]{{1,60}}'(?!\w)|\*\*[^*\n]{{1,60}}\*\*)"

WORD = rf"(?:{QUOTED}|(?<![\w-])[\w-]++)"
CHAIN = re.compile(rf"{WORD}(?:,\s+{WORD})*,?\s+{OR}\s+{WORD}", re.IGNORECASE)
"""Single words joined by commas and `or`."""
EXAMPLES_AHEAD = re.compile(
    r"(?:\be\.g\.,?|\b(?:such as|for example,?|for instance,?|like|ignore|becomes))[^.!?\n]{0,30}\Z", re.I
)
"""What stands before a list of examples, not of answers."""

_GLOSS = r"(?:\s*\([^()]*\))?"
_GLOSSES = re.compile(r"\s*[(（][^()（）]*[)）]")
QUOTED_LIST = re.compile(
    rf"\s*{QUOTED}{_GLOSS}(?:(?:\s|[,;/|、，]|{OR}|{_AND}|{SPANISH_OR})+(?:an? )?{QUOTED}{_GLOSS})+", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"\n|(?<![A-Za-z0-9]\.[A-Za-z])[.!?。！？](?=\s|\Z|[\"”'])")
_REASON = re.compile(
    r"[,;]?\s+(?:(?:based on|depending on|according to|so that|because|for example)\b|e\.g\.).*"
    r"|\s*[:：;–—-]\s*(?:say|tell|decide|choose) which\b.*",
    re.IGNORECASE | re.DOTALL,
)
_END = re.compile(rf"[,;]?\s+(?!of the above\b){any_of('lists', 'end')}.*", re.IGNORECASE | re.DOTALL)
_NUMBER = r"(?:one|two|three|four|five|six)"
_HOW_MANY = re.compile(rf"\b(?:{_NUMBER} or (?:{_NUMBER}|more)|\d+ or more)\s+[^\W\d]", re.IGNORECASE)
"""`two or three sentences`: a number of them, not a choice."""
_NUMBERED = re.compile(r"(?:\A|(?<=[\s,;:]))(?:\(?\d+|\([a-h])\)\s*")
_CHOICE = re.compile(rf"{OR}|{SPANISH_OR}|/|\|", re.IGNORECASE)
_CONJUNCTION = re.compile(rf"\A(?:{OR}|{_AND}|{SPANISH_OR})\s+", re.IGNORECASE)
_EQUALS = re.compile(r"\w\s*=\s*\w")
_CONJUNCTION_LAST = re.compile(rf"[,;]?\s*(?:{OR}|{_AND})?\s*\Z", re.IGNORECASE)
_SHARED = re.compile(any_of("lists", "shared"), re.IGNORECASE)
_NEVER_IN = re.compile(any_of("lists", "never_in"), re.IGNORECASE)
_ARTICLE = re.compile(r"\A(?:an?|the|to|use|if|whether|either|ein(?:e|en)?|una?|une?|eher) ", re.IGNORECASE)
_HEAD_END = re.compile(r"[:：(=]|\s[-–—]+>?\s|\s*→|\.\s|,\s(?:if|when|for|otherwise|else)\b")


def split_list(text: str, *, choice: bool = False) -> list[str]:
    """The items of the list that the text begins with, up to the end of its sentence.

    `choice`: it must be a choice, with an "or", a comma or a slash; "a and b" is none.
    """
    sentence = _REASON.sub("", _SENTENCE_END.split(text.strip(), maxsplit=1)[0])
    if _HOW_MANY.search(sentence):
        return []
    choices = re.search(OR, sentence, re.IGNORECASE)
    after = _END.search(sentence, choices.end() + 1) if choices else None
    sentence = sentence[: after.start()] if after else sentence
    quoted = QUOTED_LIST.match(sentence)
    if quoted:
        return [bare(item) for item in re.findall(QUOTED, quoted[0])]
    numbered = _NUMBERED.split(sentence)
    if len(numbered) > 2 and not numbered[0].strip():
        return [head(_CONJUNCTION_LAST.sub("", item)) for item in numbered if item.strip()]
    *first, last = _at_commas(_GLOSSES.sub("", sentence))
    if choice and not first and not _CHOICE.search(sentence):
        return []
    if first and all(_EQUALS.search(item) for item in (*first, last)):
        return [head(item) for item in (*first, last)]
    if len(first) == 1 and _CONJUNCTION.match(last):
        first = _at_conjunction(first[0], has_more=True)  # `A or B, or neither`
    return _without_shared_noun([bare(item) for item in [*first, *_last_items(last, bool(first))] if item.strip()])


def bare(item: str) -> str:
    """The label without quotes, marks, the article and the blanks around it."""
    text = item.removeprefix("- ").strip(" \t\n\"“”„«»‘’'`*_.:;,!?。「」、（）()")
    return one_line(_ARTICLE.sub("", text))


def head(item: str) -> str:
    """What stands before the explanation of an item."""
    quoted = re.match(QUOTED, item)
    return bare(quoted[0] if quoted else _HEAD_END.split(item, maxsplit=1)[0])


def is_label(item: str) -> bool:
    """Whether the text can be a label: a few words, none of which makes it a phrase of the sentence."""
    if not re.search(r"\w", item) or len(item.split()) > MAX_WORDS or len(item) > MAX_CHARACTERS:
        return False
    return item.isupper() or not (item.casefold() in words("lists", "never") or _NEVER_IN.search(item))


def are_labels(items: list[str], *, max_words: int = MAX_WORDS) -> bool:
    """Whether there are at least two, and each can be a label; codes of two letters all can, but for `it or is`."""
    codes = all(len(item) == 2 and item.isalpha() for item in items) and (len(items) > 2 or any(map(is_label, items)))
    fit = all(is_label(item) and (len(item.split()) <= max_words or item.isupper()) for item in items)
    return len(items) > 1 and (codes or fit)


def _at_commas(text: str) -> list[str]:
    return re.split(r"\s*[;；]\s*" if re.search("[;；]", text) else r"\s*[,，、|｜]\s*", text)


def _last_items(text: str, has_more: bool) -> list[str]:
    """What stands after the last comma, cut where the sentence goes on: `or c`, `b or c`, or all of `a or b`."""
    after = _CONJUNCTION.sub("", text) if has_more else text
    cut = _END.sub("", after) if has_more or re.search(rf"{OR}|{_AND}", after, re.IGNORECASE) else after
    return [cut] if after != text else _at_conjunction(cut, has_more)


def _at_conjunction(text: str, has_more: bool) -> list[str]:
    """`a or b`, `a and b`; `a/b` where it is the whole list."""
    slash = r"\s+/\s+" if has_more else r"\s*/\s*"
    for glue in (rf"\s*{OR}\s*", rf"\s+{SPANISH_OR}\s+", slash, rf"\s*(?:{_AND}|(?<!\w)(?:vs\.?|versus)(?!\w))\s*"):
        pieces = re.split(glue, text, flags=re.IGNORECASE)
        if len(pieces) > 1:
            return pieces
    return [text]


def _without_shared_noun(items: list[str]) -> list[str]:
    """`active or passive voice` without the noun that belongs to all."""
    last = items[-1].split() if items else []
    if len(last) == 2 and _SHARED.fullmatch(last[1]) and all(len(item.split()) == 1 for item in items[:-1]):
        return [*items[:-1], last[0]]
    return items
