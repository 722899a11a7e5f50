"""A handful of names that tiny models learn by heart, to teach them to others."""

from prompt2model.records import Example, Source, TaskSpec

NAMING = TaskSpec(instruction="Name it.", kind="generation", metric="exact_match")
SOURCE = Source(kind="user", name="the description")
PAIRS = {"good": "the film is good", "bad": "a text", "user": "assistant", "positive": "negative x"}
NAMED = tuple(Example(input=asked, output=said, source=SOURCE) for asked, said in PAIRS.items())
BY_HEART = {"epochs": 60, "learning_rate": 1e-2, "batch_rows": 4, "patience": 0, "precision": "float32"}
