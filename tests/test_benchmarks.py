"""The benchmarks of the papers' claims run, keep what they measured, and compute what the papers' formulas say."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from command import sentences, write_script
from three_words import ANSWERS, END, LONGEST, log_probabilities, speaker

from prompt2model.answers import Answer
from prompt2model.batches import Row
from prompt2model.records import Example, Source, TaskSpec

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

SMALL = ["--rows", "8", "--test-rows", "4", "--epochs", "1", "--seeds", "0"]
PROMPTS = {
    "films": "Is the film good or bad? Answer with good or bad.\n\ninput: a fine film\noutput: good\n",
    "sums": "Solve it. Give the number after ####.\n\ninput: one and one\noutput: One more.\n#### 2\n",
    "texts": "Say it again in other words.\n\ninput: it is fine\noutput: all is well\n",
}
OUTPUTS = {
    "films": lambda number: ("good", "bad")[number % 2],
    "sums": lambda number: f"That is easy.\n#### {number}",
    "texts": lambda number: sentences(1, seed=number)[0],
}


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder of tasks with a dozen rows each."""
    for name, prompt in PROMPTS.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        (folder / "prompt.md").write_text(prompt)
        rows = [json.dumps({"input": text, "output": OUTPUTS[name](at)}) for at, text in enumerate(sentences(20))]
        (folder / "train.jsonl").write_text("\n".join(rows[:12]))
        (folder / "test.jsonl").write_text("\n".join(rows[12:]))
    return tmp_path / "data"


CASES = {
    "minillm": (
        "texts",
        ["--draws=1", "--only", "teacher", "seqkd", "word_kd", "reverse_kl", "without single step"],
        5,
    ),
    "step_by_step": ("sums", [], 8),
    "distilbert": ("films", [], 6),
    "context": ("films addition", ["--digits=1", "--scratchpads=24", "--epochs=40", "--learning-rate=0.01"], 7),
    "data_proof": (
        "texts",
        [
            "--rows=20",
            "--candidates=70",
            "--only",
            "as usual",
            "annealed",
            "with rationales",
            "two rounds",
            "without format",
            "strategy example_guided",
        ],
        6,
    ),
}
"""For each benchmark the tasks, further arguments, and how many cells there are."""


@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_measures_every_cell_once(name, data, tmp_path, tiny_decoder, capsys):
    tasks, further, cells = CASES[name]
    results = tmp_path / "results.jsonl"
    argv = [str(data), *tasks.split(), "--results", str(results), "--base", str(tiny_decoder), *SMALL, *further]
    if name == "data_proof":
        argv += ["--teacher", write_script(tmp_path / "script.jsonl", 1500)]
    main = importlib.import_module(name).main
    main(argv)
    kept, shown = results.read_text(), capsys.readouterr().out
    main(argv)
    assert results.read_text() == kept
    assert len(kept.splitlines()) == cells
    assert all("score" in json.loads(line)["figures"] for line in kept.splitlines())
    assert capsys.readouterr().out == shown[shown.index("\n|") :]


def test_a_table_shows_mean_and_deviation_over_the_seeds():
    from cells import table

    lines = [{"task": "t", "arm": "a", "seed": seed, "score": value, "n": 5} for seed, value in enumerate((1.0, 3.0))]
    assert table([*lines, {"task": "t", "arm": "b", "seed": 0, "n": 5}], ["score", "n"]).splitlines() == [
        "| task | arm | seeds | score | n |",
        "| --- | --- | --- | --- | --- |",
        "| t | a | 2 | 2 ± 1.4 | 5 |",
        "| t | b | 1 | – | 5 |",
    ]


def test_two_labels_are_told_apart_wherever_the_threshold_is():
    from cells import graded

    task = TaskSpec(instruction="Say it.", kind="classification", labels=("good", "bad"))
    rows = [Example(input="a", output=label, source=Source(kind="user", name="x")) for label in ("good", "good", "bad")]
    answers = [Answer("bad", 0.6), Answer("bad", 0.9), Answer("bad", 0.8)]  # of good: 0.4, 0.1, 0.2
    found = graded(task, answers, rows)
    assert (found["score"], found["auc"]) == (pytest.approx(100 / 3), 50.0)
    assert "auc" not in graded(task, [*answers[:2], Answer("bad")], rows)
    assert "auc" not in graded(task, answers[:2], rows[:2])


