"""Passages of plain text at places that the seed chooses."""

import pytest

from prompt2model.errors import DataError
from prompt2model.passages import passage
from prompt2model.student import load

WORDS = " ".join(f"word{number}" for number in range(4000))


@pytest.fixture(scope="module", params=["tiny_decoder", "tiny_encoder_decoder"])
def codec(request):
    return load(request.getfixturevalue(request.param), precision="float32")[1]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_text(WORDS)
    return path


def test_a_passage_is_so_many_tokens_of_the_text_from_a_whole_word_on(codec, file):
    for seed in range(20):
        row = passage(file, codec, 40, seed, part="text")
        text = codec.text([*row.prompt, *row.completion])
        assert text in WORDS
        assert text.startswith("word")
        assert (len(row), row.part) == (40, "text")
        assert not codec.ends & {*row.prompt, *row.completion}


def test_a_decoder_writes_all_but_the_first_token_and_an_encoder_decoder_the_second_half(codec, file):
    row = passage(file, codec, 40, 0, part="text")
    assert len(row.prompt) == (1 if codec.architecture == "decoder" else 20)


def test_the_seed_chooses_the_place(codec, file):
    assert passage(file, codec, 40, 1, part="") == passage(file, codec, 40, 1, part="")
    assert len({passage(file, codec, 40, seed, part="").completion for seed in range(20)}) > 15


def test_a_place_in_the_middle_of_a_character_is_no_trouble(codec, tmp_path):
    (tmp_path / "plain.txt").write_text("größer als ein Übermaß 語語語 " * 300, encoding="utf-8")
    for seed in range(20):
        row = passage(tmp_path / "plain.txt", codec, 30, seed, part="")
        assert "\ufffd" not in codec.text([*row.prompt, *row.completion])[:-1]


def test_a_file_without_text_is_an_error_that_names_it(codec, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"empty\.txt has no text"):
        passage(tmp_path / "empty.txt", codec, 30, 0, part="")
