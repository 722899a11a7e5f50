"""Near twins: texts that say almost the same in almost the same words, whose Jaccard index reaches a threshold."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from prompt2model.jaccard import Likeness
from prompt2model.wording import normalise


class Twins:
    """Texts, and for another text those that are at least `threshold` like it; exact."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._texts, self._likeness, self._threshold = texts, Likeness(texts), threshold

    def find(self, text: str) -> str | None:
        """The text most like this one, the first of equals; none where no text reaches the threshold."""
        nearest = max(self.near(text), key=lambda near: (near[1], -near[0]), default=None)
        return self._texts[nearest[0]] if nearest else None

    def near(self, text: str) -> Iterator[tuple[int, float]]:
        """Every text that reaches the threshold: its place, and how alike it is."""
        likenesses = self._likeness.to(text)
        for place in np.flatnonzero(likenesses >= self._threshold).tolist():
            yield place, float(likenesses[place])


def groups(texts: Sequence[str], threshold: float) -> list[list[int]]:
    """The texts' places, twins together and twins of twins too, in the order of each group's first text."""
    leader, first = _Leaders(), dict[str, int]()
    for place, text in enumerate(texts):
        leader.join(first.setdefault(normalise(text), place), place)
    places = list(first.values())
    twins = Twins([texts[place] for place in places], threshold)
    for place in places:
        for other, _ in twins.near(texts[place]):
            leader.join(places[other], place)
    together: dict[int, list[int]] = defaultdict(list)
    for place in range(len(texts)):
        together[leader.of(place)].append(place)
    return list(together.values())


class _Leaders:
    """Union-find: who leads the group that a place belongs to."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def of(self, place: int) -> int:
        while (above := self._above.get(place, place)) != place:
            self._above[place] = self._above.get(above, above)
            place = above
        return place

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.of(one), self.of(other)))
        self._above[high] = low
