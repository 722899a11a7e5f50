"""train, evaluate, export, report: a run's student, made or looked at again.

What they need is imported when they are called: help is quick.
"""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from prompt2model.cli import options as o
from prompt2model.cli.screen import Screen
from prompt2model.config import Config
from prompt2model.description import read_description
from prompt2model.errors import ConfigError, RunError

if TYPE_CHECKING:
    from prompt2model.plans import Plan, Step
    from prompt2model.records import Student
    from prompt2model.run import Run


def train(
    run: Annotated[str, typer.Argument(help="A run's folder; or, with --data, a description.", metavar="RUN")],
    out: o.Out = None,
    data: o.Data = None,
    base: o.Base = None,
    method: o.MethodOfRun = None,
    init: o.InitOfRun = None,
    teacher: o.TeacherOfRun = None,
    yes: o.Yes = False,
    budget: o.BudgetOfRun = None,
    batch: o.Batch = False,
    epochs: o.EpochsOfRun = None,
    lora_rank: o.LoraRankOfRun = None,
    config: o.ConfigInPlace = None,
    set_: o.SetTo = None,
    seed: o.SeedOfRun = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a student: again on a run's rows, or on --data for a task that is described.

    On several GPUs: accelerate launch -m prompt2model train RUN
    """
    from prompt2model import again
    from prompt2model.show import short

    flags: dict[str, Any] = {"seed": seed, "teacher": teacher, "budget_usd": budget, **o.batched(batch)}
    flags |= {"train__method": method, "train__init": init, "train__epochs": epochs, "train__lora_rank": lora_rank}
    screen = Screen(quiet=quiet or not again.is_main_process())
    if data:
        settings = o.configured(config, set_, retrieve__data=data, retrieve__base=base, generate__count=0, **flags)
        student = _train_on_data(run, settings, out, screen, yes=yes)
    else:
        _check_can_train(run, base, out)
        settings = o.configured(config or again.settings_of(Path(run)), set_, **flags)
        student = _train_again(Path(run), settings, screen, yes=yes)
    if again.is_main_process():
        screen.print_json(student) if as_json else screen.print(short(student.folder))
        screen.say(f"\nNext:\n  prompt2model evaluate {short(student.folder.parent)}")


def evaluate(
    run: o.RunFolder,
    test_data: Annotated[
        str | None, typer.Option("--test-data", help="Other rows than the run's own; its report stays.", metavar="FILE")
    ] = None,
    teacher: o.TeacherOfRun = None,
    yes: o.Yes = False,
    budget: o.BudgetOfRun = None,
    config: o.ConfigInPlace = None,
    set_: o.SetTo = None,
    seed: o.SeedOfRun = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Measure a run's student beside the majority answer, its base model and its teacher."""
    from prompt2model import again
    from prompt2model.cli.consent import accept_cost
    from prompt2model.cli.telling import accounting, print_report, resumable
    from prompt2model.pipeline import measures_teacher
    from prompt2model.run import Run

    settings = o.configured(config or again.settings_of(run), set_, teacher=teacher, budget_usd=budget, seed=seed)
    screen, opened = Screen(quiet=quiet), Run(run)
    planned: list[Step] = []
    _ = opened.trained  # an unfinished run is refused before anybody is asked about money
    if measures_teacher(settings):
        planned = accept_cost(settings, lambda: [_again("evaluate", opened, settings)], screen, yes=yes)
    with accounting(run, planned, screen), resumable(screen, "the response cache"):
        measured = again.evaluate_again(run, settings, test_data or "")
    if as_json:
        screen.print_json(measured)
    else:
        print_report(measured, screen)


def export(
    run: o.RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", metavar="FOLDER")],
    config: o.ConfigInPlace = None,
    set_: o.SetTo = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Write a run's student to a folder that plain transformers loads, with its model card."""
    from prompt2model import again
    from prompt2model.cli.telling import teller
    from prompt2model.show import short

    settings, screen = o.configured(config or again.settings_of(run), set_), Screen(quiet=quiet)
    with screen.working():
        artifact = again.export_again(run, settings, out)
    teller(screen)("export", artifact)
    screen.print_json(artifact) if as_json else screen.print(short(artifact.folder))


def show_report(
    run: o.RunFolder,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, to paste into an issue or a wiki.", metavar="")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Open report.html in the browser.", metavar="")] = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Show a run's table, and write report.html: examples, curves, mistakes."""
    from prompt2model import report
    from prompt2model.cli.telling import print_report
    from prompt2model.run import Run
    from prompt2model.show import short

    screen, opened = Screen(quiet=quiet), Run(run)
    measured, page = opened.report, opened.write_page()
    if as_json:
        screen.print_json(measured)
    elif markdown:
        screen.print_line(report.markdown(measured))
    else:
        print_report(measured, screen)
    screen.say(f"\nThe whole story: {short(page.resolve())}")
    if open_:
        webbrowser.open(page.resolve().as_uri())


def _train_again(folder: Path, config: Config, screen: Screen, *, yes: bool) -> "Student":
    """A student of the run's rows; some methods ask the teacher about each."""
    from prompt2model import again
    from prompt2model.cli.consent import accept_cost
    from prompt2model.cli.telling import accounting, resumable, teller
    from prompt2model.pipeline import needs_in_training
    from prompt2model.run import Run

    run = Run(folder)
    planned: list[Step] = []
    if needs_in_training(config) and not again.is_trained(run, config):
        planned = accept_cost(config, lambda: [_again("train", run, config)], screen, yes=yes)
    with accounting(folder, planned, screen), resumable(screen, str(folder)):
        student = again.train_again(folder, config)
    teller(screen)("train", student)
    return student


def _train_on_data(description: str, config: Config, out: Path | None, screen: Screen, *, yes: bool) -> "Student":
    """A student of the given rows; a teacher is asked what the description does not tell, or by the method."""
    from prompt2model import pipeline
    from prompt2model.cli.consent import accept_cost
    from prompt2model.cli.telling import accounting, resumable, teller

    text = read_description(description, max_characters=config.parse.max_characters)
    folder = out or pipeline.default_folder(text)
    planned = accept_cost(config, lambda: _until_trained(text, config, folder).steps, screen, yes=yes)
    with accounting(folder, planned, screen), resumable(screen, str(folder)):
        run = pipeline.build(text, out=folder, config=config, until="train", listener=teller(screen))
    return run.trained


def _check_can_train(run: str, base: str | None, out: Path | None) -> None:
    from prompt2model import again

    if not again.is_run(Path(run)):
        raise RunError(
            f"{run!r} is no run with rows to train on.",
            hint='Name a run\'s folder, or give rows for a task: prompt2model train "…" --data rows.csv',
        )
    if base or out:
        raise ConfigError(
            "A run is trained again from its own base and in its own folder.",
            hint="Another base or folder is another run: prompt2model build … --base MODEL --out FOLDER",
        )


def _until_trained(text: str, config: Config, folder: Path) -> "Plan":
    from prompt2model.pipeline import stages_until
    from prompt2model.planning import plan  # loads torch

    return plan(text, config, folder, wanted=stages_until("train"), asks_hub=False)


def _again(stage: Literal["train", "evaluate"], run: "Run", config: Config) -> "Step":
    from prompt2model.planning import plan_again  # loads torch

    return plan_again(stage, run.task, run.found, run.splits, config)
