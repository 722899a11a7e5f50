"""A handful of names that tiny models learn by heart, to teach them to others."""

from pathlib import Path

from prompt2model.config import TrainConfig
from prompt2model.records import Example, Source, Splits, TaskSpec
from prompt2model.stages.train import train

NAMING = TaskSpec(instruction="Name it.", kind="generation", metric="exact_match")
SOURCE = Source(kind="user", name="the description")
PAIRS = {"good": "the film is good", "bad": "a text", "user": "assistant", "positive": "negative x"}
NAMED = tuple(Example(input=asked, output=said, source=SOURCE) for asked, said in PAIRS.items())
BY_HEART = {"epochs": 60, "learning_rate": 1e-2, "batch_rows": 4, "patience": 0, "precision": "float32"}


def save_obedient(base: Path, folder: Path) -> str:
    """A model that names what it is given when it is told to, and otherwise says x; saved in `folder`."""
    told = tuple(row.model_copy(update={"input": f"{NAMING.instruction}\n\n{row.input}"}) for row in NAMED)
    untold = tuple(row.model_copy(update={"output": "x"}) for row in NAMED)
    config = TrainConfig(**{**BY_HEART, "epochs": 250})
    train(NAMING, Splits(train=(*told, *untold)), str(base), config, folder=folder)
    template = folder / "chat_template.jinja"
    template.write_text("{# not a student's #}" + template.read_text())  # else it passes for trained, and is not told
    return str(folder)
