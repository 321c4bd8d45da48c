"""Runs trials as tasks of a Ray cluster: data are sent through its object store, only the driver writes the ledger.

If a machine is lost, only its running trials are repeated; a machine that joins is used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segdecay.errors import RunError, gather, need
from segdecay.execution.base import Listener, Source
from segdecay.execution.outcome import Outcome, outcome_of
from segdecay.execution.ray_remote import (
    Errand,
    differing,
    look_around,
    pack_data,
    pack_trial,
    run_errand,
    start_mailbox,
    unpack_trial,
    versions_here,
)
from segdecay.execution.retries import Attempts, AwakeClock, Patience
from segdecay.training.setup import TrialTask

ANSWER_WITHIN_S = 5.0  # of a TCP connection
STATUS_WITHIN_S = 60.0  # of `ray status`, which takes 4 s on a free machine
REFUSED = "AuthenticationError"
LOOK_WITHIN_S = 60.0
STORE_SHARE = 0.8  # share of an object store that the data may take
MODE = "RAY_AUTH_MODE"
BY_NAME = ("auto", "local")  # a cluster running on this machine; a new one
ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s]+):(?P<port>\d{1,5})")


def join_cluster(ray: Any, address: str | None) -> None:
    """Connect to a cluster; without an address to the one of RAY_ADDRESS, or to a new one on this machine.

    Has no effect if this process is connected already.

    Raises:
        RunError: the address is invalid, or no cluster answers there.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # keeps CUDA_VISIBLE_DEVICES without a GPU
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address not in BY_NAME and check_address(address):
        use_token()
    before = signal.getsignal(signal.SIGTERM)
    try:
        _init(ray, address)
    except (ray.exceptions.RayError, RuntimeError, OSError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(f"--address {address}: no Ray cluster answers ({first}). {_START}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's handler ends the process; ours writes checkpoints first


def _init(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address, include_dashboard=False, **quiet)
    except ValueError:  # an existing cluster takes no options for its dashboard
        ray.init(address=address, **quiet)


_START = (
    "Start one: ray start --head, and name its address, HOST:6379; without --executor ray all runs on this machine."
)


def check_address(address: str) -> bool:
    """Refuse an invalid or silent address, before Ray asks it for minutes; returns whether to show the token.

    Raises:
        RunError: with the address and Ray's reason; also if a needed token is missing.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise RunError(f"--address takes HOST:PORT, ray://HOST:PORT, auto or local; saw '{address}'.")
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=ANSWER_WITHIN_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"--address {address}: no answer within {ANSWER_WITHIN_S:g} s ({reason}). {_START}") from error
    modes = [os.environ[MODE]] if MODE in os.environ else ["disabled", "token"]
    if address.startswith("ray://"):
        return modes == ["token"]  # its server gives no status
    reasons = {}
    for mode in modes:
        reason = _ask_status(address, mode)
        if reason is None:
            return mode == "token"
        reasons[mode] = reason
        if REFUSED not in reason:
            raise RunError(f"--address {address}: no Ray cluster answers ({reason}). {_START}")
    seen = "; ".join(f"{MODE}={mode}: {reason}" for mode, reason in reasons.items())
    raise RunError(
        f"--address {address}: the cluster needs a token: {seen}. "
        "`ray get-auth-token` prints it on the machine where the cluster was started; give it here as RAY_AUTH_TOKEN, "
        f"or in ~/.ray/auth_token, and leave {MODE} unset."
    )


def _ask_status(address: str, mode: str) -> str | None:
    """The reason why `ray status` fails at the address; None if it does not. A process, since only one can be ended."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
    environment = {**os.environ, MODE: mode}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=STATUS_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no status within {STATUS_WITHIN_S:g} s"
    if done.returncode == 0:
        return None
    if "authentication_token_loader" in done.stderr:  # where Ray 2.60 aborts without a token
        return f"{REFUSED}: no token was found here"
    last = (done.stderr.strip().splitlines() or [f"`ray status` ended with {done.returncode}"])[-1]
    return last.removeprefix("ray.exceptions.").split(". ")[0].rstrip(".")


def use_token() -> None:
    """Set the token in the environment, which Ray needs for a cluster that is given by its address."""
    os.environ[MODE] = "token"
    with contextlib.suppress(ImportError, AttributeError):
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")  # Ray read the environment when it was imported


def check_cluster(ray: Any, gpus_per_trial: float) -> None:
    """Refuse a cluster without resources for one trial, or with other versions on its machines.

    Raises:
        RunError: with the resources found; all machines that differ are named.
    """
    there = ray.cluster_resources()
    if gpus_per_trial and there.get("GPU", 0) < min(1.0, gpus_per_trial):
        raise RunError(
            f"--gpus-per-trial {gpus_per_trial:g}: the cluster has {there.get('GPU', 0):g} GPUs. Start machines with "
            "ray start --num-gpus, or leave the option out to train on CPUs."
        )
    if there.get("CPU", 0) < 1:
        raise RunError("The cluster has no CPU free for trials. Start a machine with ray start --num-cpus.")
    own, faults = versions_here(), []
    for name, seen in _look(ray, Path()).items():
        differ = differing(own, seen["versions"])
        if differ:
            faults.append(
                f"{name} has other versions than the driver: {', '.join(differ)}. Install the same versions there."
            )
    gather(RunError, faults)


def parcel_for(ray: Any, root: Path) -> Any:
    """The decoded data in the object store; None if every machine can read it under the same path.

    Raises:
        RunError: the data are larger than a machine's object store.
    """
    content = pack_data(root)
    size = sum(array.nbytes for array in content.values())
    stores = {
        node["NodeManagerAddress"]: node["Resources"].get("object_store_memory", 0.0)
        for node in ray.nodes()
        if node["Alive"]
    }
    least = min(stores, key=lambda name: stores[name])
    if size <= STORE_SHARE * stores[least]:
        return ray.put(content)
    if all(seen["sees_data"] for seen in _look(ray, root).values()):
        return None
    raise RunError(
        f"The decoded data ({size / 1e9:.2f} GB) do not fit into the object store of {least} "
        f"({stores[least] / 1e9:.2f} GB, of which {STORE_SHARE:.0%} may be used). Start machines with a larger one "
        "(ray start --object-store-memory=BYTES), or decode to a path that all machines share: SEGDECAY_CACHE=PATH."
    )


def _look(ray: Any, root: Path) -> dict[str, dict[str, Any]]:
    """Facts of every live machine, by its address."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=1)(look_around)
    asked = {}
    for node in ray.nodes():
        if node["Alive"]:
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked[node["NodeManagerAddress"], node["NodeID"]] = look.options(scheduling_strategy=strategy).remote(
                str(root)
            )
    found = {}
    for (name, identity), reference in asked.items():
        shown = f"{name} ({identity[:6]})"
        try:
            found[shown] = ray.get(reference, timeout=LOOK_WITHIN_S)
        except ray.exceptions.GetTimeoutError:  # its versions are checked again before it trains
            found[shown] = {"versions": versions_here(), "sees_data": False}
        except ray.exceptions.RayError:  # the machine has left meanwhile
            continue
    return found


STOP_WITHIN_S = 15.0
LOOK_EVERY_S = 0.2
TRIALS_A_PROCESS = 32  # after which a worker's process is replaced, which bounds leaks


@dataclass
class _Away:
    task: TrialTask
    reference: Any
    since: float
    node: str | None = None  # known once the trial has started
    heard: float | None = None  # awake seconds at its last message
    ended: Outcome | None = None  # if ended by the executor


class RayExecutor:
    """Runs as many trials at a time as the cluster has resources for.

    Args:
        address: of the cluster, HOST:PORT, ray://HOST:PORT, auto (one that runs here) or local; None is
            that of RAY_ADDRESS, or a new one on this machine alone.
        workers: largest number of trials at a time; None: as many as fit, including machines that join later.
        gpus_per_trial: GPUs per trial, also fractions; 0 trains on CPUs.
        patience: how long a worker may be silent.

    Raises:
        MissingPartError: Ray is not installed.
        RunError: the address does not answer, the resources do not suffice for a trial, or versions differ.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        gpus_per_trial: float = 0.0,
        patience: Patience | None = None,
    ) -> None:
        self._ray = need("ray", extra="ray")
        self._workers, self._gpus = workers, gpus_per_trial
        self._patience = patience or Patience()
        self._clock = AwakeClock(time.monotonic())
        join_cluster(self._ray, address)
        check_cluster(self._ray, gpus_per_trial)
        self._parcels: dict[Path, Any] = {}
        options = {"num_cpus": 1, "max_retries": 0, "max_calls": TRIALS_A_PROCESS}
        if gpus_per_trial:
            options["num_gpus"] = gpus_per_trial  # type: ignore[assignment]
        self._remote = self._ray.remote(**options)(run_errand)

    def expect(self, trial_s: float) -> None:
        """Set the expected time of a trial, which bounds the silence of workers before any trial has ended."""
        self._patience.estimate_s = trial_s

    def run(self, tasks: Sequence[TrialTask] | Source, on_event: Listener) -> None:
        """Run every task; on Ctrl-C or a full disk the checkpoints of running ones are sent back first.

        Raises:
            DiskFullError: here, or on a machine of the cluster.
            RunError: the cluster is lost, or the decoded data do not fit into its object store.
        """
        attempts = Attempts(tasks, on_event, self.workers)
        with self._cluster_told():
            self._run(attempts)

    def _run(self, attempts: Attempts) -> None:
        mailbox = start_mailbox(self._ray)
        away: dict[int, _Away] = {}
        count = 0
        self._clock.last = time.monotonic()
        try:
            while True:
                while len(away) < self.workers and (task := attempts.start(len(away))) is not None:
                    away[count] = self._send(task, count, mailbox)
                    count += 1
                if not away:
                    return
                home = self._wait(away, attempts, mailbox)
                for number in home:
                    one = away.pop(number)
                    attempts.conclude(one.task, self._outcome(one))
        finally:
            self._stop(list(away.values()), mailbox)

    @contextlib.contextmanager
    def _cluster_told(self) -> Iterator[None]:
        """Turn Ray's errors about a lost cluster into a RunError; errors of trials are handled before."""
        try:
            yield
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise RunError(
                f"The Ray cluster does not answer any more ({type(error).__name__}: {first}). Finished trials are "
                "kept: once it runs again, the same command resumes."
            ) from error

    @property
    def workers(self) -> int:
        """Number of trials that fit into the cluster now."""
        there = self._ray.cluster_resources()
        room = int(there.get("CPU", 0))
        if self._gpus:
            room = min(room, int(there.get("GPU", 0) / self._gpus))
        return max(1, room if self._workers is None else min(room, self._workers))

    def _send(self, task: TrialTask, number: int, mailbox: Any) -> _Away:
        if task.dataset not in self._parcels:
            self._parcels[task.dataset] = parcel_for(self._ray, task.dataset)
        errand = Errand(
            task, number, pack_trial(task.folder), versions_here(), on_gpu=self._gpus > 0, path=tuple(sys.path)
        )
        reference = self._remote.remote(errand, self._parcels[task.dataset], mailbox)
        return _Away(task, reference, time.monotonic())

    def _wait(self, away: dict[int, _Away], attempts: Attempts, mailbox: Any) -> list[int]:
        """Handle messages of workers, end those that are silent for too long, and return those that have ended."""
        ready, _ = self._ray.wait([one.reference for one in away.values()], timeout=LOOK_EVERY_S)
        home = [number for number, one in away.items() if one.reference in ready]
        for words in self._ray.get(mailbox.take.remote()):
            one = away.get(words["number"])
            if one is None:
                continue
            one.heard = self._clock.look(time.monotonic())
            if "epoch" in words:
                attempts.progress(one.task, words["epoch"])
            else:
                one.node = words["node"]
        self._end_silent(away, home)
        return home

    def _end_silent(self, away: dict[int, _Away], home: Sequence[int]) -> None:
        awake, bound = self._clock.look(time.monotonic()), self._patience.bound_s
        for number, one in away.items():
            if bound is None or one.heard is None or one.ended or number in home or awake - one.heard <= bound:
                continue
            reason = f"no epoch ended for {awake - one.heard:.1f} s, over {self._patience.words()}: it hung"
            one.ended = Outcome("hung", reason)
            self._ray.cancel(one.reference, force=True)

    def _outcome(self, one: _Away) -> Outcome:
        """The outcome of an attempt, after its files have been written."""
        errors = self._ray.exceptions
        try:
            said, files = self._ray.get(one.reference)
            unpack_trial(files, one.task.folder)
        except OSError as error:
            return outcome_of(error, one.task)
        except errors.OutOfMemoryError as error:
            return Outcome("memory", str(error).splitlines()[0])
        except errors.RayTaskError as error:
            return Outcome("failed", f"{type(error.cause).__name__}: {error.cause}")
        except errors.RayError as error:
            return one.ended or self._lost(one, error)
        outcome = Outcome(**said)
        if outcome.kind == "finished":
            self._patience.note(time.monotonic() - one.since)
        return outcome

    def _lost(self, one: _Away, error: Exception) -> Outcome:
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        is_gone = isinstance(error, self._ray.exceptions.NodeDiedError)  # known earlier than the cluster's list
        if is_gone or one.node is None or one.node not in alive:
            return Outcome("lost", "its machine was lost")
        return Outcome("killed", f"its process ended from outside ({type(error).__name__})")

    def _stop(self, left: Sequence[_Away], mailbox: Any) -> None:
        """Ask workers for checkpoints, fetch these, and end those that do not answer in time.

        A trial that has sent no message is never cancelled: Ray 2.60 ends the whole driver ("Tried to complete task
        that was not pending") if a task is cancelled while it is being sent. It ends when its mailbox is gone.
        """
        if left:
            self._bring_home(left, mailbox)
        self._ray.kill(mailbox)

    def _bring_home(self, left: Sequence[_Away], mailbox: Any) -> None:
        mailbox.ask_to_stop.remote()
        deadline = time.monotonic() + STOP_WITHIN_S
        waiting = {one.reference: one for one in left if one.heard is not None}
        try:
            while waiting and (rest := deadline - time.monotonic()) > 0:
                ready, _ = self._ray.wait(list(waiting), timeout=rest)
                for reference in ready:
                    self._outcome(waiting.pop(reference))
        finally:
            for reference in waiting:
                self._ray.cancel(reference, force=True)
