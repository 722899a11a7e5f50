"""retrieve: the base model to start from, data sets that would fit, and the rows of the data that was given."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prompt2model import hub, weights
from prompt2model.catalogue import (
    beyond_limits,
    builtin_datasets,
    builtin_models,
    covers,
    has_gpu,
    merge,
    rank_datasets,
    rank_models,
)
from prompt2model.config import RetrieveConfig
from prompt2model.conversation import Request
from prompt2model.errors import ConfigError, HubError, TeacherError
from prompt2model.prompts import messages
from prompt2model.records import DataCard, Found, ModelCard, Ranked, TaskSpec
from prompt2model.registry import did_you_mean
from prompt2model.rows import Rows, read_rows
from prompt2model.skills import language_name
from prompt2model.teacher import Teacher, replies

HUB_SECONDS = 3.0
"""How long the Hub may take in all; a machine that cannot reach it waits no longer."""
LISTED = 50
"""Cards asked of the Hub, of each kind."""
SHOWN = 20
"""Ranked cards kept in the record, of each kind."""
POOR = 0.5
"""A model at hand with less than this share of the best one's score is no base, however near it lies."""
CARD_TOKENS = 200

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def retrieve(task: TaskSpec, config: RetrieveConfig = RetrieveConfig(), *, teacher: Teacher | None = None) -> Found:
    """The base that was named or fits best, what else was ranked, and all rows of `config.data`.

    Data sets that rank well are suggestions: nothing of them is downloaded. The live Hub is asked once and not waited
    for; without it the built-in cards stand alone, and a note says so. A teacher that is not local is asked for two
    hypothetical cards. Raises ConfigError when the base cannot be used, DataError or HubError when rows cannot be read.
    """
    named = _named(config.base) if config.base != "auto" else None
    given = {source: read_rows(source, task, config) for source in config.data}
    live = _ask_hub(task, config)
    wished = _hypothetical_cards(task, teacher)
    cards = merge(builtin_models(), live.models)
    models = rank_models(task, cards, config, wished.model)
    datasets = rank_datasets(task, merge(builtin_datasets(), live.datasets), config, wished.dataset)
    base = named or _choose(task, config, models, live.is_reachable)
    return Found(
        base=base.name,
        base_reason=base.reason,
        models=tuple(models[:SHOWN]),
        datasets=tuple(datasets[:SHOWN]),
        examples=tuple(example for rows in given.values() for example in rows.examples),
        columns={source: _shown(rows) for source, rows in given.items()},
        licences={source: rows.licence for source, rows in given.items() if rows.licence},
        dropped=_dropped(given.values()),
        notes=(
            *(f"{source}: {note}" for source, rows in given.items() for note in rows.notes),
            *live.notes,
            *wished.notes,
            *_left_out(cards, task, config),
            *base.notes,
            *_doubts(base, cards, task),
        ),
    )


def _shown(rows: Rows) -> str:
    return f"{rows.columns['input']} -> {rows.columns['output']}"


def _dropped(given: Iterable[Rows]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for rows in given:
        total.update(rows.dropped)
    return dict(total)


# The live Hub


@dataclass(frozen=True)
class _Live:
    """What the Hub said."""

    models: list[ModelCard]
    datasets: list[DataCard]
    is_reachable: bool
    notes: tuple[str, ...] = ()


def _ask_hub(task: TaskSpec, config: RetrieveConfig) -> _Live:
    if config.hub == "off":
        return _Live([], [], False)
    query, began = _search_words(task, config), time.monotonic()
    tags = () if task.language == "en" else (f"language:{task.language}",)
    try:
        models = hub.list_models(query, limit=LISTED, max_parameters=config.max_parameters, timeout_seconds=HUB_SECONDS)
        left = max(0.1, round(HUB_SECONDS - (time.monotonic() - began), 1))
        datasets = hub.list_datasets(query, limit=LISTED, filters=tags, timeout_seconds=left)
    except HubError as error:
        count = f"{len(builtin_models())} models and {len(builtin_datasets())} data sets"
        return _Live([], [], False, (f"{error.message.rstrip('.')}. The built-in catalogue was used: {count}.",))
    return _Live(models, datasets, True)


def _search_words(task: TaskSpec, config: RetrieveConfig) -> str:
    """A few words that the Hub's names may contain: the tags of the built-in data set that fits best."""
    best = rank_datasets(task, builtin_datasets(), config)[:1]
    return " ".join(tag for ranked in best for tag in ranked.card.tags[:2]) or task.instruction


# Hypothetical cards


@dataclass(frozen=True)
class _Wished:
    """What a fitting model and a fitting data set would say of themselves."""

    model: str = ""
    dataset: str = ""
    notes: tuple[str, ...] = ()


def _hypothetical_cards(task: TaskSpec, teacher: Teacher | None) -> _Wished:
    """The cards as the teacher imagines them (HyDE: Gao et al., 2022, https://arxiv.org/abs/2212.10496).

    A local teacher is not asked: a small model writes no useful card, and the instruction alone ranks better.
    """
    if teacher is None or teacher.is_local:
        return _Wished()
    try:
        model, dataset = replies(teacher, [_card_request(task, subject) for subject in ("model", "data set")])
    except TeacherError as error:
        return _Wished(notes=(f"No hypothetical cards: {error.message}",))
    failures = dict.fromkeys(reply.failure for reply in (model, dataset) if reply.finish == "failed")
    return _Wished(
        model.text, dataset.text, tuple(f"A hypothetical card is missing: {failure}" for failure in failures)
    )


def _card_request(task: TaskSpec, subject: str) -> Request:
    prompt = messages(
        "retrieve/hypothetical_card.j2",
        subject=subject,
        instruction=task.instruction,
        labels=task.labels,
        language=language_name(task.language),
    )
    return Request(messages=prompt, max_tokens=CARD_TOKENS, temperature=0)


# The base


@dataclass(frozen=True)
class _Base:
    name: str
    reason: str
    notes: tuple[str, ...] = ()


def _named(base: str) -> _Base:
    """The base that the user named: a folder, a card's id or its last part, or any name that the Hub could know."""
    folder, ids = Path(base).expanduser(), {card.id for card in builtin_models()}
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"The folder {base} is no model: it has no config.json.", hint="Name one that has.")
        return _Base(base, "named in the settings; a folder on this machine")
    short = sorted(one for one in ids if one.split("/")[-1].lower() == base.lower())
    if base in ids or len(short) == 1:
        return _Base(base if base in ids else short[0], "named in the settings")
    if _HUB_NAME.fullmatch(base):
        return _Base(base, "named in the settings; not in the built-in catalogue")
    names = [*ids, *(one.split("/")[-1] for one in ids)]
    raise ConfigError(
        f"There is no base model {base!r}: it is no folder here, and no name that the Hub could know.",
        hint=did_you_mean(base, sorted(names)) if "/" not in base else "Write it as owner/name, or check the path.",
    )


