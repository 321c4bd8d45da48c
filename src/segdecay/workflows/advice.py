"""What to do after a search whose networks are not trained enough: commands, with about how long they take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from segdecay.config.schema import RunConfig
from segdecay.runs.verdict import Advice, Verdict
from segdecay.search.recipe import Recipe
from segdecay.workflows.request import default_out

LONGER = 4  # times the epochs
HIGHER = 3.0  # times the learning rate


def repeat_with(command: str, data: str, changes: Mapping[str, str]) -> str:
    """The command line of a search with other values of some options; a call from Python becomes a command.

    >>> repeat_with("segdecay tune cells --epochs 2 --out runs/a", "cells", {"--epochs": "8", "--out": "runs/b"})
    'segdecay tune cells --epochs 8 --out runs/b'
    >>> repeat_with("segdecay.tune('cells', ...)", "cells", {"--epochs": "8"})
    'segdecay tune cells --epochs 8'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if words[:2] != ["segdecay", "tune"]:
        words = ["segdecay", "tune", data]
    kept: list[str] = []
    skips = False
    for word in words:
        if skips:
            skips = False
        elif word in changes:
            skips = True
        elif word.partition("=")[0] not in changes:
            kept.append(word)
    return shlex.join([*kept, *(part for pair in changes.items() for part in pair)])


def advice_of(
    config: RunConfig, verdict: Verdict, command: str, out: str, *, trials: int, workers: int
) -> tuple[Advice, ...]:
    """Commands that may end in networks that can be compared.

    Args:
        config: of the search.
        verdict: its kind is "undertrained".
        command: as it was typed.
        out: the folder of the run; other runs go beside it.
        trials: of the whole search at most.
        workers: trials at a time.
    """
    data, epochs, rate = config.data.path, config.training.epochs, config.optimizer.lr
    seconds = verdict.cost.seconds / max(1, verdict.cost.trials) * trials / max(1, workers)
    longer = {"--epochs": str(LONGER * epochs), "--out": f"{out}-{LONGER * epochs}epochs"}
    found = [
        Advice("See which learning rates learn at all; nothing is changed.", lr_command(command, data), None),
        Advice(
            f"Train longer: {LONGER * epochs} epochs in place of {epochs}.",
            repeat_with(command, data, longer),
            round(LONGER * seconds, 1),
        ),
        Advice(
            f"Try a higher learning rate: {HIGHER * rate:g} in place of {rate:g}.",
            repeat_with(command, data, {"--out": f"{out}-faster"}) + f" --set optimizer.lr={HIGHER * rate:g}",
            round(seconds, 1),
        ),
    ]
    if config.model.name.startswith("unet-") and verdict.task == "segmentation":
        pretrained = repeat_with(command, data, {"--model": "smp:Unet", "--out": f"{out}-pretrained"})
        text = "Start from a pretrained encoder; its weights are downloaded once."
        found.append(Advice(text, f"{pretrained} --set model.pretrained=true"))
    if verdict.training is not None and len(verdict.training.not_learned) > 1:
        found.append(Advice("Or merge classes that are too rare to learn, under `classes` of dataset.yaml."))
    return tuple(found)


SHARED_WITH_LR = ("--config", "--set", "--decay", "--model", "--epochs", "--size", "--seed", "--device")


def lr_command(command: str, data: str) -> str:
    """The range test of the learning rate for the trainings of a search: its options that matter there are kept.

    >>> lr_command("segdecay tune cells --folds 3 --model smp:Unet --size=64x64 --out runs/a", "cells")
    'segdecay lr cells --model smp:Unet --size=64x64'
    >>> lr_command("segdecay.tune('cells', ...)", "cells")
    'segdecay lr cells'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    kept: list[str] = []
    takes = False
    for word in words if words[:2] == ["segdecay", "tune"] else ():
        name, has_value = word.partition("=")[0], "=" in word
        if takes or name in SHARED_WITH_LR:
            kept.append(word)
        takes = not takes and name in SHARED_WITH_LR and not has_value
    return shlex.join(["segdecay", "lr", data, *kept])


def recipe_commands(found: Recipe, config: RunConfig, command: str) -> list[str]:
    """Commands that would find a better recipe; none where it looks right."""
    data, epochs = config.data.path, config.training.epochs
    lines = []
    if found.rate != "fits":
        lines.append(f"To find a rate: {lr_command(command, data)}")
    if found.is_short or found.rate == "low":
        out = f"{default_out(data)}-{LONGER * epochs}epochs"
        longer = repeat_with(command, data, {"--epochs": str(LONGER * epochs), "--out": out})
        lines.append(f"To train longer: {longer}")
    return lines


def advice_lines(advice: Sequence[Advice]) -> list[str]:
    """The advice as lines of text, commands indented below what they do.

    >>> advice_lines([Advice("Train longer.", "segdecay tune cells --epochs 8", 90.0)])
    ['- Train longer. About 2 min.', '    segdecay tune cells --epochs 8']
    """
    lines = []
    for one in advice:
        lines.append(f"- {one.text}" + ("" if one.seconds is None else f" About {about(one.seconds)}."))
        lines += [f"    {one.command}"] if one.command else []
    return lines


def about(seconds: float) -> str:
    """A rough duration.

    >>> about(20), about(90), about(7000)
    ('20 s', '2 min', '1.9 h')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
