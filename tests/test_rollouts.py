"""What the student says is drawn from the law that it should be, counted on models that can say fifteen things."""

from collections import Counter

import pytest
import torch
from three_words import ANSWERS, END, LONGEST, A, B, log_probabilities, speaker

from prompt2model.batches import Row
from prompt2model.rollouts import sampled

pytestmark = pytest.mark.usefixtures("few_or_all_rows")


ASKED = Row((A, B, A), (A, END), teacher_prompt=(B, A))
DRAWS = 3000
IMPROBABLE = 36.1
"""What chi-square with 14 degrees of freedom exceeds once in a thousand times."""


@pytest.fixture(scope="module", params=["decoder", "encoder-decoder"])
def pair(request):
    """A student and a teacher of three words."""
    return speaker(request.param, 1), speaker(request.param, 2)


def draw(pair, rows, seeds, share=0.0, temperature=1.0, **limits):
    limits = {"max_length": 16, "max_new_tokens": LONGEST, **limits}
    return sampled(pair[0], rows, seeds, temperature=temperature, teacher=pair[1], share=share, **limits)


def law(pair, share: float, temperature: float) -> list[float]:
    """How likely each of the answers is."""
    student, teacher = pair
    found = []
    with torch.no_grad():
        for answer in ANSWERS:
            q = log_probabilities(student, ASKED.prompt, answer, temperature).exp()
            p = log_probabilities(teacher, ASKED.teacher_prompt, answer, temperature).exp()
            mixed = share * p + (1 - share) * q
            found.append(float(mixed[torch.arange(len(answer)), torch.tensor(answer)].prod()))
    return found


@pytest.mark.parametrize(("share", "temperature"), [(0.0, 1.0), (0.4, 1.0), (0.0, 0.5), (0.4, 2.0)])
def test_answers_are_drawn_from_the_mixture_of_student_and_teacher(pair, share, temperature):
    counts = Counter(row.completion for row in draw(pair, [ASKED] * DRAWS, range(DRAWS), share, temperature))
    expected = law(pair, share, temperature)
    assert sum(expected) == pytest.approx(1.0)
    assert set(counts) <= set(ANSWERS), "an answer goes on after its end, or has none before the limit"
    often = {y: DRAWS * p for y, p in zip(ANSWERS, expected, strict=True) if DRAWS * p >= 5}
    rest = DRAWS - sum(often.values()), DRAWS - sum(counts[y] for y in often)
    assert len(often) > 5
    assert abs(rest[0] - rest[1]) < 4 * (rest[0] + 1) ** 0.5
    assert sum((counts[y] - count) ** 2 / count for y, count in often.items()) < IMPROBABLE


def test_an_answer_depends_on_its_seed_alone_not_on_its_neighbours(pair):
    rows = [ASKED, Row((B,), (END,)), Row((A, A, A, B, B), (END,), teacher_prompt=(A,)), ASKED] * 4
    together = draw(pair, rows, range(16), share=0.4, max_new_tokens=6)
    alone = [draw(pair, [row], [seed], share=0.4, max_new_tokens=6)[0] for seed, row in enumerate(rows)]
    assert [row.completion for row in together] == [row.completion for row in alone]
    assert len({row.completion for row in together}) > 3


@pytest.mark.parametrize("runs_out_at", [1, 4])
def test_answers_are_the_same_when_memory_runs_out_before_or_within_them(pair, runs_out_at):
    rows = [ASKED, Row((B,), (END,)), Row((A, A, A, B, B), (END,), teacher_prompt=(A,)), ASKED] * 4
    calm = draw(pair, rows, range(16), share=0.4, max_new_tokens=6)
    passes = []

    def run_out(model, inputs):
        passes.append(1)
        if len(passes) in (runs_out_at, runs_out_at + 6):
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    hook = pair[0].model.register_forward_pre_hook(run_out)
    pressed = draw(pair, rows, range(16), share=0.4, max_new_tokens=6)
    hook.remove()
    assert len(passes) > runs_out_at + 6
    assert [row.completion for row in pressed] == [row.completion for row in calm]


def test_prompts_and_parts_stay_what_they_were(pair):
    row = Row((A,), (B, END), 3.0, "part", (B, B))
    (found,) = draw(pair, [row], [0])
    assert (found.prompt, found.weight, found.part, found.teacher_prompt) == ((A,), 3.0, "part", (B, B))


def test_no_row_is_longer_than_the_limits(pair):
    is_decoder = pair[0].codec.architecture == "decoder"
    rows = draw(pair, [ASKED] * 40, range(40), max_length=5, max_new_tokens=20)
    assert max(len(row.completion) for row in rows) == (2 if is_decoder else 5)


def test_a_mixture_without_the_teacher_leaves_it_alone(pair):
    calls = []
    hook = pair[1].model.register_forward_hook(lambda *_: calls.append(1))
    draw(pair, [ASKED], [0], share=0.0)
    assert not calls
    draw(pair, [ASKED], [0], share=0.5)
    hook.remove()
    assert calls


def test_an_answer_keeps_the_very_token_that_ended_it(pair):
    pair[0].codec.ends = frozenset({END, B})
    rows = draw(pair, [ASKED] * 60, range(60))
    pair[0].codec.ends = frozenset({END})
    assert {row.completion[-1] for row in rows} == {END, A, B}
    assert not any({END, B} & set(row.completion[:-1]) for row in rows)


def test_no_rows_are_no_answers(pair):
    assert draw(pair, [], [], share=0.5) == []
