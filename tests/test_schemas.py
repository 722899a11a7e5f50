"""JSON schemas: what fits, and what a strict server takes."""

import json
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from prompt2model.schemas import is_strict, misfit


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    number: int | None


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")

    colour: Colour
    parts: list[Part]
    share: float = 0.5
    is_new: bool = False


GOOD = {
    "colour": "red",
    "parts": [{"name": "a", "number": 1}, {"name": "b", "number": None}],
    "share": 1,
    "is_new": True,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"colour": "green"}, "'colour' of the answer is none of"),
        ({"parts": {}}, "'parts' of the answer is not of the type array"),
        ({"parts": [{"name": 3, "number": 1}]}, "'name' of item 0 of 'parts' of the answer is not of the type string"),
        ({"parts": [{"name": "a"}]}, "has no 'number'"),
        ({"parts": [{"name": "a", "number": True}]}, "not of the type integer"),
        ({"share": "half"}, "not of the type number"),
        ({"extra": 1}, "must not have 'extra'"),
    ],
)
def test_a_misfit_is_named_and_pydantic_agrees_on_what_is_one(changes: dict[str, Any], said: str) -> None:
    text = json.dumps(GOOD | changes)
    found = misfit(text, Whole.model_json_schema())
    assert said in found if said else not found
    try:
        Whole.model_validate_json(text, strict=True)
    except ValidationError:
        assert found
    else:
        assert not found


@pytest.mark.parametrize("text", ["", "yes", "{", "[" * 100_000])
def test_what_is_no_json_does_not_fit(text: str) -> None:
    assert misfit(text, Whole.model_json_schema()) == "it is not JSON"


def test_strict_servers_take_only_objects_that_require_all_and_allow_no_more() -> None:
    assert is_strict(Part.model_json_schema())
    assert not is_strict(Whole.model_json_schema()), "two properties have defaults"
