"""The ledger of a run: its folder, in which a trial is finished when its trial.json exists."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdecay.errors import RunError
from segdecay.metrics.confusion import I64, read_confusions
from segdecay.runs.records import TrialRecord, trial_from_json
from segdecay.training.checkpoint import checkpoint_setting, validate_weights
from segdecay.utils.files import read_json


def setting_name(axis: str, value: float) -> str:
    """The folder of a setting; one name for one value.

    >>> setting_name("total_decay", 0.5), setting_name("total_decay", 4.0)
    ('total_decay=0.5', 'total_decay=4')
    """
    return f"{axis}={value:.12g}"


@dataclass(frozen=True)
class Ledger:
    """Paths and contents of a run's trials."""

    run: Path

    def trial(self, setting: str, fold: int, seed: int) -> Path:
        """The folder of one trial."""
        return self.run / "trials" / setting / f"{fold}-{seed}"

    def point(self, name: str, fold: int, seed: int) -> Path:
        """The folder of one training of a joint search."""
        return self.run / "points" / name / f"{fold}-{seed}"

    def refit(self, role: str) -> Path:
        """The folder of a final training: "chosen" or "zero"."""
        return self.run / "refit" / role

    def record(self, folder: Path) -> TrialRecord | None:
        """The record of a finished trial, or None.

        Raises:
            RunError: trial.json is damaged.
        """
        path = folder / "trial.json"
        if not path.exists():
            return None
        try:
            return trial_from_json(read_json(path))
        except (ValueError, KeyError, TypeError, OSError) as error:
            message = f"{path} is damaged ({error}). Remove {folder}; the same command trains this trial again."
            raise RunError(message) from error

    def confusions(self, folder: Path) -> I64:
        """The per-image matrices (N, C, C) of a finished trial."""
        return read_confusions(folder / "confusion.npz")

    def curve(self, folder: Path) -> list[dict[str, Any]]:
        """The lines of a trial's curve."""
        return [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]

    def forget_other_setting(self, folder: Path, setting: str) -> None:
        """Remove a final training, finished or not, that was made for another setting."""
        record = self.record(folder)
        if record is not None:
            other = record.setting != setting
        else:
            other = (folder / "checkpoint").exists() and checkpoint_setting(folder / "checkpoint") != setting
        if other:
            shutil.rmtree(folder)

    def forget_predictions(self) -> None:
        """Remove the predicted masks that trials kept for the examples."""
        for place in ("trials", "points"):
            for path in self.run.glob(f"{place}/*/*/predictions.npz"):
                path.unlink(missing_ok=True)

    def forget_models(self, *, but: str) -> None:
        """Remove the weights that trials kept for an ensemble, except those of one setting."""
        for place in ("trials", "points"):
            for path in self.run.glob(f"{place}/*/*/model.safetensors"):
                if place == "points" or path.parent.parent.name != but:
                    path.unlink(missing_ok=True)

    def forget_damaged(self, known: Collection[Path], *, ships: bool = False) -> list[str]:
        """Remove finished trials that cannot be read, so that they are trained again; returns a line for each.

        Args:
            known: folders of the search's trials; other folders are reported and kept.
            ships: final trainings must have their weights.
        """
        found, foreign = [], []
        for folder in sorted(
            path for place in ("trials/*/*", "points/*/*", "refit/*") for path in self.run.glob(place)
        ):
            if folder not in known and folder.parent.parent.name == "trials":
                foreign.append(folder.relative_to(self.run).as_posix())
                continue
            if not (folder / "trial.json").exists():
                continue
            try:
                self._validate(folder, ships=ships)
            except (RunError, OSError, ValueError) as error:
                shutil.rmtree(folder)
                name, why = folder.relative_to(self.run).as_posix(), error.__cause__ or error
                found.append(f"{name} is damaged and is trained again ({why}).")
        if foreign:
            found.append(f"Not part of this search, and kept: {', '.join(foreign)}.")
        return found

    def _validate(self, folder: Path, *, ships: bool) -> None:
        """Read everything of a finished trial that the search and its model will need.

        Raises:
            RunError, OSError, ValueError: a file is damaged.
        """
        self.record(folder)
        self.curve(folder)
        is_refit, weights = folder.parent.name == "refit", folder / "model.safetensors"
        if not is_refit or (folder / "confusion.npz").exists():  # without a test part a refit scores nothing
            self.confusions(folder)
        if weights.exists() or (is_refit and ships):
            validate_weights(weights)

    def forget_leftovers(self) -> None:
        """Remove checkpoints of finished trials, and temporary files of interrupted writes."""
        for place in ("trials/*/*", "points/*/*", "refit/*"):
            for path in self.run.glob(f"{place}/trial.json"):
                shutil.rmtree(path.parent / "checkpoint", ignore_errors=True)
        for path in self.run.rglob(".*.part"):
            path.unlink(missing_ok=True)
