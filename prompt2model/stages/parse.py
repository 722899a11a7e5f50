"""parse: a description becomes a task, read by its notation, and by a teacher where that does not suffice."""

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from prompt2model.asks import is_sorting, is_writing, is_yes_or_no
from prompt2model.config import ParseConfig
from prompt2model.description import check_description
from prompt2model.errors import TaskError
from prompt2model.labels import find_labels, label_sets, possible_sets
from prompt2model.language import LANGUAGES, SEVERAL, language_of
from prompt2model.notations import Reading, read_notation, without
from prompt2model.outputs import form_of, metric_named, named_metric, usual_metric
from prompt2model.pairs import Pair, shortened
from prompt2model.records import Example, Kind, Source, TaskSpec
from prompt2model.registry import did_you_mean, names
from prompt2model.second_reading import UNUSABLE, read_again
from prompt2model.spelling import repeated, respelled, same_label
from prompt2model.teacher import Teacher
from prompt2model.wording import one_line

YES_OR_NO = ("yes", "no")
MOST_NAMED = 8
"""Labels that a note names."""


@dataclass(frozen=True)
class _Decided:
    """What kind of task it is, and why that is worth saying."""

    kind: Kind
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_guess: bool = False
    """Whether someone who understands the text should be asked."""


def parse(description: str, config: ParseConfig = ParseConfig(), *, teacher: Teacher | None = None) -> TaskSpec:
    """The task that the description describes.

    Raises TaskError when the description is empty, binary or too long, when an example lacks a half, contradicts
    another or has an output that is not among the labels, and when there is no instruction.
    """
    reading = read_notation(check_description(description, config.max_characters))
    decided = _decide(reading, config)
    notes = [*reading.declared.notes]
    if _needs_teacher(reading, decided) and teacher is not None and _may_ask(teacher, config):
        reading, decided, notes = _second_opinion(description, reading, config, teacher)
    if not reading.instruction:
        raise TaskError(
            f"The description has {len(reading.pairs)} examples and no instruction.",
            hint="Say in a sentence before the examples what is to be done.",
        )
    pairs, labels = _spelled(reading.pairs, decided)
    examples, doubles = _examples(pairs)
    outputs = [example.output for example in examples]
    metric, metric_notes = _metric(reading, decided.kind, outputs, config)
    return TaskSpec(
        instruction=reading.instruction,
        examples=examples,
        kind=decided.kind,
        labels=labels,
        output_form=form_of(labels, reading.instruction, outputs),
        metric=metric,
        language=_language(reading, examples, labels, config),
        notes=(*notes, *decided.notes, *metric_notes, *_unread(reading)),
        dropped=dict(+(reading.dropped + doubles)),
    )


# The kind of task and its labels


def _decide(reading: Reading, config: ParseConfig, taught: tuple[str, ...] = ()) -> _Decided:
    """Settings win, then the front matter, then what the instruction names, then what the outputs show."""
    kind = config.kind if config.kind != "auto" else reading.declared.kind
    labels = config.labels or reading.declared.labels
    if labels and kind == "generation":
        raise TaskError("The task is said to be a generation, and has labels.", hint="Leave one of the two out.")
    if labels:
        return _Decided("classification", _checked(labels))
    if kind == "generation":
        return _Decided("generation")
    decided = _read_labels(reading, taught)
    if kind == "classification" and decided.kind != "classification":
        raise TaskError(
            "The task is said to be a classification, and fewer than two labels could be read.",
            hint="Name them in the instruction (as bug, billing or other), or set parse.labels.",
        )
    return decided


