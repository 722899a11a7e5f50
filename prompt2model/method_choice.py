"""Which method a run gets when none is named, and why."""

import logging
from collections.abc import Sequence

from prompt2model.records import Example
from prompt2model.teacher import Teacher

PLAIN = "seqkd"
"""The method that wants nothing but answers."""

log = logging.getLogger(__name__)


def choose_method(asked: str, rows: Sequence[Example], teacher: Teacher | None = None, base: str = "") -> str:
    """The method's name, as asked or, for `auto`, what the rows to learn from are fit for; the reason is logged.

    Only methods that ask nothing of a teacher are chosen unasked: what costs hours or money is for a person to name.
    What a teacher at hand, other than the base, could do besides is said.
    """
    if asked != "auto":
        return asked
    explained = sum(row.rationale is not None for row in rows)
    if 2 * explained >= len(rows) > 0:
        name, reason = (
            "step_by_step",
            f"{explained} of {len(rows)} rows come with a rationale, which it learns from too",
        )
    else:
        name, reason = PLAIN, "every row has its answer, and that is all that it needs"
    log.info("The student learns by the method %s: %s.", name, reason)
    if teacher is None or teacher.name in (base, f"transformers:{base}"):
        return name
    if 2 * sum(row.is_real for row in rows) > len(rows):
        log.info("%s could answer the inputs itself: --method seqkd --set train.options.answers=teacher.", teacher.name)
    if "logits" in teacher.can:
        log.info("%s can be learned from token by token if its tokens are the base's: --method word_kd.", teacher.name)
    return name
