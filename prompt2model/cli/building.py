"""build and demo: from a description to a model. What they need is imported when they are called: help is quick."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prompt2model.cli import options as o
from prompt2model.cli.screen import Screen
from prompt2model.config import Config
from prompt2model.description import read_description
from prompt2model.errors import ConfigError, RunError

if TYPE_CHECKING:
    from prompt2model.plans import Plan
    from prompt2model.run import Run


def build(
    description: o.Description,
    out: o.Out = None,
    yes: o.Yes = False,
    teacher: o.Teacher = None,
    method: o.Method = None,
    data: o.Data = None,
    test_data: o.TestData = None,
    base: o.Base = None,
    budget: o.Budget = None,
    batch: o.Batch = False,
    count: o.Count = None,
    rounds: o.Rounds = 1,
    until: o.Until = "export",
    epochs: o.Epochs = None,
    lora_rank: o.LoraRank = None,
    config: o.ConfigFile = None,
    set_: o.SetTo = None,
    seed: o.Seed = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    dry_run: o.DryRun = False,
) -> None:
    """Make a model: read the task, write examples, train, measure, export.

    The same command again goes on where it was interrupted.
    """
    settings = o.configured(
        config,
        set_,
        teacher=teacher,
        budget_usd=budget,
        seed=seed,
        retrieve__data=data,
        retrieve__base=base,
        generate__count=count,
        split__test_data=test_data,
        train__method=method,
        train__epochs=epochs,
        train__lora_rank=lora_rank,
        **o.batched(batch),
    )
    text = read_description(description, max_characters=settings.parse.max_characters)
    _run(text, settings, out, rounds=rounds, until=until, yes=yes, as_json=as_json, quiet=quiet, dry_run=dry_run)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The run's folder.", metavar="FOLDER")] = Path("runs/demo"),
    config: o.ConfigFile = None,
    set_: o.SetTo = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
    dry_run: o.DryRun = False,
) -> None:
    """Build the demo: a task of one sentence, measured on rows labelled by hand. No key, no GPU, no cost."""
    from importlib.resources import as_file, files

    from prompt2model.weights import DEFAULT_MODEL

    with as_file(files("prompt2model").joinpath("demo")) as folder:
        settings = o.configured(
            config,
            set_,
            teacher=f"transformers:{DEFAULT_MODEL}",
            retrieve__base=DEFAULT_MODEL,
            split__test_data=str(folder / "test.jsonl"),
            generate__count=300,
            train__epochs=2,
        )
        text = read_description(folder / "task.md")
        Screen(quiet=quiet).say(f"The task: {text.strip()}", "bold")
        _run(text, settings, out, yes=False, as_json=as_json, quiet=quiet, dry_run=dry_run)


def _run(
    text: str,
    config: Config,
    out: Path | None,
    *,
    rounds: int = 1,
    until: str = "export",
    yes: bool,
    as_json: bool,
    quiet: bool,
    dry_run: bool,
) -> None:
    from prompt2model import pipeline

    screen, folder = Screen(quiet=quiet), out or pipeline.default_folder(text)
    pipeline.stages_until(until)  # or an error
    if until != "export" and rounds > 1:
        raise ConfigError("--until cannot be combined with --rounds.", hint="Leave one of them out.")
    if dry_run:
        _tell_plan(text, config, rounds, folder, until, screen, as_json=as_json)
        return
    if rounds == 1:
        runs = [_build(text, config, folder, screen, until=until, yes=yes)]
    else:
        runs = _build_rounds(text, config, rounds, folder, screen, yes=yes, as_json=as_json)
    if until != "export":
        _print_so_far(runs[-1], until, screen, as_json=as_json)
    elif as_json:
        screen.print_json(_summary(runs[-1]) | ({"rounds": list(map(_summary, runs))} if rounds > 1 else {}))
    else:
        _print_end(runs[-1], screen)
    _say_remarks(runs if rounds > 1 else [], rounds, screen)


def _build(text: str, config: Config, folder: Path, screen: Screen, *, until: str = "export", yes: bool) -> "Run":
    from prompt2model import pipeline
    from prompt2model.cli.consent import accept_cost
    from prompt2model.cli.telling import accounting, resumable, teller

    steps = accept_cost(config, lambda: _plan(text, config, folder, until, asks_hub=False).steps, screen, yes=yes)
    with accounting(folder, steps, screen), resumable(screen, str(folder)):
        return pipeline.build(text, out=folder, config=config, until=until, listener=teller(screen))


def _build_rounds(
    text: str, config: Config, rounds: int, folder: Path, screen: Screen, *, yes: bool, as_json: bool
) -> "list[Run]":
    from prompt2model.cli.telling import print_report
    from prompt2model.rounds import begun, in_rounds
    from prompt2model.show import short

    runs: list[Run] = []
    with in_rounds(text, config, rounds, folder) as planned:
        for one in planned:
            if runs and not as_json:
                print_report(runs[-1].report, screen)
            _say_remarks(runs, rounds, screen)
            rows = one.config.generate.count
            screen.say(f"\nRound {one.number} of {rounds}: {rows} rows, in {short(one.folder)}", "bold")
            runs.append(_build(text, one.config, begun(one), screen, yes=yes))
    return runs


def _say_remarks(runs: "list[Run]", rounds: int, screen: Screen) -> None:
    from prompt2model.rounds import remarks

    for remark in remarks([run.report for run in runs], rounds):
        screen.say(remark, "yellow")


def _tell_plan(
    text: str, config: Config, rounds: int, folder: Path, until: str, screen: Screen, *, as_json: bool
) -> None:
    """The plan; of rounds that of the next one, since it takes the student of the one before."""
    from prompt2model.cli.telling import print_plan
    from prompt2model.rounds import plan_rounds

    place = {}
    with screen.working(silently=True):
        if rounds == 1:
            whole = _plan(text, config, folder, until)
        else:
            for one in plan_rounds(config, rounds, folder):
                whole, place = _plan(text, one.config, one.folder, until), {"round": one.number, "rounds": rounds}
                if not all(step.is_kept for step in whole.steps):
                    break
    if as_json:
        screen.print_json(_plan_summary(whole) | place)
        return
    if place:
        screen.print(f"Round {place['round']} of {rounds}; those after it are planned when its student is there.\n")
    print_plan(whole, screen)


def _plan(text: str, config: Config, folder: Path, until: str, *, asks_hub: bool = True) -> "Plan":
    """Of the stages up to the last one that is wanted."""
    from prompt2model.pipeline import stages_until
    from prompt2model.planning import plan  # loads torch

    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder.", hint="Choose another with --out.")
    return plan(text, config, folder, wanted=stages_until(until), asks_hub=asks_hub)


def _plan_summary(plan: "Plan") -> dict[str, Any]:
    """The plan for a program; of what is not known nothing is said."""
    known = plan.is_price_known or not plan.is_paid
    usd = {"usd": plan.usd, "most_usd": plan.most_usd} if known else {"usd": None, "most_usd": None}
    total = {"requests": plan.requests, "tokens": plan.tokens, "minutes": plan.minutes, **usd}
    return plan.model_dump(mode="json") | {"total": total}


def _summary(run: "Run") -> dict[str, Any]:
    """The run for a program; the whole records are in its folder."""
    from prompt2model import show
    from prompt2model.accounts import total

    return {
        "folder": str(run.folder),
        "model": str(run.artifact.folder),
        "size_bytes": show.folder_bytes(run.artifact.folder),
        "task": run.task.model_dump(mode="json"),
        "student": run.trained.model_dump(mode="json", exclude={"losses", "history"}),
        "rows": {name: len(getattr(run.splits, name)) for name in ("train", "validation", "test")},
        "spent": total(run.ledger).model_dump(mode="json"),
        "measured": [one.model_dump(mode="json") for one in run.report.measured],
        "notes": list(run.report.notes),
    }


def _print_so_far(run: "Run", until: str, screen: Screen, *, as_json: bool) -> None:
    """Where the stages that were wanted are, and what one would type next."""
    from prompt2model.show import short

    if as_json:
        screen.print_json({"folder": str(run.folder), "until": until})
        return
    folder = quote(short(run.folder))
    screen.say("\nNext:")
    looks = (
        [f"prompt2model data {folder}", f"prompt2model mark {folder}"]
        if (run.folder / "generate.json").is_file()
        else []
    )
    for command in (*looks, "the same command without --until"):
        screen.say(f"  {command}")


def _print_end(run: "Run", screen: Screen) -> None:
    from prompt2model.cli.telling import print_report
    from prompt2model.show import folder_bytes, next_commands, short

    screen.say("")
    print_report(run.report, screen)
    model, page = run.artifact.folder, run.folder / "report.html"
    screen.print(f"\nmodel   {short(model)} ({folder_bytes(model) / 1e6:.0f} MB)\nreport  {short(page)}")
    screen.say("\nNext:")
    for command in next_commands(Path(short(run.folder)), run.task):
        screen.say(f"  {command}")
