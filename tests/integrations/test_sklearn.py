"""SegmenterCV behaves as a scikit-learn estimator does."""

# ruff: noqa: N806 - X is what scikit-learn calls images

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from segdecay.errors import ConfigError, DataError
from segdecay.integrations.sklearn import Scale, SegmenterCV, checked_images, checked_masks, write_arrays

SMALL = {"model.width": 4, "model.depth": 2, "search.resamples": 200, "augment.flip": "none"}
CHECKS = (
    "check_do_not_raise_errors_in_init_or_set_param",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_get_params_invariance",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
)


def stripes(n: int = 6, bands: int = 1, seed: int = 0) -> tuple[Any, Any]:
    """Images (n, 16, 16, bands) uint8 of bright and dark stripes, and their masks of values 3 and 7."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (n, 1, 4))
    y[:, 0, 0], y[:, 0, 1] = 0, 1  # both classes in every image
    y = y.repeat(16, axis=1).repeat(4, axis=2)
    noise = rng.integers(0, 40, (*y.shape, bands))
    return (y[..., None] * 200 + noise).astype(np.uint8), np.where(y, 7, 3)


def small(**options: Any) -> SegmenterCV:
    given: dict[str, Any] = {"cv": 2, "epochs": 8, "batch_size": 2, "learning_rate": 0.03, "options": SMALL, **options}
    return SegmenterCV([2.0], **given)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[SegmenterCV, Any, Any, Path]:
    folder = tmp_path_factory.mktemp("sklearn")
    X, y = stripes()
    y = y.copy()
    y[0, :2] = 99
    return small(ignore=[99], folder=folder).fit(X, y, groups=["a", "a", "b", "b", "c", "c"]), X, y, folder


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_of_scikit_learn_passes(name: str) -> None:
    check = getattr(estimator_checks, name, None) or getattr(estimator_checks, name + "s")
    check("SegmenterCV", SegmenterCV())


def test_parameters_are_set_and_cloned() -> None:
    one = small(ignore=[99]).set_params(epochs=3)
    other = clone(one)
    assert other is not one
    assert other.get_params() == one.get_params()
    assert other.epochs == 3
    assert "epochs=3" in repr(other)
    with pytest.raises(ValueError, match="Invalid parameter 'epoch'"):
        one.set_params(epoch=1)


@pytest.mark.parametrize("method", ["predict", "score"])
def test_nothing_is_predicted_before_fit(method: str) -> None:
    X, y = stripes()
    with pytest.raises(NotFittedError):
        getattr(SegmenterCV(), method)(*((X,) if method == "predict" else (X, y)))


def test_it_learns_and_speaks_in_values_of_y(fitted: tuple[SegmenterCV, Any, Any, Path]) -> None:
    found, X, y, _ = fitted
    assert found.classes_.tolist() == [3, 7]
    assert found.n_features_in_ == 1
    predicted = found.predict(X)
    assert predicted.shape == y.shape
    right = float((predicted == y)[y != 99].mean())
    assert right > 0.9
    assert found.score(X, y) > 0.8
    assert found.score(X, np.where(y == 99, 99, predicted)) == 1.0
    flipped = np.where(predicted == 3, 7, 3)
    assert found.score(X, flipped) == 0.0


def test_results_are_those_of_the_verdict(fitted: tuple[SegmenterCV, Any, Any, Path]) -> None:
    found, _, _, folder = fitted
    verdict, results = found.verdict_, found.cv_results_
    assert results["param_strength"][:2].tolist() == [0.0, 2.0]
    lengths = {len(values) for values in results.values()}
    assert lengths == {len(verdict.settings)}
    taken = results["param_strength"].tolist().index(found.strength_)
    assert results["mean_test_score"][taken] == pytest.approx(found.best_score_)
    assert min(results["rank_test_score"]) == 1
    splits = np.stack([results["split0_test_score"], results["split1_test_score"]])
    whole = ~np.isnan(splits).any(axis=0)
    assert whole.any()
    np.testing.assert_allclose(splits.mean(axis=0)[whole], results["mean_test_score"][whole])
    assert (found.lambda_ == 0) == (found.strength_ == 0)
    assert found.report_ == folder / "run" / "report.html"
    assert found.report_.is_file()
    groups = (folder / "data" / "groups.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in groups] == ["a", "a", "b", "b", "c", "c"]


def test_a_fitted_one_travels_by_pickle_and_clones_unfitted(fitted: tuple[SegmenterCV, Any, Any, Path]) -> None:
    found, X, _, _ = fitted
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).predict(X), found.predict(X))  # noqa: S301
    assert not hasattr(clone(found), "classes_")


def test_what_does_not_fit_the_fit_is_refused(fitted: tuple[SegmenterCV, Any, Any, Path]) -> None:
    found, X, y, _ = fitted
    with pytest.raises(DataError, match=r"X\[0\] is \(16, 16, 2\); \(H, W, 1\) is needed"):
        found.predict(np.concatenate([X, X], axis=-1))
    with pytest.raises(DataError, match="X is float64; fit saw uint8"):
        found.predict(X / 255)
    with pytest.raises(DataError, match=r"y holds \[5\], which fit did not see; its classes are \[3, 7\]"):
        found.score(X, np.full_like(y, 5))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"X": []}, "X holds no image"),
        ({"X": 3}, "X takes"),
        ({"X": np.full((6, 16, 16, 1), np.nan)}, r"X\[0\] holds values that are not finite"),
        ({"X": np.full((6, 16, 16, 1), "a")}, r"X\[0\] is <U1; numbers are needed"),
        ({"y": np.zeros((5, 16, 16), int)}, "y holds 5 masks for 6 images"),
        ({"y": np.zeros((6, 8, 16), int)}, r"y\[0\] is \(8, 16\); its image is \(16, 16\)"),
        ({"y": np.zeros((6, 16, 16))}, r"y\[0\] is float64; integers are needed"),
        ({"y": np.zeros((6, 16, 16), int)}, "y holds 1 classes"),
        ({"groups": ["a"]}, "groups holds 1 names for 6 images"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(change: dict[str, Any], fault: str) -> None:
    X, y = stripes()
    with pytest.raises(DataError, match=fault):
        small().fit(**{"X": X, "y": y, **change})


def test_parameters_that_make_no_sense_are_refused_in_fit() -> None:
    X, y = stripes()
    with pytest.raises(ConfigError, match="Did you mean 'decoupled'"):
        small(regularizer="decoupld").fit(X, y)
    with pytest.raises(ConfigError, match="n_jobs takes"):
        small(n_jobs=0).fit(X, y)


def test_all_parameters_of_a_wrong_kind_are_told_at_once_in_their_own_names(tmp_path: Path) -> None:
    X, y = stripes()
    wrong = {"cv": "two", "epochs": 2.5, "batch_size": None, "learning_rate": "fast", "strengths": 0.5}
    rest = {"random_state": None, "options": {"model.name.x": 1}, "folder": tmp_path / "run"}
    with pytest.raises(ConfigError) as told:
        small().set_params(**wrong, **rest).fit(X, y)
    for name in wrong:
        assert f"{name} takes a" in str(told.value)
    assert "random_state takes a whole number; saw None" in str(told.value)
    assert "options: model.name.x: 'name' is a value, not a section" in str(told.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="ignore takes a whole number or a sequence"):
        small(ignore="none").fit(X, y)


def test_numbers_of_numpy_a_single_ignored_value_and_claims_are_taken() -> None:
    X, y = stripes()
    one = np.int64(1)
    found = small(cv=2 * one, epochs=one, batch_size=2 * one, random_state=one, ignore=255)
    with pytest.warns(UserWarning, match=r"Not trained enough to tell\. The best setting"):  # one epoch
        found.set_params(strengths=np.array([0.5])).fit(X, y == 7)
    assert found.verdict_.kind == "undertrained"
    assert found.classes_.tolist() == [0, 1]
    assert set(np.unique(found.predict(X))) <= {0, 1}


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
def test_arrays_come_back_from_their_files_bit_for_bit(tmp_path: Path, bands: int) -> None:
    from segdecay.config.schema import DataConfig
    from segdecay.data import load_dataset

    X, y = stripes(4, bands)
    masks = (y == 7).astype(np.uint8)
    masks[:, 0] = 255
    write_arrays(tmp_path / "data", list(X), list(masks), ["3", "7"], None)
    dataset, report = load_dataset(DataConfig(path=str(tmp_path / "data")))
    assert not report.of_level("warning")
    assert dataset.classes == ("3", "7")
    for index in range(4):
        np.testing.assert_array_equal(dataset.image(index), X[index])
        np.testing.assert_array_equal(dataset.mask(index), masks[index])


def test_images_of_different_sizes_are_a_list_in_and_out() -> None:
    images = checked_images([np.zeros((4, 5)), np.zeros((6, 5, 1))])
    assert [one.shape for one in images] == [(4, 5, 1), (6, 5, 1)]
    masks = checked_masks([np.zeros((4, 5), int), np.zeros((6, 5), np.uint8)], images)
    assert [mask.dtype for mask in masks] == [np.int64, np.int64]


def test_numbers_are_scaled_from_smallest_to_largest() -> None:
    scale = Scale.of([np.array([[[-1.0]]]), np.array([[[3.0]]])])
    assert scale.apply(np.array([[[-5.0], [-1.0], [1.0], [3.0], [9.0]]])).ravel().tolist() == [0, 0, 128, 255, 255]
    assert Scale.of([np.array([[[7]]], np.uint8)]).apply(np.array([[[7]]], np.uint8)).item() == 7
