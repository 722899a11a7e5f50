"""What is said to a teacher and what comes back: frozen records, as those that cross between stages."""

from typing import Any, Literal

from prompt2model.records import Record, WholeText


class Message(Record):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Request(Record):
    """One question to a teacher. Everything that decides the answer is in it, the seed included."""

    messages: tuple[Message, ...]
    continues: bool = False
    """The last message is the assistant's and is to be continued, not answered. Only local teachers can."""
    choices: tuple[str, ...] = ()
    """Ask for the likelihood of each of these answers instead of a text (needs `logprobs`)."""
    whole: bool = False
    """The likelihood of the choices is that of whole texts: that they end there counts too (needs `likelihood`)."""
    json_schema: dict[str, Any] | None = None
    max_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    """Tells apart requests that ask the same thing; a teacher that can be seeded is seeded with it."""
    beams: int = 1
    n_best: int = 1
    """With several beams nothing is drawn: wanted are the `n_best` likeliest answers that they find (needs `beams`)."""
    top_logprobs: int = 0
    """Ask for so many of the likeliest tokens at each place of the answer (needs `top_logprobs`)."""


class Reply(Record):
    """What came back: a text, or the choices' log-likelihoods, or the reason why nothing did."""

    text: WholeText = ""
    logprobs: tuple[float, ...] = ()
    """One for each choice of the request, in its order; natural."""
    others: tuple[WholeText, ...] = ()
    """Of the `n_best` answers those after `text`, the likeliest first, that came to an end."""
    top_logprobs: tuple[tuple[str, dict[str, float]], ...] = ()
    """Each token of the answer and the likeliest at its place, by their texts, where the request asks for them."""
    finish: Literal["stop", "length", "filtered", "failed"] = "stop"
    failure: str = ""
    """Why there is no text: a few words that are the same for all requests failing for this reason."""
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0  # of tokens_in, those that the provider had at hand from an earlier prompt
    cached: bool = False
