"""Which base models and data sets there are, and which of them fit a task.

The built-in cards (`cards/*.jsonl`) are facts in our own words: parameters counted or rounded to three digits, bytes of
the weights as they are stored, rows of the first split, downloads as an order of magnitude; what is not certain is left
out. Cards of the live Hub are ranked by the same rules.

    score = fit x (1 + POPULARITY_BOUND x popularity),   popularity = min(1, log10(1 + downloads) / 7)

`fit` never looks at downloads, and popularity adds at most a tenth to it. So a card whose fit is more than 1.1 times
that of another ranks above it, whatever the downloads; popularity decides only between near-equals. Gated cards come
last: they cannot be had without accepting terms. Ties are broken by name.
"""

import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from prompt2model import skills, weights
from prompt2model.config import RetrieveConfig
from prompt2model.language import SEVERAL
from prompt2model.matching import Index
from prompt2model.records import DataCard, ModelCard, Ranked, TaskSpec

Card = TypeVar("Card", ModelCard, DataCard)

POPULARITY_BOUND = 0.1
CPU_PARAMETERS, GPU_PARAMETERS = 150e6, 1e9
"""The size that is preferred. Without a GPU 150M parameters learn in minutes, and each doubling doubles the minutes."""
SMALL_PARAMETERS = 200e6
"""What is called small enough for a CPU."""
LEAST_PARAMETERS = 10_000_000
"""Below that a model is a test fixture, not a base model."""
UNUSABLE = {
    "custom_code": "needs code of its own",
    **dict.fromkeys(("awq", "gptq", "bitsandbytes", "4-bit", "8-bit", "compressed-tensors", "fp8", "mlx"), "quantised"),
}
"""Tags of models that cannot be trained here, and why."""
MOST_CHARACTERS = 2000
"""Of a description: what a card is about stands at its beginning, and training logs at its end."""
NATURAL_TASKS = {
    "classification": {"text-classification": 1.0, "multiple-choice": 0.6, "question-answering": 0.3},
    "generation": {"text-classification": 0.0, "multiple-choice": 0.4, "token-classification": 0.6},
}
"""How well a data set's task on the Hub suits a kind of task. Those not named suit generation alone."""


@cache
def builtin_models() -> tuple[ModelCard, ...]:
    """The base models that we ship cards of."""
    return tuple(ModelCard.model_validate_json(line) for line in _lines("models.jsonl"))


@cache
def builtin_datasets() -> tuple[DataCard, ...]:
    """The data sets that we ship cards of; one with several configurations is several cards."""
    return tuple(DataCard.model_validate_json(line) for line in _lines("datasets.jsonl"))


def _lines(name: str) -> list[str]:
    return (Path(__file__).parent / "cards" / name).read_text(encoding="utf-8").splitlines()


def merge(builtin: Iterable[Card], live: Iterable[Card]) -> list[Card]:
    """All cards, each once: the facts are ours where we have them, the downloads are the Hub's."""
    current = {card.id: card for card in reversed(list(live))}
    ours = list(builtin)
    known = {card.id for card in ours}
    fresh = [
        card.model_copy(update={"downloads": current[card.id].downloads}) if card.id in current else card
        for card in ours
    ]
    return fresh + [card for card in reversed(current.values()) if card.id not in known]


# Models


def rank_models(
    task: TaskSpec,
    cards: Sequence[ModelCard],
    config: RetrieveConfig,
    hypothetical: str = "",
    *,
    at_hand: Callable[[str], bool] = weights.at_hand,
    gpu: bool | None = None,
) -> list[Ranked]:
    """The models within the limits that cover the inputs' language, the best first.

    fit = 0.4 words + 0.35 skill + 0.25 size, each from 0 to 1: the words shared with the instruction and with a
    hypothetical card, what the model was made for, and how near it is to the size that this machine trains well.
    """
    gpu = has_gpu() if gpu is None else gpu
    able = [card for card in cards if not beyond_limits(card, config) and covers(card, task.language)]
    matches = _Matches(able, task, hypothetical)
    ranked = []
    for place, card in enumerate(able):
        skill, made_for = _skill(card, task)
        fit = 0.4 * matches.share(place) + 0.35 * skill + 0.25 * _size(card, gpu)
        reasons = (*matches.reason(place), made_for, _weight(card, gpu), *_terms(card), _spoken(card, task))
        ranked.append(_placed(card, fit, reasons, at_hand(card.id)))
    return sorted(ranked, key=_order)


