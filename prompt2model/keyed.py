"""Examples whose halves stand after keys: `Input: …` and `Output: …`, in all the ways that people write it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from prompt2model.fences import enclosures
from prompt2model.pairs import Pair, Read, missing, role, strip_marks, unquote
from prompt2model.vocabulary import any_of

EXAMPLE = any_of("examples", "example")
BEFORE_EXAMPLE = rf"(?:(?:{any_of('examples', 'before')}|\d+)[\s/-]+)*"
AFTER_EXAMPLE = rf"(?:\s+{any_of('examples', 'after')})*"

MAX_KEY_WORDS = 3

_LEAD = r"[ \t]*(?:[-*+•>][ \t]+|\d+[.)][ \t]+)?"
_NAME = r"[^\W\d_][\w'’ -]{0,28}?"
_KEY = re.compile(
    rf"^{_LEAD}(?:#{{1,6}}[ \t]+)?(?P<mark>\*\*|__|`)?(?P<name>{_NAME})(?:[ \t]*\#?\d+)?[ \t]*"
    rf"(?:(?P=mark)[ \t]*[:=：]|[:=：](?P=mark)|[:=：])(?!//)[ \t]*(?P<value>.*)$"
)
_BARE_KEY = re.compile(
    rf"^{_LEAD}(?:#{{1,6}}[ \t]+(?P<name>{_NAME})|(?:\*\*|__)(?P<bold>{_NAME})(?:\*\*|__))(?:[ \t]*\d+)?[ \t]*$"
)
_HEADING = re.compile(rf"^[ \t#>*_-]*{BEFORE_EXAMPLE}{EXAMPLE}[ \t]*\#?\d*[ \t]*[:：.)_*#-]*[ \t]*$", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_RULE = re.compile(r"^[ \t]*(?:[-=*_#~][ \t]*){3,}$")


@dataclass(frozen=True)
class _Entry:
    """A key, the lines of its value, and the heading that it stands under."""

    key: str
    title: str
    role: str
    lines: tuple[str, ...]
    section: str

    @property
    def text(self) -> str:
        return "\n".join(self.lines).strip()


_Block = list[_Entry]
"""The entries of one example."""


def read_keyed(text: str) -> Read:
    """Values after keys, over several lines if need be; the keys may be bold, headings, numbered or on one line.

    Keys that name no half by themselves count where they come again and again in the same order. Raises TaskError for
    an input without an output.
    """
    lines = _lines(text.splitlines())
    roles = _roles(lines)
    if not roles:
        return [], text, Counter()
    entries, rest = _entries(lines, roles)
    entries, tails = _without_tails(entries)
    blocks, stray = _blocks(entries)
    kept, dropped = _only_examples(blocks)
    if len(kept) == 1 and _tells_the_form(kept[0]):
        return [], text, Counter()
    pairs = _unquoted([_pair(block, number) for number, block in enumerate(kept, start=1)])
    return pairs, "\n".join([*rest, *stray, *tails]), dropped


# Keys


@dataclass(frozen=True)
class _Line:
    """A line, and the key that it begins with."""

    text: str
    key: tuple[str, str] | None
    place: Literal["open", "code", "edge"] = "open"
    """Whether it belongs to a value as it is; at an edge stood a fence around whole examples."""


def _lines(lines: list[str]) -> list[_Line]:
    """The lines of the text; fences around whole examples are left out, those around code are the value's."""
    found: list[_Line] = []
    edge = _Line("", None, "edge")
    start, has_begun = 0, False
    for opening, closing in enclosures(lines):
        before, inside = _open_lines(lines[start:opening]), _open_lines(lines[opening + 1 : closing])
        has_begun = has_begun or any(line.key and role(line.key[0]) in ("input", "output") for line in before)
        if _FENCE.match(lines[opening]) and not has_begun and _roles(inside):
            found += [*before, edge, *inside, edge]
        else:
            closed = [_Line(line, None, "code") for line in lines[opening + 1 : closing + 1]]
            found += [*before, *_open_lines([lines[opening]]), *closed]
        start = closing + 1
    return found + _open_lines(lines[start:])


def _open_lines(lines: list[str]) -> list[_Line]:
    return [_Line(part, _key(part)) for line in lines for part in _one_key_a_line(line)]


_INLINE = re.compile(r"[ \t]+(?:[|,;/][ \t]*)?(?=(?:\*\*|__)?(?P<name>[^\W\d_]+)(?:\*\*)?[:：])")


_INLINE_PAIRS = re.compile(
    r"(?<=[.!?。！？:：])[ \t]+(?=(?:input[:：].{1,500}?[ \t]output[:：].{1,500}?){2})", re.IGNORECASE
)


