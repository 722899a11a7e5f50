"""The input read out of a teacher's reply, or why the reply holds none."""

import re
from collections.abc import Sequence
from functools import cache

from prompt2model.conversation import Reply, Request
from prompt2model.records import Dropped, TaskSpec
from prompt2model.wording import normalise

BEGIN_OF_ITEM, END_OF_ITEM = "<example>", "</example>"
"""Around an input in a list of several: the tags of LaMini-LM's prompts."""

ECHO_WORDS = 4
"""From so many words on, a text that stands in the prompt is copied from there, not written."""

SHORT_LABEL = 3
"""A label of fewer characters gives an answer away only behind a colon and at the end."""

NEXT_ITEMS = ("\n\nLabel:", "\n\nInput:")
"""How a model that goes on with a list begins the next item: see templates/generate."""


def read_draft(reply: Reply, request: Request, task: TaskSpec) -> str | Dropped:
    """The input that the reply holds, or why it holds none."""
    if reply.finish in ("failed", "filtered"):
        return Dropped(reason=reply.failure or f"the teacher's reply was {reply.finish}")
    whole, is_cut = _without_wrapping(reply.text, task), reply.finish == "length"
    is_listed = _MARKER.match(_unannounced(reply.text, task)) is not None
    text = _first_block(whole, task) if request.continues else _only_input(whole, task, is_listed, is_cut)
    if text and is_cut and whole.endswith(text.rpartition("\n")[2]):
        return Dropped(reason="cut off", text=reply.text)
    return judged(_unquoted(text), _told(request), task)


def read_drafts(reply: Reply, request: Request, task: TaskSpec, most: int) -> list[str | Dropped]:
    """Up to `most` inputs that the reply lists between <example> and </example>, or why it holds none.

    An item whose end is forgotten ends where the next one begins. One that is begun last and not ended is left out:
    Self-Instruct, https://arxiv.org/abs/2212.10560, does so too.
    """
    if reply.finish in ("failed", "filtered"):
        return [Dropped(reason=reply.failure or f"the teacher's reply was {reply.finish}")]
    is_ended = request.continues and reply.finish != "length"
    listed = BEGIN_OF_ITEM * request.continues + reply.text + END_OF_ITEM * is_ended
    *found, last = [item.partition(END_OF_ITEM) for item in listed.split(BEGIN_OF_ITEM)][1:] or [("", "", "")]
    items = [text for text, _, _ in found] + [last[0]] * bool(last[1])
    if not items:
        return [Dropped(reason="cut off" if reply.finish == "length" else "lists nothing", text=reply.text)]
    return [judged(_item(text, request, task), _told(request), task) for text in items[:most]]


def judged(text: str, told: str, task: TaskSpec) -> str | Dropped:
    """The text, or why it is no new input; `told` is what it must not be copied from."""
    for reason, is_so in (
        ("empty reply", not text),
        ("says its label", _says_its_label(text, task)),
        ("copied from the prompt", _is_echo(text, told, task)),
    ):
        if is_so:
            return Dropped(reason=reason, text=text)
    return text


def ends_of_input(task: TaskSpec) -> tuple[str, ...]:
    """What no input contains, by the user's examples: a paragraph's end, or (also without any) a line's.

    Where there are blank lines in them, an input ends where the next one is announced.
    """
    inputs = _shown(task)
    if any("\n\n" in text for text in inputs):
        return tuple(end for end in ("\n\n\n", *NEXT_ITEMS) if not any(end in text for text in inputs))
    return ("\n\n",) if any("\n" in text for text in inputs) else ("\n",)


def _shown(task: TaskSpec) -> list[str]:
    return [example.input.strip() for example in task.examples]


_FENCE = re.compile(r"^```\w*\n(.*?)(?:\n```.*)?$", re.DOTALL)
_MARKER = re.compile(r"^(?:[-*•]|\(?\d{1,3}[.)])\s+")
_NAME = re.compile(r"^[*_]*(?:new |example |the )?(?:input|text|example|sentence)(?: \d+)?[*_]*\s*[:：][*_]*\s*", re.I)
_CHATTER = re.compile(
    r"(?:sure|certainly|of course|okay|ok|here(?:'s|’s| is| are)?|new|another|the following)\b", re.IGNORECASE
)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "„": "“", "「": "」", "`": "`"}


def _unannounced(text: str, task: TaskSpec) -> str:
    """The text without a code fence and a line that announces it, where none of the user's examples has the like."""
    inputs, text = _shown(task), text.strip()
    if not any("```" in shown for shown in inputs):
        text = _FENCE.sub(r"\1", text).strip()
    return _without_announcement(text, inputs)


def _without_wrapping(text: str, task: TaskSpec) -> str:
    """The unannounced text without a list marker and its field's name, again where no example has such a thing."""
    inputs, text = _shown(task), _unannounced(text, task)
    for prefix in (_MARKER, _NAME):
        if not any(prefix.match(shown) for shown in inputs):
            text = prefix.sub("", text)
    return text.strip()


