"""A model on this machine, loaded with transformers: white box, no key, no cost.

`transformers:HuggingFaceTB/SmolLM2-135M-Instruct`, or a folder.
"""

from typing import Any, Literal

from pydantic import Field

from prompt2model.config import Settings
from prompt2model.student import open_model
from prompt2model.teacher import Teacher

DECIDING = ("precision",)
WHITE_BOX = ("logits", "beams", "likelihood")


class Options(Settings):
    """How the model is run."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Arithmetic; auto measures which is faster here."
    )
    batch_rows: int = Field(0, ge=0, description="Requests answered at a time; 0: 128, on a GPU 256.")


def connect(model: str, **options: Any) -> Teacher:
    """The model, loaded. Raises WeightsError when it cannot be had."""
    return open_model(model, **Options(**options).model_dump())
