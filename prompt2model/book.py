"""What a run has spent, in a file that survives a kill: a line each time something was spent or put at risk."""

import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from prompt2model.errors import RunError

AHEAD = 1.1
"""A growing risk is noted as so much more than it is, for few lines."""
OWN, SHARED = "spent.jsonl", "spent-in-rounds.jsonl"
"""The book of a run, and that of the rounds in a folder, which have one budget."""
LINE = TypeAdapter(dict[str, float])


class Book:
    """At risk is what is under way: it may be on the bill, and when the process dies nobody will hear of it."""

    def __init__(self, path: Path) -> None:
        """What was at risk when the process before died counts as spent."""
        self._path = path
        spent_usd, self._at_risk_usd = read(path)
        self.usd = spent_usd + self._at_risk_usd
        self.add(self._at_risk_usd)

    def add(self, usd: float, *, at_risk_usd: float = 0.0) -> None:
        """So much was spent, and so much is at risk from now on."""
        if usd or at_risk_usd != self._at_risk_usd:
            self._at_risk_usd = at_risk_usd
            self._write({"usd": usd, "at_risk_usd": at_risk_usd})

    def risk(self, usd: float, *, most: float) -> None:
        """So much is at risk, and never more than `most`. Noted before it is."""
        if usd > self._at_risk_usd:
            self._at_risk_usd = min(AHEAD * usd, most)
            self._write({"at_risk_usd": self._at_risk_usd})

    def _write(self, entry: dict[str, float]) -> None:
        try:
            with self._path.open("a") as file:
                file.write("\n" + json.dumps(entry) if file.tell() else json.dumps(entry))
        except OSError as error:
            raise RunError(f"{self._path} cannot be written: {error.strerror}.", hint="Is the disk full?") from error


def read(path: Path) -> tuple[float, float]:
    """US dollars that were spent, and that were at risk when the book was last written in."""
    entries = [_entry(line) for line in path.read_text().splitlines()] if path.exists() else []
    risks = [entry["at_risk_usd"] for entry in entries if "at_risk_usd" in entry]
    return sum(entry.get("usd", 0.0) for entry in entries), risks[-1] if risks else 0.0


def book_of(run: Path) -> Path:
    """Where it stands what a run has spent, or the rounds of which it is one."""
    shared = run.resolve().parent / SHARED
    return shared if run.name.startswith("round-") and shared.is_file() else run / OWN


def _entry(line: str) -> dict[str, float]:
    """A line of the book; one that a kill cut short counts nothing, for it was at risk and counts as that."""
    try:
        return LINE.validate_json(line)
    except ValidationError:
        return {}
