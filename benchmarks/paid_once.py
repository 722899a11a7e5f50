"""Whether a paid teacher is paid once, and never above a budget: ten kills of one job, and ten budgets.

    python benchmarks/paid_once.py [--requests 2000] [--at-once 16]

The job's process is killed with SIGKILL at random moments and started again, on the same cache and ledger; what the
server saw is set beside what there was to ask. In flight is what was sent and whose reply was not kept yet: at most
`--at-once` requests, some of which the server has answered. An answer costs $20, and a request is reserved at the most
that it may cost; each budget is such that the last request just fits, or fails to by a cent.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prompt2model.book import Book
from prompt2model.conversation import Message, Request
from prompt2model.errors import BudgetExceeded
from prompt2model.ledger import MOST_PAID_ATTEMPTS, most_tokens_in, most_tokens_out
from prompt2model.teachers import open_teacher

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chat_server import ChatServer, serve

KILLS = 10
SECONDS = 0.02
"""An answer takes."""
PRICES = '[models]\n"m" = { input = 1e6, output = 2e6 }\n'
USD = 10 * 1 + 5 * 2
"""An answer of the server costs: it reports 10 tokens read and 5 written."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["PROMPT2MODEL_HOME"] = home
        Path(home, "prices.toml").write_text(PRICES)
        print(json.dumps(killed(options.requests, options.at_once, Path(home))))
        for last in (0.0, -0.01):
            for answers in (1, 2, 10, 37, 100):
                print(json.dumps(budgeted(answers, last)))


def killed(count: int, at_once: int, home: Path) -> dict[str, object]:
    """What the server saw of a job that was killed ten times, and what the ledger takes that to have cost at most."""
    rng, at_server = random.Random(0), []
    with serve() as server:
        server.seconds = SECONDS
        command = [sys.executable, __file__, "ask", server.url, str(count), str(at_once)]
        for _ in range(KILLS):
            goal = len(server.asked) + rng.randrange(count // 100, count // 11)
            with subprocess.Popen(command) as process:
                _wait_until(server, goal)
                at_server.append(server.under_way)
                process.kill()
        subprocess.run(command, check=True)
        seen = len(server.asked)
    return {
        "requests": count,
        "kills": KILLS,
        "unanswered_at_kills": at_server,
        "seen": seen,
        "asked_again": seen - count,
        "most_in_flight_at_kills": KILLS * at_once,
        "bill_usd": seen * USD,
        "ledger_usd": round(Book(home / "book").usd, 2),
    }


def ask(url: str, count: int, at_once: int) -> None:
    """The job, in a process of its own."""
    book = Path(os.environ["PROMPT2MODEL_HOME"]) / "book"
    teacher = open_teacher(f"{url}#m", options={"concurrency": at_once}, book=book)
    assert sum(len(group) for group in teacher.answer(_requests(count))) == count


def budgeted(answers: int, more_usd: float) -> dict[str, object]:
    """What a budget for that many answers is spent on, when there is more to ask than it bears."""
    asked = _requests(200)
    tokens_in, tokens_out = most_tokens_in(asked[0]), most_tokens_out(asked[0], reasoning=False)
    budget = USD * (answers - 1) + MOST_PAID_ATTEMPTS * (tokens_in + 2 * tokens_out) + more_usd
    with serve() as server:
        teacher = open_teacher(f"{server.url}#m", budget_usd=budget)
        try:
            told = sum(len(group) for group in teacher.answer(asked))
        except BudgetExceeded:
            told = len(server.asked)
        bill = USD * len(server.asked)
    return {"budget_usd": round(budget, 2), "answers": told, "bill_usd": bill, "is_passed": bill > budget}


def _requests(count: int) -> list[Request]:
    """They all cost the same."""
    return [Request(messages=(Message(role="user", content=f"{number:09}"),), max_tokens=9) for number in range(count)]


def _wait_until(server: ChatServer, goal: int) -> None:
    while len(server.asked) < goal:
        time.sleep(0.001)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask", url, count, at_once]:
            ask(url, int(count), int(at_once))
        case _:
            main()
