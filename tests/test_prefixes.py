"""What prompts begin with in common: against all ways of grouping them."""

from random import Random

import pytest

from prompt2model import prefixes
from prompt2model.prefixes import WORTH_SHARING, common_beginnings, fewest_tokens


def partitions(places):
    if not places:
        yield []
        return
    first, *rest = places
    for some in partitions(rest):
        yield [[first], *some]
        for at in range(len(some)):
            yield [*some[:at], [first, *some[at]], *some[at + 1 :]]


def tokens_read(prompts, groups):
    """With the longest beginning of each group after which all of its prompts go on, if it is worth sharing."""
    total = 0
    for group in groups:
        texts = [prompts[at] for at in group]
        most = min(map(len, texts)) - 1
        length = max(n for n in range(most + 1) if len({text[:n] for text in texts}) == 1)
        length = length if len(group) > 1 and length >= prefixes.WORTH_SHARING else 0
        total += length + sum(len(text) - length for text in texts)
    return total


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("worth", [1, 3])
def test_as_few_tokens_are_read_as_with_any_grouping(seed, worth, monkeypatch):
    monkeypatch.setattr(prefixes, "WORTH_SHARING", worth)
    rng = Random(seed)
    prompts = [tuple(rng.choices((1, 2), k=rng.randint(1, 9))) for _ in range(6)]
    beginnings, own = fewest_tokens(prompts)
    for prompt, place in zip(prompts, own, strict=True):
        assert prompt[: len(beginnings[place])] == beginnings[place]
        assert len(prompt) > len(beginnings[place])
    read = sum(map(len, beginnings)) + sum(len(p) - len(beginnings[at]) for p, at in zip(prompts, own, strict=True))
    assert read == min(tokens_read(prompts, groups) for groups in partitions(list(range(6))))


def test_a_short_beginning_and_a_single_prompt_are_left_alone():
    short = [(*range(WORTH_SHARING - 1), last) for last in (90, 91)]
    assert common_beginnings(short) == ([()], [0, 0])
    assert common_beginnings([tuple(range(40))]) == ([()], [0])


def test_the_same_prompt_twice_goes_on_after_all_but_its_last_token():
    prompt = tuple(range(WORTH_SHARING + 1))
    assert common_beginnings([prompt, prompt]) == ([prompt[:-1]], [0, 0])


def test_one_prompt_that_shares_nothing_does_not_make_all_others_longer():
    shared = tuple(range(900))
    prompts = [(*shared, *range(1000 + n, 1020 + n)) for n in range(15)]
    assert common_beginnings(prompts) == ([shared], [0] * 15)
    assert common_beginnings([*prompts, tuple(range(5000, 5920))]) == ([()], [0] * 16)
    two = [*prompts, *((*range(3000, 3900), *range(4000 + n, 4020 + n)) for n in range(15))]
    beginnings, own = common_beginnings(two)
    assert sorted(map(len, beginnings)) == [900, 900]
    assert len(set(own[:15])) == len(set(own[15:])) == 1