def beyond_limits(card: ModelCard, config: RetrieveConfig) -> str:
    """Why the model is left out, in words that are the same for all left out for this reason; empty if it is not."""
    unusable = next((why for tag, why in UNUSABLE.items() if tag in card.tags), "")
    if unusable:
        return unusable
    if card.parameters > config.max_parameters:
        return f"more than {_count(config.max_parameters)} parameters"
    if 0 < card.parameters < LEAST_PARAMETERS:
        return f"fewer than {_count(LEAST_PARAMETERS)} parameters"
    if card.size_bytes > config.max_download_bytes:
        return f"larger than {_bytes(config.max_download_bytes)}"
    if config.architecture not in ("any", card.architecture):
        return f"not {config.architecture}"
    if not _is_licensed(card, config):
        return f"licence not among {', '.join(config.licences)}"
    return ""


def covers(card: ModelCard | DataCard, language: str) -> bool:
    """Whether the card's languages include this one, as far as the card says."""
    is_of_several = SEVERAL in card.languages or (language == SEVERAL and len(card.languages) > 1)
    return not card.languages or language in card.languages or is_of_several


def has_gpu() -> bool:
    """Whether this machine has an accelerator, told without importing torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if sys.platform == "darwin":
        return os.uname().machine == "arm64"
    return any(Path(device).exists() for device in ("/dev/nvidia0", "/dev/kfd", "/dev/dxg"))


def _skill(card: ModelCard, task: TaskSpec) -> tuple[float, str]:
    """How well what the model was made for suits the task, and that in words."""
    wanted, made_for = skills.special(task), [tag for tag in card.tags if tag in skills.SPECIAL]
    is_general = "general" in card.tags or (card.instruct and not made_for)
    sources = (task.language, SEVERAL)
    if "translation" in made_for and len(card.languages) == 2 and card.languages[0] not in sources:
        return 0.2, "translates the other way"
    unspoken = [code for code in skills.languages_named(task) if not covers(card, code)]
    if "translation" in wanted and unspoken:
        return 0.2, f"not trained on {skills.language_name(unspoken[0])}"
    if met := [skill for skill in wanted if skill in made_for]:
        return 1.0, f"made for {' and '.join(met)}"
    if made_for and not is_general:
        return 0.2, f"made for {' and '.join(made_for)}"
    if is_general:
        return (0.8 if wanted else 1.0) - 0.2 * (not card.instruct), _manner(card)
    return 0.6, "a general base model"


def _manner(card: ModelCard) -> str:
    return "follows instructions" if card.instruct else "trained on many tasks"


def _size(card: ModelCard, gpu: bool) -> float:
    """1 at the preferred size, 0.25 less for each halving, 0.4 less for each doubling; half where it is not known."""
    if not card.parameters:
        return 0.5
    doublings = math.log2(card.parameters / (GPU_PARAMETERS if gpu else CPU_PARAMETERS))
    return max(0.0, 1 - (0.4 * doublings if doublings > 0 else -0.25 * doublings))


def _weight(card: ModelCard, gpu: bool) -> str:
    known = [f"{_count(card.parameters)} parameters" if card.parameters else "", _bytes(card.size_bytes)]
    text = ", ".join(part for part in known if part) or "size not known"
    if gpu or not card.parameters:
        return text
    return f"{text} ({'small enough for' if card.parameters <= SMALL_PARAMETERS else 'slow on'} a CPU)"


# Data sets


def rank_datasets(
    task: TaskSpec, cards: Sequence[DataCard], config: RetrieveConfig, hypothetical: str = ""
) -> list[Ranked]:
    """The data sets of an accepted licence in the inputs' language, the best first.

    fit = 0.75 words + 0.2 kind + 0.05 columns: the words shared with the instruction and with a hypothetical card,
    whether its task on the Hub is of the task's kind, and whether input and output columns are known.
    """
    able = [card for card in cards if _is_licensed(card, config) and covers(card, task.language)]
    matches = _Matches(able, task, hypothetical)
    ranked = []
    for place, card in enumerate(able):
        usable = bool(card.input_columns and card.output_column)
        fit = 0.75 * matches.share(place) + 0.2 * _suits(card, task) + 0.05 * usable
        reasons = (*matches.reason(place), *_contents(card), *_terms(card), _spoken(card, task))
        ranked.append(_placed(card, fit, reasons, _is_cached(card)))
    return sorted(ranked, key=_order)


def _suits(card: DataCard, task: TaskSpec) -> float:
    if not card.task:
        return 0.5
    return NATURAL_TASKS[task.kind].get(card.task, 0.0 if task.kind == "classification" else 1.0)


def _contents(card: DataCard) -> list[str]:
    rows = f"{card.rows:,} rows" if card.rows else ""
    columns = (
        f"{', '.join(card.input_columns)} -> {card.output_column}" if card.input_columns and card.output_column else ""
    )
    return [part for part in (card.task, columns, rows) if part]


def _is_cached(card: DataCard) -> bool:
    """Whether the data set has been downloaded before."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE, f"datasets--{card.id.replace('/', '--')}", "snapshots").is_dir()


