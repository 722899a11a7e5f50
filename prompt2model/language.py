"""The language that the inputs of a task are in."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

# Short texts are told apart better among fewer languages; these have base models or data sets of their own.
LANGUAGES = {
    "arabic": "ar", "bengali": "bn", "bulgarian": "bg", "catalan": "ca", "chinese": "zh", "croatian": "hr",
    "czech": "cs", "danish": "da", "dutch": "nl", "english": "en", "estonian": "et", "finnish": "fi", "french": "fr",
    "german": "de", "greek": "el", "hebrew": "he", "hindi": "hi", "hungarian": "hu", "indonesian": "id",
    "italian": "it", "japanese": "ja", "korean": "ko", "latvian": "lv", "lithuanian": "lt", "norwegian": "no",
    "persian": "fa", "polish": "pl", "portuguese": "pt", "romanian": "ro", "russian": "ru", "serbian": "sr",
    "slovak": "sk", "slovenian": "sl", "spanish": "es", "swahili": "sw", "swedish": "sv", "tamil": "ta",
    "telugu": "te", "thai": "th", "turkish": "tr", "ukrainian": "uk", "urdu": "ur", "vietnamese": "vi",
}  # fmt: skip

_ANY = "|".join(LANGUAGES)
_TEXTS = (
    "texts?|tweets?|reviews?|comments?|sentences?|e?-?mails?|messages?|words?|questions?|articles?|news|headlines?"
    "|documents?|posts?|phrases?|tickets?|quer(?:y|ies)|poems?|titles?|speech|paragraphs?|utterances?|requests?"
)
_NAMED = re.compile(
    rf"\bfrom ({_ANY})\b|\b({_ANY})[ -](?:to|into)[ -](?:{_ANY})\b|\btranslate (?:an? |the |this |each )?({_ANY})\b"
    rf"|(?<!to )(?<!into )(?<!into an )\b({_ANY}) (?:[a-z]+ )?(?:{_TEXTS})\b|\b(?:{_TEXTS}) in ({_ANY})\b",
    re.IGNORECASE,
)


SEVERAL = "multilingual"
"""What stands for a language where the inputs are in several, as on the Hub."""
CERTAIN, ENOUGH_LETTERS = 0.99, 20
"""A text of so many letters whose language is so likely is in that language."""


def language_of(instruction: str, inputs: Sequence[str], labels: Sequence[str] = ()) -> str:
    """The ISO 639-1 code of the inputs' language: told by them, else named in the instruction, else its own.

    SEVERAL where the labels are languages, or the inputs are in different ones beyond doubt.
    """
    codes = LANGUAGES.values() if "language" in instruction.casefold() else ()  # IT and HR may be departments
    if labels and all(label.casefold() in (*LANGUAGES, *codes) for label in labels):
        return SEVERAL
    if len({_certain(text) for text in inputs} - {""}) > 1:
        return SEVERAL
    told = _detect("\n".join(inputs)) if inputs else ""
    if told:
        return told
    named = _NAMED.search(instruction)
    if named and not inputs:
        return LANGUAGES[next(name for name in named.groups() if name).lower()]
    return _detect(instruction) or "en"


def probability(text: str, language: str) -> float | None:
    """How likely the text is in the language of this code; none where it has no letters or the code is not known."""
    if language not in LANGUAGES.values() or not any(map(str.isalpha, text)):
        return None
    return float(dict(_identifier().rank(text[:5000]))[language])


def _detect(text: str, *, letters: int = 2, above: float = 0.5) -> str:
    """The likeliest language, or "" where the text is too short or too technical to tell."""
    if sum(map(str.isalpha, text)) < letters:
        return ""
    code, probability = _identifier().classify(text[:5000])
    return str(code) if probability > above else ""


def _certain(text: str) -> str:
    return _detect(text, letters=ENOUGH_LETTERS, above=CERTAIN)


@cache
def _identifier() -> Any:
    """py3langid's model; reading it takes about a second, once."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES.values()))
    return identifier
