"""Selectors as people write them with Optuna, on recorded points only.

The sampler draws the position of a strength among the recorded ones, which are in order, so it may use that neighbours
are alike. Each stands twice in the tables: as it is usually run, and stopped at the epochs that our race took. A trial
that was looked at before is free, which favours these selectors: a real run would train it again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from replay.replaying import Outcome, Replay, Selector

USUAL_TRIALS = 20
MOST_TRIALS = 60  # at equal epochs, where trials end when the epochs do

optuna.logging.set_verbosity(optuna.logging.ERROR)


class _Spent(Exception):  # noqa: N818 - not an error: the budget is used up
    pass


def _study(replay: Replay, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    number = replay.repeat.number
    sampler = optuna.samplers.TPESampler(seed=number)
    return optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner, study_name=f"repeat {number}")


def _optimize(study: optuna.Study, replay: Replay, objective: Callable[[Trial, int], float]) -> Outcome:
    """Trials until their number or the budget ends; the best of the completed, else of what was last reported."""

    def guarded(trial: Trial) -> float:
        try:
            return objective(trial, trial.suggest_int("position", 0, len(replay.values) - 1))
        except _Spent as spent:
            study.stop()
            raise optuna.TrialPruned from spent

    study.optimize(guarded, n_trials=USUAL_TRIALS if np.isinf(replay.budget) else MOST_TRIALS)
    trials = study.get_trials(deepcopy=False)
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return Outcome(int(max(done or trials, key=_reached).params["position"]))


def _reached(trial: FrozenTrial) -> float:
    if trial.value is not None:
        return float(trial.value)
    return float(trial.intermediate_values[trial.last_step]) if trial.last_step is not None else -np.inf


def _look(replay: Replay, setting: int, fold: int, epochs: int | None = None) -> float:
    if not replay.affords(setting, fold, epochs):
        raise _Spent
    return replay.trial(setting, fold, epochs)


def over_epochs(pruner: Callable[[int], optuna.pruners.BasePruner], replay: Replay) -> Outcome:
    """One split; the validation score is reported after every epoch, and a trial may be stopped there."""
    study = _study(replay, pruner(replay.epochs))

    def objective(trial: Trial, setting: int) -> float:
        score = 0.0
        for epoch in range(replay.epochs):
            score = _look(replay, setting, 0, epoch + 1)
            trial.report(score, epoch)
            if epoch + 1 < replay.epochs and trial.should_prune():
                raise optuna.TrialPruned
        return score

    return _optimize(study, replay, objective)


def over_folds(replay: Replay) -> Outcome:
    """Cross-validation in every trial; the running mean is reported after every fold to the median pruner."""
    study = _study(replay, optuna.pruners.MedianPruner())

    def objective(trial: Trial, setting: int) -> float:
        scores: list[float] = []
        for fold in range(replay.n_folds):
            scores.append(_look(replay, setting, fold))
            trial.report(float(np.mean(scores)), fold)
            if fold + 1 < replay.n_folds and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(scores))

    return _optimize(study, replay, objective)


def wilcoxon(replay: Replay) -> Outcome:
    """Cross-validation in every trial, folds in random order, each reported to the Wilcoxon pruner.

    A trial that it stops returns the mean so far, as Optuna's documentation has it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = _study(replay, optuna.pruners.WilcoxonPruner())
    random = np.random.Generator(np.random.PCG64(replay.repeat.number))

    def objective(trial: Trial, setting: int) -> float:
        scores: list[float] = []
        for fold in random.permutation(replay.n_folds).tolist():
            scores.append(_look(replay, setting, fold))
            trial.report(scores[-1], fold)
            if trial.should_prune():
                break
        return float(np.mean(scores))

    return _optimize(study, replay, objective)


PEERS: dict[str, Selector] = {
    "TPE + MedianPruner, one split": partial(over_epochs, lambda _: optuna.pruners.MedianPruner()),
    "TPE + Hyperband, one split": partial(
        over_epochs, lambda epochs: optuna.pruners.HyperbandPruner(max_resource=epochs)
    ),
    "TPE + MedianPruner over folds": over_folds,
    "TPE + WilcoxonPruner on folds": wilcoxon,
}
