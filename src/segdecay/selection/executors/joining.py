"""Joining a Ray cluster, and what must hold there: somebody answers, versions agree, a cell and the data fit.

Knows Ray's view of a cluster; nothing of cells.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

from segdecay.errors import RunError, gather
from segdecay.selection.executors.greeting import ask, own_token
from segdecay.selection.executors.parcel import pack_data
from segdecay.selection.executors.remote import differing, look_around, versions_here

ANSWER_WITHIN_S = 5.0
LOOK_WITHIN_S = 60.0
STORE_SHARE = 0.8  # of an object store that the data may take
MODE = "RAY_AUTH_MODE"
BY_NAME = ("auto", "local")  # the one that runs on this machine; one of its own
ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s]+):(?P<port>\d{1,5})")


def join_cluster(ray: Any, address: str | None) -> None:
    """Connect to a cluster; without an address to the one of RAY_ADDRESS, or to a new one on this machine.

    Does nothing where this process has done so already.

    Raises:
        RunError: the address is none, or nobody answers there, within seconds.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without a GPU sees what it saw
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
            signal.signal(signal.SIGTERM, before)  # Ray's own ends the process; ours keeps the state first


def _init(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address, include_dashboard=False, **quiet)
    except ValueError:  # a cluster that is there takes no options for its dashboard
        ray.init(address=address, **quiet)


_START = (
    "Start one: ray start --head, and name its address, HOST:6379; without --executor ray all runs on this machine."
)


def check_address(address: str) -> bool:
    """Refuse an address that is none, or where nobody listens; whether the cluster wants the token of this machine.

    Raises:
        RunError: within seconds, with the address; also where a token is wanted that is not here.
    """
    found = ADDRESS.fullmatch(address)
    if found is None:
        raise RunError(f"--address takes HOST:PORT, ray://HOST:PORT, auto or local; saw '{address}'.")
    host, port = found["host"].strip("[]"), int(found["port"])
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return False  # what it says is for Ray alone
    try:
        answer = ask(host, port, within_s=ANSWER_WITHIN_S)
        if answer == "token":
            _check_token(address, host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"--address {address}: nobody answers within {ANSWER_WITHIN_S:g} s ({reason}). {_START}"
        ) from error
    if answer == "other":
        raise RunError(f"--address {address}: what answers there is no Ray cluster. {_START}")
    return answer == "token"


def _check_token(address: str, host: str, port: int) -> None:
    token = own_token()
    if os.environ.get(MODE, "token").lower() != "token":
        found = f"{MODE}={os.environ[MODE]} here"
    elif token is None:
        found = "none is here"
    elif ask(host, port, within_s=ANSWER_WITHIN_S, token=token) == "token":
        found = "the one here is another"
    else:
        return
    raise RunError(
        f"--address {address}: the cluster wants a token, and {found}. `ray get-auth-token` prints it on the machine "
        "where the cluster was started; give it here as RAY_AUTH_TOKEN, or in ~/.ray/auth_token, and leave "
        f"{MODE} unset."
    )


def use_token() -> None:
    """Ray takes its token for a cluster that it finds by itself; for one that is named, only by its environment."""
    os.environ[MODE] = "token"
    with contextlib.suppress(ImportError, AttributeError):
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")  # it has read the environment already, when it was imported


def check_cluster(ray: Any, gpus_per_cell: float) -> None:
    """Refuse a cluster without room for one cell, or whose machines have other versions than this one.

    Raises:
        RunError: with what there is; all machines that differ are named.
    """
    there = ray.cluster_resources()
    if gpus_per_cell and there.get("GPU", 0) < min(1.0, gpus_per_cell):
        raise RunError(
            f"--gpus-per-cell {gpus_per_cell:g}: the cluster has {there.get('GPU', 0):g} GPUs. Start machines with "
            "ray start --num-gpus, or leave the option out to train on CPUs."
        )
    if there.get("CPU", 0) < 1:
        raise RunError("The cluster has no CPU free for cells. Start a machine with ray start --num-cpus.")
    own, faults = versions_here(), []
    for name, seen in _look(ray, Path()).items():
        differ = differing(own, seen["versions"])
        if differ:
            faults.append(f"{name} has other versions than the driver: {', '.join(differ)}. Install the same there.")
    gather(RunError, faults)


def parcel_for(ray: Any, root: Path) -> Any:
    """The decoded data in the object store; None where every machine sees it under the same path.

    Raises:
        RunError: it is larger than a machine's object store.
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
    """What every machine that is alive says of itself, by its address."""
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
        except ray.exceptions.GetTimeoutError:  # its versions are looked at again before it trains
            found[shown] = {"versions": versions_here(), "sees_data": False}
        except ray.exceptions.RayError:  # it went away meanwhile
            continue
    return found
