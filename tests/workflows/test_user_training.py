"""A search over a training function of the caller's own: folds, race, ledger, resume, verdict and report are ours."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import user_training
from user_training import AXIS, BEST, counts, images, level, peak, raises_at_04, tune

from segdecay import Axis, Setting, UserData, UserFold
from segdecay.errors import ConfigError, DataError, RunError, SegdecayError
from segdecay.runs.folder import check_folder
from segdecay.runs.records import trial_from_json
from segdecay.utils.files import read_json


def trials(run: Path) -> list[Path]:
    return sorted(path.parent for path in run.glob("trials/*/*/trial.json"))


def test_the_best_setting_of_an_own_function_is_found_and_reported(tmp_path: Path) -> None:
    done = tune(peak, tmp_path / "run")
    verdict = done.verdict
    assert (verdict.kind, verdict.strength.axis, verdict.strength.value) == ("chosen", "smoothing", BEST)
    assert verdict.sentence.startswith("smoothing = 0.2 beats no smoothing by +0.")
    assert verdict.regularizer == "user function"
    assert verdict.strength.lambda_ is None
    page = done.report.read_text(encoding="utf-8")
    assert "smoothing = 0.2 beats no smoothing" in page
    assert "Trained by a user function" in page
    assert done.model is None
    assert not (tmp_path / "run" / "model").exists()


def test_a_function_on_which_the_setting_has_no_effect_ends_flat_or_at_none(tmp_path: Path) -> None:
    verdict = tune(level, tmp_path / "run").verdict
    assert verdict.kind in ("flat", "zero")
    assert verdict.strength.value == 0


def test_scores_are_those_of_the_counts_that_were_returned(tmp_path: Path) -> None:
    def half(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        return [[[75, 25], [25, 75]] for _ in fold.validation]

    verdict = tune(half, tmp_path / "run", set={"search.race": False}).verdict
    assert {setting.mean for setting in verdict.settings} == {75 / 125}
    assert {setting.train_mean for setting in verdict.settings} == {None}


def test_the_function_is_told_setting_fold_and_seed(tmp_path: Path) -> None:
    seen: list[tuple[Setting, UserFold, int]] = []

    def note(setting: Setting, fold: UserFold, seed: int) -> Any:
        seen.append((setting, fold, seed))
        return peak(setting, fold, seed)

    tune(note, tmp_path / "run", seed=5, set={"search.race": False, "search.seeds": [0, 7]})
    assert len(seen) == 4 * 3 * 2
    assert {seed for _, _, seed in seen} == {5, 12}
    assert {setting.value for setting, _, _ in seen if setting.is_none} == {0.0}
    names = images().names
    validated = [
        name for setting, fold, seed in seen if setting.is_none and seed == 5 for name in fold.validation_names
    ]
    assert sorted(validated) == sorted(names)
    for _, fold, _ in seen:
        assert fold.validation_names == tuple(names[index] for index in fold.validation)
        assert {*fold.train_names} | {*fold.validation_names} == {*names}
        assert not {index // 2 for index in fold.train} & {index // 2 for index in fold.validation}  # groups
        assert fold.classes == ("cell", "rest")
        assert fold.folder.is_dir()


def test_a_regularizer_and_optimizer_of_ours_give_lambda_and_learning_rates(tmp_path: Path) -> None:
    seen: list[Setting] = []

    def note(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        seen.append(setting)
        return counts(fold, 0.6 + 0.05 * min(setting.value, 2))

    options = {"training.epochs": 4, "training.batch_size": 4, "optimizer.lr": 0.01, "search.race": False}
    done = tune(note, tmp_path / "run", axis=("decoupled", "sgd"), grid=[1, 2], set=options)
    assert done.verdict.strength.axis == "total_decay"
    assert done.verdict.regularizer == "decoupled"
    for setting in seen:
        assert setting.regularizer == "decoupled"
        assert len(setting.learning_rates) == 8  # 8 images in batches of 4, 4 epochs
        assert setting.lambda_ == pytest.approx(setting.value / math.fsum(setting.learning_rates))
        assert setting.config.optimizer.name == "sgd"


def test_less_may_be_stronger(tmp_path: Path) -> None:
    def bound(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        return counts(fold, 0.75 if setting.value == 2 else 0.6)

    verdict = tune(bound, tmp_path / "run", axis=Axis("depth", [4, 2, 1], stronger="lower")).verdict
    assert (verdict.kind, verdict.strength.value) == ("chosen", 2)
    assert verdict.settings[0].strength.value == math.inf


def test_the_same_call_goes_on_and_trains_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user_training.CALLS, str(tmp_path / "calls"))
    first = tune(peak, tmp_path / "run")
    calls = (tmp_path / "calls").read_text()
    assert len(calls.splitlines()) == len(trials(tmp_path / "run"))
    again = tune(peak, tmp_path / "run")
    assert (tmp_path / "calls").read_text() == calls
    assert again.verdict == first.verdict
    gone = trials(tmp_path / "run")[-1]
    (gone / "trial.json").unlink()
    tune(peak, tmp_path / "run")
    assert len((tmp_path / "calls").read_text().splitlines()) == len(calls.splitlines()) + 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"axis": Axis("smoothing", [0.1, 0.3])}, "decay.axis.grid"),
        ({"axis": Axis("other", [0.1, 0.2, 0.4])}, "decay.axis.name: smoothing → other"),
        ({"function": level}, "user.function: user_training.peak → user_training.level"),
        ({"data": images(14)}, "was made from other data"),
    ],
)
def test_a_run_of_something_else_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    tune(peak, tmp_path / "run")
    with pytest.raises(RunError, match=said.replace(".", r"\.")):
        tune(change.pop("function", peak), tmp_path / "run", **change)


def test_a_function_that_was_edited_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def variant(number: int) -> Any:
        if number:

            def train(setting: Setting, fold: UserFold, seed: int) -> Any:
                return peak(setting, fold, seed)
        else:

            def train(setting: Setting, fold: UserFold, seed: int) -> Any:
                return level(setting, fold, seed)

        return train

    tune(variant(0), tmp_path / "run", quiet=False)
    assert "was edited" not in capsys.readouterr().out
    tune(variant(1), tmp_path / "run", quiet=False)
    assert "was edited since the first training" in capsys.readouterr().out


def test_a_setting_that_raises_is_out_and_the_search_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = tune(raises_at_04, tmp_path / "run", set={"search.race": False}, quiet=False)
    (out,) = [setting for setting in done.verdict.settings if setting.strength.value == 0.4]
    assert out.dropped is not None
    assert "user_training.raises_at_04 raised ValueError: the loss exploded (the traceback is in " in out.dropped
    assert done.verdict.strength.value == BEST
    kept = (tmp_path / "run" / "trials" / "smoothing=0.4" / "0-0" / "failed.txt").read_text()
    assert 'raise ValueError("the loss exploded\\nsecond line")' in kept
    said = capsys.readouterr().out
    assert "failed: user_training.raises_at_04 raised ValueError" in said
    assert ", , " not in said
    assert "refit" not in said


def test_a_function_that_always_raises_ends_with_the_reasons(tmp_path: Path) -> None:
    def broken(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        raise SystemExit("gave up")

    with pytest.raises(RunError, match="raised SystemExit: gave up"):
        tune(broken, tmp_path / "run", set={"search.race": False})


def one_of(fold: UserFold) -> Any:
    return counts(fold, 0.7)


BAD: dict[str, tuple[Callable[[UserFold], Any], str]] = {
    "none": (lambda _: None, "NoneType, which is not an array"),
    "words": (lambda fold: ["a"] * len(fold.validation), r"shape \(4,\)"),
    "ragged": (lambda _: [[1], [1, 2]], "list, which is not an array"),
    "one matrix": (lambda fold: one_of(fold).sum(axis=0), "one matrix of the whole fold"),
    "too few": (lambda fold: one_of(fold)[1:], r"3 images; fold.validation holds 4, so \(4, 2, 2\) is needed"),
    "three classes": (lambda fold: np.zeros((len(fold.validation), 3, 3), int), r"shape \(4, 3, 3\)"),
    "shares": (lambda fold: one_of(fold) / 1000, "type float64: counts of pixels"),
    "claims": (lambda fold: one_of(fold) > 0, "type bool"),
    "negative": (lambda fold: one_of(fold) - 300, "negative counts, -"),
    "more than int64": (lambda fold: one_of(fold).astype(np.uint64) + np.uint64(2**63), "no image has so many pixels"),
    "nothing": (lambda fold: one_of(fold) * 0, "every count is 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_scored_is_told_as_it_was_seen(tmp_path: Path, kind: str) -> None:
    found, said = BAD[kind]

    def wrong(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        return found(fold)

    with pytest.raises(RunError, match=said):
        tune(wrong, tmp_path / "run", set={"search.race": False})
    assert not trials(tmp_path / "run")


def test_settings_that_count_other_pixels_are_not_compared(tmp_path: Path) -> None:
    def crops(setting: Setting, fold: UserFold, seed: int) -> Any:
        found = peak(setting, fold, seed)
        if setting.value == 0.4:
            found[1, 1, 0] += 3
        return found

    verdict = tune(crops, tmp_path / "run", set={"search.race": False}).verdict
    (out,) = [setting for setting in verdict.settings if setting.strength.value == 0.4]
    assert out.dropped is not None
    assert "rest: 1003 true pixels, 1000 at smoothing=0" in out.dropped
    assert "image-" in out.dropped
    assert verdict.strength.value == BEST


def test_collapsed_trainings_are_counted(tmp_path: Path) -> None:
    def lazy(setting: Setting, fold: UserFold, seed: int) -> Any:
        if setting.value == 0.4:
            return [[[1000, 0], [1000, 0]] for _ in fold.validation]
        return peak(setting, fold, seed)

    verdict = tune(lazy, tmp_path / "run", set={"search.race": False}).verdict
    assert [setting.collapsed for setting in verdict.settings] == [0, 0, 0, 3]
    assert "3 trainings collapsed to a single class" in verdict.sentence


def test_a_function_that_cannot_be_sent_to_workers_runs_here_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def local(setting: Setting, fold: UserFold, seed: int) -> Any:
        return peak(setting, fold, seed)

    done = tune(local, tmp_path / "run", workers=2, quiet=False)
    said = capsys.readouterr().out
    assert "Trainings run in this process, one after the other, because of " in said
    assert "local: it cannot be pickled (" in said
    assert done.verdict.strength.value == BEST
    assert read_json(tmp_path / "run" / "environment.json")["workers"] == 1


def test_workers_find_what_this_process_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = tune(peak, tmp_path / "here", set={"search.race": False})
    there = tune(peak, tmp_path / "there", workers=2, quiet=False, set={"search.race": False})
    assert "in this process" not in capsys.readouterr().out
    assert replace(there.verdict, cost=here.verdict.cost) == here.verdict


def test_the_test_part_is_scored_once_at_none_and_at_the_taken(tmp_path: Path) -> None:
    seen: list[tuple[float, UserFold]] = []

    def note(setting: Setting, fold: UserFold, seed: int) -> Any:
        seen.append((setting.value, fold))
        return peak(setting, fold, seed)

    verdict = tune(note, tmp_path / "run", data=images(16, test=4)).verdict
    final = [(value, fold) for value, fold in seen if fold.is_refit]
    assert sorted(value for value, _ in final) == [0, BEST]
    for _, fold in final:
        assert fold.validation == (12, 13, 14, 15)
        assert fold.train == tuple(range(12))
    assert not any({*fold.validation, *fold.train} & {12, 13, 14, 15} for _, fold in seen if not fold.is_refit)
    assert verdict.test is not None
    assert (verdict.test.chosen.score or 0.0) > (verdict.test.zero.score or 0.0) + 0.1
    assert verdict.cost.refits == 2


def test_data_that_we_read_can_be_opened_in_the_function(tmp_path: Path, shapes: Path) -> None:
    def average(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        data = fold.open()
        found = np.zeros((len(fold.validation), 3, 3), np.int64)
        for row, index in enumerate(fold.validation):
            assert data.items[index].name == fold.validation_names[row]
            guess = np.digitize(data.image(index).mean(axis=2), [60, 200])  # dark, ground, bright
            np.add.at(found[row], (data.mask(index), np.array([2, 0, 1])[guess]), 1)
        return found

    done = tune(average, tmp_path / "run", data=shapes)
    assert done.verdict.kind in ("flat", "zero")
    assert done.verdict.selection.mean == pytest.approx(1.0)


def test_described_data_cannot_be_opened(tmp_path: Path) -> None:
    def opens(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        return fold.open()

    with pytest.raises(RunError, match="described by UserData"):
        tune(opens, tmp_path / "run")


@pytest.mark.parametrize(
    ("keys", "faults"),
    [
        ({"name": "a b"}, ["letters, digits and underscores"]),
        ({"name": "ok", "none": 1.0}, ["none must be 0 if higher is stronger; saw 1.0"]),
        ({"name": "ok", "stronger": "lower", "none": 0.0}, ["none must be inf if lower is stronger"]),
        ({"name": "ok", "stronger": "left"}, ["'higher' or 'lower'; saw 'left'"]),
        ({"name": "", "grid": [-1]}, ["letters", "finite, 0 or more"]),
        ({"name": "ok", "grid": [1, 1]}, ["distinct numbers"]),
        ({"name": "ok", "grid": 3}, ["a sequence of numbers"]),
        ({"name": "ok", "grid": [math.inf]}, ["finite"]),
    ],
)
def test_an_axis_that_makes_no_sense_is_refused(keys: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Axis(**{"grid": [1.0], **keys})
    assert [fault for fault in faults if fault not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"names": ["a", "a"]}, "names: a occurs more than once"),
        ({"names": []}, "no image is named"),
        ({"names": "ab"}, "names: a sequence of texts is needed, as in .*; saw 'ab'"),
        ({"classes": ["x"]}, "2 to 255 names are needed; saw 1"),
        ({"groups": ["g"]}, "groups: one for each of the 2 images is needed; saw 1"),
        ({"parts": ["train", "tset"]}, "parts: train, val, test are allowed; saw tset"),
        ({"counts": [[1, 2]]}, r"counts: integers of shape \(2, 2\) are needed; saw int64 \(1, 2\)"),
        ({"counts": [[1.0, 2], [3, 4]]}, "saw float64"),
        ({"counts": [[1, -2], [3, 4]]}, "saw negative ones"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        UserData(**{"names": ["a", "b"], "classes": ["x", "y"], **change})


def test_counts_balance_folds_and_tell_a_class_that_a_fold_lacks(tmp_path: Path) -> None:
    many = [[10, 1 if i < 2 else 0] for i in range(12)]
    data = UserData([str(i) for i in range(12)], ["ground", "rare"], counts=many)
    with pytest.raises(DataError, match='class "rare" occurs in 2 groups, folds = 3'):
        tune(peak, tmp_path / "run", data=data)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"function": 3}, r"train= takes a function of \(setting, fold, seed\); saw 3"),
        ({"axis": "decoupled"}, r"axis= takes segdecay.Axis\(name, grid\), or a regularizer and an optimizer"),
        ({"axis": ("decoupld", "adamw")}, "Did you mean 'decoupled'"),
        ({"axis": ("l1", "sgd")}, "does not show its model"),
        ({"keep_fold_models": True}, "train= keeps its own models"),
        ({"set": {"search.joint": ["lr"]}}, r"search.joint=\['lr'\]: train= is searched along one axis"),
        ({"set": {"trainin.epochs": 3}}, "trainin"),
        ({"budget": "2trials"}, "2trials is too small"),
        ({"workers": -1}, "workers= takes 0"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], fault: str
) -> None:
    with pytest.raises(SegdecayError, match=fault):
        tune(options.pop("function", peak), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_classes_of_which_nobody_said_how_much_are_counted_by_the_trainings(tmp_path: Path) -> None:
    def uneven(setting: Setting, fold: UserFold, seed: int) -> Any:  # noqa: ARG001
        right = 5 if setting.value == BEST else 3
        return [[[right, 10 - right], [0, index]] for index in fold.validation]

    tune(uneven, tmp_path / "run")
    rows = read_json(tmp_path / "run" / "data.json")["class_rows"]
    assert [(row["name"], row["pixels"]) for row in rows] == [("cell", 120), ("rest", sum(range(12)))]
    folds = read_json(tmp_path / "run" / "folds.json")
    assert np.array(folds["table"]).sum(axis=1).tolist() == [120, sum(range(12))]
    again = tune(uneven, tmp_path / "run")
    assert read_json(tmp_path / "run" / "folds.json") == folds
    assert again.verdict.cost.trials >= 3


def test_a_trial_record_says_who_trained_it(tmp_path: Path) -> None:
    tune(peak, tmp_path / "run")
    for folder in trials(tmp_path / "run"):
        record = trial_from_json(read_json(folder / "trial.json"))
        assert (record.setting, f"{record.fold}-{record.seed}") == (folder.parent.name, folder.name)
    assert record.extra["trained_by"] == "user_training.peak"
    assert record.train is None
    assert record.validation is not None


@pytest.mark.parametrize("honest", ["holdout", "nested"])
def test_honest_scores_of_an_own_function(tmp_path: Path, honest: str) -> None:
    verdict = tune(peak, tmp_path / "run", folds=3, set={"search.honest": honest}).verdict
    assert verdict.honest is not None
    assert verdict.honest["method"] == honest
    assert verdict.honest["mean"] == pytest.approx(verdict.selection.mean, abs=0.02)


def test_an_axis_is_part_of_what_makes_a_run_the_same(tmp_path: Path) -> None:
    from segdecay.workflows.request import config_from_keywords

    config = config_from_keywords(
        images(), None, {"search.folds": 3, "search.resamples": 200}, {}, function=peak, axis=AXIS
    )
    tune(peak, tmp_path / "run")
    check_folder(tmp_path / "run", config, "tune")
