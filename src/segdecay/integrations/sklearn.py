"""`SegmenterCV`: a segmentation network whose weight decay is chosen by cross-validation, as a scikit-learn estimator.

Its interface is that of RidgeCV: strengths, `fit`, `lambda_`, `cv_results_`, `predict`. It calls `segdecay.tune`.
"""

from __future__ import annotations

import contextlib
import operator
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from segdecay import api
from segdecay.data.array_folder import IGNORED, ArrayFolder
from segdecay.data.dataset import MOST_CLASSES
from segdecay.errors import ConfigError, DataError, gather
from segdecay.metrics.counts import intersection_union, iou, mean_present
from segdecay.runs.verdict import Verdict
from segdecay.utils.yaml import put_key

U8 = npt.NDArray[np.uint8]
SHOWN = 3


@dataclass(frozen=True)
class Scale:
    """Scaling of the values of images to 0–255, in 256 steps; None: they are uint8 and are not changed.

    >>> Scale.of([np.array([[[0.0], [2.0]]])]).apply(np.array([[[1.0], [9.0]]]))[..., 0].tolist()
    [[128, 255]]
    """

    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, images: Sequence[npt.NDArray[Any]]) -> Scale:
        """The scaling from the smallest to the largest value."""
        if all(image.dtype == np.uint8 for image in images):
            return cls()
        return cls(float(min(image.min() for image in images)), float(max(image.max() for image in images)))

    def apply(self, image: npt.NDArray[Any]) -> U8:
        """An image (H, W, B) as uint8; values outside the range are clipped."""
        if self.low is None or self.high is None:
            return np.asarray(image, np.uint8)
        width = (self.high - self.low) or 1.0
        return np.rint((image.astype(np.float64) - self.low) / width * 255).clip(0, 255).astype(np.uint8)


def checked_images(values: Any, bands: int | None = None) -> list[npt.NDArray[Any]]:
    """A list of (H, W, B) arrays from (N, H, W, B), (N, H, W) or a sequence of images.

    Raises:
        DataError: lists every image that cannot be used.
    """
    try:
        images = [np.asarray(one) for one in values]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"X takes (N, H, W, B) or a list of (H, W, B); saw {type(values).__name__} ({error})."
        ) from error
    images = [one[..., None] if one.ndim == 2 else one for one in images]
    if not images:
        raise DataError("X holds no image.")
    wanted = bands or (images[0].shape[2] if images[0].ndim == 3 else None)
    faults = []
    for number, one in enumerate(images):
        if one.ndim != 3 or one.size == 0 or one.shape[2] != wanted:
            faults.append(f"X[{number}] is {one.shape}; (H, W, {wanted or 'B'}) is needed, bands last.")
        elif one.dtype.kind not in "uif":
            faults.append(f"X[{number}] is {one.dtype}; numbers are needed.")
        elif one.dtype.kind == "f" and not np.isfinite(one).all():
            faults.append(f"X[{number}] holds values that are not finite.")
    _refuse(faults)
    return images


def checked_masks(values: Any, images: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.int64]]:
    """A list of (H, W) arrays, one per image and of its size.

    Raises:
        DataError: lists every mask that cannot be used.
    """
    try:
        masks = [np.asarray(one) for one in values]
    except (TypeError, ValueError) as error:
        raise DataError(f"y takes (N, H, W) or a list of (H, W); saw {type(values).__name__} ({error}).") from error
    if len(masks) != len(images):
        raise DataError(f"y holds {len(masks)} masks for {len(images)} images; one per image is needed.")
    faults = []
    for number, (mask, image) in enumerate(zip(masks, images, strict=True)):
        if mask.shape != image.shape[:2]:
            faults.append(f"y[{number}] is {mask.shape}; its image is {image.shape[:2]}.")
        elif mask.dtype.kind not in "uib":
            faults.append(f"y[{number}] is {mask.dtype}; integers are needed.")
    _refuse(faults)
    return [np.asarray(mask, np.int64) for mask in masks]


def _refuse(faults: Sequence[str]) -> None:
    more = [f"and {len(faults) - SHOWN} more."] if len(faults) > SHOWN else []
    gather(DataError, [*faults[:SHOWN], *more])


def write_arrays(
    folder: Path,
    images: Sequence[U8],  # (H, W, B) each
    masks: Sequence[U8],  # (H, W) each: class indices, or IGNORED
    classes: Sequence[str],
    groups: Sequence[Any] | None,
) -> Path:
    """A folder that `segdecay tune` reads."""
    written = ArrayFolder(folder, len(images))
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        written.add(image, mask, None if groups is None else groups[number])
    return written.close(classes)


