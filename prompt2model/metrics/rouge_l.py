"""ROUGE-L: the longest common subsequence of words, as an F1 score; for texts.

Lin, 2004, https://aclanthology.org/W04-1013, as Google's `rouge-score` computes it, with the Porter stemmer. That
package throws away every letter outside a-z; here words of other alphabets count too, with their vowel signs and tone
marks, and scripts that write no spaces, as Chinese, Japanese and Thai, count by character. On texts in plain English
letters the result is the package's own.
"""

import unicodedata
from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from prompt2model.metrics import check
from prompt2model.wording import spaced

KINDS = ("generation",)
HIGHER_IS_BETTER = True

OF_WORDS = "LMN"
"""Letters, marks and digits, by the first letter of their category in Unicode."""


def compute(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The mean over all rows."""
    rows = per_row(predictions, references)
    return sum(rows) / len(rows)


def per_row(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """The F1 of each row's longest common subsequence; 0 where a side has no word."""
    check(predictions, references)
    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    return [
        float(scorer.score(truth, guess)["rougeL"].fmeasure)
        for guess, truth in zip(predictions, references, strict=True)
    ]


class Words(Tokenizer):  # type: ignore[misc]
    """The package's own words, and those of other alphabets."""

    def __init__(self) -> None:
        self._english = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        """Lower-case words, English ones stemmed."""
        kept = [character if unicodedata.category(character)[0] in OF_WORDS else " " for character in text.lower()]
        return [token for word in spaced("".join(kept)).split() for token in self._stemmed(word)]

    def _stemmed(self, word: str) -> list[str]:
        return list(self._english.tokenize(word)) if word.isascii() else [word]
