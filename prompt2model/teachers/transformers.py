"""A model on this machine, loaded with transformers: white box, no key, no cost.

`transformers:HuggingFaceTB/SmolLM2-135M-Instruct`, or a folder.
"""

from prompt2model.student import open_model
from prompt2model.teacher import Teacher


def connect(model: str, *, precision: str = "auto", batch_rows: int = 32) -> Teacher:
    """The model, loaded. Raises WeightsError when it cannot be had."""
    return open_model(model, precision=precision, batch_rows=batch_rows)