T = TypeVar("T")


class Parameters:
    """Converts parameters one by one and collects their faults, to report all at once.

    >>> taken = Parameters()
    >>> taken.whole("cv", 3), taken.number("learning_rate", "0.1"), taken.wholes("ignore", 255)
    (3, 0.1, (255,))
    >>> taken.whole("epochs", 2.5), taken.faults
    (None, ['epochs takes a whole number; saw 2.5.'])
    """

    def __init__(self) -> None:
        self.faults: list[str] = []

    def whole(self, name: str, value: Any, hint: str = "") -> int | None:
        """A whole number."""
        return self._taken(operator.index, value, f"{name} takes a whole number{hint}; saw {value!r}.")

    def number(self, name: str, value: Any) -> float | None:
        """A number."""
        return self._taken(float, value, f"{name} takes a number; saw {value!r}.")

    def numbers(self, name: str, values: Any) -> list[float] | None:
        """A sequence of numbers."""
        said = f"{name} takes a sequence of numbers, as in [0.5, 1, 2]; saw {values!r}."
        return self._taken(lambda given: [float(value) for value in given], values, said)

    def wholes(self, name: str, values: Any) -> tuple[int, ...] | None:
        """A whole number, or a sequence of them."""

        def taken(given: Any) -> tuple[int, ...]:
            is_many = hasattr(given, "__iter__")
            return tuple(operator.index(value) for value in (given if is_many else (given,)))

        said = f"{name} takes a whole number or a sequence of them, as in [255]; saw {values!r}."
        return self._taken(taken, values, said)

    def put(self, values: dict[str, Any], options: Any) -> None:
        """Set options at their dotted keys, in place."""
        if not isinstance(options, Mapping):
            self.faults.append(f"options takes a mapping of keys to values, as in {{'seed': 1}}; saw {options!r}.")
            return
        for key, value in options.items():
            fault = put_key(values, str(key), value, "options:")
            if fault is not None:
                self.faults.append(fault)

    def refuse(self) -> None:
        """Raise an error if there were faults.

        Raises:
            ConfigError: lists all faults.
        """
        gather(ConfigError, self.faults)

    def _taken(self, take: Callable[[Any], T], value: Any, said: str) -> T | None:
        try:
            return take(value)
        except (TypeError, ValueError):
            self.faults.append(said)
            return None


