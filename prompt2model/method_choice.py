"""Which method a run gets when none is named, and why."""

import logging
from collections.abc import Sequence

from prompt2model.records import Example

PLAIN = "seqkd"
"""The method that wants nothing but answers."""

log = logging.getLogger(__name__)


def choose_method(asked: str, rows: Sequence[Example]) -> str:
    """The method's name, as asked or, for `auto`, what the rows to learn from are fit for; the reason is logged.

    Only methods that ask nothing of a teacher are chosen unasked: what costs hours or money is for a person to name.
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
    return name
