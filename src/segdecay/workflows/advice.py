"""What to do after a verdict that leaves something open: commands, with about how long they take."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segdecay.config.schema import RunConfig
from segdecay.runs.verdict import Advice, Verdict
from segdecay.search.recipe import Recipe
from segdecay.workflows.request import default_out

LONGER = 4  # times the epochs
HIGHER = 3.0  # times the learning rate
RANGE_STEPS = 600  # of `segdecay lr`: 300 without decay, 300 with


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


@dataclass(frozen=True)
class Asked:
    """The search that advice is about.

    Attributes:
        command: as it was typed.
        out: the folder of the run; other runs go beside it.
        trials: of the whole search at most.
        workers: trials at a time.
        epoch_steps: optimizer steps of an epoch.
    """

    config: RunConfig
    verdict: Verdict
    command: str
    out: str
    trials: int
    workers: int
    epoch_steps: int

    @property
    def seconds(self) -> float:
        """About how long the same search takes again."""
        cost = self.verdict.cost
        return cost.seconds / max(1, cost.trials) * self.trials / max(1, self.workers)

    def longer(self) -> Advice:
        epochs = LONGER * self.config.training.epochs
        changes = {"--epochs": str(epochs), "--out": f"{self.out}-{epochs}epochs"}
        text = f"Train longer: {epochs} epochs in place of {self.config.training.epochs}."
        return Advice(text, repeat_with(self.command, self.config.data.path, changes), round(LONGER * self.seconds, 1))

    def rates(self) -> Advice:
        cost, epochs = self.verdict.cost, RANGE_STEPS / max(1, self.epoch_steps)
        seconds = round(cost.seconds / max(1, cost.epochs) * epochs, 1)
        text = "See which learning rates learn; nothing is changed."
        return Advice(text, lr_command(self.command, self.config.data.path), seconds)

    def with_set(self, text: str, name: str, assignment: str, times: float) -> Advice:
        """The same search with one more --set, in a folder beside it."""
        command = repeat_with(self.command, self.config.data.path, {"--out": f"{self.out}-{name}"})
        return Advice(text, f"{command} --set {assignment}", round(times * self.seconds, 1))


def advice_of(asked: Asked) -> tuple[Advice, ...]:
    """Commands that may end in networks that can be compared; the verdict is "undertrained"."""
    config, verdict, rate = asked.config, asked.verdict, asked.config.optimizer.lr
    text = f"Try a higher learning rate: {HIGHER * rate:g} in place of {rate:g}."
    found = [asked.rates(), asked.longer(), asked.with_set(text, "faster", f"optimizer.lr={HIGHER * rate:g}", 1)]
    if config.model.name.startswith("unet-") and verdict.task == "segmentation":
        changes = {"--model": "smp:Unet", "--out": f"{asked.out}-pretrained"}
        pretrained = repeat_with(asked.command, config.data.path, changes)
        text = "Start from a pretrained encoder; its weights are downloaded once."
        found.append(Advice(text, f"{pretrained} --set model.pretrained=true"))
    if verdict.training is not None and len(verdict.training.not_learned) > 1:
        found.append(Advice("Or merge classes that are too rare to learn, under the key classes of dataset.yaml."))
    return tuple(found)


def next_steps(asked: Asked, recipe: Recipe | None, stronger: float | None) -> tuple[Advice, ...]:
    """What may be tried after a verdict, where something is left open; nothing after a clear one.

    Args:
        asked: the search; its verdict is not "undertrained".
        recipe: what the trials without decay show of it.
        stronger: the strength beyond those tried, where a step still allows it.
    """
    verdict, found = asked.verdict, []
    if recipe is not None and recipe.rate != "fits":
        found.append(asked.rates())
    if recipe is not None and (recipe.is_short or recipe.rate == "low"):
        found.append(asked.longer())
    if verdict.kind == "edge" and stronger is not None:
        grid = [*(one.strength.value for one in verdict.settings), stronger]
        shown = f"search.grid=[{','.join(f'{value:.4g}' for value in grid)}]"
        found.append(
            asked.with_set(f"Try stronger values, up to {stronger:.4g}.", "stronger", shown, 1 + 1 / len(grid))
        )
    if verdict.kind == "flat":
        seeds = list(asked.config.search.seeds)
        more = [*seeds, max(seeds) + 1]
        text = "To tell smaller differences apart, train every fold with another seed, too; more images help most."
        shown = f"search.seeds=[{','.join(map(str, more))}]"
        found.append(asked.with_set(text, "seeds", shown, len(more) / len(seeds)))
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
