"""Words as texts are compared by."""

import pytest

from prompt2model.wording import characters_a_word, normalise, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Great,   FILM!\n", "great film"),
        ("don't", "don t"),
        ("Straße", "strasse"),
        ("ﬁne", "fine"),
        ("हिन्दी", "हिन्दी"),
        ("so good 😀!", "so good 😀"),
        ("?!", "?!"),
        ("   ", ""),
        ("12 - 4", "12 − 4"),
        ("12*4", "12 × 4"),
        ("-5 / 2", "− 5 ÷ 2"),
        ("a well-known - and old - thing", "a well known and old thing"),
    ],
)
def test_normalising_forgets_case_punctuation_and_spacing(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("text", "expected", "pieces"),
    [
        ("So good!", ["so", "good"], 1),
        ("我喜欢", ["我", "喜", "欢"], 2),
        ("カタカナ", ["カ", "タ", "カ", "ナ"], 2),
        ("ดีมาก", list("ดีมาก"), 4),
        ("영화가 좋다", ["영화가", "좋다"], 1),
        ("the film 好 was good", ["the", "film", "好", "was", "good"], 1),
        ("", [], 1),
    ],
)
def test_where_no_spaces_are_written_a_character_is_a_word(text, expected, pieces):
    assert words(text) == expected
    assert characters_a_word(expected) == pieces
