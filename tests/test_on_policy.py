"""MiniLLM and GKD: their gradients against everything a model of three words can say, and what must not change them."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from three_words import ANSWERS, END, A, B, log_probabilities, speaker

from prompt2model.batches import Row, weighed
from prompt2model.course import Course
from prompt2model.methods import jsd, reverse_kl, seqkd, word_kd
from prompt2model.records import TaskSpec
from prompt2model.rollouts import sampled

ASKED = Row((A, B, A), (A, END), teacher_prompt=(B, A))
ROWS = [ASKED, Row((B,), (B, B, END)), Row((A, A, B, B, A), (END,), weight=2.0, teacher_prompt=(A,)), ASKED]
PLAIN = {"teacher_share": 0.0, "normalise_length": False}
DRAWS = 2000


@pytest.fixture(params=["decoder", "encoder-decoder"])
def pair(request):
    """A student and a teacher of three words."""
    return speaker(request.param, 1), speaker(request.param, 2)


def course_of(pair, method=reverse_kl, **options) -> Course:
    return Course(TaskSpec(instruction="Say it."), pair[0].codec, method.Options(**options), 16, pair[1])


def gradient(pair) -> torch.Tensor:
    """One long vector of the student's gradients, which are forgotten."""
    parameters = list(pair[0].model.parameters())
    found = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
    pair[0].model.zero_grad()
    return found.double()


def of_loss(pair, method, rows, course, sizes=(100,)) -> tuple[float, torch.Tensor]:
    """The loss and its gradient, in micro-batches of these sizes, over and over."""
    total, left, at = 0.0, list(rows), 0
    while left:
        size = sizes[at % len(sizes)]
        value = method.loss(pair[0].model, course.codec.collate(left[:size]), course)
        value.backward()
        total, left, at = total + float(value.detach()), left[size:], at + 1
    return total, gradient(pair)


def spoken(pair, answer, share=0.0):
    """log q and log p at each place (T, 3), the answer's own log q (T,), and its probability in the mixture (T,)."""
    log_q = log_probabilities(pair[0], ASKED.prompt, answer)
    with torch.no_grad():
        log_p = log_probabilities(pair[1], ASKED.teacher_prompt, answer)
        mixed = share * log_p.exp() + (1 - share) * log_q.exp()
    own = (torch.arange(len(answer)), torch.tensor(answer))
    return log_q, log_p, log_q[own], log_p[own], mixed[own]


def kl_gradient(pair) -> torch.Tensor:
    """∇ KL(q ‖ p) over whole answers, by autograd through the sum over all of them."""
    total = 0.0
    for answer in ANSWERS:
        _, _, log_q, log_p, _ = spoken(pair, answer)
        total = total + log_q.sum().exp() * (log_q.sum() - log_p.sum())
    total.backward()
    return gradient(pair)


def expected_gradient(pair, options) -> torch.Tensor:
    """Eq. 7 as it is printed, its expectation written out over all answers, with loops."""
    surrogate = 0.0
    for answer in ANSWERS:
        log_qs, log_ps, log_q, log_p, mixed = spoken(pair, answer, options.teacher_share)
        r = (log_p - log_q).detach()
        w = log_q.detach().exp() / mixed
        for t in range(len(answer)):
            rest = r[t + 1 :] if options.single_step else r[t:]
            to_come = rest.sum() / (max(len(rest), 1) if options.normalise_length else 1)
            term = 0.0
            if options.single_step:
                term = term - (log_qs[t].exp() * (log_ps[t] - log_qs[t])).sum()
            if options.long_term:
                term = term - to_come * log_q[t]
            surrogate = surrogate + mixed.prod() * w[t] * term
    surrogate.backward()
    return gradient(pair)


def all_answers(pair, course) -> list[Row]:
    """Every answer, judged, and weighed by how likely it is to be drawn."""
    with torch.no_grad():
        likely = [float(spoken(pair, answer, course.options.teacher_share)[4].prod()) for answer in ANSWERS]
    rows = [replace(ASKED, completion=answer, weight=p) for answer, p in zip(ANSWERS, likely, strict=True)]
    return reverse_kl.judged(pair[0], rows, course)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()))


# MiniLLM's gradient


