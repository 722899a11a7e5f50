"""Passages of plain text at places that the seed chooses."""

import json

import pytest
from hub_server import MAIN, Repo, serve

from prompt2model.errors import DataError
from prompt2model.methods import open_method, reverse_kl
from prompt2model.passages import passage, plain_text
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


def test_the_texts_of_a_data_set_on_the_hub_are_read_once(use_hub, home_folder):
    rows = [{"title": "short", "text": f"A long text of its own, number {number}."} for number in range(3)]
    data = "\n".join(map(json.dumps, rows)).encode()
    with serve() as hub:
        use_hub(hub.url)
        hub.add(Repo("some/texts", "datasets", files={MAIN: {"README.md": b"#", "train.jsonl": data}}))
        found = plain_text("some/texts")
        assert found.read_text().split("\n\n") == [row["text"] for row in rows]
        asked = len(hub.asked)
        plain_text.cache_clear()
        assert plain_text("some/texts") == found
        assert len(hub.asked) == asked


def test_text_that_cannot_be_had_is_told_before_the_first_phase(tmp_path):
    _, options = open_method("reverse_kl", {"text": str(tmp_path / "missing.txt")})
    with pytest.raises(DataError, match=r"There is no file .*missing\.txt"):
        reverse_kl.suits(None, options)
