"""Arguments and options that several commands share. What a setting says of itself is the help of its option."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2model.config import Config, load_config


def _setting(key: str, flag: str, *, metavar: str, of_run: bool = False) -> Any:
    """An option for a setting, with the setting's own sentence and default; `of_run` where that is a run's setting."""
    stage, _, name = key.rpartition(".")
    field = type(getattr(Config(), stage) if stage else Config()).model_fields[name]
    default = f" Default: {field.default}." if field.default not in ((), "", 0.0) else ""
    default = " Default: as the run was made, if there is one." if of_run else default
    again = " May be given several times." if isinstance(field.default, tuple) else ""
    return typer.Option(flag, help=f"{field.description}{default}{again}", metavar=metavar)


Description = Annotated[
    str,
    typer.Argument(help="The task: a sentence, a file (.md, .txt), or - for standard input.", metavar="DESCRIPTION"),
]
RunFolder = Annotated[Path, typer.Argument(help="The folder of a run: the --out of build.", metavar="RUN")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The run's folder; runs/ and the first words by default.", metavar="FOLDER"),
]
Teacher = Annotated[str | None, _setting("teacher", "--teacher", metavar="NAME")]
Budget = Annotated[float | None, _setting("budget_usd", "--budget", metavar="USD")]
Batch = Annotated[
    bool, typer.Option("--batch", help="Use the provider's Batch API: half the price, up to a day.", metavar="")
]
Until = Annotated[
    str,
    typer.Option(
        "--until",
        help="The last stage that is wanted, as in --until generate to look at the rows first: parse, retrieve, "
        "generate, split, train, evaluate. The same command without it goes on from there.",
        metavar="STAGE",
    ),
]
Seed = Annotated[int | None, _setting("seed", "--seed", metavar="N")]
Data = Annotated[list[str] | None, _setting("retrieve.data", "--data", metavar="SOURCE")]
Base = Annotated[str | None, _setting("retrieve.base", "--base", metavar="MODEL")]
Count = Annotated[int | None, _setting("generate.count", "--count", metavar="N")]
TestData = Annotated[str | None, _setting("split.test_data", "--test-data", metavar="FILE")]
Method = Annotated[str | None, _setting("train.method", "--method", metavar="NAME")]
Init = Annotated[str | None, _setting("train.init", "--init", metavar="START")]
Rounds = Annotated[
    int,
    typer.Option(
        "--rounds",
        help="Number of rounds: train, write more rows like those the student found hard, train again.",
        min=1,
        metavar="N",
    ),
]
Epochs = Annotated[float | None, _setting("train.epochs", "--epochs", metavar="N")]
LoraRank = Annotated[int | None, _setting("train.lora_rank", "--lora-rank", metavar="N")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of settings: prompt2model config --toml.", metavar="FILE")
]
OfRun = partial(_setting, of_run=True)
TeacherOfRun = Annotated[str | None, OfRun("teacher", "--teacher", metavar="NAME")]
BudgetOfRun = Annotated[float | None, OfRun("budget_usd", "--budget", metavar="USD")]
SeedOfRun = Annotated[int | None, OfRun("seed", "--seed", metavar="N")]
MethodOfRun = Annotated[str | None, OfRun("train.method", "--method", metavar="NAME")]
InitOfRun = Annotated[str | None, OfRun("train.init", "--init", metavar="START")]
EpochsOfRun = Annotated[float | None, OfRun("train.epochs", "--epochs", metavar="N")]
LoraRankOfRun = Annotated[int | None, OfRun("train.lora_rank", "--lora-rank", metavar="N")]
ConfigInPlace = Annotated[
    Path | None, typer.Option("--config", help="A TOML file in place of the run's settings.", metavar="FILE")
]
SetTo = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any setting, as in train.batch_rows=8. May be given several times.", metavar="STAGE.KEY=VALUE"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else.", metavar="")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Keep standard error empty but for errors.", metavar="")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Accept what the teacher may cost.", metavar="")]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would run: requests, tokens, minutes, money. Starts nothing.", metavar=""),
]
Limit = Annotated[int, typer.Option("--limit", "-n", help="How many to show.", min=1, metavar="N")]


def batched(batch: bool) -> dict[str, Any]:
    """The settings of `--batch`: rows are then written in one round, for every round takes as long."""
    return {"teacher_options__batch": True, "generate__round_size": 100_000} if batch else {}


def configured(file: Path | None, settings: list[str] | None, **flags: Any) -> Config:
    """The settings of a file, overlaid by `--set`, overlaid by the flags that were given."""
    return load_config(file, settings or (), **{key: value for key, value in flags.items() if value != []})
