"""The trials of a comparison: the trainings of every arm, and their results.

Trials without decay are trained once and are the first setting of every arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segdecay.data.dataset import class_pixels
from segdecay.runs.records import TrialRecord
from segdecay.search.comparison.arms import ARMS, NONE, Settled
from segdecay.search.ledger import setting_name
from segdecay.search.trials import TrialStore
from segdecay.training.setup import TrialTask


@dataclass(frozen=True)
class ArmSetting:
    """One setting of an arm; a value of None is training without decay."""

    arm: str
    value: float | None

    @property
    def shown(self) -> str:
        return NONE if self.value is None else f"{self.value:.6g}"


@dataclass
class ArmTrials(TrialStore):
    """All settings of all arms; the trials without decay are trained once and are the first setting of every arm."""

    strengths: Mapping[str, Sequence[float]]  # by arm, from the weakest to the strongest; empty for "none"

    def settings(self) -> list[ArmSetting]:
        """No decay once, then every strength of every arm."""
        acting = [ArmSetting(arm, value) for arm, values in self.strengths.items() for value in values]
        return [ArmSetting(NONE, None), *acting]

    def settle(self, setting: ArmSetting, train: Sequence[int]) -> Settled:
        """The configuration and strength of a setting for a training on these images."""
        arm = ARMS[setting.arm]
        pixels = np.zeros(len(self.dataset.classes), dtype=np.int64)
        if arm.by_fold:
            pixels = np.sum(class_pixels(self.dataset, tuple(train)), axis=0, dtype=np.int64)
        return arm.settle(self.config, setting.value or 0.0, pixels)

    def folder_name(self, setting: ArmSetting) -> str:
        """The folder of a setting: ARM-AXIS=VALUE."""
        axis = ARMS[setting.arm].axis
        if setting.value is None or axis is None:
            return NONE
        smallest = min(len(fold.train) for fold in self.folds.folds)
        return f"{setting.arm}-{setting_name(axis(self.config, smallest).name, setting.value)}"

    def tasks(self, setting: ArmSetting) -> list[TrialTask]:
        """All trials of one setting: fold by fold, then seed by seed."""
        name, found = self.folder_name(setting), []
        for number, fold in enumerate(self.folds.folds):
            settled = self.settle(setting, fold.train)
            for seed in self.config.search.seeds:
                task = TrialTask(
                    folder=self.ledger.trial(name, number, seed),
                    dataset=self.dataset.root,
                    config=settled.config,
                    setting=name,
                    value=settled.value,
                    fold=number,
                    seed=seed,
                    train=fold.train,
                    scored=fold.validation,
                    checkpoint_every_s=self.checkpoint_every_s,
                    transform=self.transform,
                )
                found.append(task)
        return found

    def all_tasks(self) -> list[TrialTask]:
        """Every trial of every setting."""
        return [task for setting in self.settings() for task in self.tasks(setting)]


def zeros_and_norm(record: TrialRecord) -> tuple[float, float] | None:
    """The share of exact zeros among the weights of layers at the end, and the root of their summed squares."""
    layers = (record.extra.get("diagnostics") or {}).get("layers") or []
    numbers = [math.prod(layer["shape"]) for layer in layers]
    if not numbers or any(layer["norm"] is None for layer in layers):
        return None
    zeros = sum(n * layer["zeros"] for n, layer in zip(numbers, layers, strict=True)) / sum(numbers)
    return zeros, math.sqrt(sum(layer["norm"] ** 2 for layer in layers))