class SegmenterCV(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Semantic segmentation with the weight decay chosen by cross-validation, which may be no decay.

    Args:
        strengths: on the regularizer's axis (D = Σ η·λ for decoupled); None: the axis's default grid. No decay (0) is
            always added.
        regularizer: a name of `segdecay regularizers`.
        cv: number of folds; None: 5, or 4 or 3 if groups or classes do not allow more.
        epochs, batch_size, learning_rate: of every training.
        model: unet-tiny, unet-small, smp:ARCHITECTURE, or package.module:build.
        ignore: value or values of y that are not labelled; they enter no loss and no score.
        random_state: seed of folds, weights, order and augmentation.
        n_jobs: trainings at a time, in separate processes; None: in this process; −1: one per core or GPU.
        device: "auto", "cpu", "cuda" or "cuda:N".
        folder: keeps the run and its report, and is resumed if it exists; None: nothing is kept.
        options: other keys of a run (docs/config.md) and their values, as in {"augment.flip": "both"}.
        verbose: print the messages of `segdecay tune`.

    Attributes:
        classes_: (C,) values of y, sorted, without ignored ones.
        strength_: the chosen value on the axis.
        lambda_: the same as the optimizer's λ in the final training on all of X; None on an axis without λ.
        verdict_: kind, intervals and sentence; `verdict_.kind` is "chosen", "zero", "flat" or "edge"; or
            "undertrained" with a warning: the model is then trained without decay, and nothing is recommended.
        cv_results_: dict of arrays with one entry per strength, from no decay to the strongest: param_strength,
            param_lambda, mean_test_score, std_test_score, rank_test_score, splitK_test_score (mIoU; NaN if the race
            did not train it).
        best_score_: mean mIoU over the folds at the chosen strength.
        model_: the refitted `segdecay.Model`; n_features_in_: bands B; run_, report_: paths, None without a folder.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> y = rng.integers(0, 2, (6, 1, 4)).repeat(16, axis=1).repeat(4, axis=2)  # (6, 16, 16): stripes
        >>> X = (y * 200 + rng.integers(0, 40, y.shape)).astype(np.uint8)[..., None]  # (6, 16, 16, 1)
        >>> small = {"model.width": 4, "model.depth": 2, "search.resamples": 200}
        >>> found = SegmenterCV([0.5], cv=2, epochs=8, batch_size=2, learning_rate=0.03, options=small).fit(X, y)
        >>> found.predict(X).shape, found.cv_results_["param_strength"].tolist()[:2]
        ((6, 16, 16), [0.0, 0.5])
    """

    def __init__(
        self,
        strengths: Sequence[float] | None = None,
        *,
        regularizer: str = "decoupled",
        cv: int | None = None,
        epochs: int = 80,
        batch_size: int = 8,
        learning_rate: float = 0.003,
        model: str = "unet-tiny",
        ignore: int | Sequence[int] = (),
        random_state: int = 0,
        n_jobs: int | None = None,
        device: str = "auto",
        folder: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.strengths = strengths
        self.regularizer = regularizer
        self.cv = cv
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.model = model
        self.ignore = ignore
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device
        self.folder = folder
        self.options = options
        self.verbose = verbose

    def fit(
        self,
        X: Any,  # noqa: N803 - scikit-learn's name  # (N, H, W, B), (N, H, W) or a list of (H, W, B); uint8 or numbers
        y: Any,  # (N, H, W) or a list of (H, W) integers, or bool for classes 0 and 1
        groups: Sequence[Any] | None = None,  # (N,) a group is never split between training and validation
    ) -> Self:
        """Search the strength, then train on all of X at the chosen one.

        Numbers that are not uint8 are scaled from their smallest and largest value to 256 steps.

        Raises:
            DataError: the arrays do not fit together, or there are too few groups for the folds or fewer than two
                classes.
            ConfigError: a parameter does not exist or is out of range.
        """
        config, workers = self._config(), self._workers()
        images = checked_images(X)
        masks = checked_masks(y, images)
        if groups is not None and len(groups) != len(images):
            raise DataError(f"groups holds {len(groups)} names for {len(images)} images; one per image is needed.")
        ignored = self._ignored()
        values = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
        values = values[~np.isin(values, ignored)]
        if not 2 <= len(values) <= MOST_CLASSES:
            raise DataError(f"y holds {len(values)} classes; 2 to {MOST_CLASSES} are needed.")
        scale = Scale.of(images)
        labels = [_indices(mask, values, ignored) for mask in masks]
        with self._folder() as folder:
            data = write_arrays(
                folder / "data", [scale.apply(image) for image in images], labels, [str(v) for v in values], groups
            )
            done = api.tune(
                data,
                out=folder / "run",
                config=config,
                workers=workers,
                device=self.device,
                cache=folder / "decoded",
                refit="anyway",
                quiet=not self.verbose,
            )
            self.model_ = done.load()
        if done.verdict.kind == "undertrained":
            warnings.warn(f"Not trained enough to tell. {done.verdict.sentence}", UserWarning, stacklevel=2)
        self.classes_, self.scale_, self.n_features_in_ = values, scale, images[0].shape[2]
        self.verdict_, self.cv_results_ = done.verdict, results_of(done.verdict)
        self.strength_, self.lambda_ = done.verdict.strength.value, self._final_lambda(done.verdict)
        self.best_score_ = done.verdict.selection.mean
        kept = self.folder is not None
        self.run_: Path | None = done.run if kept else None
        self.report_: Path | None = done.report if kept else None
        return self

    def predict(self, X: Any) -> Any:  # noqa: N803
        """The class of every pixel, as a value of y: (N, H, W), or a list of (H, W) if sizes differ.

        Raises:
            NotFittedError: `fit` has not run.
            DataError: the bands differ from those of `fit`, or values are not finite.
        """
        check_is_fitted(self)
        images = checked_images(X, self.n_features_in_)
        found = [self.classes_[self.model_.predict(self._as_seen(image))] for image in images]
        return np.stack(found) if len({one.shape for one in found}) == 1 else found

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """Mean IoU over the classes that occur in y or in the prediction, without ignored pixels.

        Raises:
            NotFittedError, DataError: as `predict`; or y does not fit X, or has values that `fit` did not see.
        """
        check_is_fitted(self)
        images = checked_images(X, self.n_features_in_)
        masks = checked_masks(y, images)
        predicted = [self.model_.predict(self._as_seen(image)) for image in images]
        ignored, n = self._ignored(), len(self.classes_)
        matrix = np.zeros((n, n), np.int64)
        for mask, guess in zip(masks, predicted, strict=True):
            truth = _indices(mask, self.classes_, ignored)
            np.add.at(matrix, (truth[truth != IGNORED], guess[truth != IGNORED]), 1)
        return float(mean_present(iou(*intersection_union(matrix))))

    def _as_seen(self, image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        if self.scale_.low is None and image.dtype != np.uint8:
            raise DataError(f"X is {image.dtype}; fit saw uint8. Scale it to uint8 as the images of fit were.")
        return self.scale_.apply(image)

    def _config(self) -> dict[str, Any]:
        taken = Parameters()
        folds = ". Folds cannot be given, since groups are never split; pass groups to fit"
        values: dict[str, Any] = {
            "data": {},
            "model": {"name": self.model},
            "optimizer": {"lr": taken.number("learning_rate", self.learning_rate)},
            "training": {
                "epochs": taken.whole("epochs", self.epochs),
                "batch_size": taken.whole("batch_size", self.batch_size),
            },
            "decay": {"regularizer": self.regularizer},
            "search": {"folds": None if self.cv is None else taken.whole("cv", self.cv, folds)},
            "seed": taken.whole("random_state", self.random_state),
        }
        if self.strengths is not None:
            values["search"]["grid"] = taken.numbers("strengths", self.strengths)
        taken.put(values, self.options or {})
        taken.refuse()
        return values

    def _ignored(self) -> npt.NDArray[np.int64]:
        taken = Parameters()
        found = taken.wholes("ignore", self.ignore)
        taken.refuse()
        return np.asarray(found or (), np.int64)

    def _workers(self) -> int | None:
        if self.n_jobs is None:
            return 0
        taken = Parameters()
        found = taken.whole("n_jobs", self.n_jobs)
        if found == -1:
            return None
        if found is None or found < 1:
            raise ConfigError(
                f"n_jobs takes None (in this process), −1 (one per core or GPU) or 1 or more; saw {self.n_jobs!r}."
            )
        return found

    def _final_lambda(self, verdict: Verdict) -> float | None:
        """λ of the final training; the verdict's is that of a typical fold, which has fewer steps."""
        made = self.model_.predictor.bundles[0].made_by.get("strength")
        found = made.get("lambda") if isinstance(made, Mapping) else None
        return verdict.strength.lambda_ if found is None else float(found)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        if self.folder is not None:
            yield Path(self.folder)
            return
        with tempfile.TemporaryDirectory(prefix="segdecay-") as folder:
            yield Path(folder)


def results_of(verdict: Verdict) -> dict[str, npt.NDArray[Any]]:
    """The settings of a verdict under the names of scikit-learn's `cv_results_`."""
    settings = verdict.settings
    means = np.array([_number(one.mean) for one in settings])
    folds = max((len(one.folds or ()) for one in settings), default=0)
    table = np.full((folds, len(settings)), np.nan)
    for column, one in enumerate(settings):
        for row, value in enumerate(one.folds or ()):
            table[row, column] = _number(value)
    ranks = np.array([1 + int((means > mean).sum()) if np.isfinite(mean) else len(means) for mean in means])
    deviations = [float(np.nanstd(column)) if np.isfinite(column).any() else np.nan for column in table.T]
    return {
        "param_strength": np.array([one.strength.value for one in settings]),
        "param_lambda": np.array([_number(one.strength.lambda_) for one in settings]),
        "mean_test_score": means,
        "std_test_score": np.array(deviations),
        "rank_test_score": ranks,
        **{f"split{row}_test_score": values for row, values in enumerate(table)},
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _indices(
    mask: npt.NDArray[np.int64],
    values: npt.NDArray[np.int64],  # (C,) sorted
    ignored: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint8]:
    """The class indices of a mask, with IGNORED for unlabelled pixels.

    Raises:
        DataError: a value is neither a class nor ignored.
    """
    out = np.isin(mask, ignored)
    strange = np.unique(mask[~out & ~np.isin(mask, values)])
    if len(strange):
        raise DataError(f"y holds {strange[:5].tolist()}, which fit did not see; its classes are {values.tolist()}.")
    found = np.searchsorted(values, np.where(out, values[0], mask)).astype(np.uint8)
    found[out] = IGNORED
    return found
