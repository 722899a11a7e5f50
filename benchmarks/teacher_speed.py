"""Tokens per second of the local teacher by the rows of a batch, beside `model.generate` of transformers.

    python benchmarks/teacher_speed.py [ROWS]

Prompts share a long beginning and differ in length, as a strategy's do; every text has at most 24 tokens. Both write
greedily, so they write the same. Tokens written are counted, and tokens of prompts apart.
"""

import json
import random
import sys
import time

import torch

from prompt2model.conversation import Message, Request
from prompt2model.student import LocalModel, load
from prompt2model.weights import DEFAULT_MODEL, fetch

MOST_TOKENS = 24
BATCHES = (1, 8, 32, 128)


def main() -> None:
    requests = make_requests(int(sys.argv[1]) if len(sys.argv) > 1 else 64)
    model, codec = load(fetch(DEFAULT_MODEL), precision="float32")
    for rows in BATCHES:
        some = requests[: max(8, len(requests) // 4)] if rows == 1 else requests
        print(
            json.dumps(
                {
                    "batch_rows": rows,
                    "ours": ours(model, codec, some, rows),
                    "generate": theirs(model, codec, some, rows),
                }
            )
        )


def make_requests(count: int) -> list[Request]:
    rng = random.Random(0)
    words = ["soup", "table", "waiter", "price", "view", "evening", "bread", "wine", "music", "door"]
    start = "Write one sentence of a restaurant review that uses all of these words, in any order, and nothing else: "
    texts = [start + " ".join(rng.choices(words, k=rng.randint(2, 40))) for _ in range(count)]
    turns = [(Message(role="user", content=text),) for text in texts]
    return [Request(messages=messages, max_tokens=MOST_TOKENS, temperature=0.0) for messages in turns]


def ours(model, codec, requests: list[Request], rows: int) -> dict[str, float]:
    teacher, began = LocalModel(model, codec, name="m", batch_rows=rows), time.perf_counter()
    replies = [reply for group in teacher.answer(requests) for _, reply in group]
    return figures(time.perf_counter() - began, sum(r.tokens_in for r in replies), sum(r.tokens_out for r in replies))


def theirs(model, codec, requests: list[Request], rows: int) -> dict[str, float]:
    """In the order of the requests, padded on the left."""
    prompts = [codec.prompt(request.messages) for request in requests]
    began, written = time.perf_counter(), 0
    for first in range(0, len(prompts), rows):
        batch = prompts[first : first + rows]
        width = max(map(len, batch))
        ids = torch.tensor([[codec.pad] * (width - len(prompt)) + list(prompt) for prompt in batch])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in batch])
        made = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=MOST_TOKENS, do_sample=False)
        written += int((made[:, width:] != codec.pad).sum())
    return figures(time.perf_counter() - began, sum(map(len, prompts)), written)


def figures(seconds: float, tokens_in: int, tokens_out: int) -> dict[str, float]:
    return {"written_per_second": round(tokens_out / seconds, 1), "read_per_second": round(tokens_in / seconds, 1)}


if __name__ == "__main__":
    main()
