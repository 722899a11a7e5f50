"""Near twins: the index gives exactly what comparing all pairs gives."""

from itertools import pairwise

import pytest
from texts import random_texts

from prompt2model.jaccard import similarity
from prompt2model.twins import Twins, groups


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I love it", "i LOVE it!"),
        ("我喜欢这部电影", "我喜欢这部电影。"),
        ("refund", "Refund?"),
        (
            "the service at this place was so slow that we left before the food came and will not return",
            "the service at this place was so slow that we left before the food came and will not be back",
        ),
        ("这家餐厅的服务太慢了我们还没等到菜就走了", "这家餐厅的服务太慢了我们还没等到菜就走"),
        ("", " "),
    ],
)
def test_almost_the_same_texts_are_twins(one, other):
    twins = Twins([one], 0.7)
    assert twins.find(other) == one


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I love it", "I hate it"),
        ("我喜欢这部电影", "我讨厌这部电影"),
        ("great", "awful"),
        ("😀", "😡"),
        ("dog bites man", "man bites dog"),
        ("3 + 4", "3 − 4"),
        ("", "a"),
    ],
)
def test_texts_that_mean_different_things_are_no_twins(one, other):
    twins = Twins([one], 0.7)
    assert twins.find(other) is None


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_index_finds_exactly_what_comparing_all_pairs_finds(seed, threshold):
    texts = random_texts(seed, 160)
    earlier, others = texts[:120], texts[100:]
    twins = Twins(earlier, threshold)
    for text in others:
        alike = [(index, similarity(text, other)) for index, other in enumerate(earlier)]
        reached = [(index, likeness) for index, likeness in alike if likeness >= threshold]
        assert list(twins.near(text)) == reached
        nearest = max(reached, key=lambda pair: (pair[1], -pair[0]), default=None)
        assert twins.find(text) == (earlier[nearest[0]] if nearest else None)
    assert Twins([], threshold).find("a text") is None


@pytest.mark.parametrize("threshold", [0.4, 0.8])
def test_groups_are_the_connected_components_of_all_pairs(threshold):
    texts = random_texts(7, 150)
    found = groups(texts, threshold)
    assert sorted(place for group in found for place in group) == list(range(len(texts)))
    group_of = {place: number for number, group in enumerate(found) for place in group}
    for one in range(len(texts)):
        for other in range(one):
            if similarity(texts[one], texts[other]) >= threshold:
                assert group_of[one] == group_of[other]
    for group in found:
        reached, rest = {group[0]}, set(group[1:])
        while near := {a for a in rest for b in reached if similarity(texts[a], texts[b]) >= threshold}:
            reached, rest = reached | near, rest - near
        assert not rest


def test_groups_come_in_the_order_of_their_first_text():
    found = groups(["a b c", "x y z", "A, b, c!", "q", "x y z"], 0.8)
    assert found == [[0, 2], [1, 4], [3]]
    assert all(a < b for group in found for a, b in pairwise(group))