def _one_key_a_line(line: str) -> list[str]:
    """`Input: a Output: b` cut in two, more of them into more; several may follow a sentence."""
    first = _key(line)
    if not first or role(first[0]) != "input":
        start = _INLINE_PAIRS.search(line)
        return [line[: start.start()], *_one_key_a_line(line[start.end() :])] if start else [line]
    cuts: list[int] = []
    for cut in _INLINE.finditer(line):
        is_next = cut["name"] == first[0] if len(cuts) % 2 else _is_partner(first[0], cut["name"])
        cuts.extend([cut.end()] if is_next else [])
    pieces = [line[start:end] for start, end in pairwise([0, *cuts, len(line)])]
    return [piece.strip().rstrip("|;/").removesuffix(",").rstrip() for piece in pieces] if cuts else [line]


def _is_partner(first: str, name: str) -> bool:
    """Whether the word is the output's key, written like the input's; only `output` goes with `input`."""
    is_output = name.casefold() == "output" if first.casefold() == "input" else role(name) == "output"
    return is_output and name[0].isupper() == first[0].isupper()


def _key(line: str) -> tuple[str, str] | None:
    """The key that the line begins with, and what follows it; a heading without a colon must name a half."""
    match = None if _HEADING.match(line) else _KEY.match(line)
    if match and len(match["name"].split()) <= MAX_KEY_WORDS:
        return match["name"].strip(), match["value"]
    alone = _BARE_KEY.match(line)
    name = (alone["name"] or alone["bold"]).strip() if alone else ""
    return (name, "") if role(name) in ("input", "output") else None


def _roles(lines: list[_Line]) -> dict[str, str]:
    """Which keys make up the examples, and as which half; none where there are no examples."""
    order = [(number, line.key[0].casefold()) for number, line in enumerate(lines) if line.key]
    known = {name: role(name) for _, name in order}
    if {"input", "output"} <= set(known):  # then other keys belong to the values
        return {name: kind for name, kind in known.items() if name in ("input", "output") or kind == "rationale"}
    if {"input", "output"} <= set(known.values()):
        halves = {name: kind for name, kind in known.items() if kind in ("input", "output", "rationale")}
        return halves | dict.fromkeys(_companions(order, known), "input")
    return _repeated(order, known)


def _companions(order: list[tuple[int, str]], known: dict[str, str]) -> set[str]:
    """Keys of no known role that stand beside an input or output in every example: parts of the input."""
    counts = Counter(name for _, name in order)
    examples = max(counts[name] for name in counts if known[name] == "output")
    halves = {number for number, name in order if known[name] in ("input", "output")}
    free = {name for name in counts if not known[name] or (known[name] == "setting" and examples > 1)}
    return {name for number, name in order if name in free and counts[name] == examples and number + 1 in halves}


def _repeated(order: list[tuple[int, str]], known: dict[str, str]) -> dict[str, str]:
    """Keys that come again and again in one order: the last is the output, unless it names an input."""
    counts = Counter(name for _, name in order)
    again = [name for name in counts if counts[name] > 1 and known[name] not in ("instruction", "rationale")]
    if len(again) < 2 or [name for _, name in order if name in again] != again * counts[again[0]]:
        return {}
    named = [name for name in again if known[name] == "output"]
    output = named[0] if named and known[again[-1]] == "input" else again[-1]
    return {name: "output" if name == output else "input" for name in again}


# Values

_NEGATIVE = re.compile(r"\b(?:negative|bad|wrong|incorrect)[ \t]+example", re.IGNORECASE)
_YOUR_TURN = re.compile(r"\b(?:now (?:complete|do|answer|your|it)|your turn|complete the following)\b", re.IGNORECASE)


def _entries(lines: list[_Line], roles: dict[str, str]) -> tuple[list[_Entry], list[str]]:
    """The entries in order, and the lines around them: before the first key, and behind a fence before the next."""
    entries: list[_Entry] = []
    around: list[str] = []
    section, is_value = "", False
    for line in lines:
        name, value = line.key or ("", "")
        if name.casefold() in roles:
            entries.append(_Entry(name.casefold(), name, roles[name.casefold()], (value,), section))
            is_value = True
        elif line.place == "open" and _is_heading(line.text, has_entries=bool(entries)):
            section = line.text
        elif is_value and line.place != "edge":
            entries[-1] = _with_lines(entries[-1], [*entries[-1].lines, line.text])
        else:
            around.append(line.text)
            is_value = False
    return entries, around


def _is_heading(line: str, *, has_entries: bool) -> bool:
    return bool(_HEADING.match(line) or _NEGATIVE.search(line) or (has_entries and _YOUR_TURN.search(line)))


def _with_lines(entry: _Entry, lines: Iterable[str]) -> _Entry:
    return _Entry(entry.key, entry.title, entry.role, tuple(lines), entry.section)


def _without_tails(entries: list[_Entry]) -> tuple[list[_Entry], list[str]]:
    """The entries, and the lines of their values that are prose.

    A line that announces the next example is prose; and so is the one paragraph below the last value, unless it is
    indented or another value has a blank line inside.
    """
    cut = [_cut_announcement(_trimmed(entry.lines)) for entry in entries]
    values, tails = [value for value, _ in cut], [line for _, tail in cut for line in tail]
    last = values[-1]
    has_paragraphs = any("" in value for value in values[:-1]) or "\n".join(last).startswith("```")
    end = last.index("") if last.count("") == 1 else 0
    if end and not has_paragraphs and not last[end + 1].startswith((" ", "\t")):
        values[-1], tails = last[:end], [*tails, *last[end:]]
    return [_with_lines(entry, value) for entry, value in zip(entries, values, strict=True)], tails


