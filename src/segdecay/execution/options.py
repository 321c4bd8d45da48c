"""Options of the execution of a run: executor, workers, devices, time limits. They do not change its results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from segdecay.errors import ConfigError, gather, unknown
from segdecay.execution import Executor, InlineExecutor, LocalExecutor, default_workers

EXECUTORS = ("local", "ray")
REFITS = ("auto", "anyway")


@dataclass(frozen=True)
class Execution:
    """Options of the execution of a run; they do not change its results."""

    workers: int | None = None  # None: one per core, or per GPU; 0: in this process
    device: str = "auto"
    devices: int = 1  # of one training of `train`, each with its share of every batch
    command: str = ""
    cache: Path | None = None
    cache_limit: int | None = None  # bytes; None: $SEGDECAY_CACHE_LIMIT, else 100 GB
    checkpoint_every_s: float = 5.0
    executor: str = "local"  # or "ray"
    address: str | None = None  # of a Ray cluster; None: one on this machine
    gpus_per_trial: float = 0.0  # ray only
    trials_per_gpu: int = 1  # at a time, on GPUs of this machine
    budget_s: float | None = None  # of the search, from its first trial
    budget_trials: int | None = None
    wait: bool = False  # whether to wait for another process that works on the run
    keep_fold_models: bool = False  # weights of the folds at the chosen strength, for an ensemble
    refit: str = "auto"  # or "anyway": a model also where the search ends without a recommendation


def build_executor(execution: Execution, devices: list[str], *, at_most: int | None = None) -> Executor:
    """The executor: this process (0 workers), local processes, or a Ray cluster.

    Raises:
        ConfigError: an unknown executor, or options of a cluster without one.
        MissingPartError, RunError: Ray is not installed, or the cluster cannot be used.
    """
    faults = [] if execution.executor in EXECUTORS else [unknown("--executor", execution.executor, EXECUTORS)]
    cluster = {"--address": execution.address, "--gpus-per-trial": execution.gpus_per_trial}
    if execution.executor == "local":
        given = [name for name, value in cluster.items() if value]
        faults += [f"{name} needs --executor ray; saw --executor local." for name in given]
    if execution.refit not in REFITS:
        faults.append(f"--refit takes {' or '.join(REFITS)}; saw '{execution.refit}'.")
    if execution.gpus_per_trial < 0:
        faults.append(f"--gpus-per-trial takes 0 or more, as in 0.25; saw {execution.gpus_per_trial:g}.")
    faults += _faults_of_sharing(execution, devices)
    gather(ConfigError, faults)
    workers = execution.workers if at_most is None else min(at_most, execution.workers or at_most)
    if execution.executor == "ray" and workers != 0:
        from segdecay.execution.ray import RayExecutor

        return RayExecutor(execution.address, workers=workers, gpus_per_trial=execution.gpus_per_trial)
    if execution.workers == 0:
        return InlineExecutor(devices[0])
    return LocalExecutor(workers or default_workers(devices) * execution.trials_per_gpu, devices)


def _faults_of_sharing(execution: Execution, devices: list[str]) -> list[str]:
    """Faults of --trials-per-gpu together with other options."""
    count = execution.trials_per_gpu
    asked = f"--trials-per-gpu {count}"
    if count < 1:
        return [f"--trials-per-gpu takes 1 or more; saw {count}."]
    if count == 1:
        return []
    if execution.executor == "ray":
        return [f"{asked} is for GPUs of this machine. With --executor ray use --gpus-per-trial {1 / count:g}."]
    faults = [f"{asked} needs a GPU; found none. Use --workers."] if devices[0] == "cpu" else []
    if execution.workers is not None:
        faults.append(
            f"{asked} and --workers {execution.workers} both say how many trials run at a time. Give one of them; "
            f"--workers {count * len(devices)} on {len(devices)} GPUs is {asked}."
        )
    return faults