def _checked(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The labels without repetitions. Raises TaskError when fewer than two are left, or one is empty."""
    distinct = tuple(dict.fromkeys(label.strip() for label in labels))
    if "" in distinct:
        raise TaskError("One of the labels is empty.", hint='Give it a name, for instance "none".')
    if len(distinct) < 2:
        raise TaskError(
            f"A classification needs at least two labels; there is only {distinct[0]!r}.",
            hint=f"Several are written as a list: --set 'parse.labels={json.dumps(distinct[0].split(','))}'"
            if "," in distinct[0]
            else f'Name the other one, for instance "not {distinct[0]}".',
        )
    return distinct


def _read_labels(reading: Reading, taught: tuple[str, ...]) -> _Decided:
    outputs = [pair.output for pair in reading.pairs]
    named = taught or _named(reading.instruction, outputs)
    unnamed = [output for output in outputs if same_label(output, named) is None] if named else []
    if named and 2 * len(unnamed) <= len(outputs):
        further = tuple(dict.fromkeys(output for output in unnamed if _stands_in(reading.instruction, output)))
        labels = (*named, *further)
        if any(same_label(output, labels) is None and len(output.split()) > 2 for output in unnamed):
            note = (
                f"Outputs of the examples are more than one of {', '.join(named[:MOST_NAMED])}: taken as a generation."
            )
            return _Decided("generation", (), (note,))
        note = f"Labels by the examples, which show what else the description says: {', '.join(map(repr, further))}."
        return _Decided("classification", labels, (note,) if further else ())
    guessed = _guessed(reading)
    if guessed:
        note = "That these are the labels was taken from the examples: name them as labels to be sure."
        return _Decided("classification", guessed, (note,), True)
    is_copied = any(outputs.count(pair.output) == 1 and _stands_in(pair.input, pair.output) for pair in reading.pairs)
    if not is_copied and repeated(outputs, at_least=_repetitions(reading.instruction)):
        labels = tuple(dict.fromkeys(outputs))
        return _Decided("classification", labels, ("The labels were read from the examples' outputs.",))
    if is_yes_or_no(reading.instruction) and all(same_label(output, YES_OR_NO) is not None for output in outputs):
        return _Decided("classification", YES_OR_NO, ("No answers are named; they were taken to be yes and no.",), True)
    if is_sorting(reading.instruction) and all(len(output.split()) <= 4 for output in outputs):
        note = (
            "The description names no labels, so this was taken as a generation; name them: … as bug, billing or other."
        )
        return _Decided("generation", (), (note,), True)
    return _Decided("generation", is_guess=not outputs and not is_writing(reading.instruction))


def _named(instruction: str, outputs: Sequence[str]) -> tuple[str, ...]:
    """The labels that the instruction names: of several readings the one that all outputs agree with, if one does."""
    agreed = (labels for labels in label_sets(instruction) if _agree(outputs, labels))
    return next(agreed, ()) or find_labels(instruction)


def _guessed(reading: Reading) -> tuple[str, ...]:
    """A set that the instruction may name, which all outputs belong to, and no input does."""
    inputs, outputs = [pair.input for pair in reading.pairs], {pair.output for pair in reading.pairs}
    fitting = (
        labels
        for labels in (possible_sets(reading.instruction, outputs=len(outputs)) if outputs else ())
        if _agree(outputs, labels) and not any(text in labels for text in inputs)
    )
    return next(fitting, ())


def _agree(outputs: Collection[str], labels: tuple[str, ...]) -> bool:
    return all(same_label(output, labels) is not None for output in outputs)


def _stands_in(text: str, output: str) -> bool:
    return bool(re.search(rf"(?<![\w-]){re.escape(output)}(?![\w-])", text))


def _repetitions(instruction: str) -> int:
    """How often each output has to come on average before the outputs are taken for labels."""
    if is_writing(instruction):
        return 3
    return 1 if is_sorting(instruction) else 2


# Where the notation does not suffice


def _needs_teacher(reading: Reading, decided: _Decided) -> bool:
    return reading.has_unread or decided.is_guess


def _may_ask(teacher: Teacher, config: ParseConfig) -> bool:
    """A local teacher is too small for it."""
    return config.ask_teacher and not teacher.is_local and bool(teacher.can & {"text", "json_schema"})


def _second_opinion(
    description: str, reading: Reading, config: ParseConfig, teacher: Teacher
) -> tuple[Reading, _Decided, list[str]]:
    """The reading with what the teacher found written in the description."""
    taught = read_again(description, teacher)
    notes = [*reading.declared.notes]
    if taught.pairs and not reading.pairs:
        pieces = tuple(text for pair in taught.pairs for text in (pair.input, pair.output))
        instruction = taught.instruction or without(reading.instruction, pieces) or reading.instruction
        reading = replace(reading, instruction=instruction, pairs=taught.pairs, has_unread=False)
        notes.append(f"{len(taught.pairs)} examples were read by {teacher.name}.")
    if taught.labels:
        notes.append(f"The labels were read by {teacher.name}.")
    if UNUSABLE in taught.dropped and taught.kind is None:
        notes.append(f"{teacher.name} could not read the description; its notation alone was used.")
    reading = replace(reading, dropped=reading.dropped + taught.dropped)
    decided = _decide(reading, config, taught.labels)
    if taught.kind == "generation" and decided.is_guess and config.kind == "auto":
        decided = _Decided("generation")
    return reading, decided, notes


def _unread(reading: Reading) -> tuple[str, ...]:
    if not reading.has_unread:
        return ()
    return (
        "The description seems to hold examples that were not read; write each as two lines, Input: … and Output: …",
    )


# Examples


def _spelled(pairs: tuple[Pair, ...], decided: _Decided) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """The pairs and the labels in one spelling. Raises TaskError for an output that is not among the labels."""
    if decided.kind == "generation":
        return pairs, ()
    for number, pair in enumerate(pairs, start=1):
        if same_label(pair.output, decided.labels) is None:
            raise TaskError(
                f"The output of example {number} is {shortened(pair.output)!r}, which is none of the labels: "
                f"{', '.join(decided.labels[:20])}.",
                hint="Correct the example, or name the label in the instruction.",
            )
    labels = respelled(decided.labels, [pair.output for pair in pairs])
    places = [same_label(pair.output, decided.labels) or 0 for pair in pairs]
    return tuple(replace(pair, output=labels[place]) for pair, place in zip(pairs, places, strict=True)), labels


def _examples(pairs: Sequence[Pair]) -> tuple[tuple[Example, ...], Counter[str]]:
    """One example an input. Raises TaskError when an input has two outputs."""
    first: dict[str, tuple[int, Pair]] = {}
    dropped: Counter[str] = Counter()
    for row, pair in enumerate(pairs):
        key = one_line(pair.input)
        before, other = first.setdefault(key, (row, pair))
        if other.output.split() != pair.output.split():
            raise TaskError(
                f"Examples {before + 1} and {row + 1} have the same input ({shortened(pair.input)!r}) and different "
                f"outputs ({shortened(other.output)!r} and {shortened(pair.output)!r}).",
                hint="Keep the right one.",
            )
        if before != row:
            dropped["duplicate example"] += 1
    return tuple(_example(row, pair) for row, pair in first.values()), dropped


def _example(row: int, pair: Pair) -> Example:
    source = Source(kind="user", name="description", row=row)
    return Example(input=pair.input, output=pair.output, source=source, rationale=pair.rationale)


# Metric and language


def _metric(reading: Reading, kind: Kind, outputs: list[str], config: ParseConfig) -> tuple[str, tuple[str, ...]]:
    """The metric, and a note where the description names one that does not exist here."""
    demanded = config.metric if config.metric != "auto" else reading.declared.metric
    if demanded:
        if not metric_named(demanded):
            raise TaskError(f"There is no metric named {demanded!r}.", hint=did_you_mean(demanded, names("metrics")))
        return metric_named(demanded), ()
    usual, named = usual_metric(kind, reading.instruction, outputs), named_metric(reading.instruction)
    if named and not metric_named(named):
        return usual, (f"The description names the metric {named}, which does not exist here; {usual} is used.",)
    return named or usual, ()


def _language(reading: Reading, examples: Sequence[Example], labels: Sequence[str], config: ParseConfig) -> str:
    """An ISO 639-1 code, or that there are several. Raises TaskError when the one that is demanded is none."""
    demanded = config.language if config.language != "auto" else reading.declared.language
    if not demanded:
        return language_of(reading.instruction, [example.input for example in examples], labels)
    code = LANGUAGES.get(demanded.strip().lower(), demanded.strip().lower())
    if code != SEVERAL and not (code.isalpha() and len(code) in (2, 3)):
        raise TaskError(
            f"There is no language {demanded!r}.", hint=f"Give its ISO 639-1 code, for instance de, or {SEVERAL}."
        )
    return code
