"""A model's answers in a process of its own: python answer_here.py MODEL."""

import json
import sys

from prompt2model.conversation import Message, Reply, Request
from prompt2model.student import open_model

TEXTS = ["a fine film", "the film is bad, very bad indeed", "so", "one joke after the other and no story"]


def main(base: str) -> None:
    model = open_model(base, precision="float32")
    turns = [(Message(role="user", content=text),) for text in TEXTS]
    greedy = [Request(messages=asked, max_tokens=12, temperature=0.0) for asked in turns]
    drawn = [Request(messages=asked, max_tokens=12, temperature=1.0, seed=at) for at, asked in enumerate(turns)]
    beams = [Request(messages=asked, max_tokens=6, temperature=0.0, beams=3, n_best=2) for asked in turns]
    choices = [Request(messages=asked, choices=("positive", "negative", "neither")) for asked in turns]
    texts, searched, chosen = (_replies(model, requests) for requests in (greedy + drawn, beams, choices))
    print(
        json.dumps(
            {
                "device": model.model.device.type,
                "texts": [reply.text for reply in texts],
                "beams": [(reply.text, reply.others) for reply in searched],
                "choices": [reply.text for reply in chosen],
                "logprobs": [reply.logprobs for reply in chosen],
            }
        )
    )


def _replies(model, requests: list[Request]) -> list[Reply]:
    found = dict(pair for group in model.answer(requests) for pair in group)
    return [found[index] for index in range(len(requests))]


if __name__ == "__main__":
    main(sys.argv[1])
