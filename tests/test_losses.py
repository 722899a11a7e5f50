"""Losses against torch's own in float64, and what must not change them."""

import pytest
import torch
from torch.nn import functional

from prompt2model.batches import Row, weighed
from prompt2model.course import Course
from prompt2model.losses import cross_entropy, weighted_sum
from prompt2model.methods import seqkd
from prompt2model.records import TaskSpec
from prompt2model.student import load

pytestmark = pytest.mark.usefixtures("few_or_all_rows")


PROMPTS = ("the film is good and the answer", "bad", "a text", "positive and negative")
ANSWERS = ("positive", "the film is bad", "x", "a text and the answer")


@pytest.fixture(scope="module", params=["decoder", "encoder-decoder"])
def loaded(request, tiny_decoder, tiny_encoder_decoder):
    return load(tiny_decoder if request.param == "decoder" else tiny_encoder_decoder, precision="float32")


def course(codec) -> Course:
    return Course(TaskSpec(instruction="Say it."), codec)


def rows_of(codec) -> list[Row]:
    tokens = codec.tokenizer
    return [
        Row(tuple(tokens(prompt).input_ids), codec.completion(answer), weight=1.0 + index)
        for index, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True))
    ]


def loss_and_gradients(loaded, batches) -> tuple[float, torch.Tensor]:
    """The summed loss of all batches, and one long vector of gradients."""
    model, codec = loaded
    model.zero_grad()
    total = sum(seqkd.loss(model, batch, course(codec)) for batch in batches)
    total.backward()
    return float(total.detach()), torch.cat([p.grad.flatten() for p in model.parameters()])


def test_cross_entropy_is_that_of_torch_in_float64():
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 1000) * 5, torch.randint(1000, (50,))
    expected = functional.cross_entropy(logits.double(), targets, reduction="none")
    torch.testing.assert_close(cross_entropy(logits, targets).double(), expected, rtol=1e-6, atol=1e-5)


def test_cross_entropy_of_bfloat16_logits_is_computed_in_float32():
    logits, targets = torch.randn(20, 300).bfloat16(), torch.randint(300, (20,))
    found = cross_entropy(logits, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, cross_entropy(logits.float(), targets))


def test_the_weighted_sum_weighs_each_token():
    assert weighted_sum(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([10.0, 10.0, 100.0])) == 530.0


def test_without_a_counted_token_the_loss_is_zero_and_has_a_gradient():
    logits = torch.randn(0, 7, requires_grad=True)
    loss = weighted_sum(cross_entropy(logits, torch.zeros(0, dtype=torch.long)), torch.ones(0))
    loss.backward()
    assert loss == 0.0
    assert logits.grad.shape == (0, 7)


def test_a_row_without_weight_has_no_loss_and_a_zero_gradient(loaded):
    _, codec = loaded
    idle = Row((5, 6), codec.completion("x"), weight=0.0)
    loss, gradients = loss_and_gradients(loaded, [codec.collate([idle])])
    assert loss == 0.0
    assert not gradients.any()


def test_the_loss_is_the_one_that_transformers_computes(loaded):
    model, codec = loaded
    for row in rows_of(codec):
        batch = codec.collate(weighed([row], {"": 1.0}))
        if codec.architecture == "decoder":
            tokens = torch.tensor([[*row.prompt, *row.completion]])
            labels = tokens.clone()
            labels[0, : len(row.prompt)] = -100
            theirs = model(input_ids=tokens, labels=labels).loss
        else:
            theirs = model(input_ids=batch.inputs["input_ids"], labels=torch.tensor([row.completion])).loss
        ours = seqkd.loss(model, batch, course(codec))
        torch.testing.assert_close(ours, theirs)


def test_loss_and_gradient_do_not_depend_on_padding_or_on_the_company(loaded):
    _, codec = loaded
    rows = rows_of(codec)
    together = loss_and_gradients(loaded, [codec.collate(rows)])
    alone = loss_and_gradients(loaded, [codec.collate([row]) for row in rows])
    shuffled = loss_and_gradients(loaded, [codec.collate([rows[2], rows[0]]), codec.collate([rows[3], rows[1]])])
    for other in (alone, shuffled):
        assert other[0] == pytest.approx(together[0], rel=1e-5)
        torch.testing.assert_close(other[1], together[1], rtol=1e-4, atol=1e-5)


def test_the_loss_counts_the_answers_first_token_and_its_end(loaded):
    model, codec = loaded
    row = rows_of(codec)[1]
    batch = codec.collate([Row(row.prompt, row.completion)])
    with torch.no_grad():
        logits = model(**batch.inputs).logits[0].double()
    first = len(row.prompt) - 1 if codec.architecture == "decoder" else 0
    expected = -sum(float(logits[first + place].log_softmax(-1)[token]) for place, token in enumerate(row.completion))
    assert row.completion[-1] == codec.end
    assert float(seqkd.loss(model, batch, course(codec)).detach()) == pytest.approx(expected, rel=1e-5)
