"""Near twins: texts that say almost the same in almost the same words.

Two texts are compared by the Jaccard index of their word n-grams, n from 1 to 3: the single words carry short texts,
the triples the order of long ones. Where a script writes no spaces, every character counts as a word.
"""

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

NGRAMS = (1, 2, 3)

# Han, Kana, Thai, Lao, Myanmar, Khmer: written without spaces between words.
_UNSPACED = re.compile(r"([぀-ヿ㐀-䶿一-鿿豈-﫿\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003ffff])")

_SIGN = re.compile(r"[-*/](?=\s*\d)")
_SIGNS = {"-": " − ", "*": " × ", "/": " ÷ "}  # signs of mathematics, which are no punctuation


def normalise(text: str) -> str:
    """The text in lower case, without punctuation, with single spaces. A text of punctuation alone stays itself.

    Signs before a number are words: 12 - 4 is not 12 * 4, nor 5 the same as -5.
    """
    folded = _SIGN.sub(lambda sign: _SIGNS[sign[0]], unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SPACES).split()) or " ".join(folded.split())


def words(text: str) -> list[str]:
    """The normalised text's words; in scripts without spaces its characters."""
    return _UNSPACED.sub(r" \1 ", normalise(text)).split()


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The text's word n-grams; the empty text has one of its own, so that it equals itself."""
    tokens = words(text) or [""]
    return frozenset(tuple(tokens[i : i + n]) for n in NGRAMS for i in range(len(tokens) - n + 1))


def similarity(one: str, other: str) -> float:
    """The Jaccard index of the texts' word n-grams: 1 for the same words in the same order, 0 for no common word."""
    return _jaccard(shingles(one), shingles(other))


class Twins:
    """Texts in the order they were added, and for a new text those that are at least `threshold` like it.

    Exact, and not quadratic: a text that shares `need` of the new one's n shingles has one of any n - need + 1 of them,
    so only the texts listed under the rarest n - need + 1 shingles are compared (the prefix filter of Chaudhuri et al.,
    2006, https://doi.org/10.1109/ICDE.2006.9).
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._texts: list[str] = []
        self._shingles: list[frozenset[tuple[str, ...]]] = []
        self._containing: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, text: str) -> None:
        """Remember the text."""
        for shingle in (found := shingles(text)):
            self._containing[shingle].append(len(self._texts))
        self._shingles.append(found)
        self._texts.append(text)

    def find(self, text: str) -> str | None:
        """The earlier text most like this one, the first of equals; none where no text reaches the threshold."""
        nearest = max(self.near(text), key=lambda near: (near[1], -near[0]), default=None)
        return self._texts[nearest[0]] if nearest else None

    def near(self, text: str) -> Iterator[tuple[int, float]]:
        """Every earlier text that reaches the threshold: its place in the order of adding, and how alike it is."""
        wanted = shingles(text)
        for index in self._candidates(wanted):
            likeness = _jaccard(wanted, self._shingles[index])
            if likeness >= self.threshold:
                yield index, likeness

    def _candidates(self, wanted: frozenset[tuple[str, ...]]) -> list[int]:
        # 0.7 * 10 is 7.000000000000001 in floating point; without the allowance a twin would be missed.
        need = max(1, math.ceil(self.threshold * len(wanted) - 1e-9))
        lists = sorted((self._containing.get(shingle, []) for shingle in wanted), key=len)
        return sorted({index for indices in lists[: len(wanted) - need + 1] for index in indices})


def groups(texts: Sequence[str], threshold: float) -> list[list[int]]:
    """The texts' places, twins together and twins of twins too, in the order of each group's first text."""
    twins, leader = Twins(threshold), _Leaders()
    first: dict[str, int] = {}
    places: list[int] = []
    for place, text in enumerate(texts):
        same = first.setdefault(normalise(text), place)
        if same != place:
            leader.join(same, place)
            continue
        for index, _ in twins.near(text):
            leader.join(places[index], place)
        twins.add(text)
        places.append(place)
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


class _Spaces(dict[int, str]):
    """For str.translate: a space for each character that is no letter, mark, digit or symbol (emoji are symbols)."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kept = character if unicodedata.category(character)[0] in "LMNS" else " "
        self[code] = kept
        return kept


_SPACES = _Spaces()


def _jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