def _without_announcement(text: str, inputs: Sequence[str]) -> str:
    """The text without a first line that ends in a colon, where that is chatter, or all that comes is one more line and
    examples do not begin so, or it stands apart. One that begins further right is code, which both are.
    """
    line, newline, rest = text.partition("\n")
    if not newline or not _ends_in_colon(line) or any("\n" in one and _ends_in_colon(one) for one in inputs):
        return text
    is_one_more = "\n" not in rest.strip() and not rest.startswith((" ", "\t"))
    is_announced = is_one_more and (inputs or rest.startswith("\n"))
    return rest.strip() if is_announced or _CHATTER.match(line) else text


def _ends_in_colon(text: str) -> bool:
    return text.partition("\n")[0].rstrip("*_ ").endswith((":", "："))


def _first_block(text: str, task: TaskSpec) -> str:
    """As much as the user's examples show an input to be: everything, a paragraph, or (also without any) a line."""
    for end in ends_of_input(task):
        text = text.partition(end)[0]
    return text.strip()


_FIELD = r"[*_]*(?:label|output|answer|class|category|classification|explanation|note)[*_]*\s*[:：]"
_REMARK = r"\(?(?:this|the above) (?:review|text|input|example|sentence|message|mail|email|post|tweet|comment)\b"
_OFFER = (
    r"(?:i hope this helps|(?:would you like|let me know if you)\b.{0,40}\b(?:another|example|variation|version)s?\b)"
)
_BEHIND = re.compile(rf"\n\s*\n(?={_FIELD}|{_REMARK}|{_OFFER})", re.IGNORECASE)
_NAMED_FIELD = re.compile(r"[*_]*([\w ]{1,30}?)[*_]*[:：]")


def _only_input(text: str, task: TaskSpec, is_listed: bool, is_cut: bool) -> str:
    """The answer of a teacher that was told to give one input and nothing else, without what it adds all the same.

    A list of several gives its first item, and so do several that begin with the same field, and a text that was cut
    off where examples show how long an input is. One of which the first paragraph has too few lines loses blank ones.
    """
    inputs = _shown(task)
    if not any(_BEHIND.search(shown) for shown in inputs):
        text = _BEHIND.split(text)[0]
    first, _, rest = text.partition("\n")
    if is_listed and _MARKER.match(rest.lstrip()):
        return first.strip()
    block = _first_block(text, task) if inputs else text
    is_too_short = bool(inputs) and all(_lines(block) < _lines(shown) for shown in inputs)
    if _begins_another(text[len(block) :].lstrip(), block) or (is_cut and not is_too_short):
        return block
    return "\n".join(filter(str.strip, text.split("\n"))) if is_too_short else text


def _begins_another(rest: str, block: str) -> bool:
    """Whether what comes behind the block begins with the same field as it, or announces itself."""
    ours, theirs = _NAMED_FIELD.match(block), _NAMED_FIELD.match(rest)
    return _NAME.match(rest) is not None or bool(ours and theirs and ours[1] == theirs[1])


def _lines(text: str) -> int:
    return len(text.split("\n"))


def _item(text: str, request: Request, task: TaskSpec) -> str:
    text = _without_wrapping(text, task)
    return _unquoted(_first_block(text, task) if request.continues else text)


def _unquoted(text: str) -> str:
    """The text without the quotes around it, or without an opening one that is never closed."""
    closing = _QUOTES.get(text[:1])
    if closing is None:
        return text
    inner = text[1:].removesuffix(closing)
    return text if closing in inner or text[0] in inner else inner.strip()


def _says_its_label(text: str, task: TaskSpec) -> bool:
    """Whether the text gives its answer away, as in "Label: positive" or "... (positive)", and no example does so."""
    said = _giving_away(task.labels) if task.labels else None
    return bool(said and said.search(text)) and not any(said and said.search(one) for one in _shown(task))


@cache
def _giving_away(labels: tuple[str, ...]) -> re.Pattern[str]:
    """How a text may name one of the labels; short ones, as numbers, stand in texts for other reasons too."""
    field, ways = r"\b(?:label|output|answer|class|category|classification)", list[str]()
    for is_short, colon, end in ((False, r"\W{1,4}", r"(?!\w)"), (True, r"\s*[:：=]\s*", r"\W*$")):
        if some := "|".join(re.escape(label) for label in labels if (len(label) < SHORT_LABEL) == is_short):
            ways.append(rf"{field}{colon}(?:{some}){end}|[(\[](?:{some})[)\]]\W*$")
    return re.compile("|".join(ways), re.IGNORECASE)


def _told(request: Request) -> str:
    return "\n".join(message.content for message in request.messages)


def _is_echo(text: str, told: str, task: TaskSpec) -> bool:
    """Whether the text is copied from what the teacher was told, or repeats the instruction."""
    written, instruction = normalise(text), normalise(task.instruction)
    if len(written.split()) < ECHO_WORDS:
        return written == instruction
    return f" {written} " in f" {normalise(told)} " or instruction in written
