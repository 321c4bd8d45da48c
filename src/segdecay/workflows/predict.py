"""A prediction from a trained model and images to a folder of masks, or of labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdecay.errors import ConfigError, gather
from segdecay.execution import find_devices
from segdecay.inference.apply import build_tiling
from segdecay.inference.model import load_predictor, made_by
from segdecay.inference.outputs import DEFAULT
from segdecay.inference.predict import Failed, Predicted, PredictionWatcher, Request, predict_files, to_plain
from segdecay.inference.predict_labels import TABLE, LabelledImage, label_files, refuse_mask_options
from segdecay.workflows.request import parse_names


@dataclass(frozen=True)
class Predictions:
    """What `predict` returns."""

    out: Path
    images: tuple[Predicted, ...] | tuple[LabelledImage, ...]  # labels where the model labels whole images
    failed: tuple[Failed, ...]
    saved: tuple[str, ...]  # kinds of results, or the table of labels

    @property
    def sentence(self) -> str:
        """How many images, and where their results lie."""
        count = f"{len(self.images)} image{'' if len(self.images) == 1 else 's'}"
        if self.saved == (TABLE,):
            return f"{count} labelled: {self.out / TABLE}"
        return f"{count} predicted: {', '.join(self.saved)} in {self.out}"

    def to_dict(self) -> dict[str, Any]:
        """What `segdecay predict --json` prints."""
        rows = [row.to_json() if isinstance(row, LabelledImage) else to_plain(row) for row in self.images]
        return {"images": rows, "failed": [to_plain(row) for row in self.failed]}


def default_predictions(run: Path) -> Path:
    """The folder of predictions where none was named: predicted/NAME, with the name of the run.

    >>> default_predictions(Path("runs/cells/model")).as_posix()
    'predicted/cells'
    """
    whole = run.resolve()
    return Path("predicted") / (whole.parent.name if whole.name == "model" else whole.name)


def predict(
    run: Path,
    images: Sequence[Path],
    *,
    out: Path | None = None,
    save: str | Sequence[str] = DEFAULT,
    tta: str = "none",
    ensemble: bool = False,
    others: Sequence[Path] = (),
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    model: str | None = None,
    device: str = "auto",
    bars: AbstractContextManager[PredictionWatcher],
) -> Predictions:
    """Predict images; arguments are the command's options.

    Args:
        others: runs whose models are averaged with that of `run`.
        bars: receives progress.

    Raises:
        SegdecayError: anything a user can act on; an image that cannot be predicted is in `failed`.
    """
    out = default_predictions(run) if out is None else out
    tiling = build_tiling(tile, overlap, batch)
    predictor = load_predictor([run, *others], folds=ensemble, tta=tta, model=model, device=find_devices(device)[0])
    kinds = tuple(dict.fromkeys(parse_names(save) or ()))
    made = made_by(predictor, tiling)
    with bars as watcher:
        if predictor.task == "classification":
            gather(ConfigError, refuse_mask_options(",".join(kinds), ",".join(DEFAULT), tile))
            labels = label_files(predictor, images, out, made, watcher)
            return Predictions(out, labels.done, labels.failed, (TABLE,))
        masks = predict_files(predictor, images, out, Request(kinds, tiling, made), watcher)
    return Predictions(out, masks.done, masks.failed, kinds)
