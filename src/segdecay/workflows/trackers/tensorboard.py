"""TensorBoard: a folder of event files a trial, beside those of the search."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segdecay.errors import need
from segdecay.workflows.trackers.base import TrackedResult, TrackedRun, TrackedTrial

FOLDER = "tensorboard"  # inside the run, unless another place is given


class TensorBoard:
    """Writes event files; `tensorboard --logdir PLACE` shows them. A trial that is logged again replaces itself."""

    def __init__(self, place: str | None) -> None:
        need("tensorboard", extra="tensorboard")
        self._place = place

    def begin(self, run: TrackedRun, kept: Mapping[str, Any]) -> dict[str, Any]:
        """As `Tracker.begin`."""
        self._folder = run.folder / FOLDER if self._place is None else Path(self._place) / run.name
        lines = [f"    {run.command}", "", "| key | value |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in run.parameters.items()]
        if not kept:
            self._write("search", {"run": "\n".join(lines)}, {})
        return {"place": str(self._folder)}

    def trial(self, trial: TrackedTrial, *, again: bool) -> None:  # noqa: ARG002 - it always replaces its folder
        """As `Tracker.trial`."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self._folder / trial.name
        shutil.rmtree(folder, ignore_errors=True)
        with SummaryWriter(str(folder)) as writer:
            for epoch, row in trial.curve.items():
                for name, value in row.items():
                    writer.add_scalar(name, value, epoch)
            finite = {name: value for name, value in trial.parameters.items() if _is_taken(value)}
            metrics = {f"score/{name}": value for name, value in trial.scores.items()}
            writer.add_hparams({**finite, "status": trial.status}, metrics, run_name=".")
            if trial.reason:
                writer.add_text("reason", trial.reason)

    def end(self, result: TrackedResult | None) -> None:
        """As `Tracker.end`."""
        if result is None:
            return
        places = "\n".join(f"- `{path}`" for path in result.files)
        shutil.rmtree(self._folder / "result", ignore_errors=True)
        self._write("result", {"verdict": f"{result.text}\n\n{places}"}, result.numbers)

    def _write(self, name: str, texts: Mapping[str, str], numbers: Mapping[str, float]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self._folder / name)) as writer:
            for key, text in texts.items():
                writer.add_text(key, text)
            for key, value in numbers.items():
                writer.add_scalar(key, value)


def _is_taken(value: str | float) -> bool:
    return isinstance(value, str) or math.isfinite(value)
