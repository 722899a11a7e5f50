"""What a task calls for, in the words that model and data-set cards use."""

import re

from prompt2model.language import LANGUAGES
from prompt2model.records import TaskSpec

SPECIAL = (
    *("code", "translation", "math", "summarization", "dialogue", "question answering", "question generation"),
    *("grammar correction", "paraphrase", "simplification"),
)
"""Skills that models are specialised in. One that was made for another of these alone is a poor base."""

_MARKS = {
    "code": r"\b(python|java|javascript|typescript|c\+\+|sql|bash|shell|regex|regular expression|source code|code"
    r"|program|snippet|docstring|commit message|unit test|api call)s?\b",
    "sql text-to-sql database": r"\bsql\b",
    "translation": r"\btranslat",
    "math": r"\b(maths?|mathematic\w*|arithmetic|algebra|equations?|word problems?|grade[- ]school)\b",
    "summarization summary": r"\b(summar\w+|tl;?dr|condense|shorten|headlines? for)\b",
    "dialogue": r"\b(chat ?bot|dialogues?|conversation\w*|chit-?chat)\b",
    "question answering": r"\banswer (the |a |each |these |any )?(\w+ ){0,2}questions?\b|\bquestion.answering\b",
    "question generation": r"\b(write|generate|ask|create|make) (a |the |some )?(\w+ ){0,2}questions?\b",
    "sentiment": r"\bsentiments?\b|\bpositive\b[^.]{0,40}\bnegative\b|\bnegative\b[^.]{0,40}\bpositive\b",
    "emotion": r"\b(emotions?|mood|feelings?)\b",
    "intent": r"\bintents?\b",
    "toxicity hate offensive": r"\b(toxic\w*|hateful|hate speech|offensive|abusive|insult\w*|rude)\b",
    "paraphrase rephrase": r"\b(paraphras\w+|rephras\w+|reword\w*|same meaning|mean the same)\b",
    "natural language inference entailment": r"\b(entail\w*|contradict\w*|premise|hypothesis)\b",
    "grammar correction spelling": r"\b(grammar|grammatical|spelling|typos?|misspel\w+)\b",
    "simplification plain language": r"\b(simplif\w+|plain (english|language)|easier to read|simpler)\b",
    "named entity recognition": r"\b(named entit\w+|extract\b.{0,30}\b(names|persons?|people|places|compan(y|ies)))",
    "keyphrase keyword extraction": r"\b(key ?words?|key ?phrases?)\b",
    "fact checking claim": r"\b(fact.?check\w*|claims?|misinformation|fake news)\b",
    "yes no question": r"\byes(/| or |, )no\b",
    "multiple choice": r"\b(multiple[- ]choice|options?)\b",
    "language identification": r"\b(which|what|identify the|detect the) language\b",
    "data-to-text": r"\b(data.to.text|attributes? (in)?to|triples?|table (in)?to)\b",
    "detoxification": r"\bdetoxif\w+\b|\bpolite(ly)?\b",
    "email": r"\bmails?\b",
}


def called_for(task: TaskSpec) -> tuple[str, ...]:
    """The names of the skills that the instruction speaks of, in the words of cards; the kind of task comes first."""
    kind = ("classification",) if task.kind == "classification" else ()
    return (*kind, *(words for words, mark in _MARKS.items() if re.search(mark, task.instruction, re.IGNORECASE)))


def special(task: TaskSpec) -> tuple[str, ...]:
    """Those of the skills called for that some models are specialised in; a classification calls for none."""
    if task.kind == "classification":
        return ()
    named = " ".join(called_for(task))
    return tuple(skill for skill in SPECIAL if skill in named)


def languages_named(task: TaskSpec) -> tuple[str, ...]:
    """The codes of the languages that the instruction names, in its order."""
    words = re.findall(r"[a-z]+", task.instruction.lower())
    return tuple(dict.fromkeys(LANGUAGES[word] for word in words if word in LANGUAGES))


def language_name(code: str) -> str:
    """The language's English name, or the code where it has none here."""
    return _NAMES.get(code, code)


_NAMES = {code: name.capitalize() for name, code in LANGUAGES.items()}