def _choose(task: TaskSpec, config: RetrieveConfig, ranked: Sequence[Ranked], hub_is_reachable: bool) -> _Base:
    """The best-ranked model at hand; else the best-ranked one, if the Hub can be reached; else the embedded one."""
    best = max((one.score for one in ranked), default=0.0)
    near = [one for one in ranked if one.at_hand]
    fitting = [one for one in near if one.score >= POOR * best]
    if fitting:
        return _Base(fitting[0].card.id, _because(fitting[0], f"the best-ranked of {len(near)} models at hand"))
    notes = _nothing_at_hand(task, near)
    free = [one for one in ranked if not one.card.gated]
    if free and hub_is_reachable:
        return _Base(free[0].card.id, _because(free[0], "the best-ranked model, to be fetched from the Hub"), notes)
    return _embedded(config, notes)


def _because(ranked: Ranked, place: str) -> str:
    hardware = "" if has_gpu() else "; there is no GPU here, so small models are preferred"
    return f"{place}: {', '.join(ranked.reasons)}{hardware}"


def _nothing_at_hand(task: TaskSpec, near: Sequence[Ranked]) -> tuple[str, ...]:
    if near:
        return (f"{near[0].card.id} is at hand but fits the task poorly.",)
    if weights.at_hand(weights.DEFAULT_MODEL):
        return (f"No model at hand is within the limits and covers {language_name(task.language)} inputs.",)
    return ("No model of the catalogue is at hand yet.",)


def _embedded(config: RetrieveConfig, notes: tuple[str, ...]) -> _Base:
    """The model that needs no Hub. Raises ConfigError when it is not within the limits."""
    card = next(card for card in builtin_models() if card.id == weights.DEFAULT_MODEL)
    if why := beyond_limits(card, config):
        raise ConfigError(
            f"No base model within the limits can be had: none is at hand, the Hub is not reachable, and the embedded "
            f"{card.id} is left out ({why}).",
            hint="Connect to the Hub, name a folder with --base, or loosen the limits (retrieve.licences, "
            "retrieve.architecture, retrieve.max_parameters).",
        )
    return _Base(card.id, "the embedded model, which needs no Hub; nothing better is at hand", notes)


def _doubts(base: _Base, cards: Sequence[ModelCard], task: TaskSpec) -> list[str]:
    """What the user should know about the base before it is trained."""
    card = next((card for card in cards if card.id == base.name), None)
    doubts = []
    if card and not covers(card, task.language):
        doubts.append(
            f"{card.id} was not trained on {language_name(task.language)}, the language of the inputs: expect weak "
            "answers. A model that covers it can be named with --base."
        )
    if card and card.gated and not weights.at_hand(card.id):
        doubts.append(f"{card.id} is gated: accept its terms at https://huggingface.co/{card.id} and set HF_TOKEN.")
    return doubts


def _left_out(cards: Sequence[ModelCard], task: TaskSpec, config: RetrieveConfig) -> list[str]:
    """How many models the limits left out, by reason."""
    unspoken = f"not trained on {language_name(task.language)}"
    reasons = Counter(
        beyond_limits(card, config) or ("" if covers(card, task.language) else unspoken) for card in cards
    )
    reasons.pop("", None)
    if not reasons:
        return []
    counts = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return [f"{reasons.total()} of {len(cards)} base models were left out: {counts}."]