# Both


class _Matches:
    """How well the cards' texts match the task, and its hypothetical card if there is one: the mean of the two."""

    def __init__(self, cards: Sequence[ModelCard | DataCard], task: TaskSpec, hypothetical: str) -> None:
        index = Index(_text(card) for card in cards)
        queries = [_query(task), *([hypothetical] if hypothetical.strip() else [])]
        matches = [index.match(query) for query in queries]
        self._shares: list[float] = [sum(each) / len(each) for each in zip(*matches, strict=True)]
        self._words = index.shared(_query(task))

    def share(self, place: int) -> float:
        return self._shares[place]

    def reason(self, place: int) -> list[str]:
        words = self._words[place]
        return [f"shares the words {', '.join(words)}"] if words else []


def _query(task: TaskSpec) -> str:
    """What is asked: the instruction, its labels, the names of the skills it calls for, and the inputs' language."""
    language = "" if task.language == "en" else skills.language_name(task.language)
    return " ".join((task.instruction, *task.labels[:20], *skills.called_for(task), language))


def _text(card: ModelCard | DataCard) -> str:
    """What is searched. Tags with a colon (`license:mit`, `region:us`) are the Hub's own bookkeeping."""
    tags = [tag for tag in card.tags if ":" not in tag]
    kind = card.task if isinstance(card, DataCard) else ""
    languages = [skills.language_name(code) for code in card.languages] if len(card.languages) < 4 else []
    return " ".join((card.id, card.description[:MOST_CHARACTERS], *tags, kind, *languages))


def _placed(card: ModelCard | DataCard, fit: float, reasons: Sequence[str], at_hand: bool) -> Ranked:
    score = fit * (1 + POPULARITY_BOUND * popularity(card.downloads))
    return Ranked(card=card, score=round(score, 4), reasons=tuple(reasons), at_hand=at_hand)


def popularity(downloads: int) -> float:
    """From 0 for no download to 1 for ten million, by orders of magnitude."""
    return min(1.0, math.log10(1 + downloads) / 7)


def _order(ranked: Ranked) -> tuple[bool, float, str, str]:
    card = ranked.card
    return card.gated, -ranked.score, card.id.lower(), card.config if isinstance(card, DataCard) else ""


def _is_licensed(card: ModelCard | DataCard, config: RetrieveConfig) -> bool:
    return not config.licences or card.licence.lower() in config.licences


def _terms(card: ModelCard | DataCard) -> list[str]:
    terms = [f"licence {card.licence}" if card.licence else "licence not known"]
    return [*terms, "gated: its terms have to be accepted on the Hub"] if card.gated else terms


def _spoken(card: ModelCard | DataCard, task: TaskSpec) -> str:
    language = skills.language_name(task.language)
    if not card.languages:
        return "languages not known"
    return f"{language} among {len(card.languages)} languages" if len(card.languages) > 1 else f"in {language}"


def _count(parameters: float) -> str:
    return f"{parameters / 1e9:.3g}B" if parameters >= 1e9 else f"{parameters / 1e6:.3g}M"


def _bytes(size: int) -> str:
    if not size:
        return ""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
