"""What an instruction asks for: a text of the model's own, one of a set of answers, or a plain yes or no."""

import re

from prompt2model.vocabulary import any_of

_INTO_SET = rf"(?:\binto\b|\bas\b[^.\n]{{0,200}}(?:\bor\b|/)|\bby (?:\w+ )?{any_of('asks', 'facet')}:)"
_ORDERS = rf"sort(?![^.\n]{{0,400}}{_INTO_SET}(?![^.\n]{{0,200}}\b(?:order|ascending|descending|alphabet\w*)\b))"
_ANSWERS_QUESTIONS = r"answer (?:the |this |these |my |a )?(?:\w+ )*questions?"
_WRITE = re.compile(
    rf"{any_of('asks', 'write')}|(?:{_ORDERS}|{_ANSWERS_QUESTIONS})\b|[把将次].{{0,20}}(?:翻译|翻訳|要約)",
    re.IGNORECASE,
)
_NAMES_FACET = re.compile(
    rf"(?:generate|produce|provide|write) (?:the |its |their )(?:\w+ )?{any_of('asks', 'facet')}(?=[ .:]|\Z)", re.I
)
"""`generate the sentiment`: one of a set, though the verb says otherwise."""
_FIND_OUT = rf"find out (?:(?:the|its|which|what|in which|by which) )*(?:\w+ )?{any_of('asks', 'facet')}"
_SORT = re.compile(rf"{any_of('asks', 'sort')}|\b{_FIND_OUT}", re.IGNORECASE)
_ALSO = r"explain|justify|correct|fix|rewrite|summari[sz]e|translate|describe|suggest"
_OPEN = re.compile(
    rf"(?:\b(?:and|then|also)|,) (?:briefly )?(?:{_ALSO})\b|\botherwise,? (?:{_ALSO})\b"
    r"|\b(?:explain (?:why|your|the)|suggest an)\b|\band (?:say |tell me )?(?:why|how)\b"
    r"|\ball (?:the |of the |possible |relevant |applicable |that )*"
    r"(?:categories|labels|topics|tags|classes|entities)\b"
    r"|\b(?:each|every|(?<!across )all|(?<!pair )(?<!number )of) (?:the )?(?:words?|tokens?)\b"
    r"|\b(?:otherwise|else),? (?:output|write|return|give|print|use|answer with|reply with|respond with)"
    r" (?:the|a|an|some) (?!label|word|answer|letter|number|string|text)"
    r"|\b(?:and|give|output|with|write) a short phrase\b|\bwrite what\b"
    r"|\bone or more\b|\bmulti-?label\b|\bpos tags of\b",
    re.IGNORECASE,
)
_FORBIDS = re.compile(r"\b(?:do not|don't|don’t|without|never|no need to) [^.!?\n]*", re.IGNORECASE)
_TELL_WHETHER = (
    r"(?:tell|decide|determine|detect|check|predict|say|judge|verify|identify|find out|figure out|assess|classify)"
    r"(?: me)? (?:if|whether)\b"
)
_DETECT = rf"(?:detect|flag|identify|recogni[sz]e|spot) (?:\w+ )?{any_of('asks', 'property')}"
_QUESTION = r"(?:is|are|does|do|did|was|were|has|have|can|should|will) (?:the|this|it|that|an?|these|two)\b[^\n]*\?"
_WHETHER = re.compile(rf"(?:please )?(?:{_TELL_WHETHER}|{_DETECT}|{_QUESTION})", re.IGNORECASE)
_POLITE = re.compile(
    r"\A(?:(?:please|kindly|bitte|por favor|s'il (?:te|vous) plaît|you (?:are|'re|will be)[^.,:]*[.,:]"
    r"|your (?:task|job|goal) is to|i (?:want|need|would like) (?:you |a model |something )?(?:to|that)"
    r"|a model (?:that|to|which)|in this task,?|we ask you(?: to)?|you (?:need|have|should|must|will)(?: to)?"
    r"|given [^,.:]*[,.:]|read [^,.]*(?:,| and)|the task is to|task:|can you|could you|help me(?: to)?"
    r"|(?:a )?(?:bot|tool|assistant) (?:that|which|to))\s*)+",
    re.IGNORECASE,
)


def is_writing(instruction: str) -> bool:
    """Whether it asks for a text of the model's own: to write, translate, summarise, explain …"""
    text = first_words(instruction)
    return bool(_WRITE.match(text)) and not _NAMES_FACET.match(text)


def names_sorting(text: str) -> bool:
    """Whether a verb in the text asks for one of a set of answers."""
    return bool(_SORT.search(text))


def is_sorting(instruction: str) -> bool:
    """Whether it asks for one of a set of answers, named or not."""
    return names_sorting(instruction) and not is_writing(instruction) and not is_open(instruction)


def is_open(instruction: str) -> bool:
    """Whether more is asked for than one label: all labels that fit, a label a word, a label and its reason."""
    return bool(_OPEN.search(_FORBIDS.sub("", instruction)))


def is_yes_or_no(instruction: str) -> bool:
    """Whether it is one plain question, or asks whether something is so, and names no answer."""
    text = instruction.strip()
    is_one = len(re.findall(r"[.!?。？！](?=\s|\Z)", text)) <= 1 and "\n" not in text
    return is_one and bool(_WHETHER.match(text)) and not is_writing(text) and not is_open(text)


def first_words(text: str) -> str:
    """The instruction from its first verb on, as far as polite beginnings go."""
    return _POLITE.sub("", re.sub(r"\A[\W_]*(?:#+ [^\n]*\n+)?[\W_]*", "", text))


def sentences(text: str) -> list[str]:
    """The sentences; hard-wrapped lines are joined, items of lists stand alone."""
    joined = re.sub(r"(?<=[^\n])\n(?=[^\n])(?![ \t]*(?:[-*+•]|\d+[.)])[ \t])", " ", text)
    parts = re.split(r"(?<=[.!?])(?=\s)(?<!e\.g\.)(?<!i\.e\.)|(?<=[。！？])|\n+", joined)
    return [part.strip() for part in parts if part.strip()]
