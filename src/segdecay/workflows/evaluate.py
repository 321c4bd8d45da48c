"""An evaluation from a trained model and a data set with masks to scores, files and page."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segdecay.config.schema import parse_config
from segdecay.data import load_dataset
from segdecay.execution import find_devices
from segdecay.inference.apply import build_tiling
from segdecay.inference.evaluate import Inquiry, check_evaluation_out, part_of, write_evaluation
from segdecay.inference.evaluate import evaluate as score
from segdecay.inference.model import load_predictor
from segdecay.report import build_evaluation_report
from segdecay.report.text.format import interval
from segdecay.runs.evaluation import Evaluation
from segdecay.utils.files import plain_values
from segdecay.utils.tables import data_frame
from segdecay.workflows.frames import evaluated_class_rows, image_rows
from segdecay.workflows.notebook import evaluation_html

Counter = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Evaluated:
    """What `evaluate` returns; a notebook shows the scores of every class."""

    evaluation: Evaluation
    out: Path | None  # None: nothing was written
    report: Path | None

    def __repr__(self) -> str:
        return f"Evaluated({self._sentence()})"

    def _sentence(self) -> str:
        found = self.evaluation
        is_labels = found.task == "classification" and found.balanced_accuracy is not None
        name, score = ("balanced accuracy", found.balanced_accuracy) if is_labels else ("mIoU", found.miou)
        mean = "n/a" if score is None or score.mean is None else f"{score.mean:.3f}"
        ends = "n/a" if score is None else interval(score.interval)
        return f"{found.data.name}, part {found.data.part}, {found.data.images} images: {name} {mean} ({ends})"

    def _repr_html_(self) -> str:
        return evaluation_html(self.evaluation, self._sentence(), self.report)

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain values, as evaluation.json has it."""
        return plain_values(self.evaluation)

    def classes_dataframe(self) -> pd.DataFrame:
        """One row a class, with intervals."""
        return data_frame(evaluated_class_rows(self.evaluation))

    def images_dataframe(self) -> pd.DataFrame:
        """One row an image: name, group, part, size, mIoU, whether the model was trained on it."""
        return data_frame(image_rows(self.evaluation))


def evaluate(
    run: Path,
    data: str,
    *,
    part: str | None = None,
    out: Path | None = None,
    tta: str = "none",
    ensemble: bool = False,
    size: tuple[int, int] | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    batch: int | None = None,
    model: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    command: str = "",
    counter: Counter,
) -> Evaluated:
    """Score a model on a data set; arguments are the command's options.

    Args:
        command: as typed, to repeat the evaluation.
        counter: builds what counts images, as `counting_bar`.

    Raises:
        SegdecayError: anything a user can act on.
    """
    tiling = build_tiling(tile, overlap, batch)
    if out is not None:
        check_evaluation_out(out)
    predictor = load_predictor([run], folds=ensemble, tta=tta, model=model, device=find_devices(device)[0])
    config = parse_config({"data": {"path": data, "size": size}}).data
    dataset, _ = load_dataset(config, cache=cache)
    as_trained = config.model_copy(update={"size": predictor.size})
    is_same = predictor.size == size
    fingerprint = dataset.fingerprint if is_same else load_dataset(as_trained, cache=cache)[0].fingerprint
    inquiry = Inquiry(str(run), data, part, tiling, size, command=command)
    with counter("images", len(part_of(dataset, part)[1])) as advance:
        evaluation, kept = score(predictor, dataset, inquiry, fingerprint=fingerprint, on_image=advance)
    if out is None:
        return Evaluated(evaluation, None, None)
    write_evaluation(out, evaluation, kept)
    return Evaluated(evaluation, out, build_evaluation_report(out))
