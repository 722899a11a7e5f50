"""The student's own prompt, kept where plain transformers finds it: in the tokenizer's chat template."""

from collections.abc import Sequence
from typing import Any

from prompt2model.batches import Codec

INPUT = "\u27eainput\u27eb"
ANSWER = "\u27eaanswer\u27eb"


def set_student_prompt(codec: Codec) -> None:
    """Make the chat template ask for one answer to one input, in the base model's own markup.

    The student is asked with the input alone: what the instruction says, it has learned, and every token of a prompt
    is paid for at every call. A system message that the base's template adds by itself is left out for the same reason.
    """
    tokenizer = codec.tokenizer
    if tokenizer.chat_template:
        before, after = _turn(tokenizer)
    else:
        before = tokenizer.decode(codec.opening)
        after = tokenizer.decode(codec.closing) if codec.architecture == "encoder-decoder" else "\n"
    tokenizer.chat_template = _template(before, after, tokenizer.eos_token)
    tokenizer.pad_token_id = codec.pad
    tokenizer.padding_side = "left" if codec.architecture == "decoder" else "right"
    tokenizer.init_kwargs["padding_side"] = tokenizer.padding_side  # what save_pretrained looks at


def _turn(tokenizer: Any) -> tuple[str, str]:
    """The text before and after an input, as the base's template writes it."""
    first, after = _rendered(tokenizer, [("user", INPUT)], ask=True).split(INPUT)
    again = _rendered(tokenizer, [("user", ""), ("assistant", ANSWER), ("user", INPUT)], ask=True)
    between = again.partition(ANSWER)[2].partition(INPUT)[0]  # the end of an answer and the head of a user's turn
    end = _rendered(tokenizer, [("user", ""), ("assistant", ANSWER)], ask=False).partition(ANSWER)[2]
    head = between.removeprefix(end)
    if not head or not first.endswith(head):
        return first, after
    beginning = tokenizer.bos_token or ""
    is_marked = beginning and first.startswith(beginning) and not head.startswith(beginning)
    return (beginning if is_marked else "") + head, after


def _rendered(tokenizer: Any, turns: Sequence[tuple[str, str]], *, ask: bool) -> str:
    messages = [{"role": role, "content": content} for role, content in turns]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
    return text


def _template(before: str, after: str, end: str) -> str:
    """A Jinja template of a single exchange: an input, and its answer if it is there."""
    return (
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        + _literal(before)
        + "{{ message['content'] }}"
        + _literal(after)
        + "{% elif message['role'] == 'assistant' %}{{ message['content'] }}"
        + _literal(end)
        + "{% endif %}{% endfor %}"
    )


def _literal(text: str) -> str:
    return "{{ " + repr(text) + " }}" if text else ""
