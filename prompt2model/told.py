"""A server's answer with the likeliest tokens of each place, as a row: texts of tokens become the student's tokens.

A server tells little, about its own answers only, and by texts. So the student learns from an answer that both cut into
the same tokens, and what is not told of a place, or by no text, counts as one token: the tail.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prompt2model.batches import HALF_A_CHARACTER, Codec, Row
from prompt2model.conversation import Message, Reply
from prompt2model.records import Dropped

Place = tuple[str, dict[str, float]]
"""A token, and the log-probabilities of the likeliest where it stands, by their texts."""

NO_TOKEN = -1e30
"""The log-probability that fills a place up: nothing, and finite."""


def tokens_by_text(codec: Codec) -> dict[str, int]:
    """The tokens by the texts that they add to another; without those that no text tells apart.

    They are decoded after another token: some tokenizers drop the space before a first one. The end of a text is also
    nothing, for servers that leave markup out.
    """
    before: list[int] = codec.tokenizer("x", add_special_tokens=False).input_ids
    pairs = [[*before, token] for token in range(len(codec.tokenizer))]
    decoded = codec.tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)
    texts = [text.removeprefix("x") for text in decoded]
    times = Counter(texts)
    told = {text: token for token, text in enumerate(texts) if times[text] == 1 and HALF_A_CHARACTER not in text}
    return told | {"": codec.end}


def told_row(
    reply: Reply, asked: Sequence[Message], codec: Codec, tokens: Mapping[str, int], *, k: int, max_length: int
) -> Row | Dropped:
    """The answer after the student's own prompt with `ids` and `log_p`, (T, k) each, among its signals, or why not.

    `tokens` are those of `tokens_by_text`. Where the server does not tell the end of its answer, it is certain.
    """
    if reply.finish != "stop":
        reason = "cut off" if reply.finish == "length" else f"the teacher's reply was {reply.finish}"
        return Dropped(reason=reply.failure or reason, text=reply.text)
    if not reply.text.strip():
        return Dropped(reason="no answer")
    row, places = codec.row(asked, reply.text, max_length=max_length), _with_end(reply.top_logprobs, codec, tokens)
    is_same = tuple(tokens.get(token) for token, _ in places) == row.completion
    if not (is_same and all(token in likeliest for token, likeliest in places)):
        return Dropped(reason="tokens that are not the student's", text=reply.text)
    return replace(row, signals=_signals(places, tokens, k))


def _with_end(places: Sequence[Place], codec: Codec, tokens: Mapping[str, int]) -> list[Place]:
    """The places, the last of them the student's own end of a text, certain where it is not told."""
    last = tokens.get(places[-1][0]) if places else None
    if last == codec.end:
        return list(places)
    end = next((text for text, token in tokens.items() if token == codec.end), "")
    return [*places[: len(places) - (last in codec.ends)], (end, {end: 0.0})]


def _signals(places: Sequence[Place], tokens: Mapping[str, int], k: int) -> dict[str, Tensor]:
    """The k likeliest tokens of each place that the student has; filled up by the first, of no probability."""
    ids, log_p = [], []
    for _, likeliest in places:
        known = [(tokens[text], value) for text, value in likeliest.items() if text in tokens]
        known = sorted(known, key=lambda pair: -pair[1])[:k]
        known += [(known[0][0], NO_TOKEN)] * (k - len(known))
        ids.append([token for token, _ in known])
        log_p.append([value for _, value in known])
    return {"ids": torch.tensor(ids, dtype=torch.int32), "log_p": torch.tensor(log_p)}
