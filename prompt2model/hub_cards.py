"""Cards made of what the Hub's API says about a model or a data set. Nothing is asked here."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from prompt2model.records import Architecture, DataCard, ModelCard
from prompt2model.wording import one_line

if TYPE_CHECKING:
    from huggingface_hub import DatasetInfo, ModelInfo

TASK_ARCHITECTURES: dict[str, Architecture] = {
    "text-generation": "decoder",
    "text2text-generation": "encoder-decoder",
}
ENCODER_DECODERS = {
    *("t5", "mt5", "umt5", "longt5", "t5gemma", "switch_transformers", "bart", "mbart", "plbart", "m2m_100", "marian"),
    *("blenderbot", "blenderbot-small", "pegasus", "pegasus_x", "bigbird_pegasus", "led", "prophetnet"),
}
"""Transformers' model types that read with one half and write with the other."""
DTYPE_BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "F4": 4, "U4": 4}


def model_card(info: "ModelInfo") -> ModelCard | None:
    """The facts of a listing, or none when the size or a text-writing architecture is not among them."""
    architecture, weights = _architecture(info), info.safetensors
    if architecture is None or weights is None or not weights.total:
        return None
    facts, tags = card_facts(info), tuple(info.tags or ())
    return ModelCard(
        id=info.id,
        description=_describe_model(info, facts),
        architecture=architecture,
        parameters=weights.total,
        size_bytes=sum(count * DTYPE_BITS.get(dtype, 8) for dtype, count in weights.parameters.items()) // 8,
        licence=licence(facts, tags),
        languages=_languages(facts, tags),
        downloads=info.downloads or 0,
        instruct="conversational" in tags or bool(re.search(r"instruct|chat|flan|[-_]it\b", info.id.lower())),
        gated=bool(info.gated),
        tags=tags,
    )


def _architecture(info: "ModelInfo") -> Architecture | None:
    """By the model's type and class, which are certain; by the Hub's task only where it does not know the class."""
    config = info.config or {}
    classes = config.get("architectures") or ()
    if config.get("model_type") in ENCODER_DECODERS:
        return "encoder-decoder"
    if any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in classes):
        return "decoder"
    return None if classes else TASK_ARCHITECTURES.get(_task(info))


def _task(info: "ModelInfo") -> str:
    return info.pipeline_tag or next((tag for tag in info.tags or () if tag in TASK_ARCHITECTURES), "")


def _describe_model(info: "ModelInfo", facts: dict[str, Any]) -> str:
    """A sentence made of the card's facts; the Hub's listing holds no prose."""
    family = (info.config or {}).get("model_type", "")
    parts = [f"A {_task(info) or 'text'} model" + (f" of the {family} family" if family else "")]
    if base := _listed(facts.get("base_model")):
        parts.append(f"made from {', '.join(base)}")
    if data := _listed(facts.get("datasets")):
        parts.append(f"trained on {', '.join(data)}")
    return ", ".join(parts) + "."


def data_card(info: "DatasetInfo") -> DataCard:
    """The facts of a listing; what the card does not say stays empty."""
    facts, tags = card_facts(info), tuple(info.tags or ())
    config = _first_config(facts)
    inputs, output = _evaluated_columns(facts)
    columns = ", ".join(str(one.get("name", "")) for one in dicts(config.get("features")))
    prose = one_line(info.description or "")
    return DataCard(
        id=info.id,
        description=f"{prose} Columns: {columns}." if columns else prose,
        task=next((tag.split(":", 1)[1] for tag in tags if tag.startswith("task_categories:")), ""),
        input_columns=inputs,
        output_column=output,
        config=str(config.get("config_name", "")),
        rows=sum(int(split.get("num_examples") or 0) for split in dicts(config.get("splits"))),
        size_bytes=int(config.get("download_size") or 0),
        licence=licence(facts, tags),
        languages=_languages(facts, tags),
        downloads=info.downloads or 0,
        gated=bool(info.gated),
        tags=tags,
    )


def card_facts(info: "ModelInfo | DatasetInfo") -> dict[str, Any]:
    """The card's metadata block, as it was written."""
    return cast("dict[str, Any]", info.card_data.to_dict()) if info.card_data else {}  # type: ignore[no-untyped-call]


def _first_config(facts: dict[str, Any]) -> dict[str, Any]:
    return next(iter(dicts(facts.get("dataset_info"))), {})


def _evaluated_columns(facts: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    """The columns that the card's `train-eval-index` names: inputs first, the last one is what is to be predicted."""
    entries = dicts(facts.get("train-eval-index") or facts.get("train_eval_index"))
    mapping = entries[0].get("col_mapping") if entries else None
    names = [name for name in mapping if isinstance(name, str)] if isinstance(mapping, dict) else []
    return (tuple(names[:-1]), names[-1]) if len(names) > 1 else ((), "")


def licence(facts: dict[str, Any], tags: Iterable[str]) -> str:
    """The licence as the card or the tags name it, several joined by commas; empty when neither does."""
    named = _listed(facts.get("license")) or [tag.split(":", 1)[1] for tag in tags if tag.startswith("license:")]
    return ", ".join(named)


def _languages(facts: dict[str, Any], tags: Iterable[str]) -> tuple[str, ...]:
    """Two-letter codes; none when the card does not say."""
    tagged = (tag.removeprefix("language:") for tag in tags)
    named = _listed(facts.get("language")) or [tag for tag in tagged if re.fullmatch(r"[a-z]{2}", tag)]
    return tuple(dict.fromkeys(named))


def _listed(value: Any) -> list[str]:
    """The card's value as a list of texts: cards write one text, a list, or nothing."""
    values = value if isinstance(value, list) else [value] if value else []
    return [str(one) for one in values if one]


def dicts(value: Any) -> list[dict[str, Any]]:
    """The card's value as a list of mappings: cards write one, a list, or nothing."""
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, dict)]


def label_names(facts: dict[str, Any], config: str) -> dict[str, tuple[str, ...]]:
    """Column -> label names, from the card's `dataset_info` (features with `class_label`)."""
    known = dicts(facts.get("dataset_info"))
    chosen = next((one for one in known if one.get("config_name") == config), known[0] if len(known) == 1 else {})
    names: dict[str, tuple[str, ...]] = {}
    for feature in dicts(chosen.get("features")):
        dtype = feature.get("dtype")
        labels = dtype.get("class_label", {}).get("names") if isinstance(dtype, dict) else None
        if isinstance(labels, dict):
            labels = [labels[key] for key in sorted(labels, key=int)]
        if labels:
            names[str(feature.get("name"))] = tuple(str(label) for label in labels)
    return names
