"""ROUGE-L: the longest common subsequence of words, as an F1 score; for texts.

Lin, 2004, https://aclanthology.org/W04-1013, as Google's `rouge-score` computes it, with the Porter stemmer. That
package throws away every letter outside a-z; here words of other alphabets count too, and Chinese, Japanese and Thai,
which write no spaces, count by character. On texts in plain English letters the result is the package's own.
"""

import re
from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

from prompt2model.metrics import check

KINDS = ("generation",)
HIGHER_IS_BETTER = True

WORD = re.compile(r"[^\W_]+")
WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")


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
        return [token for word in WORD.findall(text.lower()) for token in self._split(word)]

    def _split(self, word: str) -> list[str]:
        if word.isascii():
            return list(self._english.tokenize(word))
        return list(word) if WITHOUT_SPACES.search(word) else [word]
