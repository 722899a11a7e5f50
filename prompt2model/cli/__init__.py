"""The command line. A command parses its arguments, calls one function, and prints; each group of them is a file."""

import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from prompt2model.cli import building, data, machine, predicting, running, screen, stages
from prompt2model.errors import ConfigError, Prompt2ModelError
from prompt2model.registry import did_you_mean

INTERRUPTED = 130
"""128 and the number of SIGINT: what shells expect of a command that Ctrl-C has ended."""
SILENCE = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Read by third parties when they are imported; set by hand they win."""


app = typer.Typer(
    name="prompt2model",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MAKE, LOOK, USE, KNOW = "Make a model", "Stage by stage", "Use a model", "Know more"
COMMANDS: dict[str, tuple[str, Callable[..., Any]]] = {
    "build": (MAKE, building.build),
    "demo": (MAKE, building.demo),
    "predict": (USE, predicting.predict),
    "report": (USE, running.show_report),
    "export": (USE, running.export),
    "parse": (LOOK, stages.parse),
    "models": (LOOK, stages.models),
    "datasets": (LOOK, stages.datasets),
    "generate": (LOOK, stages.generate),
    "data": (LOOK, data.data),
    "mark": (LOOK, data.mark),
    "train": (LOOK, running.train),
    "evaluate": (LOOK, running.evaluate),
    "doctor": (KNOW, machine.doctor),
    "config": (KNOW, machine.config),
    "plugins": (KNOW, machine.plugins),
    "version": (KNOW, machine.version),
}
for _name, (_panel, _command) in COMMANDS.items():
    app.command(_name, rich_help_panel=_panel)(_command)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", metavar="")] = False,
) -> None:
    """One sentence in, a small language model out: prompt2model "Classify mails as bug, billing or other."

    A first argument that is no command is a description, and goes to build.
    """
    if version:
        machine.version()
    elif context.invoked_subcommand is None:
        screen.Screen().print_line(context.get_help())


def main() -> None:
    """The console script."""
    for name, value in SILENCE.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what third parties tell developers
    signal.signal(signal.SIGTERM, _end)
    sys.exit(run(sys.argv[1:]))


def _end(number: int, frame: FrameType | None) -> None:
    """Ends the process as an error does, so that what was spent is noted and told; a second signal ends it at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def run(arguments: Sequence[str]) -> int:
    """The exit code: 0, 1 after a message and a hint, 130 after Ctrl-C. Anything else that is raised is a bug."""
    try:
        code = app(routed(arguments), prog_name="prompt2model", standalone_mode=False)
        sys.stdout.flush()
    except Prompt2ModelError as error:
        screen.say_error(error)
        return 1
    except typer.TyperException as error:  # an argument that does not exist, or a value of the wrong type
        screen.say_error(ConfigError(error.format_message(), hint=f"{_called(arguments)} --help shows how to call it."))
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush finds an open end
        return 1
    return code if isinstance(code, int) else 0


def routed(arguments: Sequence[str]) -> list[str]:
    """The arguments with the command in front, which is `build` when they begin with a description or its options.

    Raises ConfigError when the first argument seems to be a command that does not exist.
    """
    first = arguments[0] if arguments else "--help"
    if not arguments or first in COMMANDS or first in ("-h", "--help", "--version"):
        return list(arguments)
    if re.fullmatch(r"[a-z][a-z_-]{1,23}", first, re.IGNORECASE) and not Path(first).exists():
        raise ConfigError(
            f"There is no command {first!r}, and one word describes no task.",
            hint=f'{did_you_mean(first, list(COMMANDS))} A task is a sentence in quotes: prompt2model "…"',
        )
    return ["build", *arguments]


def _called(arguments: Sequence[str]) -> str:
    """The command that was called, as it is typed."""
    return " ".join(["prompt2model", *routed(arguments)[:1]])
