"""Options that commands share, and the parsing of their values."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from segdecay.utils.printable import printable_stream

Data = Annotated[
    str,
    typer.Argument(metavar="DATA", help="A folder, a dataset.yaml, digits, cifar10:FOLDER or torchvision:NAME."),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run's folder. Default: runs/NAME.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file with any keys of run.yaml.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key, as in --set search.grid=[0,1,8].")
]
Folds = Annotated[
    int | None, typer.Option("--folds", help="Number of folds. Default: 5, or as many down to 3 as the data allow.")
]
Race = Annotated[
    str | None,
    typer.Option("--race", metavar="on|off", help="on: only trials that may change the verdict; off: the whole grid."),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="30m|20trials",
        help="Stop the search at this limit with the verdict so far; refits are not counted.",
    ),
]
Honest = Annotated[
    str | None,
    typer.Option(
        "--honest",
        metavar="bbc-cv|nested|holdout",
        help="Bias correction of the score: computed (no training), nested folds, or a fold held out.",
    ),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search",
        metavar="NAMES",
        help="Search these together with λ: lr, head, encoder, dropout, class_weights, separated by commas.",
    ),
]
Points = Annotated[int | None, typer.Option("--points", help="With --search: points tried on every fold. Default: 24.")]
Refit = Annotated[
    str,
    typer.Option(
        "--refit",
        metavar="auto|anyway",
        help="anyway: train and keep a model also where no network is trained enough to tell.",
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs of every training. Default: 80.")]
Size = Annotated[str | None, typer.Option("--size", metavar="HxW", help="Resize images and masks to H x W pixels.")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="unet-tiny, unet-small, small-cnn, smp:ARCHITECTURE, or package.module:build."),
]
Transform = Annotated[
    str | None,
    typer.Option(
        "--transform",
        metavar="PACKAGE.MODULE:NAME",
        help="A function of yours that changes each training image and mask, such as an albumentations Compose.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Of folds, weights, order and augmentation. Default: 0.")]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Trials at a time. Default: one per core or GPU; 0: in this process."),
]
Executor = Annotated[str, typer.Option("--executor", metavar="local|ray", help="This machine, or a Ray cluster.")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="HOST:PORT", help="With --executor ray: its address. Default: one here."),
]
GpusPerTrial = Annotated[
    float,
    typer.Option("--gpus-per-trial", help="With --executor ray: GPUs per trial, as in 0.25. Default: 0."),
]
TrialsPerGpu = Annotated[
    int,
    typer.Option("--trials-per-gpu", min=1, help="Trials at a time on every GPU of this machine; they share it."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
Devices = Annotated[
    int,
    typer.Option("--devices", min=1, help="Number of GPUs that share every batch of this training (DDP)."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for another segdecay that works on the same --out.")]
Estimate = Annotated[
    bool, typer.Option("--estimate", help="Print the number of trials, time and disk, without training.")
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        metavar="tensorboard|mlflow",
        help="Log the run there, one or both, with a place after a colon, as in mlflow:http://127.0.0.1:5000.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the result only.")]
Json = Annotated[bool, typer.Option("--json", help="Print only the result, as JSON, on standard output.")]
CacheLimit = Annotated[
    str | None,
    typer.Option(
        "--cache-limit",
        metavar="SIZE",
        help="Limit for decoded data, as in 20GB; the least recently used are removed. Default: 100GB.",
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help="Warnings about the data are errors.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Continue if a class cannot be scored or learned in every fold.")
]
Tta = Annotated[str, typer.Option("--tta", metavar="none|flips|d4", help="Average over 4 mirrorings, or 8 with turns.")]
Tile = Annotated[
    int | None,
    typer.Option("--tile", help="Window size in pixels for every image. Default: only for large images, 512."),
]
Overlap = Annotated[int | None, typer.Option("--overlap", help="Pixels that windows share. Default: a quarter.")]
Batch = Annotated[int | None, typer.Option("--batch", help="Windows at a time. Default: 1, 8 on a GPU.")]
UserModel = Annotated[
    str | None, typer.Option("--model", help="For a run with a user model: its package.module:build.")
]


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text; characters that the encoding of the stream lacks are replaced (`segdecay.utils.printable`)."""
    stream = sys.stderr if err else sys.stdout
    printable_stream(stream).write(text + ("\n" if nl else ""))
    stream.flush()


def echo_json(text: str) -> None:
    """Print JSON; what the encoding of standard output lacks is escaped, as JSON allows."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text))
    echo(text.rstrip("\n"))


def warn(text: str) -> None:
    """A warning on standard error, which stays apart from results."""
    echo(f"warning: {text}", err=True)


def repeat_command() -> str:
    """The command line as it was typed, for the report."""
    return shlex.join(["segdecay", *sys.argv[1:]])
