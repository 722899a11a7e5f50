"""doctor, config, plugins, version: what there is."""

import dataclasses
from typing import Annotated

import typer

from prompt2model.cli import options as o
from prompt2model.cli.screen import Screen


def doctor(as_json: o.AsJson = False, quiet: o.Quiet = False) -> None:
    """Look at this machine: cores, memory, GPU, keys, the Hub, weights at hand, and what that means for a run."""
    from prompt2model import show
    from prompt2model.doctor import examine  # loads torch

    screen = Screen(quiet=quiet)
    with screen.working(silently=True):
        machine = examine()
    screen.print_json(machine) if as_json else screen.print(show.machine_table(machine))


def config(
    config: o.ConfigFile = None,
    set_: o.SetTo = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print a TOML file to edit and give to --config.", metavar="")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show every setting: its default, or its value with --config and --set, and what it is for."""
    from prompt2model import show
    from prompt2model.settings import as_toml
    from prompt2model.settings import settings as all_settings

    settings, screen = o.configured(config, set_), Screen()
    if as_json:
        screen.print_json(settings)
    elif toml:
        screen.print_line(as_toml(settings).rstrip("\n"))
    else:
        screen.print(show.settings_table(all_settings(settings)))


def plugins(
    name: Annotated[
        str | None, typer.Argument(help="One of them: its text, and its options as --set takes them.", metavar="[NAME]")
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """List teachers, methods, strategies, filters, metrics and exporters, or show one with its options."""
    from prompt2model import show
    from prompt2model.plugin_facts import facts

    screen = Screen()
    if name:
        found = facts(name)
        if as_json:
            screen.print_json(list(map(dataclasses.asdict, found)))
            return
        for one in found:
            screen.print(show.plugin_page(one))
    elif as_json:
        screen.print_json([dict(zip(("family", "name", "description"), one, strict=True)) for one in show.plugins()])
    else:
        screen.print(show.plugins_table())
        screen.say("\nOne with its options: prompt2model plugins NAME", "dim")


def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed_version

    Screen().print_line(f"prompt2model {installed_version('prompt2model')}")