def _trimmed(lines: Iterable[str]) -> list[str]:
    """Without blank lines at either end and rules at the end; a blank line inside is "" exactly."""
    kept = [line if line.strip() else "" for line in lines]
    while kept and (not kept[-1] or _RULE.match(kept[-1])):
        kept.pop()
    while kept and not kept[0]:
        kept.pop(0)
    return kept


def _cut_announcement(lines: list[str]) -> tuple[list[str], list[str]]:
    announces = len(lines) > 2 and not lines[-2] and lines[-1].rstrip().endswith((":", "："))
    return (_trimmed(lines[:-1]), lines[-1:]) if announces else (lines, [])


# Examples

_SLOT = re.compile(r"\A(?:\{+[^{}\n]*\}+|<[^<>\n]+>|\[[^\[\]\n]+\]|\$\{?\w+\}?|\.{3}|…|_+)?\Z")


def _blocks(entries: list[_Entry]) -> tuple[list[_Block], list[str]]:
    """Entries grouped into examples: a key that is there already begins the next. A stray answer on top is prose."""
    halves = [entry.role for entry in entries if entry.role != "rationale"]
    is_stray = len(halves) > 1 and halves[0] == "output" == halves[-1] and entries[0].role == "output"
    stray = [f"{entries[0].title}: {entries[0].text}"] if is_stray else []
    blocks: list[_Block] = []
    for entry in entries[len(stray) :]:
        if not blocks or entry.key in {other.key for other in blocks[-1]}:
            blocks.append([])
        blocks[-1].append(entry)
    return blocks, stray


def _value(block: _Block, half: str) -> str:
    return next((entry.text for entry in block if entry.role == half), "")


def _only_examples(blocks: list[_Block]) -> tuple[list[_Block], Counter[str]]:
    """Examples of what not to do and the open places of a prompt template are counted and left out."""
    reasons = [_reason_to_drop(block, is_last=block is blocks[-1]) for block in blocks]
    kept = [block for block, reason in zip(blocks, reasons, strict=True) if not reason]
    return kept, Counter(reason for reason in reasons if reason)


def _reason_to_drop(block: _Block, *, is_last: bool) -> str:
    if _NEGATIVE.search(block[0].section):
        return "example of a wrong answer"
    given, wanted = _value(block, "input"), _value(block, "output")
    is_slot = bool(_SLOT.match(given) and _SLOT.match(wanted))
    is_turn = is_last and not wanted and bool(_YOUR_TURN.search(block[0].section))
    return "placeholder of a prompt template" if is_slot or is_turn else ""


_ARTICLE = re.compile(r"(?:an?|the|one of|either|any|ein(?:e|en)?|una?|une?)\b", re.IGNORECASE)
_CHOICE = re.compile(r"[\w\"'] (?:or|oder|o|ou) [\w\"']|\w/\w|, \w")


def _tells_the_form(block: _Block) -> bool:
    """Whether a lone pair describes what goes in and out (`Input: a review`, `Output: positive or negative`)."""
    given, wanted = _value(block, "input"), _value(block, "output")
    is_phrase = bool(_ARTICLE.match(given)) and len(given.split()) <= 12 and not given.endswith((".", "!", "?"))
    return is_phrase and bool(_ARTICLE.match(wanted) or _CHOICE.search(wanted))


def _pair(block: _Block, number: int) -> Pair:
    """The example; an input of several parts keeps their names."""
    given = [entry for entry in block if entry.role == "input"]
    wanted = _value(block, "output")
    lines = [f"{entry.title}: {entry.text}" for entry in given]
    text = given[0].text if len(given) == 1 else "\n".join(lines)
    if not wanted:
        raise missing("output", number, text)
    if not any(entry.text for entry in given):
        raise missing("input", number, wanted)
    return Pair(text, wanted, _value(block, "rationale") or None)


def _unquoted(pairs: list[Pair]) -> list[Pair]:
    """Quotes, marks and fences around a half are the notation's when every example has them there."""
    inputs = _all_or_none(_bare, [pair.input for pair in pairs])
    outputs = _all_or_none(_bare, [pair.output for pair in pairs])
    return [Pair(given, wanted, pair.rationale) for given, wanted, pair in zip(inputs, outputs, pairs, strict=True)]


def _all_or_none(change: Callable[[str], str], texts: list[str]) -> list[str]:
    changed = [change(text) for text in texts]
    return texts if any(new == old for new, old in zip(changed, texts, strict=True)) else changed


def _bare(text: str) -> str:
    fenced = re.fullmatch(r"```[\w+-]*\n(.*?)\n?```", text.strip(), flags=re.DOTALL)
    return fenced[1] if fenced else unquote(strip_marks(text))
