"""How fast rows are compared with all that is kept, and whether the fast ways keep the rows that the slow ones keep.

    python benchmarks/filters_speed.py [ROWS] [TOKENS]

`novelty` and `duplicate` sift ROWS rows (50,000), in one go; the same two are held against their definitions, which
compare each row with every kept one, on the first 3,000. `contamination` indexes TOKENS words (10 million) and is asked
about rows of which some share 13 words with them. Rows have words drawn by Zipf's law; of every ten, three are edits of
earlier rows.
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from statistics import median

from prompt2model.config import GenerateConfig
from prompt2model.filters import Sieve, contamination, duplicate, novelty
from prompt2model.filters.novelty import MOST_ALIKE
from prompt2model.jaccard import NGRAMS
from prompt2model.ngrams import NGrams
from prompt2model.records import Example, Source, TaskSpec
from prompt2model.rewordings import common_words
from prompt2model.teachers.scripted import Scripted
from prompt2model.wording import words

VOCABULARY = 20_000
CHECKED = 3_000
TASK = TaskSpec(instruction="Answer.")
CONFIG = GenerateConfig()


def main() -> None:
    rows, tokens = (int(argument) for argument in (*sys.argv[1:], "50000", "10000000")[:2])
    texts = make_texts(rows)
    report("rows", rows, words=sum(len(text.split()) for text in texts))
    for module, slow in ((duplicate, slow_duplicate), (novelty, slow_novelty)):
        name = module.__name__.rpartition(".")[2]
        kept, seconds = timed(lambda module=module: sift(module, texts))
        report(name, rows, kept=len(kept), seconds=seconds, microseconds_a_row=1e6 * seconds / rows)
        checked = texts[:CHECKED]
        fast, fast_seconds = timed(lambda module=module, checked=checked: sift(module, checked))
        exact, slow_seconds = timed(lambda slow=slow, checked=checked: slow(checked))
        report(f"{name}, all pairs", len(checked), kept=len(exact), seconds=slow_seconds, by_index_seconds=fast_seconds)
        assert fast == exact, "the index keeps other rows than comparing all pairs"
    measure_contamination(tokens)


def make_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of 5 to 35 words, three in ten of them an earlier one with up to six edits."""
    rng = Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / (rank + 2.7) for rank in range(VOCABULARY)))  # Zipf and Mandelbrot
    texts: list[str] = []
    for _ in range(count):
        if texts and rng.random() < 0.3:
            found = rng.choice(texts).split()
            for _ in range(rng.randint(0, 6)):
                place = rng.randrange(len(found) + 1)
                new = rng.choices(vocabulary, cum_weights=weights)
                found = [*found[:place], *new, *found[place + rng.randint(0, 1) :]]
        else:
            found = rng.choices(vocabulary, cum_weights=weights, k=rng.randint(5, 35))
        texts.append(" ".join(found))
    return texts


def sift(module, texts: Sequence[str]) -> list[str]:
    judged = module.sift([row(text) for text in texts], Sieve(TASK, Scripted([]), CONFIG))
    return [one.input for one in judged if isinstance(one, Example)]


def row(text: str) -> Example:
    return Example(input=text, output="yes", source=Source(kind="teacher", name="benchmark"))


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    tokens = words(text)
    return frozenset(tuple(tokens[i : i + n]) for n in NGRAMS for i in range(len(tokens) - n + 1))


def slow_duplicate(texts: Sequence[str]) -> list[str]:
    """The Jaccard index of word 1- to 3-grams with every kept text."""

    def is_like(ours: frozenset, theirs: frozenset) -> bool:
        shared = len(ours & theirs)
        return shared / (len(ours) + len(theirs) - shared) >= CONFIG.near_twin

    return quadratic(texts, shingles, is_like)


def slow_novelty(texts: Sequence[str]) -> list[str]:
    """ROUGE-L with every kept text."""

    def is_like(ours: list[str], theirs: list[str]) -> bool:
        places: dict[str, int] = {}
        for bit, word in enumerate(ours):
            places[word] = places.get(word, 0) | (1 << bit)
        return 2 * common_words(places, len(ours), theirs) / (len(ours) + len(theirs)) > MOST_ALIKE

    return quadratic(texts, words, is_like)


def quadratic(texts: Sequence[str], prepared: Callable, is_like: Callable) -> list[str]:
    kept, found = [], []
    for text in texts:
        ours = prepared(text)
        if not any(is_like(ours, theirs) for theirs in found):
            kept.append(text)
            found.append(ours)
    return kept


def measure_contamination(tokens: int) -> None:
    texts = make_texts(min(tokens // 19, 100_000), seed=1)
    texts = [" ".join(texts[place : place + 10]) for place in range(0, len(texts), 10)]  # about 190 words each
    rng, test, total = Random(2), [], 0
    while total < tokens:
        found = rng.choice(texts).split()
        rng.shuffle(found)
        test.append(" ".join(found))
        total += len(found)
    index, seconds = timed(lambda: NGrams(test))
    report("index of n-grams", len(test), words=total, seconds=seconds)
    lookups = [" ".join(rng.choice(test).split()[5:18]) for _ in range(1000)]
    times = [timed(lambda phrase=phrase: index.positions(phrase))[1] for phrase in lookups]
    assert all(index.count(phrase) for phrase in lookups)
    report("positions of a 13-gram", 1000, median_milliseconds=1e3 * median(times), most_milliseconds=1e3 * max(times))
    clean = make_texts(5000, seed=3)
    dirty = [f"{text} {' '.join(rng.choice(test).split()[20:33])}" for text in clean[:500]]
    sieve = Sieve(TASK, Scripted([]), CONFIG, test=[row(text) for text in test])
    _, first = timed(lambda: contamination.sift([], sieve))
    judged, seconds = timed(lambda: contamination.sift([row(text) for text in [*dirty, *clean]], sieve))
    found = [not isinstance(one, Example) for one in judged]
    report("contamination", len(judged), words=total, index_seconds=first, seconds=seconds, dropped=sum(found))
    assert found == [True] * len(dirty) + [False] * len(clean)


def timed(work: Callable) -> tuple:
    began = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began


def report(what: str, rows: int, **figures: float) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # gigabytes on Linux
    shown = {name: round(value, 3) for name, value in figures.items()}
    print(json.dumps({"what": what, "rows": rows, **shown, "peak_gigabytes": round(memory, 2)}), flush=True)


if __name__ == "__main__":
    main()
