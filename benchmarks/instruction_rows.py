"""A task folder of instructions, one of a kind each, as the other benchmarks read it: of Self-Instruct's seed tasks.

    python benchmarks/instruction_rows.py seed_tasks.jsonl DATA/instructions

Wang et al., 2023, https://arxiv.org/abs/2212.10560; the file is in https://github.com/yizhongw/self-instruct. An input
is an instruction with its own input; every third row is for the test, two others are shown in the description. Outputs
above `--words` are left out: two cores shall write them too.
"""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2model.prompts import render

INSTRUCTION = "Follow the instruction."
SHOWN = 2


def main(argv: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("seeds", type=Path, metavar="SEEDS")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--words", type=int, default=60, help="of an output at most; default: 60")
    args = parser.parse_args(argv)
    rows = [_row(json.loads(line)) for line in args.seeds.read_text("utf-8").splitlines()]
    rows = [row for row in rows if len(row["output"].split()) <= args.words]
    shown, test, train = rows[:SHOWN], rows[SHOWN::3], [row for at, row in enumerate(rows[SHOWN:]) if at % 3]
    args.folder.mkdir(parents=True, exist_ok=True)
    examples = "\n\n".join(f"input={json.dumps(row['input'])}\noutput={json.dumps(row['output'])}" for row in shown)
    (args.folder / "prompt.md").write_text(f"{INSTRUCTION}\n\n{examples}\n", "utf-8")
    for name, some in (("train", train), ("test", test)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in some]
        (args.folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")


def _row(seed: dict[str, Any]) -> dict[str, str]:
    """The first instance of a seed task."""
    first = seed["instances"][0]
    text = render("generate/self_instruct_form.j2", form=0, instruction=seed["instruction"], input=first["input"])
    return {"input": text, "output": first["output"]}


if __name__ == "__main__":
    main()
