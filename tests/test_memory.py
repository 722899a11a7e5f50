"""Batches keep within their bounds, and become smaller where memory runs out."""

from random import Random

import pytest

from prompt2model.errors import RunError
from prompt2model.memory import in_batches

OUT_OF_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")


def batches(lengths: list[int], max_rows: int = 32, most: int = 1000, error: Exception = OUT_OF_MEMORY):
    """The batches, on a machine whose memory holds `most` rows, each as its work has seen it."""

    def work(batch: list[int]) -> list[int]:
        if len(batch) > most:
            raise error
        return list(batch)

    found = list(in_batches(lengths, max_rows, work, max_tokens=2048))
    assert all(batch == made for batch, made in found)
    return [batch for batch, _ in found]


def test_batches_hold_every_index_once_within_their_bounds():
    lengths = [Random(n).randrange(1, 300) for n in range(500)]
    found = batches(lengths)
    assert sorted(index for batch in found for index in batch) == list(range(500))
    for batch in found:
        assert len(batch) <= 32
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 2048
    firsts = [lengths[batch[0]] for batch in found]
    assert firsts == sorted(firsts, reverse=True)


def test_a_prompt_longer_than_the_bound_stands_alone():
    assert batches([5000, 10, 10]) == [[0], [1, 2]]
    assert batches([]) == []


def test_where_memory_runs_out_batches_are_halved_until_they_fit():
    found = batches([1] * 21, max_rows=16, most=5)
    assert [len(batch) for batch in found] == [4, 4, 4, 4, 4, 1]
    assert sorted(index for batch in found for index in batch) == list(range(21))


def test_memory_that_does_not_suffice_for_one_row_is_an_error_with_a_cure():
    with pytest.raises(RunError, match="single row, of up to 70 tokens") as caught:
        batches([60, 70], most=0)
    assert "smaller model" in caught.value.hint


def test_another_error_is_raised_as_it_is():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        batches([1, 2], most=0, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
