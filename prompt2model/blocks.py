"""Tables with a column for each token of a vocabulary, some rows at a time.

What a processor computes of a few rows stays in its cache. For a whole table the system has to find and clear fresh
memory at every operation, which can take ten times as long as the arithmetic (LOG.md, 2026-11-27).
"""

from torch import Tensor

AT_ONCE = 1 << 19
"""Numbers of a table at the same time: in float32 2 MB."""


def blocks(table: Tensor) -> list[slice]:
    """Slices of the rows of a table (N, V): few rows each on a processor, elsewhere all at once."""
    rows, columns = table.shape
    at_once = max(1, AT_ONCE // max(1, columns) if table.device.type == "cpu" else rows)
    return [slice(start, min(start + at_once, rows)) for start in range(0, rows, at_once)]