def test_single_step_and_long_term_together_are_the_gradient_of_the_reverse_kl(pair):
    course = course_of(pair, **PLAIN)
    close(of_loss(pair, reverse_kl, all_answers(pair, course), course)[1], kl_gradient(pair))


def test_the_long_term_alone_is_the_plain_policy_gradient(pair):
    course = course_of(pair, **PLAIN, single_step=False)
    close(of_loss(pair, reverse_kl, all_answers(pair, course), course)[1], kl_gradient(pair))


def test_the_single_step_alone_is_another_gradient(pair):
    course = course_of(pair, **PLAIN, long_term=False)
    found, exact = of_loss(pair, reverse_kl, all_answers(pair, course), course)[1], kl_gradient(pair)
    assert (found - exact).norm() > 0.02 * exact.norm()


@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("parts", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("keep_teacher", [True, False])
def test_every_part_is_what_the_paper_prints_over_all_answers(pair, share, normalise, parts, keep_teacher):
    options = {"single_step": parts[0], "long_term": parts[1], "keep_teacher": keep_teacher}
    course = course_of(pair, teacher_share=share, normalise_length=normalise, **options)
    found = of_loss(pair, reverse_kl, all_answers(pair, course), course)[1]
    close(found, expected_gradient(pair, course.options))


def test_the_clipping_does_nothing_before_the_student_has_moved(pair):
    bound, free = (course_of(pair, teacher_share=0.4, clip=clip) for clip in (0.01, 0.0))
    rows = all_answers(pair, bound)
    close(of_loss(pair, reverse_kl, rows, bound)[1], of_loss(pair, reverse_kl, rows, free)[1])


def test_the_mean_over_drawn_answers_is_the_expectation_within_its_error(pair):
    course = course_of(pair, teacher_share=0.4)
    drawn = sampled(pair[0], [ASKED] * DRAWS, range(DRAWS), max_length=16, max_new_tokens=3, teacher=pair[1], share=0.4)
    kinds = {row.completion: replace(row, weight=1.0) for row in drawn}
    each = {
        row.completion: of_loss(pair, reverse_kl, [row], course)[1]
        for row in reverse_kl.judged(pair[0], list(kinds.values()), course)
    }
    found = torch.stack([each[row.completion] for row in drawn])
    error = found.std(0) / DRAWS**0.5
    distance = (found.mean(0) - expected_gradient(pair, course.options)).abs()
    assert (distance < 4.5 * error + 1e-6).all()
    assert error.max() < 0.5 * found.mean(0).abs().max(), "too few draws to tell"


def test_in_an_optimiser_step_the_sum_is_divided_by_its_tokens(pair):
    course = course_of(pair)
    rows = reverse_kl.judged(pair[0], [replace(row, weight=1.0) for row in ROWS], course)
    summed = of_loss(pair, reverse_kl, rows, course)
    mean = of_loss(pair, reverse_kl, weighed(rows, reverse_kl.shares(course.options)), course)
    tokens = sum(len(row.completion) for row in rows)
    assert mean[0] == pytest.approx(summed[0] / tokens, rel=1e-5)
    close(mean[1] * tokens, summed[1])


def test_a_moved_student_is_judged_by_its_old_probabilities(pair):
    course = course_of(pair, **PLAIN, clip=0.0, single_step=False)
    rows = all_answers(pair, course)
    with torch.no_grad():
        old = [spoken(pair, answer) for answer in ANSWERS]
        for parameter in pair[0].model.parameters():
            parameter.mul_(1.05)
        new = [spoken(pair, answer)[2] for answer in ANSWERS]
    expected = 0.0
    for row, (_, _, log_q, log_p, _), now in zip(rows, old, new, strict=True):
        r = log_p - log_q
        expected -= sum(row.weight * r[t:].sum() * (now[t] - log_q[t]).exp() for t in range(len(r)))
    assert of_loss(pair, reverse_kl, rows, course)[0] == pytest.approx(float(expected), rel=1e-4)


# What must not change it


@pytest.mark.parametrize("keep_teacher", [True, False])
@pytest.mark.parametrize("sizes", [(1,), (2, 3), (5, 1)])
def test_padding_company_and_accumulation_change_nothing(pair, tmp_path, keep_teacher, sizes):
    (tmp_path / "plain.txt").write_text("a b b a a b " * 9)
    course = course_of(pair, text=str(tmp_path / "plain.txt"), keep_teacher=keep_teacher)
    lessons = reverse_kl.rollouts(pair[0], [(row,) for row in ROWS], course, range(4))
    rows = weighed([row for lesson in lessons for row in lesson], reverse_kl.shares(course.options))
    together, apart = of_loss(pair, reverse_kl, rows, course), of_loss(pair, reverse_kl, rows[::-1], course, sizes)
    assert apart[0] == pytest.approx(together[0], rel=1e-5)
    close(apart[1], together[1])


def test_signals_do_not_depend_on_the_company_in_which_they_were_judged(pair):
    course = course_of(pair)
    together = reverse_kl.judged(pair[0], ROWS, course)
    for row, judged in zip(ROWS, together, strict=True):
        (alone,) = reverse_kl.judged(pair[0], [row], course)
        assert set(alone.signals) == {"importance", "log_q", "advantage", "teacher"}
        for name, signal in alone.signals.items():
            assert not signal.requires_grad
            torch.testing.assert_close(signal, judged.signals[name], rtol=1e-4, atol=1e-5)


def test_dropout_is_off_so_that_ratios_begin_at_one(pair):
    course = course_of(pair, **PLAIN)
    rows = all_answers(pair, course)
    pair[0].model.train()
    first = of_loss(pair, reverse_kl, rows, course)
    pair[0].model.train()
    assert of_loss(pair, reverse_kl, rows, course)[0] == first[0]


def test_advantages_are_whitened_over_all_answers_and_no_padding(pair):
    course = course_of(pair, whiten=True)
    lessons = reverse_kl.rollouts(pair[0], [(row,) for row in ROWS * 5], course, range(20))
    values = torch.cat([lesson[0].signals["advantage"] for lesson in lessons])
    assert len(values) == sum(len(lesson[0].completion) for lesson in lessons)
    assert float(values.mean()) == pytest.approx(0, abs=1e-5)
    assert float(values.std()) == pytest.approx(1, abs=1e-4)


def test_plain_text_is_a_part_of_its_own_with_its_own_share(pair, tmp_path):
    (tmp_path / "plain.txt").write_text("a b b a a b " * 9)
    course = course_of(pair, text=str(tmp_path / "plain.txt"), text_share=2.0)
    (lesson,) = reverse_kl.rollouts(pair[0], [(ASKED,)], course, [3])
    answer, text = weighed(lesson, reverse_kl.shares(course.options))
    assert (answer.part, text.part) == ("", "text")
    plain = of_loss(pair, seqkd, [replace(text, weight=1.0)], course)[0] / len(text.completion)
    assert of_loss(pair, reverse_kl, [text], course)[0] == pytest.approx(2.0 * plain, rel=1e-5)


def test_nothing_can_be_learned_when_both_parts_are_off():
    with pytest.raises(ValidationError, match="nothing of the teacher"):
        reverse_kl.Options(single_step=False, long_term=False)


# GKD


def test_the_ends_of_jsd_are_word_kd_and_the_single_step_reverse_kl(pair):
    rows = [replace(row, weight=1.0) for row in ROWS]
    for beta, method, options in ((0.0, word_kd, {"mixing": 0.0}), (1.0, reverse_kl, {"long_term": False})):
        found = of_loss(pair, jsd, rows, course_of(pair, jsd, beta=beta))
        expected = of_loss(pair, method, rows, course_of(pair, method, **options))
        assert found[0] == pytest.approx(expected[0], rel=1e-6)
        close(found[1], expected[1])


@pytest.mark.parametrize(("share", "fewest", "most"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, 200, 200)])
def test_a_share_of_answers_is_the_students_own(pair, share, fewest, most):
    lessons = [(replace(ASKED, completion=(B, B, B, END)),)] * 200  # longer than the student may write
    course = course_of(pair, jsd, student_share=share, max_new_tokens=3)
    found = jsd.rollouts(pair[0], lessons, course, range(200))
    assert fewest <= sum(lesson[0].completion != (B, B, B, END) for lesson in found) <= most
    assert found == jsd.rollouts(pair[0], lessons, course, range(200))