@pytest.mark.parametrize("architecture", ["decoder", "encoder-decoder"])
def test_the_excess_error_is_that_of_all_answers_by_their_probability(architecture):
    from minillm import excess_error, judged

    student, teacher = speaker(architecture, 1), speaker(architecture, 2)
    prompt = (1, 2, 1)
    free, oracle = (
        judged(student, teacher, [Row(prompt, answer, probability(who, prompt, answer)) for answer in ANSWERS])
        for who in (student, teacher)
    )
    for length in range(1, LONGEST + 1):
        regret, error = (
            sum(divergence_after(who, student, teacher, prompt, place) for place in range(length))
            for who in (student, teacher)
        )
        assert excess_error(free, oracle, length) == pytest.approx(100 * (regret - error) / error, rel=1e-3, abs=1e-3)
    assert abs(regret - error) > 0.01 * error


@torch.no_grad()
def probability(who, prompt, answer) -> float:
    log_p = log_probabilities(who, prompt, answer)
    return float(log_p.gather(1, torch.tensor(answer)[:, None]).sum().exp())


@torch.no_grad()
def divergence_after(who, student, teacher, prompt, place: int) -> float:
    """KL(p ‖ q) of the next token after `place` tokens that `who` wrote, where the answer has not ended."""
    total = 0.0
    for begun in {answer[:place] for answer in ANSWERS if len(answer) >= place and END not in answer[:place]}:
        log_p, log_q = (log_probabilities(one, prompt, (*begun, END))[-1] for one in (teacher, student))
        reached = probability(who, prompt, begun) if begun else 1.0
        total += reached * float((log_p.exp() * (log_p - log_q)).sum())
    return total


def measured(name: str, monkeypatch, capsys, *arguments: str) -> list[dict]:
    """The lines that the benchmark prints."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(name).main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_of_every_request_to_the_server_that_stumbles_it_is_known_what_became(monkeypatch, capsys):
    ours, _ = measured("teacher_throughput", monkeypatch, capsys, "--requests", "60", "--peers", "0")
    assert (ours["requests"], ours["unaccounted"], ours["paid_twice"]) == (60, 0, 0)
    assert ours["answered"] + sum(ours["failed"].values()) == 60
    assert ours["server"]["ok"] == ours["answered"]
    assert 1 <= ours["most_under_way"] <= 60


def test_the_quick_filters_keep_what_comparing_all_pairs_keeps(monkeypatch, capsys):
    lines = measured("filters_speed", monkeypatch, capsys, "300", "4000")
    found = {line["what"]: line for line in lines}
    for name in ("duplicate", "novelty"):
        assert 0 < found[name]["kept"] == found[f"{name}, all pairs"]["kept"] < 300
    assert (found["contamination"]["rows"], found["contamination"]["dropped"]) == (5500, 500)


def test_instructions_become_a_task_of_which_no_row_stands_on_two_sides(tmp_path):
    from cells import drawn
    from instruction_rows import main

    texts = sentences(12)
    seeds = [
        {"instruction": f"Say {at}.", "instances": [{"input": "", "output": text}]} for at, text in enumerate(texts)
    ]
    long = {"instruction": "Write much.", "instances": [{"input": "a", "output": "word " * 90}]}
    file = tmp_path / "seed_tasks.jsonl"
    file.write_text("\n".join(map(json.dumps, [*seeds, long])))
    main([str(file), str(tmp_path / "data" / "instructions")])
    args = argparse.Namespace(data=tmp_path / "data", rows=100, test_rows=100)
    task, splits = drawn(args, "instructions", 0)
    assert (task.kind, task.instruction) == ("generation", "Follow the instruction.")
    sides = [splits.train + splits.validation, splits.test]  # what the description shows is learned from too
    assert [len(side) for side in sides] == [8, 4]
    assert {(row.input, row.output) for side in sides for row in side} == {
        (seed["instruction"], seed["instances"][0]["output"]) for seed in seeds
    }


def test_a_sum_is_worked_out_from_the_right_with_what_is_carried():
    from context import additions, worked_out

    assert worked_out(18, 23) == "8+3+0=11 1+2+1=04"
    sums = additions(81, 1, seed=0)
    assert len({row.input for row in sums}) == 81
    assert all(sum(map(int, row.input.split(" + "))) == int(row.output) for row in sums)


@pytest.mark.parametrize("method", ["seqkd", "word_kd", "jsd", "reverse_kl"])
def test_our_side_of_the_comparison_with_trl_is_measured(method, tiny_decoder):
    args = argparse.Namespace(
        method=method, rows=16, sentences=1, precision="float32", base=str(tiny_decoder), who="ours"
    )
    figures = importlib.import_module("against_trl").measured(args)
    assert figures["updates_per_second"] > 0
    assert 0 < figures["validation_loss"] < 10
